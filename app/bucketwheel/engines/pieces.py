"""Where scattered rows wait for their bucket: in memory up to a limit, past it in Arrow IPC files on disk."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from bucketwheel.kernel.gather import Pieces
from bucketwheel.kernel.scatter import Scattered
from bucketwheel.storage import translated


class _Spilled:
    """One scattered slice on disk: an IPC file with a record batch for each bucket that has rows."""

    def __init__(self, path: Path, scattered: Scattered) -> None:
        counts = np.diff(scattered.offsets)
        self._batch_numbers = np.cumsum(counts > 0) - 1
        self._counts = counts
        self._readers = threading.local()
        self.schema = scattered.batch.schema
        columns = scattered.batch.schema.names
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self.schema) as writer:
            for bucket in np.flatnonzero(counts):
                writer.write_batch(scattered.piece(int(bucket), columns))
        self._file = pa.OSFile(str(path), "rb")
        self.bytes = self._file.size()

    def rows(self, bucket: int) -> int:
        return int(self._counts[bucket])

    def piece(self, bucket: int, columns: Sequence[str]) -> pa.RecordBatch:
        batch = self._reader(tuple(columns)).get_batch(int(self._batch_numbers[bucket]))
        return batch.select(list(columns))

    def _reader(self, columns: tuple[str, ...]) -> pa.ipc.RecordBatchFileReader:
        # A reader caches dictionaries as it goes and is not safe for two threads; the file below it is.
        opened = self._readers.__dict__.setdefault("by_columns", {})
        if columns not in opened:
            fields = [self.schema.get_field_index(name) for name in columns]
            options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
            opened[columns] = pa.ipc.open_file(self._file, options=options)
        return opened[columns]


class PieceStore:
    """Keeps every scattered slice; safe for use by several threads.

    Args:
        limit: bytes to keep in memory; slices beyond it go to `directory`.
        directory: a local directory of its own, made when needed.
    """

    def __init__(self, limit: int, directory: Path) -> None:
        self._limit = limit
        self._directory = directory
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._slices: dict[tuple[int, int], Scattered | _Spilled] = {}
        self._held = 0
        self.spilled_bytes = 0

    def add(self, part: int, scattered: Scattered) -> None:
        """Take over one scattered part of a slice.

        Raises:
            StorageError: the disk for spilling is full or cannot be written.
        """
        size = scattered.batch.nbytes
        with self._lock:
            keep = self._held + size <= self._limit
            self._held += size if keep else 0
            number = next(self._numbers)
        kept: Scattered | _Spilled = scattered if keep else self._spill(number, scattered)
        with self._lock:
            self._slices[scattered.index, part] = kept

    def _spill(self, number: int, scattered: Scattered) -> _Spilled:
        path = self._directory / f"{number:06d}.arrow"
        with translated(str(path), "spill to"):
            self._directory.mkdir(parents=True, exist_ok=True)
            spilled = _Spilled(path, scattered)
        with self._lock:
            self.spilled_bytes += spilled.bytes
        return spilled

    def pieces(self, bucket: int) -> Pieces:
        """Return the reader of one bucket's pieces, in slice order."""
        ordered = [self._slices[key] for key in sorted(self._slices)]
        filled = [kept for kept in ordered if kept.rows(bucket)]

        def read(columns: Sequence[str]) -> list[pa.RecordBatch]:
            with translated(str(self._directory), "read spilled pieces from"):
                return [kept.piece(bucket, columns) for kept in filled or ordered[:1]]

        return read

    def close(self) -> None:
        """Forget everything and delete the files."""
        self._slices.clear()
        shutil.rmtree(self._directory, ignore_errors=True)
