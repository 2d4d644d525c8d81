"""Form groups of small buckets to gather as one: the fixed cost of a gather is that of thousands of rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bucketwheel.contracts import BucketJob

# Larger groups save no more time.
MAX_GROUP_ROWS = 32_768
# Maximum decoded bytes of a group where no memory budget is set.
_MAX_GROUP_BYTES = 64 * 2**20


def group_buckets(
    buckets: Sequence[int], rows: npt.NDArray[np.int64], max_rows: int, starts: Sequence[int] = ()
) -> list[list[int]]:
    """Return the buckets in groups of at most `max_rows` rows; a larger bucket is a group of its own.

    Args:
        buckets: bucket numbers in ascending order.
        rows: rows per bucket, indexed by bucket number, shape (buckets,).
        max_rows: maximum rows of a group that has more than one bucket.
        starts: bucket numbers that begin a layout; a group has buckets of one layout.
    """
    groups: list[list[int]] = []
    group_rows = 0
    for bucket in buckets:
        count = int(rows[bucket])
        same_layout = bool(groups) and not any(groups[-1][-1] < start <= bucket for start in starts)
        if same_layout and group_rows + count <= max_rows:
            groups[-1].append(bucket)
            group_rows += count
        else:
            groups.append([bucket])
            group_rows = count
    return groups


def group_buckets_by_average(job: BucketJob, buckets: Sequence[int], parts: int) -> tuple[tuple[int, ...], ...]:
    """Return at least one group of buckets for each of `parts`, sized by the average rows of a bucket.

    Use this before the rows of each bucket are known. Grouping a bucket far above the average costs little.
    """
    rows = sum(part.rows for part in job.slices)
    counts = [end - start for start, end in pairwise(job.starts)]
    average = np.repeat([rows / count for count in counts], counts)
    fair_share = int(average[list(buckets)].sum()) // parts
    max_rows = min(MAX_GROUP_ROWS, _MAX_GROUP_BYTES // max(job.decoded_bytes_per_row, 1), fair_share)
    whole = np.ceil(average).astype(np.int64)
    return tuple(map(tuple, group_buckets(buckets, whole, max_rows, job.starts)))
