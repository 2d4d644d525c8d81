"""Plan the passes over slices: which tables to read at a time, and which neighboring slices to read as one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol, TypeVar

import pyarrow as pa

from bucketwheel.contracts import BucketJob, Slice
from bucketwheel.errors import UnreadableFilesError
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.gather import combined

# Slices that are read as one have at most this many rows: blocks of 768 rows with 256 buckets.
JOINED_ROWS = 196_608
# Bytes of values to which dictionaries are decoded at a time, and of batches to join afterwards.
DECODED_BYTES = 64 * 2**20
# Maximum files that are open for several passes; the footer of a wide file takes megabytes.
_MAX_OPEN = 16


def column_groups(job: BucketJob) -> list[list[str]]:
    """Return the source columns of each column group in the order in which gather reads them: keys, then tables."""
    pairs = [job.keys, *(table.columns for table in job.tables)]
    return [[source for source, _ in columns] for columns in pairs if columns]


def projected_columns(job: BucketJob) -> list[str]:
    """Return the source names of all columns that the job reads, keys first, without duplicates."""
    return list(dict.fromkeys(chain.from_iterable(column_groups(job))))


class Rows(Protocol):
    """A slice, or what is known of it before the run."""

    @property
    def index(self) -> int:
        """Its number."""

    @property
    def rows(self) -> int:
        """Its rows."""


RowsT = TypeVar("RowsT", bound=Rows)


@dataclass(frozen=True)
class Widths:
    """Estimated decoded bytes of a row: of the keys, of each table that has other columns, and of all columns."""

    keys: float
    tables: tuple[float, ...]
    total: int

    @classmethod
    def of(cls, job: BucketJob) -> Widths:
        """Return the widths of a job."""
        total = max(job.decoded_bytes_per_row, 1)
        average = total / len(projected_columns(job))
        tables = (
            table.decoded_bytes_per_row or average * len(table.columns) for table in job.tables if table.columns
        )
        return cls(average * len(job.keys), tuple(tables), total)

    def rows_by_table(self, max_rows: int) -> int:
        """Return how many rows of the widest table take the memory of `max_rows` rows of all columns."""
        return max(max_rows, int(max_rows * self.total / (self.keys + max(self.tables, default=0.0))))

    def joined(self, slices: Sequence[RowsT], max_rows: int) -> Iterator[list[RowsT]]:
        """Yield all slices in order, in lists of neighbors to read as one: small ones make short blocks."""
        most = min(self.rows_by_table(max_rows), JOINED_ROWS)
        joined: list[RowsT] = []
        rows = 0
        for part in slices:
            rows += part.rows
            fits = rows <= max_rows or len(joined) < _MAX_OPEN
            if joined and (rows > most or not fits or part.index != joined[-1].index + 1):
                yield joined
                joined, rows = [], part.rows
            joined.append(part)
        if joined:
            yield joined


@dataclass(frozen=True)
class Plan:
    """The column groups of each pass over a slice, and the maximum rows to read at a time."""

    passes: tuple[tuple[int, ...], ...]
    rows: int

    @classmethod
    def of(cls, widths: Widths, rows: int, max_rows: int) -> Plan:
        """Return the plan for this many rows; a pass holds about as many bytes as `max_rows` rows of all columns."""
        if rows <= max_rows:
            return cls((tuple(range(1 + len(widths.tables))),), rows)
        at_once = min(rows, widths.rows_by_table(max_rows))
        budget = max_rows * widths.total
        passes, used = [[0]], widths.keys
        for number, width in enumerate(widths.tables, 1):
            if (used + width) * at_once > budget:
                passes.append([])
                used = 0.0
            passes[-1].append(number)
            used += width
        return cls(tuple(map(tuple, filter(None, passes))), at_once)


def wider_job(job: BucketJob, decoded_bytes_per_row: float) -> BucketJob:
    """Return the job with this many bytes for a row, if they are more; those of tables grow in proportion."""
    if decoded_bytes_per_row <= job.decoded_bytes_per_row:
        return job
    factor = decoded_bytes_per_row / max(job.decoded_bytes_per_row, 1)
    tables = (replace(table, decoded_bytes_per_row=table.decoded_bytes_per_row * factor) for table in job.tables)
    return replace(job, tables=tuple(tables), decoded_bytes_per_row=math.ceil(decoded_bytes_per_row))


def aligned(
    batches: Iterator[pa.RecordBatch],
    sizes: Sequence[int],
    parts: Sequence[Slice],
    dictionaries: UnifiedDictionaries,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches of these sizes."""
    rest: pa.RecordBatch | None = None
    for size in sizes:
        pieces: list[pa.RecordBatch] = []
        missing = size
        while missing:
            rest = next(batches, None) if rest is None else rest
            if rest is None:
                raise _uneven(parts)
            pieces.append(rest.slice(0, missing))
            missing -= len(pieces[-1])
            rest = rest.slice(len(pieces[-1])) if len(pieces[-1]) < len(rest) else None
        if pieces:
            yield _joined(pieces, dictionaries)
    if rest is not None or next(batches, None) is not None:
        raise _uneven(parts)


def joined_batches(
    batches: Iterator[pa.RecordBatch], parts: Sequence[Slice], dictionaries: UnifiedDictionaries
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of these slices in batches as long as `DECODED_BYTES` allow; longer ones stay as they are."""
    pieces: list[pa.RecordBatch] = []
    size, missing = 0, sum(part.rows for part in parts)
    for batch in batches:
        missing -= len(batch)
        if pieces and size + batch.nbytes > DECODED_BYTES:
            yield _joined(pieces, dictionaries)
            size = 0
        size += batch.nbytes
        pieces.append(batch)
        del batch
    if missing:
        raise _uneven(parts)
    if pieces:
        yield _joined(pieces, dictionaries)


def _joined(pieces: list[pa.RecordBatch], dictionaries: UnifiedDictionaries) -> pa.RecordBatch:
    """Return the pieces as one batch and empty the list, so that the caller keeps none of them."""
    if len(pieces) == 1:
        return pieces.pop()
    table = combined(pieces, dictionaries)
    pieces.clear()
    return table.to_batches()[0]


def _uneven(parts: Sequence[Slice]) -> UnreadableFilesError:
    return UnreadableFilesError(
        f"{parts[0].path}: its columns have different numbers of rows; write the file again, or select the previous "
        "snapshot with --snapshot-dt"
    )
