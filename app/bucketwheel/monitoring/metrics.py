"""Names of the metrics of a run and the way they go: what jobs publish, the dashboard shows and alarms watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple


class Metric(NamedTuple):
    """A metric; `unit` as CloudWatch calls it, `statistic` the one that says something about a run."""

    name: str
    unit: str
    statistic: str
    help: str


DIMENSIONS: Final = ("Environment", "Dataset")

ROWS: Final = Metric("Rows", "Count", "Maximum", "Rows of the snapshot")
BYTES_WRITTEN: Final = Metric("BytesWritten", "Bytes", "Maximum", "Bytes of all tables")
SECONDS: Final = Metric("Seconds", "Seconds", "Maximum", "Time of all stages together")
SKEW: Final = Metric("Skew", "None", "Maximum", "Rows of the largest bucket by the average of all")
NULL_KEYS: Final = Metric("NullKeys", "Count", "Maximum", "Rows without a key")
DUPLICATE_KEYS: Final = Metric("DuplicateKeys", "Count", "Maximum", "Rows that repeat a key")
ROWS_CHANGED: Final = Metric(
    "RowsChangedPercent", "Percent", "Maximum", "Difference in rows to the published snapshot"
)
NULL_SHARE_CHANGED: Final = Metric(
    "NullShareChangedPoints",
    "Percent",
    "Maximum",
    "Largest change of a column's share of NULLs against the published snapshot, in percentage points",
)
COLUMNS_CHANGED: Final = Metric(
    "ColumnsChanged", "Count", "Maximum", "Columns that are new or gone against the published snapshot"
)
KEYS_KEPT: Final = Metric(
    "KeysKeptPercent", "Percent", "Minimum", "Keys of the published snapshot that this one has too"
)
COST: Final = Metric("CostUsd", "None", "Maximum", "What the run cost, in dollars, at the configured prices")

METRICS: Final = (
    ROWS,
    BYTES_WRITTEN,
    SECONDS,
    SKEW,
    NULL_KEYS,
    DUPLICATE_KEYS,
    ROWS_CHANGED,
    NULL_SHARE_CHANGED,
    COLUMNS_CHANGED,
    KEYS_KEPT,
    COST,
)

Route = Literal["emf", "put", "none"]

# CloudWatch takes metrics out of the lines of EMR Serverless where these go to one of its log groups, which the
# stack sees to. Of the log groups that Glue writes to this is not known, and a call is sure.
_AUTOMATIC: Final[Mapping[str, Route]] = {"emr-serverless": "emf", "glue": "put"}


def route(chosen: Literal["auto"] | Route, runtime: str) -> Route:
    """Return how metrics go to CloudWatch: in a line of the log (`emf`), by a call (`put`), or not at all.

    Args:
        chosen: the setting `monitoring.metrics`.
        runtime: where the job runs, as `runtime.detect` names it.
    """
    return _AUTOMATIC.get(runtime, "none") if chosen == "auto" else chosen
