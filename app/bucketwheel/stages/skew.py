"""Warn of keys that fill the buckets unevenly, so that a few tasks of every join do most of the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bucketwheel.formatting import counted

_TIMES_MEAN = 4
# With fewer rows per bucket than this, uneven buckets are a matter of chance.
_FEWEST = 16


@dataclass(frozen=True)
class BucketRows:
    """Rows of each bucket, the rows of them with a NULL key, and the distinct other keys.

    The last two may be empty if the buckets are even.
    """

    rows: tuple[int, ...] = ()
    null_keys: tuple[int, ...] = ()
    distinct: tuple[int, ...] = ()


def is_uneven(counts: Sequence[int]) -> bool:
    """Return whether most buckets are empty, or one is over 4 times as large as the mean."""
    total, count = sum(counts), len(counts)
    if count < 2 or total < _FEWEST * count:
        return False
    return _is_lopsided(counts)


def _is_lopsided(counts: Sequence[int]) -> bool:
    count = len(counts)
    return _empty(counts) > count / 2 or max(counts) > _TIMES_MEAN * sum(counts) / count


def skew_warnings(buckets: BucketRows, keys: Sequence[str], hash_name: str, sample: bool = False) -> list[str]:
    """Return warnings about uneven buckets.

    Args:
        buckets: rows of each bucket.
        keys: names of the key columns.
        hash_name: the bucket hash.
        sample: whether the rows are a sample of the snapshot.
    """
    rows = buckets.rows
    if not is_uneven(rows):
        return []
    total, count, key = sum(rows), len(rows), ", ".join(keys)
    origin = f" in a sample of {counted(total, 'row')}" if sample else ""
    largest = rows.index(max(rows))
    null_keys = buckets.null_keys[largest]
    # The hash of several columns depends on all of them.
    mostly_null = len(keys) == 1 and null_keys * 2 > rows[largest]
    fix = f"joins wait for the tasks of the largest buckets; {_fix(buckets, mostly_null, hash_name)}"
    if (empty := _empty(rows)) > count / 2:
        return [f"key {key} fills only {count - empty} of {counted(count, 'bucket')}{origin}; {fix}"]
    nulls = f", {null_keys:,} of them with a NULL key" if null_keys else ""
    return [
        f"bucket {largest} has {counted(rows[largest], 'row')}{nulls}{origin}, {rows[largest] * count / total:.1f}x "
        f"the mean of {counted(count, 'bucket')} by key {key}; {fix}"
    ]


def _empty(counts: Sequence[int]) -> int:
    return sum(1 for number in counts if not number)


def _fix(buckets: BucketRows, mostly_null: bool, hash_name: str) -> str:
    if mostly_null:
        return "all NULL keys share a bucket, whatever the hash; fill the key in the source, or remove these rows"
    if max(buckets.distinct, default=0) < _FEWEST or not _is_lopsided(buckets.distinct):
        return "all rows of a key share a bucket, whatever the hash, and few keys have most rows; choose another key"
    # hive_v1 hashes an integer to itself, so ids with a common divisor share buckets.
    return f"choose {'another buckets.hash or ' if hash_name == 'hive_v1' else ''}another key"
