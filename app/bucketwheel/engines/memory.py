"""The memory budget of an engine, and estimates of the memory that gathering a bucket needs."""

from __future__ import annotations

from collections.abc import Sequence

from bucketwheel.host import available_memory
from bucketwheel.settings import Settings

# Copies that gathering one table of a bucket holds: the shuffle blocks, the array that joins them, its ordered copy,
# and the file being written.
_GATHER_COPIES = 4
# Share of the budget for work on slices and buckets. The spill buffer has as much, and allocators need the rest.
WORKING_SHARE = 0.4
# Share of the budget for the dictionaries of all columns, which are in memory until the last file is written. They
# take up to three times as much while values are added or sorted.
_DICTIONARY_SHARE = 0.1
# Minimum rows of a batch of a slice, however small the budget, unless they exceed this number of bytes.
_MIN_BATCH_ROWS = 1024
_MIN_BATCH_BYTES = 64 * 2**20
# Maximum bytes of a batch: Arrow cannot represent nested text beyond 2 GiB, and long values vary in length.
_MAX_BATCH_BYTES = 2**30


def memory_budget(settings: Settings) -> int:
    """Return the memory budget of the engine in bytes."""
    return available_memory() // 2 if settings.memory == "auto" else settings.memory


def gather_bytes(rows: float, decoded_bytes_per_row: int, widths: Sequence[int], keys: int) -> float:
    """Return the estimated memory, in bytes, of gathering one bucket.

    Args:
        rows: rows of the bucket.
        decoded_bytes_per_row: bytes of all columns.
        widths: number of value columns of each table.
        keys: number of key columns.
    """
    return rows * decoded_bytes_per_row * (max(widths) + keys) / (sum(widths) + keys) * _GATHER_COPIES


def gather_budget(settings: Settings) -> int:
    """Return the share of the memory budget for gathering, in bytes."""
    return int(memory_budget(settings) * WORKING_SHARE)


def dictionary_budget(settings: Settings) -> int:
    """Return the share of the memory budget for the values of unified dictionaries, in bytes."""
    return int(memory_budget(settings) * _DICTIONARY_SHARE)


def batch_rows(wanted: int, decoded_bytes_per_row: int) -> int:
    """Return the rows of a batch of a slice, near `wanted`: neither too few to be worth a call nor too many bytes."""
    width = max(decoded_bytes_per_row, 1)
    fewest = min(_MIN_BATCH_ROWS, _MIN_BATCH_BYTES // width)
    return max(1, fewest, min(wanted, _MAX_BATCH_BYTES // width))
