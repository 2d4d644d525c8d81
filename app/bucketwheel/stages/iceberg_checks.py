"""Check before any work whether a snapshot fits the Iceberg layouts of a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from bucketwheel.catalogs.routed import members
from bucketwheel.contracts import HistoryCatalog, Services
from bucketwheel.errors import ConfigError, SchemaError
from bucketwheel.formatting import counted, listed
from bucketwheel.kernel.iceberg_hash import iceberg_key_type
from bucketwheel.kernel.iceberg_types import iceberg_file_type
from bucketwheel.runs.manifest import DiscoverResult, TableColumns, layout_table
from bucketwheel.settings import Layout, Settings, resolved_layouts
from bucketwheel.stages.drift_limits import Refusal, quality_error

_SHOWN = 5


def iceberg_layouts(settings: Settings) -> list[tuple[str, Layout]]:
    """Return the Iceberg layouts of a configuration, each with its id: its name, but empty for the first layout."""
    numbered = enumerate(resolved_layouts(settings))
    return [(layout.name if number else "", layout) for number, layout in numbered if layout.hash == "iceberg"]


def check_keys(dataset: str, schema: pa.Schema, keys: Sequence[str], settings: Settings) -> None:
    """Check that Iceberg can bucket by the key, if a layout has its hash, by which rows are spread in any case.

    Raises:
        ConfigError: there are several key columns.
        SchemaError: Iceberg has no bucket for the type of the key.
    """
    layouts = [layout for _, layout in iceberg_layouts(settings)]
    if not layouts:
        return
    name = f"layout {layouts[0].name!r}" if layouts[0].name else "buckets.hash"
    if len(keys) > 1:
        raise ConfigError(
            f"{name} is iceberg, whose buckets have one key column, but datasets.{dataset}.key has "
            f"{len(keys)}: {listed(keys, _SHOWN)}; name one of them, or choose another hash"
        )
    kind = schema.field(keys[0]).type
    if iceberg_key_type(kind) is None:
        raise SchemaError(
            f"key {keys[0]!r} has type {kind}, by which Iceberg has no buckets; use a column of type tinyint, "
            f"smallint, int, bigint, string or date, or choose another hash for {name}"
        )


def check_columns(schema: pa.Schema, columns: Iterable[str]) -> None:
    """Check that Iceberg has types for these source columns.

    Raises:
        SchemaError: it has none for a column.
    """
    for column in columns:
        iceberg_file_type(schema.field(column).type, column)


def null_key_refusals(nulls: int, settings: Settings) -> list[Refusal]:
    """Return the refusal of rows whose key is NULL, if the configuration does not accept them in Iceberg tables."""
    bucketed = any(layout.bucketed for _, layout in iceberg_layouts(settings))
    if not nulls or not bucketed or settings.iceberg.null_keys != "error":
        return []
    verb = "has a NULL key" if nulls == 1 else "have a NULL key"
    text = f"{counted(nulls, 'row')} {verb}, for which Iceberg has no bucket; iceberg.null_keys is error"
    return [Refusal(text, ("iceberg.null_keys", "partition"), pronoun="them")]


def check_null_keys(discovered: DiscoverResult, settings: Settings) -> None:
    """Check the NULL keys that the footers of the snapshot count; `verify` checks those that were written.

    Raises:
        QualityError: there are some, and the configuration does not accept them.
    """
    counts = {column.name: column.null_count or 0 for column in discovered.columns}
    if error := quality_error(null_key_refusals(max(counts[key] for key in discovered.keys), settings)):
        raise error


def existing_field_ids(services: Services, tables: Sequence[TableColumns]) -> dict[str, dict[str, int]]:
    """Return the field ids of the tables that exist in Iceberg, by table; other layouts' tables begin with their id.

    New files must have the ids of the table, so that columns that the snapshot gained or lost keep their meaning.

    Raises:
        CatalogError: the catalog cannot be read.
    """
    layouts = iceberg_layouts(services.settings)
    if not layouts:
        return {}
    found: dict[str, dict[str, int]] = {}
    for catalog in members(services.catalog()):
        if isinstance(catalog, HistoryCatalog):
            names = (
                (place, table.name, f"{layout.prefix}{table.name}") for place, layout in layouts for table in tables
            )
            known = ((layout_table(place, table), catalog.field_ids(name)) for place, table, name in names)
            found |= {table: dict(ids) for table, ids in known if ids is not None}
    return found
