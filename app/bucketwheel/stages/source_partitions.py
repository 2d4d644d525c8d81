"""Columns whose values are in the names of directories, such as `region=EU/part-0.parquet`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa

from bucketwheel.errors import SnapshotError
from bucketwheel.runs.manifest import SourceColumn
from bucketwheel.storage import Entry

# The name that Hive and Spark give to the directory of rows whose value is NULL.
_NULL = "__HIVE_DEFAULT_PARTITION__"
_TYPE = pa.string()


@dataclass(frozen=True)
class PartitionColumns:
    """Names of the columns, and for each file their values."""

    names: tuple[str, ...]
    values: tuple[tuple[str | None, ...], ...]

    def fields(self) -> list[pa.Field]:
        """Return the fields of the columns, which are text: directories do not tell their type."""
        return [pa.field(name, _TYPE) for name in self.names]

    def columns(self, rows: Sequence[int]) -> tuple[SourceColumn, ...]:
        """Return the columns, for files with these rows; they take no bytes in the files."""
        found = []
        for place, name in enumerate(self.names):
            values = [of_file[place] for of_file in self.values]
            sizes = [len((value or "").encode()) for value in values]
            found.append(
                SourceColumn(
                    name=name,
                    type=str(_TYPE),
                    compressed_bytes=0,
                    uncompressed_bytes=sum(size * count for size, count in zip(sizes, rows, strict=True)),
                    dictionary_bytes=sum(dict(zip(values, sizes, strict=True)).values()),
                    null_count=sum(count for value, count in zip(values, rows, strict=True) if value is None),
                )
            )
        return tuple(found)


def partition_columns(location: str, entries: Sequence[Entry], columns: Collection[str]) -> PartitionColumns:
    """Return the columns of the directories `name=value` below a snapshot that are not in the files.

    Args:
        location: the snapshot.
        entries: its data files.
        columns: columns of the files; their values count, not those of directories.

    Raises:
        SnapshotError: the directories of two files name different columns, or a directory repeats a column.
    """
    known = {column.lower() for column in columns}
    first: Entry | None = None
    names: tuple[str, ...] = ()
    values = []
    for entry in entries:
        pairs = [(name, value) for name, value in directory_values(location, entry) if name.lower() not in known]
        found = tuple(name for name, _ in pairs)
        if len({name.lower() for name in found}) < len(found):
            raise SnapshotError(f"{entry.location}: a column appears in two of the directories; rename one of them")
        if first is None:
            first, names = entry, found
        elif sorted(found) != sorted(names):
            raise SnapshotError(
                f"{location}: the directories name different columns: {_listed(names)} for {first.location}, "
                f"{_listed(found)} for {entry.location}; move the files into directories of the same columns"
            )
        by_name = dict(pairs)
        values.append(tuple(None if by_name[name] == _NULL else by_name[name] for name in names))
    return PartitionColumns(names, tuple(values))


def directory_values(location: str, entry: Entry) -> list[tuple[str, str]]:
    """Return name and value of each directory `name=value` between a snapshot and a file."""
    parts = entry.location.removeprefix(location).strip("/").split("/")[:-1]
    pairs = [part.partition("=") for part in parts]
    try:
        # Hive and Spark escape characters that directories cannot have.
        return [
            (unquote(name, errors="strict"), unquote(value, errors="strict"))
            for name, equals, value in pairs
            if equals and name
        ]
    except UnicodeDecodeError as error:
        raise SnapshotError(
            f"{entry.location}: the name of a directory is not UTF-8 when decoded ({error.object!r}); rename it"
        ) from error


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
