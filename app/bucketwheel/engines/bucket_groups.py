"""Which buckets are gathered together: few rows cost as much to join, sort and move as some thousands do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bucketwheel.contracts import BucketJob

# Past so many rows nothing is saved.
TOGETHER_ROWS = 32_768
# Decoded bytes of a run, where nobody has set a budget.
_TOGETHER_BYTES = 64 * 2**20


def together(buckets: Sequence[int], rows: npt.NDArray[np.int64], most: int) -> list[list[int]]:
    """Return the buckets in runs, each of one bucket or of at most `most` rows.

    Args:
        buckets: in ascending order.
        rows: of each bucket by its number, shape (buckets,).
        most: rows of a run of more than one bucket.
    """
    runs: list[list[int]] = []
    held = 0
    for bucket in buckets:
        count = int(rows[bucket])
        if runs and held + count <= most:
            runs[-1].append(bucket)
            held += count
        else:
            runs.append([bucket])
            held = count
    return runs


def together_by_average(job: BucketJob, buckets: Sequence[int], parts: int) -> tuple[tuple[int, ...], ...]:
    """Return the buckets in runs before it is known how many rows each has, at least one run for each of `parts`.

    A bucket of many more rows than the average is not much the worse for being gathered with others.
    """
    rows = sum(part.rows for part in job.slices)
    fair = rows * len(buckets) // (job.bucket_count * parts)
    most = min(TOGETHER_ROWS, _TOGETHER_BYTES // max(job.decoded_bytes_per_row, 1), fair)
    average = np.full(job.bucket_count, -(-rows // job.bucket_count))
    return tuple(map(tuple, together(buckets, average, most)))
