"""The spill buffer holds scattered rows until their bucket is gathered: in memory up to a limit, then on disk.

On disk, each shuffle block (the rows of one bucket in one group of columns) is an Arrow IPC message of its own, so
that gathering a table reads only the blocks it needs. Each thread that spills writes one file, however many slices
there are. The file is unlinked when it is opened, so that it never outlives the process.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.contracts import BucketJob
from bucketwheel.engines.memory import memory_budget
from bucketwheel.kernel.gather import BlockReader
from bucketwheel.kernel.passes import column_groups
from bucketwheel.kernel.scatter import Scattered
from bucketwheel.settings import Settings
from bucketwheel.storage import wrap_os_errors

# Share of the memory budget for rows that wait for their bucket.
_BUFFER_SHARE = 0.4
# What the interpreter and its libraries take of a small budget, before there is any data.
_PROCESS_BYTES = 64 * 2**20
# Share of the budget for the buffer, at least.
_SMALLEST_SHARE = 0.1
# Number of the column group that every row has.
KEYS = 0


def spill_budget(settings: Settings) -> int:
    """Return how many bytes of rows the spill buffer holds in memory before it spills to disk."""
    budget = memory_budget(settings)
    return max(int(budget * _BUFFER_SHARE) - _PROCESS_BYTES, int(budget * _SMALLEST_SHARE))


# Source columns of the column groups of a part, by number.
_Groups = Mapping[int, Sequence[str]]


class _BufferedPart(Protocol):
    rows: npt.NDArray[np.int64]
    groups: Collection[int]

    def blocks(self, first: int, last: int, group: int) -> Iterator[pa.RecordBatch]: ...


class _PartInMemory:
    """One part of a slice in memory; the block of one bucket or of several adjacent ones is a view of it."""

    def __init__(self, scattered: Scattered, groups: _Groups) -> None:
        self.rows = np.diff(scattered.offsets)
        self.groups: Collection[int] = frozenset(groups)
        self._offsets = scattered.offsets
        self._batches = {group: scattered.batch.select(list(columns)) for group, columns in groups.items()}

    def blocks(self, first: int, last: int, group: int) -> Iterator[pa.RecordBatch]:
        start, end = int(self._offsets[first]), int(self._offsets[last + 1])
        yield self._batches[group].slice(start, end - start)


class _SpillFile:
    """An unlinked file that one thread appends to and any thread reads."""

    def __init__(self, directory: Path) -> None:
        self.size = 0
        self._descriptor, name = tempfile.mkstemp(prefix="bucketwheel-", suffix=".spill", dir=directory)
        try:
            self._reader = pa.OSFile(name, "rb")
        except BaseException:
            os.close(self._descriptor)
            raise
        finally:
            # From here on the system frees the space when the process ends, even if it is killed.
            Path(name).unlink()

    def append(self, content: pa.Buffer) -> None:
        rest = memoryview(content)
        while rest:
            written = os.pwrite(self._descriptor, rest, self.size)
            self.size += written
            rest = rest[written:]

    def read(self, start: int, end: int) -> pa.Buffer:
        return pa.py_buffer(self._reader.read_at(end - start, start))

    def close(self) -> None:
        os.close(self._descriptor)
        self._reader.close()


class _PartOnDisk:
    """One part of a slice on disk; each block is one message, ordered by bucket and group of columns."""

    def __init__(self, file: _SpillFile, scattered: Scattered, groups: _Groups) -> None:
        self._file = file
        self._start = file.size
        self.rows = np.diff(scattered.offsets)
        self._schemas = {group: scattered.batch.select(list(columns)).schema for group, columns in groups.items()}
        self.groups: Collection[int] = frozenset(groups)
        in_memory = _PartInMemory(scattered, groups)
        ends = np.zeros((len(self.rows), len(groups)), np.int64)
        for bucket in np.flatnonzero(self.rows).tolist():
            for position, group in enumerate(groups):
                for block in in_memory.blocks(bucket, bucket, group):
                    file.append(block.serialize())
                ends[bucket, position] = file.size - self._start
        # An empty bucket ends where the bucket before it ends. There is one number per block, so use a narrow type.
        flat = np.maximum.accumulate(ends.ravel())
        self._ends = np.concatenate(([0], flat)).astype(np.min_scalar_type(int(flat[-1])))

    def blocks(self, first: int, last: int, group: int) -> Iterator[pa.RecordBatch]:
        position = list(self._schemas).index(group)
        for bucket in (first + np.flatnonzero(self.rows[first : last + 1])).tolist():
            number = bucket * len(self._schemas) + position
            start, end = self._start + int(self._ends[number]), self._start + int(self._ends[number + 1])
            yield pa.ipc.read_record_batch(self._file.read(start, end), self._schemas[group])


class SpillBuffer:
    """Holds all scattered parts of slices; safe for use by several threads.

    Args:
        job: defines the groups of columns that gather reads: the keys, and the columns of each table.
        limit: maximum bytes in memory; parts beyond it are written to `directory`.
        directory: local directory, created when needed; files in it are unlinked as soon as they are open.
    """

    def __init__(self, job: BucketJob, limit: int, directory: Path) -> None:
        self._groups = [tuple(columns) for columns in column_groups(job)]
        self._buckets = job.buckets
        self._limit = limit
        self._directory = directory
        self._lock = threading.Lock()
        self._parts: dict[tuple[int, int], _BufferedPart] = {}
        self._memory_bytes = 0
        self._thread = threading.local()
        self._files: list[_SpillFile] = []

    @property
    def spilled_bytes(self) -> int:
        """Return the bytes on disk."""
        return sum(file.size for file in self._files)

    def add(self, part: int, scattered: Scattered) -> int:
        """Add one scattered part of a slice; return its bytes in memory.

        Raises:
            StorageError: the spill disk is full or not writable.
        """
        groups = self._of(scattered)
        if not groups:
            # A pass may read only tables with the columns of earlier ones.
            return 0
        size = int(scattered.batch.nbytes)
        with self._lock:
            fits = self._memory_bytes + size <= self._limit
            self._memory_bytes += size if fits else 0
        buffered: _BufferedPart = _PartInMemory(scattered, groups) if fits else self._spill(scattered, groups)
        with self._lock:
            self._parts[scattered.index, part] = buffered
        return size

    def _spill(self, scattered: Scattered, groups: _Groups) -> _PartOnDisk:
        with wrap_os_errors(str(self._directory), "spill to"):
            if not hasattr(self._thread, "file"):
                self._directory.mkdir(parents=True, exist_ok=True)
                self._thread.file = _SpillFile(self._directory)
                with self._lock:
                    self._files.append(self._thread.file)
            return _PartOnDisk(self._thread.file, scattered, groups)

    def _of(self, scattered: Scattered) -> _Groups:
        """Return the column groups to keep of a part; tables with the same columns share the blocks of the first."""
        columns = ((group, self._groups[group]) for group in scattered.groups)
        return {group: names for group, names in columns if self._groups.index(names) == group}

    def rows(self) -> npt.NDArray[np.int64]:
        """Return the rows of each bucket in all slices."""
        parts = (part.rows for part in self._parts.values() if KEYS in part.groups)
        return sum(parts, np.zeros(self._buckets, np.int64))

    def block_reader(self, first: int, last: int) -> BlockReader:
        """Return a reader of the blocks of buckets `first` to `last`, in slice order."""
        ordered = (self._parts[key] for key in sorted(self._parts))
        filled = [part for part in ordered if part.rows[first : last + 1].any()]

        def read(columns: Sequence[str]) -> list[pa.RecordBatch]:
            group = self._groups.index(tuple(columns))
            with wrap_os_errors(str(self._directory), "read spilled blocks from"):
                parts = (part for part in filled if group in part.groups)
                return [block for part in parts for block in part.blocks(first, last, group)]

        return read

    def close(self) -> None:
        """Drop all parts and free their disk space."""
        self._parts.clear()
        for file in self._files:
            file.close()
