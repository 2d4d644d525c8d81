"""Read the footers of source files: schema, row groups, and the bytes, dictionaries and NULLs of each column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa

from bucketwheel.errors import UnreadableFilesError
from bucketwheel.formatting import counted
from bucketwheel.kernel.footer_process import File, FooterProcesses
from bucketwheel.kernel.footers import MAGIC, TAIL_BYTES, FooterSummary, Integers, reason
from bucketwheel.runs.manifest import SourceColumn, SourceFile
from bucketwheel.safe_text import one_line
from bucketwheel.stages.file_kinds import START_BYTES, no_parquet
from bucketwheel.storage import Entry, Storage, wrap_os_errors
from bucketwheel.system import system

_FOOTER_THREADS = 8
# At 1,000 columns, the footers of this many files have about 5 MB.
_BATCH_FILES = 25
# Most footers are shorter.
_END_BYTES = 2**16
_SMALLEST_SIZE = len(MAGIC) + TAIL_BYTES
# Page indexes take at most about this share of a file, and this many bytes.
_INDEX_SHARE = 0.01
_INDEX_BYTES = 2**20
# Older writers repeat the metadata of a chunk after it, in fewer bytes than a Parquet file has.
_SMALLEST_FILE = 512


@dataclass(frozen=True)
class Footer:
    """The footer of one file; `schema` is without the metadata of the file."""

    entry: Entry
    schema: pa.Schema
    summary: FooterSummary

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(self.summary.row_group_rows)


def read_footers(storage: Storage, entries: Sequence[Entry]) -> list[Footer]:
    """Read the footers of all files in parallel.

    Raises:
        UnreadableFilesError: files without a readable footer; the message lists them.
        SourceChangedError: a file was replaced or deleted after it was listed.
        StorageError: permission to read a file is missing.
    """
    results = examine_footers(storage, entries)
    broken = [result for result in results if isinstance(result, str)]
    if broken:
        listed = "\n".join(broken)
        raise UnreadableFilesError(
            f"{len(broken)} of {counted(len(entries), 'file')} without a readable Parquet footer:\n{listed}\n"
            "Write them again, or take another snapshot with --snapshot-dt"
        )
    return [result for result in results if isinstance(result, Footer)]


def examine_footers(storage: Storage, entries: Sequence[Entry]) -> list[Footer | str]:
    """Return the footer of each file, or its name and why its footer cannot be read.

    Raises:
        SourceChangedError: a file was replaced or deleted after it was listed.
        StorageError: permission to read a file is missing.
    """
    schemas: dict[bytes, pa.Schema] = {}

    def read(batch: Sequence[Entry]) -> list[Footer | str]:
        ends = [_read_end(storage, entry) for entry in batch]
        parsed = iter(processes.parse([end for end in ends if not isinstance(end, str)]))
        return [
            f"{one_line(entry.location)}: {one_line(result)}" if isinstance(result, str) else result
            for entry, end in zip(batch, ends, strict=True)
            for result in [end if isinstance(end, str) else footer(entry, end, next(parsed))]
        ]

    def footer(entry: Entry, end: File, summary: FooterSummary | str) -> Footer | str:
        if isinstance(summary, str):
            return _wrong_start(storage, entry) + summary
        if _is_joined(storage, entry, end, summary):
            return "two Parquet files joined into one; readers see the last one only"
        # Most files have the same schema, and comparing an object with itself is fast.
        schema = schemas.get(summary.schema)
        if schema is None:
            schema = schemas.setdefault(summary.schema, pa.ipc.read_schema(pa.py_buffer(summary.schema)))
        return Footer(entry, schema, summary)

    with FooterProcesses() as processes, system().pool(_FOOTER_THREADS) as pool:
        return [result for results in pool.map(read, _batches(entries)) for result in results]


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield groups of files whose footers are parsed together, so that no thread is idle and few bytes are held."""
    count = min(_BATCH_FILES, -(-len(entries) // _FOOTER_THREADS))
    for first in range(0, len(entries), count or 1):
        yield entries[first : first + count]


def _read_end(storage: Storage, entry: Entry) -> File | str:
    """Return the footer and the size of a file, or why the footer cannot be read."""
    try:
        with storage.open(entry.location, entry.version) as stream:
            return _end(stream)
    except PermissionError:
        # The file may be fine, so the error must not tell the user to rewrite it.
        with wrap_os_errors(entry.location, "read"):
            raise
    except MemoryError:
        raise  # Also an ArrowException, but not a fault of the file.
    except (pa.ArrowException, OSError, ValueError) as error:
        return reason(error)


def _end(stream: pa.NativeFile) -> File:
    """Return the footer of a file, or its last bytes if it is too short for one, and the size of the file.

    Raises:
        ValueError: the file is no Parquet file, or shorter than its footer.
    """
    size = stream.size()
    end = stream.read_at(min(size, _END_BYTES), max(0, size - _END_BYTES))
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
        row_group_rows=footer.summary.row_group_rows,
        version=footer.entry.version,
        partition_values=partition_values,
    )


def source_columns(schema: pa.Schema, footers: Sequence[Footer]) -> tuple[SourceColumn, ...]:
    """Return the columns of `schema`, each summed over the column chunks of all files."""
    sums = np.zeros((4, len(schema)), np.int64)
    places = {name: place for place, name in enumerate(schema.names)}
    for names, columns in _sums_by_names(footers):
        # A file without rows may have other columns.
        found = np.array([places.get(name, -1) for name in names], dtype=np.intp)
        known = found >= 0
        sums[:, found[known]] = _added(sums[:, found[known]], columns[:, known])
    compressed, uncompressed, dictionary, nulls = sums
    return tuple(
        SourceColumn(
            name=name,
            type=str(kind),
            compressed_bytes=int(compressed[place]),
            uncompressed_bytes=int(uncompressed[place]),
            dictionary_bytes=int(dictionary[place]) if dictionary[place] >= 0 else None,
            null_count=int(nulls[place]) if nulls[place] >= 0 else None,
        )
        for place, (name, kind) in enumerate(zip(schema.names, schema.types, strict=True))
    )


def _sums_by_names(footers: Sequence[Footer]) -> Iterator[tuple[list[str], Integers]]:
    """Yield the names of columns and the sums of the files that have them in this order."""
    alike: dict[int, list[Footer]] = {}
    for footer in footers:
        alike.setdefault(id(footer.schema), []).append(footer)
    for group in alike.values():
        yield group[0].schema.names, reduce(_added, (footer.summary.columns for footer in group))


def _added(one: Integers, other: Integers) -> Integers:
    """Add bytes and NULLs, and take the larger dictionary; -1 is unknown."""
    sums = one + other
    np.maximum(one[2], other[2], out=sums[2])
    sums[2:][(one[2:] < 0) | (other[2:] < 0)] = -1
    return sums
