"""Distribution of rows and bytes over the buckets of a run, for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bucketwheel.runs.manifest import BucketOutcome, BucketResult, LayoutSize

# Buckets larger than this multiple of the mean are named and drawn in the warning color.
_LARGE = 1.5
# With evenly hashed keys, the row count of a bucket differs from the mean by at most this multiple of the mean's
# square root.
_CHANCE = 5
# Maximum number of buckets in the table of the largest.
_SHOWN = 5


@dataclass(frozen=True)
class Distribution:
    """Rows or bytes of each bucket."""

    values: tuple[int, ...]
    mean: float
    limit: float

    @property
    def ratio(self) -> float:
        """Largest bucket, as a multiple of the mean."""
        return max(self.values) / self.mean if self.mean else 1

    @property
    def spread(self) -> float:
        """Standard deviation, as a share of the mean."""
        deviation = math.sqrt(sum((value - self.mean) ** 2 for value in self.values) / len(self.values))
        return deviation / self.mean if self.mean else 0

    @property
    def large(self) -> list[int]:
        """Numbers of the buckets above the limit, the largest first."""
        large = [number for number, value in enumerate(self.values) if value > self.limit * self.mean]
        return sorted(large, key=lambda number: (-self.values[number], number))


@dataclass(frozen=True)
class Skew:
    """Rows and bytes of the buckets, the multiple of the mean above which a bucket is large, the largest buckets."""

    rows: Distribution
    bytes: Distribution
    limit: float
    largest: tuple[BucketOutcome, ...]


def skew_of(bucket: BucketResult | None, bucket_count: int, layout: LayoutSize | None = None) -> Skew | None:
    """Return the distribution over the buckets of a layout, by default the first; None if no rows are written."""
    if bucket is None or not bucket.rows:
        return None
    outcomes = bucket.first_layout if layout is None else bucket.of_layout(layout)
    if not outcomes:
        return None
    rows = {outcome.bucket: outcome.rows for outcome in outcomes}
    sizes = {outcome.bucket: sum(file.bytes for file in outcome.files) for outcome in outcomes}
    # The last bucket of an Iceberg layout has the rows with a NULL key, mostly none.
    numbers = range(max(bucket_count, 1 + max(number for number, count in rows.items() if count)))
    # Few rows per bucket are uneven by chance.
    limit = max(_LARGE, 1 + _CHANCE / math.sqrt(bucket.rows / len(numbers)))
    largest = sorted(outcomes, key=lambda outcome: (-outcome.rows, outcome.bucket))
    return Skew(
        _distribution([rows.get(number, 0) for number in numbers], limit),
        _distribution([sizes.get(number, 0) for number in numbers], limit),
        limit,
        tuple(largest[:_SHOWN]),
    )


def _distribution(values: Sequence[int], limit: float) -> Distribution:
    return Distribution(tuple(values), sum(values) / len(values), limit)
