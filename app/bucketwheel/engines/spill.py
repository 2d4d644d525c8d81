"""Where scattered rows wait for their bucket: in memory up to a limit, past it on disk.

On disk, each bucket's piece of each group of columns is an Arrow IPC message of its own, so that gathering a
table reads what it needs and nothing else. Every thread that spills has one file, however many slices there are;
the file has no name, so that nothing of it outlives the process.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.contracts import BucketJob
from bucketwheel.kernel.gather import Pieces
from bucketwheel.kernel.scatter import Scattered
from bucketwheel.storage import translated


class _Kept(Protocol):
    rows: npt.NDArray[np.int64]

    def pieces(self, first: int, last: int, group: int) -> Iterator[pa.RecordBatch]: ...


class _Held:
    """One part of a slice in memory; a piece of it is a view, and so are those of adjacent buckets together."""

    def __init__(self, scattered: Scattered, groups: Sequence[Sequence[str]]) -> None:
        self.rows = np.diff(scattered.offsets)
        self._offsets = scattered.offsets
        self._groups = [scattered.batch.select(list(columns)) for columns in groups]

    def pieces(self, first: int, last: int, group: int) -> Iterator[pa.RecordBatch]:
        start, end = int(self._offsets[first]), int(self._offsets[last + 1])
        yield self._groups[group].slice(start, end - start)


class _SpillFile:
    """A file without a name that one thread appends to and any thread reads."""

    def __init__(self, directory: Path) -> None:
        self.size = 0
        self._descriptor, name = tempfile.mkstemp(prefix="bucketwheel-", suffix=".pieces", dir=directory)
        try:
            self._reader = pa.OSFile(name, "rb")
        except BaseException:
            os.close(self._descriptor)
            raise
        finally:
            # From here on its space goes back with the process, even where that is killed.
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


class _Spilled:
    """One part of a slice on disk; a piece of it is one message, by bucket and group of columns."""

    def __init__(self, file: _SpillFile, scattered: Scattered, groups: Sequence[Sequence[str]]) -> None:
        self._file = file
        self._start = file.size
        self.rows = np.diff(scattered.offsets)
        self._schemas = [scattered.batch.select(list(columns)).schema for columns in groups]
        held = _Held(scattered, groups)
        ends = np.zeros((len(self.rows), len(groups)), np.int64)
        for bucket in np.flatnonzero(self.rows).tolist():
            for group in range(len(groups)):
                for piece in held.pieces(bucket, bucket, group):
                    file.append(piece.serialize())
                ends[bucket, group] = file.size - self._start
        # A bucket without rows ends where the one before it does. One number a piece adds up: keep it short.
        flat = np.maximum.accumulate(ends.ravel())
        self._ends = np.concatenate(([0], flat)).astype(np.min_scalar_type(int(flat[-1])))

    def pieces(self, first: int, last: int, group: int) -> Iterator[pa.RecordBatch]:
        for bucket in (first + np.flatnonzero(self.rows[first : last + 1])).tolist():
            number = bucket * len(self._schemas) + group
            start, end = self._start + int(self._ends[number]), self._start + int(self._ends[number + 1])
            yield pa.ipc.read_record_batch(self._file.read(start, end), self._schemas[group])


class PieceStore:
    """Keeps every scattered slice; safe for use by several threads.

    Args:
        job: names the groups of columns that gather will ask for: the keys, and those of each table.
        limit: bytes to keep in memory; slices beyond it go to `directory`.
        directory: a local directory, made when needed; files in it lose their name at once.
    """

    def __init__(self, job: BucketJob, limit: int, directory: Path) -> None:
        columns = [job.keys, *(table.columns for table in job.tables)]
        self._groups = list(dict.fromkeys(tuple(source for source, _ in pairs) for pairs in columns if pairs))
        self._buckets = job.bucket_count
        self._limit = limit
        self._directory = directory
        self._lock = threading.Lock()
        self._slices: dict[tuple[int, int], _Kept] = {}
        self._held = 0
        self._mine = threading.local()
        self._files: list[_SpillFile] = []

    @property
    def spilled_bytes(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self._files)

    def add(self, part: int, scattered: Scattered) -> None:
        """Take over one scattered part of a slice.

        Raises:
            StorageError: the disk for spilling is full or cannot be written.
        """
        size = scattered.batch.nbytes
        with self._lock:
            keep = self._held + size <= self._limit
            self._held += size if keep else 0
        kept: _Kept = _Held(scattered, self._groups) if keep else self._spill(scattered)
        with self._lock:
            self._slices[scattered.index, part] = kept

    def _spill(self, scattered: Scattered) -> _Spilled:
        with translated(str(self._directory), "spill to"):
            if not hasattr(self._mine, "file"):
                self._directory.mkdir(parents=True, exist_ok=True)
                self._mine.file = _SpillFile(self._directory)
                with self._lock:
                    self._files.append(self._mine.file)
            return _Spilled(self._mine.file, scattered, self._groups)

    def rows(self) -> npt.NDArray[np.int64]:
        """Rows of each bucket in all slices."""
        return sum((kept.rows for kept in self._slices.values()), np.zeros(self._buckets, np.int64))

    def pieces(self, first: int, last: int) -> Pieces:
        """Return the reader of the pieces of the buckets `first` to `last`, in slice order."""
        ordered = (self._slices[key] for key in sorted(self._slices))
        filled = [kept for kept in ordered if kept.rows[first : last + 1].any()]

        def read(columns: Sequence[str]) -> list[pa.RecordBatch]:
            group = self._groups.index(tuple(columns))
            with translated(str(self._directory), "read spilled pieces from"):
                return [piece for kept in filled for piece in kept.pieces(first, last, group)]

        return read

    def close(self) -> None:
        """Forget everything, and give back the files' space."""
        self._slices.clear()
        for file in self._files:
            file.close()
