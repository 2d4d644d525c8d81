"""Names of the metrics of a run: what the jobs publish, the dashboard shows and alarms watch."""

from __future__ import annotations

from typing import Final, NamedTuple


class Metric(NamedTuple):
    """A metric; `unit` as CloudWatch calls it, `statistic` the one that says something about a run."""

    name: str
    unit: str
    statistic: str
    help: str


DIMENSIONS: Final = ("Environment", "Dataset")

ROWS: Final = Metric("Rows", "Count", "Maximum", "Rows of the snapshot")
BYTES_WRITTEN: Final = Metric("BytesWritten", "Bytes", "Maximum", "Bytes of all tables")
SECONDS: Final = Metric("Seconds", "Seconds", "Maximum", "Time from the first stage to the last")
SKEW: Final = Metric("Skew", "None", "Maximum", "Rows of the largest bucket by the average of all")
NULL_KEYS: Final = Metric("NullKeys", "Count", "Maximum", "Rows without a key")
DUPLICATE_KEYS: Final = Metric("DuplicateKeys", "Count", "Maximum", "Rows that repeat a key")
ROWS_CHANGED: Final = Metric(
    "RowsChangedPercent", "Percent", "Maximum", "Difference in rows to the published snapshot"
)
COST: Final = Metric("CostUsd", "None", "Sum", "What the run cost, in dollars, at the configured prices")

METRICS: Final = (ROWS, BYTES_WRITTEN, SECONDS, SKEW, NULL_KEYS, DUPLICATE_KEYS, ROWS_CHANGED, COST)
