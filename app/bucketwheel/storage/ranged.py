"""Reading a far file by ranges: few requests, side by side, and nothing that is not needed."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pyarrow as pa

Read = Callable[[int, int], bytes]
Range = tuple[int, int]

# Reading this much that is not needed takes about as long as another request would.
_HOLE = 128 * 2**10
# A single connection to S3 is slow; larger requests are cut and sent side by side.
_REQUEST = 8 * 2**20
_THREADS = 16


@functools.cache
def pool() -> ThreadPoolExecutor:
    """Return the threads that wait for answers, the same for all files of this process."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="ranges")


# Threads do not live on in the child of a fork.
os.register_at_fork(after_in_child=pool.cache_clear)


class RangedSource(io.RawIOBase):
    """A file of which the end is known from opening it, and other parts once they were fetched.

    Args:
        size: bytes of the file.
        end: its last bytes.
        read: returns (offset, length) of it.
    """

    def __init__(self, size: int, end: bytes, read: Read) -> None:
        self._size = size
        self._end = end
        self._read = read
        self._fetched: dict[Range, memoryview] = {}
        self._position = 0

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Read these ranges ahead; a range is forgotten once it was read, and all are with the next call."""
        self._fetched.clear()
        start = self._size - len(self._end)
        runs = merged(part for part in set(ranges) if part[0] < start)
        futures = [[pool().submit(self._read, *piece) for piece in _cut(run[0][0], _end(run))] for run in runs]
        try:
            for run, parts in zip(runs, futures, strict=True):
                block, first = _joined([future.result() for future in parts]), run[0][0]
                self._fetched.update({part: block[part[0] - first : sum(part) - first] for part in run})
        finally:
            for future in (future for parts in futures for future in parts):
                future.cancel()

    def read(self, size: int = -1, /) -> bytes | memoryview:
        """Return the next bytes; Arrow takes a view as well, without copying it."""
        length = max(0, self._size - self._position if size < 0 else min(size, self._size - self._position))
        offset, start = self._position, self._size - len(self._end)
        self._position += length
        if not length:
            return b""
        if offset >= start:
            return self._end[offset - start : offset - start + length]
        ready = self._fetched.pop((offset, length), None)
        if ready is not None:
            return ready
        # What is asked for and lies at the end is there already.
        far = min(length, start - offset)
        return self._read(offset, far) + self._end[: length - far]

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """See `io.IOBase.seek`."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """See `io.IOBase.tell`."""
        return self._position

    def readable(self) -> bool:
        """See `io.IOBase.readable`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase.seekable`."""
        return True


class RangedFile(pa.PythonFile):  # type: ignore[misc]  # pyarrow has no types
    """A ranged source as Arrow takes it."""

    def __init__(self, source: RangedSource, mode: str = "r") -> None:
        self.source = source


def merged(ranges: Iterable[Range]) -> list[list[Range]]:
    """Return the ranges in order, those that lie close to each other in one list."""
    runs: list[list[Range]] = []
    end = 0
    for offset, length in sorted(ranges):
        if runs and offset <= end + _HOLE:
            runs[-1].append((offset, length))
        else:
            runs.append([(offset, length)])
            end = 0
        end = max(end, offset + length)
    return runs


def _end(run: list[Range]) -> int:
    return max(offset + length for offset, length in run)


def _cut(start: int, end: int) -> list[Range]:
    count = -(-(end - start) // _REQUEST)
    edges = [start + (end - start) * number // count for number in range(count + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _joined(parts: list[bytes]) -> memoryview:
    return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
