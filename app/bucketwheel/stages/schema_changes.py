"""Compare the columns of the tables of a run with those of the published tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bucketwheel.catalogs.hive_types import hive_type
from bucketwheel.runs.drift_records import SchemaChange
from bucketwheel.runs.manifest import ColumnMapping, Manifest


def schema_changes(manifest: Manifest, published: Mapping[str, Manifest]) -> tuple[SchemaChange, ...]:
    """Return the column changes of tables that exist both in this run and among the published tables.

    Types are compared as Hive types, because readers of the catalog see those.

    Args:
        manifest: a run that has finished `split`.
        published: the run that each published table shows, by the table's name without prefix.
    """
    changes: dict[SchemaChange, None] = {}
    columns = {table.name: table.columns for table in manifest.split.tables}
    for name, before in published.items():
        if name not in columns:
            continue
        was = next((table.columns for table in before.split.tables if table.name == name), ())
        keys = _types(before, before.split.keys), _types(manifest, manifest.split.keys)
        changes |= dict.fromkeys(_changes(None, *keys))
        changes |= dict.fromkeys(_changes(name, _types(before, was), _types(manifest, columns[name])))
    return tuple(changes)


def removed_tables(manifest: Manifest, published: Mapping[str, Manifest]) -> tuple[str, ...]:
    """Return the published tables that a whole run no longer writes; a filtered run leaves tables out on purpose."""
    if manifest.tables_filter:
        return ()
    written = {table.name for table in manifest.split.tables}
    return tuple(name for name in published if name not in written)


def _types(manifest: Manifest, columns: Sequence[ColumnMapping]) -> dict[str, str]:
    schema = manifest.discover.schema()
    return {
        column.name: hive_type(schema.field(column.source).type, column.source, exact=False) for column in columns
    }


def _changes(table: str | None, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[SchemaChange]:
    for name in {**before, **now}:
        change = SchemaChange(table=table, column=name, before=before.get(name), now=now.get(name))
        if change.before != change.now:
            yield change
