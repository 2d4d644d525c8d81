"""Scattered rows on their way between processes: one row of a shuffle for each piece.

A piece has the rows of the buckets of one run, those that are gathered together; the run has the number of its
first bucket. A task of scatter sends, to every partition, the dictionaries and schemas that its pieces need once,
and each piece as one Arrow IPC message without them; what is long takes several rows. Pieces of a run arrive
ordered by group of columns, slice and part, so that gathering holds one table of one run and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.contracts import BucketJob
from bucketwheel.kernel.dictionaries import Codebooks
from bucketwheel.kernel.gather import Pieces
from bucketwheel.kernel.scatter import Scattered

# Rows of run -1 come first in every partition. Their group: the dictionaries, else the number of a schema.
_HEADER = -1
_BOOKS = -1
# Handed over once this many bytes of pieces are ready.
_BATCH_BYTES = 8 * 2**20
# No payload is longer, so that a number of rows limits the bytes of a batch: the JVM counts nothing else.
_PIECE_BYTES = 512 * 2**10
BATCH_ROWS = 512
# In place of a layout: the payload is the next part of that of the row before.
_GOES_ON = -1

# Buckets that are gathered together, in ascending order; those between them that are not listed have no rows.
Run = tuple[int, ...]

SCHEMA = pa.schema(
    [
        pa.field("place", pa.int32(), nullable=False),
        pa.field("run", pa.int32(), nullable=False),
        pa.field("grp", pa.int32(), nullable=False),
        pa.field("slice", pa.int32(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("task", pa.int32(), nullable=False),
        pa.field("layout", pa.int32(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
# What decides to which partition a row goes, and in which order it arrives there.
PLACE = "place"
ORDER = ("run", "grp", "slice", "part")


class _Row(NamedTuple):
    place: int
    run: int
    grp: int
    slice: int
    part: int
    task: int
    layout: int
    payload: pa.Buffer


def column_groups(job: BucketJob) -> list[list[str]]:
    """Return the source columns of each group in the order in which gather asks for them: keys, then tables."""
    pairs = [job.keys, *(table.columns for table in job.tables)]
    return [[source for source, _ in columns] for columns in pairs if columns]


class _Batches:
    """Collects rows into record batches of about `_BATCH_BYTES`."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._bytes = 0

    def add(self, row: _Row) -> Iterator[pa.RecordBatch]:
        self._rows.append(row)
        self._bytes += row.payload.size
        if self._bytes >= _BATCH_BYTES:
            yield from self.flush()

    def flush(self) -> Iterator[pa.RecordBatch]:
        if self._rows:
            columns = list(zip(*self._rows, strict=True))
            ends = np.cumsum([0, *(payload.size for payload in columns[-1])]).astype(np.int32)
            joined = pa.allocate_buffer(int(ends[-1]))
            with pa.FixedSizeBufferWriter(joined) as sink:
                for payload in columns[-1]:
                    sink.write(payload)
            payloads = pa.Array.from_buffers(pa.binary(), len(ends) - 1, [None, pa.py_buffer(ends), joined])
            numbers = [pa.array(column, pa.int32()) for column in columns[:-1]]
            self._rows, self._bytes = [], 0
            yield pa.RecordBatch.from_arrays([*numbers, payloads], schema=SCHEMA)


def pack(
    job: BucketJob,
    task: int,
    slices: Iterable[Iterable[Scattered]],
    codebooks: Codebooks,
    places: Mapping[Run, int],
    all_places: Collection[int],
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one task of scatter, in record batches of `SCHEMA`.

    Args:
        job: names the groups of columns.
        task: a number that no other task has; the same each time the task is tried.
        slices: the scattered parts of each slice, in slice order.
        codebooks: the dictionaries that scatter filled.
        places: the place of the partition of each run.
        all_places: one for each partition.
    """
    groups = column_groups(job)
    layouts: dict[pa.Schema, int] = {}
    batches = _Batches()
    for parts in slices:
        numbers = itertools.count()
        for scattered in parts:
            for group, columns in enumerate(groups):
                batch = scattered.batch.select(columns)
                kind = layouts.setdefault(batch.schema, len(layouts))
                step = max(1, _PIECE_BYTES * batch.num_rows // max(batch.nbytes, 1))
                for run, start, rows in _cuts(scattered.offsets, places, step):
                    payload = batch.slice(start, rows).serialize()
                    row = _Row(places[run], run[0], group, scattered.index, 0, task, kind, payload)
                    for cut in _shortened(row, numbers):
                        yield from batches.add(cut)
    headers = [(_BOOKS, _packed_books(codebooks)), *((number, kind.serialize()) for kind, number in layouts.items())]
    for place, (group, payload) in itertools.product(all_places, headers):
        # The task in place of a slice keeps the parts of its headers together.
        for cut in _shortened(_Row(place, _HEADER, group, task, 0, task, 0, payload), itertools.count()):
            yield from batches.add(cut)
    yield from batches.flush()


def _shortened(row: _Row, parts: Iterator[int]) -> Iterator[_Row]:
    """Yield the row with the next of `parts`, in as many rows as its payload takes."""
    yield row._replace(part=next(parts), payload=row.payload[:_PIECE_BYTES])
    for start in range(_PIECE_BYTES, row.payload.size, _PIECE_BYTES):
        yield row._replace(part=next(parts), layout=_GOES_ON, payload=row.payload[start : start + _PIECE_BYTES])


def _whole(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Undo `_shortened`."""
    first: _Row | None = None
    payloads: list[pa.Buffer] = []
    for row in rows:
        if row.layout != _GOES_ON:
            if first:
                yield first._replace(payload=_joined(payloads))
            first, payloads = row, []
        payloads.append(row.payload)
    if first:
        yield first._replace(payload=_joined(payloads))


def _joined(payloads: list[pa.Buffer]) -> pa.Buffer:
    return payloads[0] if len(payloads) == 1 else pa.py_buffer(b"".join(payloads))


def _cuts(offsets: npt.NDArray[np.int64], runs: Iterable[Run], step: int) -> Iterator[tuple[Run, int, int]]:
    """Yield run, first row and number of rows of each piece, of at most `step` rows."""
    for run in runs:
        end = int(offsets[run[-1] + 1])
        for start in range(int(offsets[run[0]]), end, step):
            yield run, start, min(step, end - start)


def _packed_books(codebooks: Codebooks) -> pa.Buffer:
    """Return the values of all books as one row of lists."""
    names = sorted(codebooks)
    values = [codebooks.book(name).values for name in names]
    lists = [pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), array) for array in values]
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays(lists, names=names)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


class Arrivals:
    """What arrived in one partition: first all headers, then run after run.

    Args:
        job: names the groups of columns.
        batches: record batches of `SCHEMA`, in the order of `ORDER`.
    """

    def __init__(self, job: BucketJob, batches: Iterable[pa.RecordBatch]) -> None:
        self._groups = column_groups(job)
        self._rows = _whole(itertools.chain.from_iterable(map(_rows, batches)))
        self._layouts: dict[tuple[int, int], pa.Schema] = {}
        self._translations: dict[int, dict[str, npt.NDArray[np.unsignedinteger]]] = {}
        self.codebooks = Codebooks()

    def __iter__(self) -> Iterator[tuple[int, Pieces]]:
        """Yield the first bucket of each run and the reader of its pieces, to be read before the next run."""
        for first, rows in itertools.groupby(self._rows, attrgetter("run")):
            if first == _HEADER:
                for row in rows:
                    self._note(row)
            else:
                yield first, self._reader(rows)

    def _note(self, header: _Row) -> None:
        if header.grp != _BOOKS:
            self._layouts[header.task, header.grp] = pa.ipc.read_schema(header.payload)
            return
        with pa.ipc.open_stream(header.payload) as stream:
            batch = stream.read_next_batch()
        translations = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            translation = self.codebooks.book(name).translation(column.values)
            if (translation != np.arange(len(translation))).any():
                translations[name] = translation
        self._translations[header.task] = translations

    def _reader(self, rows: Iterator[_Row]) -> Pieces:
        by_group = itertools.groupby(rows, attrgetter("grp"))

        def read(columns: Sequence[str]) -> list[pa.RecordBatch]:
            group, pieces = next(by_group)
            if self._groups[group] != list(columns):
                raise LookupError(f"pieces of {columns} were asked for, those of {self._groups[group]} arrived")
            return [self._piece(row) for row in pieces]

        return read

    def _piece(self, row: _Row) -> pa.RecordBatch:
        batch = pa.ipc.read_record_batch(row.payload, self._layouts[row.task, row.layout])
        translations = self._translations[row.task]
        if translations.keys().isdisjoint(batch.schema.names):
            return batch
        arrays = [
            pa.array(np.take(translations[name], column.to_numpy())) if name in translations else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _rows(batch: pa.RecordBatch) -> Iterator[_Row]:
    numbers = [column.to_pylist() for column in batch.columns[:-1]]
    payloads = [payload.as_buffer() for payload in batch.column(len(numbers))]
    return itertools.starmap(_Row, zip(*numbers, payloads, strict=True))
