"""The peak memory of a stage."""

from __future__ import annotations

import numpy as np
import psutil

from bucketwheel.pipeline import peak_memory
from bucketwheel.pipeline.peak_memory import PeakMemory

SIZE = 64 * 2**20


def allocated_and_freed() -> None:
    # Written, because the system counts only pages in use.
    assert np.ones(SIZE, np.uint8).sum() == SIZE


def test_peak_memory_counts_freed_memory() -> None:
    before = psutil.Process().memory_info().rss
    with PeakMemory() as peak:
        held = np.ones(SIZE, np.uint8)
        # Larger than ever before in this process.
        more = [np.ones(SIZE, np.uint8) for _ in range(1 + peak_memory._highest() // SIZE)]
        del more
    assert peak.bytes >= before + 2 * len(held)
    assert peak.bytes > psutil.Process().memory_info().rss + SIZE


def test_peak_memory_of_small_block_ignores_earlier_peak() -> None:
    with PeakMemory() as first:
        allocated_and_freed()
    with PeakMemory() as second:
        pass
    assert 0 < second.bytes <= max(first.bytes, psutil.Process().memory_info().rss + SIZE)


def test_peak_memory_samples_below_earlier_peak() -> None:
    allocated_and_freed()
    with PeakMemory() as peak:
        held = np.ones(SIZE // 2, np.uint8)
        with_held = psutil.Process().memory_info().rss
        while peak.bytes < with_held - 2**20:
            peak._ended.wait(0.01)
        del held
    assert peak.bytes >= with_held - 2**20
