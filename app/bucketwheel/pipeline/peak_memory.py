"""Measure the peak memory of this process while a stage runs."""

from __future__ import annotations

import resource
import sys
import threading

import psutil

_INTERVAL_SECONDS = 0.1
# ru_maxrss is in KiB, on macOS in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


class PeakMemory:
    """Context manager that measures the peak resident memory of this process in `bytes`.

    If the process needs more memory than ever before, the peak is that of the kernel and exact. Otherwise it is the
    largest of the samples that a thread takes.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
        self._before = 0

    def __enter__(self) -> PeakMemory:
        """Start to measure."""
        self._before = _highest()
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread; `bytes` is the result."""
        self._ended.set()
        self._thread.join()
        self._sample()
        highest = _highest()
        if highest > self._before:
            self.bytes = max(self.bytes, highest)

    def _watch(self) -> None:
        while not self._ended.wait(_INTERVAL_SECONDS):
            self._sample()

    def _sample(self) -> None:
        self.bytes = max(self.bytes, self._process.memory_info().rss)


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
