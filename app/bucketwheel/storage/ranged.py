"""Read a remote file in ranges: few parallel requests, only for the needed bytes."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from itertools import pairwise

import pyarrow as pa

from bucketwheel.system import system

Read = Callable[[int, int], bytes]
Range = tuple[int, int]

# A request for the end of a file reads at least this many bytes: most Parquet footers are shorter.
END_BYTES = 64 * 2**10
# Reading this many unneeded bytes takes about as long as another request.
_HOLE = 128 * 2**10
# Reading this many times the bytes costs more than the memory of all of them at once is worth.
_MORE_APART = 1.25
# A single connection to S3 is slow, so larger requests are split and sent in parallel.
REQUEST_BYTES = 8 * 2**20
_THREADS = 16


def pool() -> Executor:
    """Return the threads for requests, shared by all files of this process."""
    return _shared(system().pool)


@functools.cache
def _shared(make: Callable[[int], Executor]) -> Executor:
    return make(_THREADS)


# A forked child has no copy of the threads.
os.register_at_fork(after_in_child=_shared.cache_clear)


class RangedSource(io.RawIOBase):
    """A file whose end was read when it was opened and whose other ranges can be prefetched.

    Args:
        size: size of the file in bytes.
        end: its last bytes.
        read: reads (offset, length) of the file.
    """

    def __init__(self, size: int, end: bytes, read: Read) -> None:
        self._size = size
        self._end = end
        self._read = read
        self._fetched: dict[Range, memoryview] = {}
        self._position = 0

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Prefetch these ranges; each is kept until it is read or until the next call."""
        self._fetched.clear()
        start = self._size - len(self._end)
        runs = merged(part for part in set(ranges) if part[0] < start)
        futures = [[pool().submit(self._read, *part) for part in _split(run[0][0], _end(run))] for run in runs]
        try:
            for run, parts in zip(runs, futures, strict=True):
                block, first = _joined([future.result() for future in parts]), run[0][0]
                self._fetched.update({part: block[part[0] - first : sum(part) - first] for part in run})
        finally:
            for future in (future for parts in futures for future in parts):
                future.cancel()

    def read(self, size: int = -1, /) -> bytes | memoryview:
        """Return the next bytes; Arrow accepts a view without copying it."""
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
        # Bytes at the end of the file are in memory already.
        remote = min(length, start - offset)
        return self._read(offset, remote) + self._end[: length - remote]

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
    """Arrow file over a ranged source."""

    def __init__(self, source: RangedSource, mode: str = "r") -> None:
        self.source = source


def merged(ranges: Iterable[Range]) -> list[list[Range]]:
    """Return the sorted ranges, close ones grouped into one list."""
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


def spanned(ranges: Iterable[Range]) -> int:
    """Return the bytes that reading these ranges takes, with those between close ones."""
    return sum(_end(run) - run[0][0] for run in merged(ranges))


def alternate(parts: Sequence[Collection[Range]]) -> bool:
    """Return whether the ranges of different parts alternate, so that reading part by part takes many more bytes."""
    return sum(map(spanned, parts)) > _MORE_APART * spanned(part for each in parts for part in each)


def requests_for(ranges: Iterable[Range]) -> int:
    """Return the number of requests that prefetch these ranges."""
    return sum(_requests(_end(run) - run[0][0]) for run in merged(ranges))


def _requests(length: int) -> int:
    return -(-length // REQUEST_BYTES)


def _end(run: list[Range]) -> int:
    return max(offset + length for offset, length in run)


def _split(start: int, end: int) -> list[Range]:
    count = _requests(end - start)
    edges = [start + (end - start) * number // count for number in range(count + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _joined(parts: list[bytes]) -> memoryview:
    return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
