"""Check before any work whether a snapshot fits the Iceberg layouts of a configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from bucketwheel.catalogs.routed import members
from bucketwheel.contracts import HistoryCatalog, Services
from bucketwheel.errors import ConfigError, SchemaError
from bucketwheel.formatting import counted, listed
from bucketwheel.kernel.iceberg_hash import iceberg_key_type
from bucketwheel.kernel.iceberg_types import iceberg_file_schema, iceberg_file_type, iceberg_schema
from bucketwheel.runs.drift_records import SchemaChange
from bucketwheel.runs.manifest import ColumnMapping, DiscoverResult, TableColumns, layout_table
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
    text = f"{null_keys_text(nulls)}, for which Iceberg has no bucket; iceberg.null_keys is error"
    return [Refusal(text, ("iceberg.null_keys", "partition"), pronoun="them")]


def null_keys_text(nulls: int) -> str:
    """Return the number of rows whose key is NULL as a sentence."""
    return f"{counted(nulls, 'row')} {'has' if nulls == 1 else 'have'} a NULL key"


def check_null_keys(discovered: DiscoverResult, settings: Settings) -> None:
    """Check the NULL keys that the footers of the snapshot count; `verify` checks those that were written.

    Raises:
        QualityError: there are some, and the configuration does not accept them in Iceberg tables, or at all.
    """
    refusals = null_key_refusals(_null_keys(discovered), settings)
    if any(layout.bucketed for _, layout in iceberg_layouts(settings)):
        # Both settings have to accept them.
        refusals += known_null_keys(discovered, settings)
    if error := quality_error(refusals):
        raise error


def known_null_keys(discovered: DiscoverResult, settings: Settings) -> list[Refusal]:
    """Return the refusal of NULL keys by `quality.null_keys`, if the footers of the snapshot count any."""
    nulls = _null_keys(discovered)
    if not nulls or settings.quality.null_keys != "error":
        return []
    # Keys of several columns may be NULL in one column or another.
    text = f"{'at least ' if len(discovered.keys) > 1 else ''}{null_keys_text(nulls)}; quality.null_keys is error"
    return [Refusal(text, ("quality.null_keys", "warn"), pronoun="them")]


def _null_keys(discovered: DiscoverResult) -> int:
    """Return the most rows in which one of the key columns is NULL, as far as the footers tell."""
    return max((column.null_count or 0 for column in discovered.columns if column.name in discovered.keys), default=0)


@dataclass(frozen=True)
class ExistingTables:
    """What the tables of a run take over from the Iceberg tables that exist.

    Attributes:
        field_ids: the id of each field, by table; other layouts' tables begin with their id. The empty name has the
            largest id if some columns need larger ones.
        bucket_counts: the bucket counts of all partition specs of these tables, see `TableHistory`.
        replaced: columns whose type Iceberg cannot change, so that they become other fields of the same name.
    """

    field_ids: dict[str, dict[str, int]] = field(default_factory=dict)
    bucket_counts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    replaced: tuple[SchemaChange, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """A warning for each table with such columns."""
        tables: dict[str, list[str]] = {}
        for change in self.replaced:
            tables.setdefault(change.table or "", []).append(f"{change.column} ({change.before} to {change.now})")
        return [
            f"{table}: Iceberg cannot change the type of {listed(columns, _SHOWN)}; "
            f"{'each' if len(columns) > 1 else 'it'} becomes another column of the same name, and earlier months "
            "keep theirs"
            for table, columns in tables.items()
        ]


def existing_tables(
    services: Services, keys: Sequence[ColumnMapping], tables: Sequence[TableColumns], schema: pa.Schema
) -> ExistingTables:
    """Return the field ids and bucket counts of the tables that exist in Iceberg; load each table once.

    New files must have the ids of the table, so that columns that the snapshot gained or lost keep their meaning.

    Args:
        services: services of the run.
        keys: the key columns.
        tables: the tables of the run.
        schema: schema of the snapshot.

    Raises:
        CatalogError: the catalog cannot be read.
    """
    layouts = iceberg_layouts(services.settings)
    if not layouts:
        return ExistingTables()
    ids: dict[str, dict[str, int]] = {}
    counts: dict[str, tuple[int, ...]] = {}
    replaced: dict[SchemaChange, None] = {}
    for catalog in members(services.catalog()):
        if not isinstance(catalog, HistoryCatalog):
            continue
        for place, layout in layouts:
            for table in tables:
                columns = ((column.source, column.name) for column in (*keys, *table.columns))
                wanted = iceberg_schema(iceberg_file_schema(schema, columns))
                history = catalog.history(f"{layout.prefix}{table.name}", wanted)
                if history is None:
                    continue
                name = layout_table(place, table.name)
                ids[name] = _kept_ids(history.field_ids, history.changed_columns)
                counts[name] = history.bucket_counts
                replaced |= dict.fromkeys(
                    SchemaChange(table=table.name, column=path, before=before, now=now)
                    for path, before, now in history.changed_columns.values()
                )
    return ExistingTables(ids, counts, tuple(replaced))


def _kept_ids(ids: Mapping[str, int], changed: Collection[str]) -> dict[str, int]:
    """Return the field ids without those of changed columns, and with the largest one, above which new ids begin."""
    if not changed:
        return dict(ids)
    kept = {path: number for path, number in ids.items() if path.partition(".")[0] not in changed}
    return {**kept, "": max(ids.values())}
