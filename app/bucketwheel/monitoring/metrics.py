"""The metrics of a run, which jobs publish, the dashboard shows and alarms use, and how they reach CloudWatch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple


class Metric(NamedTuple):
    """A metric with its CloudWatch unit and the statistic that the dashboard and the alarms use."""

    name: str
    unit: str
    statistic: str
    help: str


DIMENSIONS: Final = ("Environment", "Dataset")

ROWS: Final = Metric("Rows", "Count", "Maximum", "Rows of the snapshot")
BYTES_WRITTEN: Final = Metric("BytesWritten", "Bytes", "Maximum", "Bytes of all tables")
SECONDS: Final = Metric("Seconds", "Seconds", "Maximum", "Total duration of all stages")
SKEW: Final = Metric("Skew", "None", "Maximum", "Rows of the largest bucket / average rows per bucket")
NULL_KEYS: Final = Metric("NullKeys", "Count", "Maximum", "Rows with a NULL key")
DUPLICATE_KEYS: Final = Metric("DuplicateKeys", "Count", "Maximum", "Rows that repeat a key")
ROWS_CHANGED: Final = Metric("RowsChangedPercent", "Percent", "Maximum", "Change in rows from the published snapshot")
NULL_SHARE_CHANGED: Final = Metric(
    "NullShareChangedPoints",
    "Percent",
    "Maximum",
    "Largest change of a column's share of NULLs from the published snapshot, in percentage points",
)
COLUMNS_CHANGED: Final = Metric(
    "ColumnsChanged", "Count", "Maximum", "Columns added or removed since the published snapshot"
)
KEYS_KEPT: Final = Metric(
    "KeysKeptPercent", "Percent", "Minimum", "Keys of the published snapshot that are also in this one"
)
COST: Final = Metric("CostUsd", "None", "Maximum", "Cost of the run in dollars, at the configured prices")

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

# CloudWatch extracts metrics from log lines of EMR Serverless in its log groups; the stack configures that logging.
# Whether it does so in the log groups of Glue is unknown; a call works on both.
_AUTOMATIC: Final[Mapping[str, Route]] = {"emr-serverless": "emf", "glue": "put"}


def route(chosen: Literal["auto"] | Route, runtime: str) -> Route:
    """Return how metrics reach CloudWatch: as a log line (`emf`), by a call (`put`), or not at all (`none`).

    Args:
        chosen: the setting `monitoring.metrics`.
        runtime: name of the runtime, from `host.detect`.
    """
    return _AUTOMATIC.get(runtime, "none") if chosen == "auto" else chosen
