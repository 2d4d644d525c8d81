"""Warn of keys that fill the buckets unevenly, so that a few tasks of every join do most of the work."""

from __future__ import annotations

from collections.abc import Sequence

from bucketwheel.formatting import counted

_TIMES_MEAN = 4
# With fewer rows per bucket than this, uneven buckets are a matter of chance.
_FEWEST = 16


def skew_warnings(
    rows: Sequence[int], keys: Sequence[str], hash_name: str, null_keys: int = 0, sample: bool = False
) -> list[str]:
    """Return warnings about most buckets being empty, or one being over 4 times as large as the mean.

    Args:
        rows: rows of each bucket.
        keys: names of the key columns.
        hash_name: the bucket hash.
        null_keys: rows of the largest bucket that have a NULL key.
        sample: whether the rows are a sample of the snapshot.
    """
    total, count = sum(rows), len(rows)
    if count < 2 or total < _FEWEST * count:
        return []
    key = ", ".join(keys)
    origin = f" in a sample of {counted(total, 'row')}" if sample else ""
    empty, largest = sum(1 for number in rows if not number), max(rows)
    if empty > count / 2:
        return [f"key {key} fills only {count - empty} of {counted(count, 'bucket')}{origin}; {_fix(hash_name)}"]
    if largest > _TIMES_MEAN * total / count:
        nulls = f", {null_keys:,} of them with a NULL key" if null_keys else ""
        times = largest * count / total
        return [
            f"bucket {rows.index(largest)} has {counted(largest, 'row')}{nulls}{origin}, {times:.1f}x the mean "
            f"of {counted(count, 'bucket')} by key {key}; {_fix(hash_name)}"
        ]
    return []


def _fix(hash_name: str) -> str:
    # hive_v1 hashes an integer to itself, so ids with a common divisor share buckets.
    other = "another buckets.hash or " if hash_name == "hive_v1" else ""
    return f"joins wait for its task; choose {other}another key"
