"""Tables of a run for the report: sizes, columns and published locations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bucketwheel.runs.drift_records import Drift
from bucketwheel.runs.manifest import BucketResult, ColumnMapping, FileRecord, PublishedTable, layout_table

# Stands for the name of the table in names and locations that follow one pattern.
_TABLE = "<table>"


@dataclass(frozen=True)
class Table:
    """A table with its rows and file sizes; `estimate` is from footers and a sample of the data."""

    name: str
    columns: int
    estimate: int | None
    rows: int
    sizes: tuple[int, ...]
    verified: bool

    @property
    def bytes(self) -> int:
        """Written bytes, or the estimate if nothing is written yet."""
        return sum(self.sizes) or self.estimate or 0


@dataclass(frozen=True)
class Column:
    """A column of a source or a table, and what the footers of the source say about it.

    Attributes:
        name: name in the table; the name in the source if the mapping leaves the column out.
        source: name in the source.
        type: Arrow type.
        nulls: share of NULLs, or None if it is not known.
        nulls_before: share of NULLs in the published snapshot, or None if it is not known.
        bytes: compressed bytes in the source.
        distinct: number of distinct values, or None if they were not counted; `~` before it marks an estimate.
    """

    name: str
    source: str
    type: str
    nulls: float | None
    nulls_before: float | None
    bytes: int | None
    distinct: str | None = None


@dataclass(frozen=True)
class ColumnGroup:
    """The columns of a table, the key columns, or those that the mapping leaves out."""

    title: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Published:
    """Tables whose published name, location and previous location follow one pattern."""

    stage: str
    name: str
    location: str
    previous_location: str | None
    tables: tuple[str, ...]


def tables_of(done: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a run in the order of the mapping, layout after layout."""
    columns = {t.name: len(t.columns) for t in done["split"].tables} if done["split"] else {}
    layouts = done["size"].layouts if done["size"] else ()
    estimates = {(layout.id, t.name): t.bytes for layout in layouts for t in layout.tables}
    checked = (
        {(t.layout, t.name): (t.rows, t.files, t.bytes) for t in done["verify"].tables} if done["verify"] else {}
    )
    ids = [layout.id for layout in layouts] or [""]
    files: dict[tuple[str, str], list[FileRecord]] = {(layout, name): [] for layout in ids for name in columns}
    for outcome in done["bucket"].outcomes if done["bucket"] else ():
        for file in outcome.files:
            files.setdefault((outcome.layout, file.table), []).append(file)
    tables = []
    for key, records in files.items():
        rows, sizes = sum(file.rows for file in records), tuple(file.bytes for file in records)
        verified = checked.get(key) == (rows, len(sizes), sum(sizes))
        count = columns.get(key[1], 0)
        tables.append(Table(layout_table(*key), count, estimates.get(key), rows, sizes, verified))
    return tables


def column_groups(done: Mapping[str, Any], drift: Drift | None) -> list[ColumnGroup]:
    """Return the columns of the key, of each table, and those that the mapping leaves out."""
    discovered, split = done["discover"], done["split"]
    if not discovered or not split:
        return []
    known = {column.name: column for column in discovered.columns}
    before = {share.name: share.before for share in drift.null_shares} if drift else {}
    distinct = _distinct(done["bucket"])

    def group(title: str, mappings: Sequence[ColumnMapping]) -> ColumnGroup:
        columns = []
        for name, source in ((mapping.name, mapping.source) for mapping in mappings):
            column = known.get(source)
            nulls = None
            if column and column.null_count is not None:
                nulls = column.null_count / max(discovered.rows, 1)
            kind, size = (column.type, column.compressed_bytes) if column else ("", None)
            columns.append(Column(name, source, kind, nulls, before.get(source), size, distinct.get(source)))
        return ColumnGroup(title, tuple(columns))

    unmapped = [ColumnMapping(source=name, name=name) for name in split.unmapped]
    groups = [
        group("Key", split.keys),
        *(group(table.name, table.columns) for table in split.tables),
        group("Not in the mapping", unmapped),
    ]
    return [group for group in groups if group.columns]


def _distinct(bucket: BucketResult | None) -> dict[str, str]:
    """Return the number of distinct values by source column, with `~` before estimates."""
    return {
        column.name: f"{'' if column.distinct_exact else '~'}{column.distinct:,}"
        for column in (bucket.column_statistics if bucket else ())
        if column.distinct is not None
    }


def published_groups(done: Mapping[str, Any]) -> list[Published]:
    """Return the published tables, grouped by the pattern of their names and locations."""
    tables = [table.name for table in done["split"].tables] if done["split"] else []
    groups: dict[tuple[str, str, str, str | None], list[str]] = {}
    for stage in ("register", "ctas"):
        for published in done[stage].tables if done[stage] else ():
            groups.setdefault((stage, *_pattern(published, tables)), []).append(published.name)
    return [
        # The pattern of a single table hides its name.
        Published(*key, tuple(names)) if len(names) > 1 else _single(key[0], names[0], done)
        for key, names in groups.items()
    ]


def _pattern(published: PublishedTable, tables: Sequence[str]) -> tuple[str, str, str | None]:
    """Return name, location and previous location with a placeholder for the name of the table."""
    lower = published.name.lower()
    table = max((name for name in tables if lower.endswith(name.lower())), key=len, default=None)
    if not table:
        return published.name, published.location, published.previous_location
    name = published.name[: -len(table)] + _TABLE
    previous = published.previous_location
    return name, _placed(published.location, table), None if previous is None else _placed(previous, table)


def _placed(location: str, table: str) -> str:
    """Return the location with a placeholder for the last directory that is named after the table.

    The directory of another layout than the first has the name of the layout and a dot before it.
    """
    for mark in ("/", "."):
        head, separator, tail = f"{location}/".rpartition(f"{mark}{table}/")
        if separator:
            return f"{head}{mark}{_TABLE}/{tail}".rstrip("/")
    return location


def _single(stage: str, name: str, done: Mapping[str, Any]) -> Published:
    table = next(table for table in done[stage].tables if table.name == name)
    return Published(stage, table.name, table.location, table.previous_location, (table.name,))
