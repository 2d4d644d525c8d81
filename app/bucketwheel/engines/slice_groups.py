"""Form groups of small slices to read and order together: the fixed cost of a batch is that of thousands of rows."""

from __future__ import annotations

from bucketwheel.contracts import BucketJob, Slice
from bucketwheel.kernel.passes import JOINED_ROWS

# Decoded bytes of a group: those that `size` plans for a slice.
_GROUP_BYTES = 64 * 2**20
# Groups of each thread, at least, so that no thread is idle for long at the end.
_GROUPS_PER_THREAD = 4
# Groups of fewer rows cost more than an idle thread.
_FEWEST_ROWS = 8_192


def group_slices(job: BucketJob, threads: int, max_rows: int) -> list[list[Slice]]:
    """Return all slices in groups that follow each other, each of at most `max_rows`; a larger slice is alone."""
    rows = sum(part.rows for part in job.slices)
    fair_share = max(rows // (threads * _GROUPS_PER_THREAD), _FEWEST_ROWS)
    fitting = max(_GROUP_BYTES // max(job.decoded_bytes_per_row, 1), 1)
    # A dictionary that closes within the group leaves more bytes than planned, and text must stay below 2 GiB.
    most = min(max_rows, fair_share, fitting, JOINED_ROWS)
    groups: list[list[Slice]] = []
    group_rows = 0
    for part in job.slices:
        if groups and group_rows + part.rows <= most:
            groups[-1].append(part)
            group_rows += part.rows
        else:
            groups.append([part])
            group_rows = part.rows
    return groups
