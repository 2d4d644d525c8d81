"""The memory budget of an engine, and what gathering a bucket takes of it."""

from __future__ import annotations

from collections.abc import Sequence

from bucketwheel.host import available_memory
from bucketwheel.settings import Settings

# The pieces of one table of one bucket, one array of them, its ordered copy, and the file in the making.
_GATHER_COPIES = 4
# Shares of the budget for pieces that wait and for work on slices and buckets; allocators need the rest.
HELD = 0.4
WORKING = 0.4


def memory_budget(settings: Settings) -> int:
    """Return the bytes that the engine may use."""
    return available_memory() // 2 if settings.memory == "auto" else settings.memory


def gather_bytes(rows: float, decoded_bytes_per_row: int, widths: Sequence[int], keys: int) -> float:
    """Return about what gathering one bucket takes in memory.

    Args:
        rows: rows of the bucket.
        decoded_bytes_per_row: of all columns together.
        widths: value columns of each table.
        keys: key columns.
    """
    return rows * decoded_bytes_per_row * (max(widths) + keys) / (sum(widths) + keys) * _GATHER_COPIES


def gather_budget(settings: Settings) -> int:
    """Return the bytes that gathering may take."""
    return int(memory_budget(settings) * WORKING)
