"""Write scattered rows into Spark's shuffle and read them back: one shuffle row for each block.

A shuffle block has the rows of one bucket group in one group of columns. The number of a bucket group is that of its
first bucket. A scatter task sends its dictionaries and schemas to every partition once, and each block as one
Arrow IPC message without them; a long payload takes several shuffle rows. Digests before the dictionaries tell which
of them a partition knows from other tasks, usually all. The blocks of a bucket group arrive ordered by group of
columns, slice and part, so that gathering holds one table of one bucket group at a time.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.contracts import BucketJob
from bucketwheel.kernel.dictionaries import UnifiedDictionaries, is_coded
from bucketwheel.kernel.gather import BlockReader, detached
from bucketwheel.kernel.passes import column_groups
from bucketwheel.kernel.scatter import Scattered

# Headers, the rows of bucket group -1, come first in every partition. Their column group is the number of a schema,
# or -1 for the dictionaries.
_HEADER = -1
_DICTIONARIES = -1
# Bytes of payloads after which a record batch is handed to Spark.
_BATCH_BYTES = 8 * 2**20
# Maximum bytes of a payload. The JVM limits a batch by its number of rows only; this bounds its bytes too.
_MAX_PAYLOAD_BYTES = 512 * 2**10
BATCH_ROWS = 64
# Bytes of the digest of a dictionary; equal digests are taken for equal dictionaries.
_DIGEST_BYTES = 16
# Digest of a column that has no dictionary.
_ABSENT = bytes(_DIGEST_BYTES)
# Value of the layout field if the payload continues that of the previous row.
_CONTINUATION = -1

_Translation = npt.NDArray[np.unsignedinteger]

# Buckets that are gathered as one, in ascending order; buckets between them that are not listed have no rows.
BucketGroup = tuple[int, ...]

SCHEMA = pa.schema(
    [
        pa.field("partition_key", pa.int32(), nullable=False),
        pa.field("bucket_group", pa.int32(), nullable=False),
        pa.field("column_group", pa.int32(), nullable=False),
        pa.field("slice", pa.int32(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("task", pa.int32(), nullable=False),
        pa.field("layout", pa.int32(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)
# The columns that decide the partition of a row, and the order in which rows arrive there.
PARTITION_KEY = "partition_key"
ORDER = ("bucket_group", "column_group", "slice", "part")


class _Row(NamedTuple):
    partition_key: int
    bucket_group: int
    column_group: int
    slice: int
    part: int
    task: int
    layout: int
    payload: pa.Buffer


class _BatchBuilder:
    """Collects shuffle rows into record batches of about `_BATCH_BYTES`."""

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


def write_shuffle(
    job: BucketJob,
    task: int,
    slices: Iterable[Iterable[Scattered]],
    dictionaries: UnifiedDictionaries,
    partition_keys: Mapping[BucketGroup, int],
    all_partition_keys: Collection[int],
) -> Iterator[pa.RecordBatch]:
    """Yield the shuffle rows of one scatter task, in record batches of `SCHEMA`.

    Args:
        job: defines the groups of columns.
        task: unique number of the task, the same for every attempt.
        slices: the scattered parts of each slice, in slice order.
        dictionaries: the dictionaries that scatter filled.
        partition_keys: partition key of each bucket group.
        all_partition_keys: the keys of all partitions.
    """
    groups = column_groups(job)
    layouts: dict[pa.Schema, int] = {}
    batches = _BatchBuilder()
    for parts in slices:
        numbers = itertools.count()
        for scattered in parts:
            for column_group in scattered.groups:
                batch = scattered.batch.select(groups[column_group])
                layout = layouts.setdefault(batch.schema, len(layouts))
                step = max(1, _MAX_PAYLOAD_BYTES * batch.num_rows // max(batch.nbytes, 1))
                for group, start, rows in _block_ranges(scattered.offsets, partition_keys, step):
                    payload = batch.slice(start, rows).serialize()
                    row = _Row(
                        partition_keys[group], group[0], column_group, scattered.index, 0, task, layout, payload
                    )
                    for part in _split_payload(row, numbers):
                        yield from batches.add(part)
    headers = [
        (_DICTIONARIES, _serialize_dictionaries(job, dictionaries)),
        *((number, schema.serialize()) for schema, number in layouts.items()),
    ]
    for key, (header, payload) in itertools.product(all_partition_keys, headers):
        # The slice field holds the task number, so that the parts of a header arrive in sequence.
        for part in _split_payload(_Row(key, _HEADER, header, task, 0, task, 0, payload), itertools.count()):
            yield from batches.add(part)
    yield from batches.flush()


def _split_payload(row: _Row, parts: Iterator[int]) -> Iterator[_Row]:
    """Yield the row as rows of at most `_MAX_PAYLOAD_BYTES` payload, numbered by `parts`."""
    yield row._replace(part=next(parts), payload=row.payload[:_MAX_PAYLOAD_BYTES])
    for start in range(_MAX_PAYLOAD_BYTES, row.payload.size, _MAX_PAYLOAD_BYTES):
        yield row._replace(
            part=next(parts), layout=_CONTINUATION, payload=row.payload[start : start + _MAX_PAYLOAD_BYTES]
        )


def _join_payloads(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Yield the rows that `_split_payload` has split."""
    first: _Row | None = None
    payloads: list[pa.Buffer] = []
    for row in rows:
        if row.layout != _CONTINUATION:
            if first:
                yield first._replace(payload=_concatenate(payloads))
            first, payloads = row, []
        payloads.append(row.payload)
    if first:
        yield first._replace(payload=_concatenate(payloads))


def _concatenate(payloads: list[pa.Buffer]) -> pa.Buffer:
    return payloads[0] if len(payloads) == 1 else pa.py_buffer(b"".join(payloads))


def _block_ranges(
    offsets: npt.NDArray[np.int64], groups: Iterable[BucketGroup], step: int
) -> Iterator[tuple[BucketGroup, int, int]]:
    """Yield bucket group, first row and number of rows of each block of at most `step` rows."""
    for group in groups:
        end = int(offsets[group[-1] + 1])
        for start in range(int(offsets[group[0]]), end, step):
            yield group, start, min(step, end - start)


def _serialize_dictionaries(job: BucketJob, dictionaries: UnifiedDictionaries) -> pa.Buffer:
    """Return a digest for each dictionary column of the job by name, then all values as one row of lists (IPC)."""
    names = sorted(dictionaries)
    values = [dictionaries.column(name).values for name in names]
    digests = dict(zip(names, map(_digest, values), strict=True))
    lists = [pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), array) for array in values]
    sink = pa.BufferOutputStream()
    for name in sorted(job.dictionary_columns):
        sink.write(digests.get(name, _ABSENT))
    batch = pa.RecordBatch.from_arrays(lists, names=names)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _digest(values: pa.Array) -> bytes:
    content = pa.RecordBatch.from_arrays([values], names=["values"]).serialize()
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES, person=str(values.type).encode()[:16]).digest()


class ShuffleReader:
    """Reads the shuffle rows of one partition: first all headers, then one bucket group after the other.

    Args:
        job: defines the groups of columns.
        batches: record batches of `SCHEMA`, sorted by `ORDER`.
    """

    def __init__(self, job: BucketJob, batches: Iterable[pa.RecordBatch]) -> None:
        self._groups = column_groups(job)
        self._rows = _join_payloads(itertools.chain.from_iterable(map(_rows, batches)))
        self._layouts: dict[tuple[int, int], pa.Schema] = {}
        # Schemas are the same in most tasks, and reading them again takes longer than finding them here.
        self._schemas: dict[bytes, pa.Schema] = {}
        self._coded = sorted(job.dictionary_columns)
        # By all digests of a header, and by column and digest; None: the codes are the same here.
        self._known: dict[bytes, dict[str, _Translation]] = {}
        self._columns: dict[tuple[str, bytes], _Translation | None] = {}
        self._translations: dict[int, dict[str, _Translation]] = {}
        self.dictionaries = UnifiedDictionaries()

    def __iter__(self) -> Iterator[tuple[int, BlockReader]]:
        """Yield the first bucket of each bucket group and a reader of its blocks; read them before the next group."""
        for first, rows in itertools.groupby(self._rows, attrgetter("bucket_group")):
            if first == _HEADER:
                for row in rows:
                    self._read_header(row)
            else:
                yield first, self._block_reader(rows)

    def _read_header(self, header: _Row) -> None:
        if header.column_group != _DICTIONARIES:
            content = header.payload.to_pybytes()
            if content not in self._schemas:
                self._schemas[content] = pa.ipc.read_schema(header.payload)
            self._layouts[header.task, header.column_group] = self._schemas[content]
            return
        length = len(self._coded) * _DIGEST_BYTES
        digests = header.payload[:length].to_pybytes()
        # Digests of all columns take too much memory for a key.
        key = hashlib.blake2b(digests, digest_size=_DIGEST_BYTES).digest()
        if key not in self._known:
            self._known[key] = self._translated(digests, header.payload[length:])
        self._translations[header.task] = self._known[key]

    def _translated(self, digests: bytes, payload: pa.Buffer) -> dict[str, _Translation]:
        """Return a translation of the codes of each column that has other codes here."""
        translations = {}
        content: pa.RecordBatch | None = None
        for position, name in enumerate(self._coded):
            digest = digests[position * _DIGEST_BYTES : (position + 1) * _DIGEST_BYTES]
            if digest == _ABSENT:
                continue
            if (name, digest) not in self._columns:
                if content is None:
                    with pa.ipc.open_stream(payload) as stream:
                        content = stream.read_next_batch()
                self._columns[name, digest] = self._translation(name, content.column(name).values)
            translation = self._columns[name, digest]
            if translation is not None:
                translations[name] = translation
        return translations

    def _translation(self, name: str, values: pa.Array) -> _Translation | None:
        translation = self.dictionaries.column(name).translation(values)
        return translation if (translation != np.arange(len(translation))).any() else None

    def _block_reader(self, rows: Iterator[_Row]) -> BlockReader:
        by_group = itertools.groupby(rows, attrgetter("column_group"))

        def read(columns: Sequence[str]) -> list[pa.RecordBatch]:
            group, blocks = next(by_group)
            if self._groups[group] != list(columns):
                raise LookupError(f"expected blocks of {columns}, received blocks of {self._groups[group]}")
            return list(detached(((self._read_block(row), row.payload.size) for row in blocks), self.dictionaries))

        return read

    def _read_block(self, row: _Row) -> pa.RecordBatch:
        batch = pa.ipc.read_record_batch(row.payload, self._layouts[row.task, row.layout])
        translations = self._translations[row.task]
        if translations.keys().isdisjoint(batch.schema.names):
            return batch
        arrays = [
            pa.array(np.take(translations[name], column.to_numpy()))
            if name in translations and is_coded(column.type)
            else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _rows(batch: pa.RecordBatch) -> Iterator[_Row]:
    numbers = [column.to_pylist() for column in batch.columns[:-1]]
    payloads = [payload.as_buffer() for payload in batch.column(len(numbers))]
    return itertools.starmap(_Row, zip(*numbers, payloads, strict=True))
