"""Read the footers of source files: schema, row groups, and the bytes, dictionaries and NULLs of each column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bucketwheel.errors import UnreadableFilesError
from bucketwheel.formatting import counted
from bucketwheel.kernel.footer_process import File, FooterProcesses
from bucketwheel.kernel.footers import MAGIC, TAIL_BYTES, FooterSummary, Integers, reason
from bucketwheel.kernel.written_types import Conversion
from bucketwheel.runs.manifest import SourceColumn, SourceFile
from bucketwheel.safe_text import one_line
from bucketwheel.settings import TypeSettings
from bucketwheel.stages.file_kinds import START_BYTES, no_parquet
from bucketwheel.storage import Entry, Storage, wrap_os_errors
from bucketwheel.system import system

_FOOTER_THREADS = 8
_BATCH_FILES = 25
# Bytes of footers that a thread holds; files of 1,500 columns have about 0.3 MB each.
_BATCH_BYTES = 2**22
# Most footers are shorter. If others of the snapshot are longer, as much as they have is read at once, up to a limit.
_END_BYTES = 2**16
_MOST_END_BYTES = 2**22
_SMALLEST_SIZE = len(MAGIC) + TAIL_BYTES
# Page indexes take at most about this share of a file, and this many bytes.
_INDEX_SHARE = 0.01
_INDEX_BYTES = 2**20
# Older writers repeat the metadata of a chunk after it, in fewer bytes than a Parquet file has.
_SMALLEST_FILE = 512


@dataclass(frozen=True)
class Footer:
    """The footer of one file, without the figures of its columns; for the fields see `FooterSummary`."""

    entry: Entry
    schema: pa.Schema
    row_group_rows: tuple[int, ...]
    int96: frozenset[str]
    conversions: tuple[Conversion, ...] = ()
    unsupported: tuple[tuple[str, str], ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(self.row_group_rows)


class ColumnSums:
    """Figures of columns, summed over the files of each schema, so that no figures of single files are held."""

    def __init__(self) -> None:
        # By identity of the schema: comparing wide ones for each file takes long.
        self._sums: dict[int, tuple[pa.Schema, Integers]] = {}

    def add(self, schema: pa.Schema, columns: Integers) -> None:
        """Add `FooterSummary.columns` of files with this schema."""
        known = self._sums.get(id(schema))
        self._sums[id(schema)] = (schema, columns if known is None else _added(known[1], columns))

    def merge(self, other: ColumnSums) -> None:
        """Add the sums of other files."""
        for schema, columns in other._sums.values():
            self.add(schema, columns)

    def columns(self, schema: pa.Schema) -> tuple[SourceColumn, ...]:
        """Return the columns of `schema`, each summed over the column chunks of all files."""
        sums = np.zeros((4, len(schema)), np.int64)
        positions = {name: position for position, name in enumerate(schema.names)}
        for own, columns in self._sums.values():
            # A file without rows may have other columns.
            found = np.array([positions.get(name, -1) for name in own.names], dtype=np.intp)
            known = found >= 0
            sums[:, found[known]] = _added(sums[:, found[known]], columns[:, known])
        compressed, uncompressed, dictionary, nulls = sums.tolist()
        return tuple(
            SourceColumn(
                name=name,
                type=str(kind),
                compressed_bytes=compressed[place],
                uncompressed_bytes=uncompressed[place],
                dictionary_bytes=dictionary[place] if dictionary[place] >= 0 else None,
                null_count=nulls[place] if nulls[place] >= 0 else None,
            )
            for place, (name, kind) in enumerate(zip(schema.names, schema.types, strict=True))
        )


def read_footers(
    storage: Storage,
    entries: Sequence[Entry],
    sums: ColumnSums | None = None,
    types: TypeSettings | None = None,
) -> list[Footer]:
    """Read the footers of all files in parallel.

    Args:
        storage: storage of the files.
        entries: the files.
        sums: gets the figures of their columns.
        types: rules for the types that are written.

    Raises:
        UnreadableFilesError: files without a readable footer; the message lists them.
        SourceChangedError: a file was replaced or deleted after it was listed.
        StorageError: permission to read a file is missing.
    """
    results = examine_footers(storage, entries, sums, types)
    broken = [result for result in results if isinstance(result, str)]
    if broken:
        listed = "\n".join(broken)
        raise UnreadableFilesError(
            f"{len(broken)} of {counted(len(entries), 'file')} without a readable Parquet footer:\n{listed}\n"
            "Write them again, or take another snapshot with --snapshot-dt"
        )
    return [result for result in results if isinstance(result, Footer)]


def examine_footers(
    storage: Storage,
    entries: Sequence[Entry],
    sums: ColumnSums | None = None,
    types: TypeSettings | None = None,
) -> list[Footer | str]:
    """Return the footer of each file, or its name and why its footer cannot be read; see `read_footers`.

    Raises:
        SourceChangedError: a file was replaced or deleted after it was listed.
        StorageError: permission to read a file is missing.
    """
    schemas: dict[bytes, pa.Schema] = {}
    same: dict[Any, Any] = {}
    ends = _Ends(storage)

    def read(batch: Sequence[Entry]) -> tuple[list[Footer | str], ColumnSums]:
        own = ColumnSums()
        return [result for part in ends.read(batch) for result in parse(part, own)], own

    def parse(files: Sequence[tuple[Entry, File | str]], own: ColumnSums) -> Iterator[Footer | str]:
        parsed = iter(processes.parse([end for _, end in files if not isinstance(end, str)]))
        for entry, end in files:
            result = end if isinstance(end, str) else footer(entry, end, next(parsed), own)
            yield f"{one_line(entry.location)}: {one_line(result)}" if isinstance(result, str) else result

    def footer(entry: Entry, end: File, summary: FooterSummary | str, own: ColumnSums) -> Footer | str:
        if isinstance(summary, str):
            return _wrong_start(storage, entry) + summary
        if _is_joined(storage, entry, end, summary):
            return "two Parquet files joined into one; readers see the last one only"
        # Most files have the same schema: one object takes little memory, and comparing it with itself is fast.
        schema = schemas.get(summary.schema)
        if schema is None:
            schema = schemas.setdefault(summary.schema, pa.ipc.read_schema(pa.py_buffer(summary.schema)))
        own.add(schema, summary.columns)
        others = (summary.int96, summary.conversions, summary.unsupported)
        return Footer(entry, schema, summary.row_group_rows, *(same.setdefault(part, part) for part in others))

    results: list[Footer | str] = []
    with FooterProcesses(types) as processes, system().pool(_FOOTER_THREADS) as pool:
        for part, own in pool.map(read, _batches(entries)):
            results += part
            if sums is not None:
                sums.merge(own)
    return results


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield groups of files whose footers are parsed together, so that no thread is idle."""
    count = min(_BATCH_FILES, -(-len(entries) // _FOOTER_THREADS))
    for first in range(0, len(entries), count or 1):
        yield entries[first : first + count]


class _Ends:
    """Reads the ends of files; on S3, one request reads a footer unless it is much longer than those before."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._expected = _END_BYTES

    def read(self, entries: Iterable[Entry]) -> Iterator[list[tuple[Entry, File | str]]]:
        """Yield files with their footer and size, or why the footer cannot be read; a few MB at a time."""
        held: list[tuple[Entry, File | str]] = []
        size = 0
        for entry in entries:
            end = self._read(entry)
            held.append((entry, end))
            size += 0 if isinstance(end, str) else len(end[0])
            if size >= _BATCH_BYTES:
                yield held
                held, size = [], 0
        if held:
            yield held

    def _read(self, entry: Entry) -> File | str:
        """Return the footer and the size of a file, or why the footer cannot be read."""
        expected = self._expected
        try:
            with self._storage.open(entry.location, entry.version, expected) as stream:
                footer, size = _end(stream, expected)
        except PermissionError:
            # The file may be fine, so the error must not tell the user to rewrite it.
            with wrap_os_errors(entry.location, "read"):
                raise
        except MemoryError:
            raise  # Also an ArrowException, but not a fault of the file.
        except (pa.ArrowException, OSError, ValueError) as error:
            return reason(error)
        if len(footer) > expected:
            # Lengths of numbers in footers vary.
            self._expected = min(len(footer) * 5 // 4, _MOST_END_BYTES)
        return footer, size


def _end(stream: pa.NativeFile, expected: int) -> File:
    """Return the footer of a file, or its last bytes if it is too short for one, and the size of the file.

    Raises:
        ValueError: the file is no Parquet file, or shorter than its footer.
    """
    size = stream.size()
    end = stream.read_at(min(size, expected), max(0, size - expected))
    if end[-len(MAGIC) :] not in (MAGIC, b"PARE"):
        raise ValueError(no_parquet(stream.read_at(min(size, START_BYTES), 0), size))
    if size < _SMALLEST_SIZE:
        return end, size
    length = int.from_bytes(end[-TAIL_BYTES : -len(MAGIC)], "little") + TAIL_BYTES
    if length + len(MAGIC) > size:
        raise ValueError(f"its footer would take {length} bytes, but the file has {size}; it is truncated or corrupt")
    if length > len(end):
        end = stream.read_at(length - len(end), size - length) + end
    return end[-length:], size


def _is_joined(storage: Storage, entry: Entry, end: File, summary: FooterSummary) -> bool:
    """Return whether another Parquet file lies before the one that the footer describes.

    Offsets in the footer count from the start of its own file, so the bytes of the other one remain between the last
    column chunk and the footer. Page indexes and Bloom filters lie there too, but are far smaller.
    """
    footer, size = end
    rest = size - len(footer) - summary.end
    if rest <= (size * _INDEX_SHARE if summary.indexed else _SMALLEST_FILE):
        return False
    first = max(0, rest - _INDEX_BYTES)
    with wrap_os_errors(entry.location, "read"), storage.open(entry.location, entry.version) as stream:
        return MAGIC * 2 in stream.read_at(rest + len(MAGIC) - first, first)


def _wrong_start(storage: Storage, entry: Entry) -> str:
    """Return the beginning of the reason if a file whose footer is unusable lacks its own beginning."""
    with wrap_os_errors(entry.location, "read"), storage.open(entry.location, entry.version) as stream:
        complete = stream.read_at(len(MAGIC), 0) in (MAGIC, b"PARE")
    return "" if complete else "it does not begin as a Parquet file, so its beginning was lost or changed: "


def source_file(footer: Footer, partition_values: tuple[str | None, ...] = ()) -> SourceFile:
    """Return the manifest's record of the file."""
    return SourceFile(
        path=footer.entry.location,
        bytes=footer.entry.bytes,
        modified=footer.entry.modified,
        row_group_rows=footer.row_group_rows,
        version=footer.entry.version,
        partition_values=partition_values,
    )


def _added(one: Integers, other: Integers) -> Integers:
    """Add bytes and NULLs, and take the larger dictionary; -1 is unknown."""
    sums = one + other
    np.maximum(one[2], other[2], out=sums[2])
    sums[2:][(one[2:] < 0) | (other[2:] < 0)] = -1
    return sums
