"""Calculate the values of the metrics of a run."""

from __future__ import annotations

from bucketwheel.monitoring.metrics import (
    BYTES_WRITTEN,
    COLUMNS_CHANGED,
    COST,
    DUPLICATE_KEYS,
    KEYS_KEPT,
    NULL_KEYS,
    NULL_SHARE_CHANGED,
    ROWS,
    ROWS_CHANGED,
    SECONDS,
    SKEW,
    Metric,
)
from bucketwheel.runs.drift_records import Drift
from bucketwheel.runs.manifest import BucketResult, DiscoverResult, Manifest, VerifyResult
from bucketwheel.settings import Settings
from bucketwheel.stages.run_cost import run_cost


def metric_values(manifest: Manifest, settings: Settings) -> dict[Metric, float]:
    """Return the metrics known so far of a run, finished or not; `metrics.py` defines their units."""
    results = manifest.results()
    values: dict[Metric, float] = {SECONDS: round(sum(record.seconds for record in manifest.stages.values()), 3)}
    snapshot, written = results.get("discover"), results.get("bucket")
    if isinstance(snapshot, DiscoverResult):
        values[ROWS] = snapshot.rows
    if isinstance(written, BucketResult):
        values |= _bucket_values(written)
    verified = results.get("verify")
    if isinstance(verified, VerifyResult) and verified.drift:
        values |= _drift_values(verified.drift)
    if (dollars := run_cost(manifest, settings)) is not None:
        values[COST] = round(dollars, 6)
    return values


def _bucket_values(written: BucketResult) -> dict[Metric, float]:
    """Return the metrics of the written buckets, even if `verify` rejected their keys."""
    rows: dict[str, list[int]] = {}
    for outcome in written.outcomes:
        rows.setdefault(outcome.layout, []).append(outcome.rows)
    largest = max((max(counts) * len(counts) for counts in rows.values()), default=0)
    return {
        BYTES_WRITTEN: sum(file.bytes for outcome in written.outcomes for file in outcome.files),
        SKEW: round(largest / written.rows, 4) if written.rows else 0,
        NULL_KEYS: sum(outcome.null_keys for outcome in written.first_layout),
        DUPLICATE_KEYS: sum(outcome.duplicate_keys for outcome in written.first_layout),
    }


def _drift_values(drift: Drift) -> dict[Metric, float]:
    """Return how a snapshot differs from the published one; a value that is not known is omitted, not 0."""
    values: dict[Metric, float] = {
        ROWS_CHANGED: round(drift.rows_changed_percent, 4),
        COLUMNS_CHANGED: len(drift.new_columns) + len(drift.vanished_columns),
    }
    if drift.null_shares:
        values[NULL_SHARE_CHANGED] = round(100 * max(abs(share.now - share.before) for share in drift.null_shares), 4)
    if drift.keys is not None and drift.keys.share is not None:
        values[KEYS_KEPT] = round(100 * drift.keys.share, 4)
    return values
