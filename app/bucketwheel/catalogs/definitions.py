"""Define the catalog tables of a run: which layouts each stage publishes, under which names, and how.

Stage `register` publishes the first layout as staged tables, stage `ctas` all layouts as final tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from bucketwheel.catalogs.hive_types import hive_type
from bucketwheel.catalogs.iceberg_files import IcebergFiles
from bucketwheel.catalogs.routed import member_class
from bucketwheel.catalogs.spark_table import spark_schema
from bucketwheel.contracts import CatalogTable, Services, StatisticsCatalog, TableStatistics
from bucketwheel.contracts.catalog import ICEBERG, STATISTICS, TABLE_TYPE, same_location
from bucketwheel.kernel.iceberg_types import iceberg_file_type
from bucketwheel.runs.manifest import CopiedTable, LayoutSize, Manifest, SplitResult, TableColumns
from bucketwheel.runs.privacy import without_keys
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Settings
from bucketwheel.settings.layouts import catalog_kinds, resolved_layouts
from bucketwheel.storage import is_s3
from bucketwheel.system import system

DATASET = "bucketwheel.dataset"
SNAPSHOT = "bucketwheel.snapshot_dt"
# The layout of a table, if the configuration names its layouts.
LAYOUT = "bucketwheel.layout"
# Id of the publication. On S3, a writer that was suspended may wake up after another one has published: as every
# publication has its own id, each changes the version of every table, and the catalog refuses the late writer.
PUBLICATION = "bucketwheel.publication"
_VERSIONS = {"hive_v1": "1", "hive_v2": "2"}


def is_iceberg_layout(layout: LayoutSize) -> bool:
    """Return whether the tables of a layout are Iceberg tables."""
    return layout.hash == "iceberg"


def published_layouts(manifest: Manifest, settings: Settings, stage: str) -> list[tuple[LayoutSize, str]]:
    """Return the layouts of a run that a stage publishes, each with the prefix of its tables.

    The configuration may have changed since the run. A layout that it still names has the prefix that it gives now;
    the first layout of the run otherwise has that of the configured final tables. A layout is left out if no catalog
    for it is configured, or if its prefix belongs to another layout now.
    """
    first = manifest.size.layouts[0]
    if stage == "register":
        return [] if is_iceberg_layout(first) else [(first, settings.catalog.staged_prefix)]
    kinds = catalog_kinds(settings)
    configured = {layout.name: layout.prefix for layout in resolved_layouts(settings)}
    chosen: dict[str, str] = {}
    for layout in sorted(manifest.size.layouts, key=lambda each: each.name not in configured):
        prefix = configured.get(layout.name)
        if prefix is None:
            prefix = _former_prefix(layout, settings, list(configured.values()))
        published = "iceberg" in kinds if is_iceberg_layout(layout) else kinds[0] != "iceberg"
        if published and prefix.lower() not in (each.lower() for each in chosen.values()):
            chosen[layout.id] = prefix
    return [(layout, chosen[layout.id]) for layout in manifest.size.layouts if layout.id in chosen]


def table_names(manifest: Manifest, settings: Settings, stage: str) -> list[tuple[str, bool]]:
    """Return the name of each table that a stage publishes of a run, and whether it is an Iceberg table."""
    return [
        (f"{prefix}{table.name}", is_iceberg_layout(layout))
        for layout, prefix in published_layouts(manifest, settings, stage)
        for table in manifest.split.tables
    ]


def _former_prefix(layout: LayoutSize, settings: Settings, configured: Sequence[str]) -> str:
    """Return the prefix of a layout that the configuration does not name."""
    if layout.id:
        return layout.prefix or f"{layout.name}_"
    final = settings.catalog.final_prefix
    return final if final in configured else configured[0]


def definitions(
    manifest: Manifest, services: Services, stage: str, copies: Sequence[CopiedTable] = ()
) -> list[CatalogTable]:
    """Return the catalog tables that a stage publishes of a verified run, layout by layout, in the mapping's order.

    Tables that a SQL engine copied point to the copy; it copies the first layout only.

    Raises:
        SchemaError: the catalog does not support a column's type, for example in a run made for another catalog.
    """
    # On disk, the lock of the lease excludes late writers.
    publication = {PUBLICATION: system().new_id()} if is_s3(services.runs.target) else {}
    copy_of, schema = {copy.table: copy for copy in copies}, manifest.discover.schema()
    tables = []
    for layout, prefix in published_layouts(manifest, services.settings, stage):
        files = IcebergFiles(manifest, services.runs, layout) if is_iceberg_layout(layout) else None
        for table in manifest.split.tables:
            defined = _definition(manifest, services, layout, table, schema)
            defined = replace(defined, iceberg=files.definition(table) if files else None)
            defined = replace(defined, name=f"{prefix}{table.name}", parameters={**defined.parameters, **publication})
            copied = not layout.id and table.name in copy_of
            tables.append(_copied(defined, copy_of[table.name]) if copied else defined)
    return tables


def planned_iceberg_tables(manifest: Manifest, services: Services) -> Iterator[CatalogTable]:
    """Yield what is known of the Iceberg tables of a run that has no files yet: schema, buckets and order."""
    for layout, prefix in published_layouts(manifest, services.settings, "ctas"):
        if not is_iceberg_layout(layout):
            continue
        files = IcebergFiles(manifest, services.runs, layout)
        for table in manifest.split.tables:
            definition = files.definition(table)
            parameters = {SNAPSHOT: manifest.discover.snapshot_dt}
            yield CatalogTable(
                f"{prefix}{table.name}", definition.location, (), parameters=parameters, iceberg=definition
            )


def with_files(table: CatalogTable, manifest: Manifest, runs: RunStore) -> CatalogTable:
    """Return a definition with the records of its files, if it is that of an Iceberg table of the run."""
    for layout in manifest.size.layouts:
        for part in manifest.split.tables if is_iceberg_layout(layout) else ():
            directory = runs.data_directory(manifest.dataset, part.name, manifest.run_id, layout.id)
            if same_location(directory, table.location):
                return replace(table, iceberg=IcebergFiles(manifest, runs, layout).definition(part))
    return table


def _definition(
    manifest: Manifest,
    services: Services,
    layout: LayoutSize,
    table: TableColumns,
    schema: pa.Schema,
) -> CatalogTable:
    """Return the definition of a table of one layout, with its name in the mapping."""
    snapshot, split, iceberg = manifest.discover, manifest.split, is_iceberg_layout(layout)
    keys = tuple(key.name for key in split.keys)
    exact = member_class(services.catalog_class(), iceberg).typed
    written = next(each for each in manifest.verify.tables if (each.layout, each.name) == (layout.id, table.name))
    parameters = {
        "classification": "parquet",
        # Athena, Trino and Hive read the table comment from here; the previous jobs wrote the same text.
        "comment": f"Bucketed table created from snapshot_dt={snapshot.snapshot_dt}",
        "bucketwheel.run_id": manifest.run_id,
        SNAPSHOT: snapshot.snapshot_dt,
        DATASET: manifest.dataset,
        "numRows": str(written.rows),
        "numFiles": str(written.files),
        "totalSize": str(written.bytes),
    }
    statistics = None if iceberg else _statistics(manifest, services, table)
    if statistics is not None:
        parameters[STATISTICS] = services.settings.catalog.column_statistics
    return CatalogTable(
        name=table.name,
        location=services.runs.data_directory(manifest.dataset, table.name, manifest.run_id, layout.id),
        columns=tuple(
            (column.name, hive_type(_written_type(schema, column.source, iceberg), column.source, exact))
            for column in (*split.keys, *table.columns)
        ),
        bucket_columns=keys if layout.bucketed else (),
        bucket_count=layout.bucket_count if layout.bucketed else 0,
        sorted=layout.sort and layout.bucketed,
        parameters=parameters | _layout_parameters(layout),
        statistics=statistics,
        spark_schema=_spark_schema(split, layout, table, schema) if exact else None,
    )


def _written_type(schema: pa.Schema, column: str, iceberg: bool) -> pa.DataType:
    """Return the type of a source column in the files of a table."""
    kind = schema.field(column).type
    return iceberg_file_type(kind, column) if iceberg else kind


def _statistics(manifest: Manifest, services: Services, table: TableColumns) -> TableStatistics | None:
    """Return the statistics to publish of a table, or None if they are off or the run collected none."""
    known = manifest.bucket.column_statistics
    if not services.settings.privacy.show_keys:
        # Earlier versions recorded the exact range of keys.
        known = without_keys(known, manifest.discover.keys)
    collected = {column.name: column for column in known}
    if not collected or services.settings.catalog.column_statistics == "none":
        return None
    if not issubclass(member_class(services.catalog_class(), iceberg=False), StatisticsCatalog):
        return None
    columns = (*manifest.split.keys, *table.columns)
    return TableStatistics(
        manifest.discover.rows,
        {column.name: collected[column.source] for column in columns if column.source in collected},
    )


def _spark_schema(split: SplitResult, layout: LayoutSize, table: TableColumns, schema: pa.Schema) -> str | None:
    """Return the schema of a table in Spark's buckets in Spark's form; None for a table in other buckets or none."""
    if not layout.bucketed or layout.hash != "spark":
        return None
    columns = (*split.keys, *table.columns)
    return spark_schema((column.name, schema.field(column.source).type) for column in columns)


def _copied(table: CatalogTable, copy: CopiedTable) -> CatalogTable:
    parameters = {**table.parameters, "numFiles": str(copy.files), "totalSize": str(copy.bytes)}
    return replace(table, location=copy.location, sorted=copy.sorted, parameters=parameters)


def _layout_parameters(layout: LayoutSize) -> dict[str, str]:
    """Return the parameters that depend on the layout alone."""
    parameters = {LAYOUT: layout.name} if layout.name else {}
    if is_iceberg_layout(layout):
        parameters[TABLE_TYPE] = ICEBERG
    elif layout.bucketed and layout.hash == "spark":
        parameters["bucketing_format"] = "spark"
    elif layout.bucketed:
        parameters["bucketing_version"] = _VERSIONS[layout.hash]
    return parameters
