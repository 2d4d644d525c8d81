"""Values of metrics, notifications and lines for CloudWatch, from manifests written by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bucketwheel.monitoring import notification
from bucketwheel.monitoring.emf import emf_line, metric_data
from bucketwheel.monitoring.metrics import (
    BYTES_WRITTEN,
    COLUMNS_CHANGED,
    COST,
    DUPLICATE_KEYS,
    KEYS_KEPT,
    METRICS,
    NULL_KEYS,
    NULL_SHARE_CHANGED,
    ROWS,
    ROWS_CHANGED,
    SECONDS,
    SKEW,
    Metric,
    route,
)
from bucketwheel.monitoring.run_metrics import metric_values
from bucketwheel.runs.drift_records import Drift, KeyOverlap, NullShare
from bucketwheel.runs.manifest import (
    BucketOutcome,
    BucketResult,
    FileRecord,
    Manifest,
    StageRecord,
    VerifyResult,
)
from bucketwheel.runs.summary import Failure, Summary, summarize
from bucketwheel.settings import Settings
from bucketwheel.settings.deploy import GlueJobSettings
from stage_support import column, discovered

MOMENT = datetime(2025, 11, 1, 4, 11, 9, 250000, tzinfo=UTC)
SETTINGS = Settings(glue=GlueJobSettings(worker_type="G.1X", number_of_workers=4, price=0.5), datasets={})
DIMENSIONS = {"Environment": "prod", "Dataset": "people"}


def outcome(bucket: int, rows: int, nulls: int = 0, duplicates: int = 0) -> BucketOutcome:
    files = [FileRecord(table=t, name=f"{bucket:06d}_0", rows=rows, bytes=10 * rows + 1) for t in ("b", "a")]
    return BucketOutcome(
        bucket=bucket,
        rows=rows,
        null_keys=nulls,
        duplicate_keys=duplicates,
        smallest_key=None,
        largest_key=None,
        key_checksum=0,
        files=tuple(files) if rows else (),
    )


def bucketed(*outcomes: BucketOutcome) -> BucketResult:
    return BucketResult(
        rows=sum(o.rows for o in outcomes),
        empty_buckets=sum(not o.rows for o in outcomes),
        spilled_bytes=0,
        outcomes=outcomes,
    )


def manifest(status: str = "finished", **results: Any) -> Manifest:
    stages = {
        name: StageRecord(started="", seconds=1.25, result=result.model_dump(mode="json"))
        for name, result in results.items()
    }
    values = {"run_id": "r", "dataset": "people", "created": "c", "planned_stages": (), "runtime": "glue"}
    return Manifest.model_validate(
        {**values, "status": status, "fingerprint": {}, "versions": {}, "stages": stages, "snapshot_dt": "2025-10-22"}
    )


SNAPSHOT = discovered([column("Key"), column("A")], [[60], [40]])
BUCKETS = bucketed(outcome(0, 70, nulls=7, duplicates=3), outcome(1, 30, duplicates=2), outcome(2, 0), outcome(3, 0))


def test_metric_values_sum_buckets() -> None:
    assert metric_values(manifest(discover=SNAPSHOT, bucket=BUCKETS), SETTINGS) == {
        SECONDS: 2.5,
        ROWS: 100,
        BYTES_WRITTEN: 2 * (701 + 301),
        SKEW: 2.8,  # 70 rows; the mean is 25, because empty buckets count.
        NULL_KEYS: 7,
        DUPLICATE_KEYS: 5,
        COST: pytest.approx(4 * 0.5 * 60 / 3600, abs=1e-6),  # Four DPUs for the minimum billed duration.
    }


def test_rows_changed_is_taken_from_verify() -> None:
    changed = Drift(run_id="q", snapshot_dt="2025-09-22", rows_before=80, rows=100, rows_changed_percent=25)
    verified = VerifyResult(rows=100, key_checksum=0, null_keys=0, duplicate_keys=0, tables=(), drift=changed)
    assert metric_values(manifest(verify=verified), SETTINGS)[ROWS_CHANGED] == 25
    alone = verified.model_copy(update={"drift": None})
    assert ROWS_CHANGED not in metric_values(manifest(verify=alone), SETTINGS)


def test_drift_metrics_omit_unknown_values() -> None:
    known = Drift(
        run_id="q",
        snapshot_dt="2025-09-22",
        rows_before=80,
        rows=100,
        rows_changed_percent=25,
        new_columns=("b", "c"),
        vanished_columns=("a",),
        null_shares=(NullShare(name="x", before=0.5, now=0.25), NullShare(name="y", before=0.1, now=0.2)),
        keys=KeyOverlap(both=60, only_now=40, only_before=20, share=0.75),
    )
    verified = VerifyResult(rows=100, key_checksum=0, null_keys=0, duplicate_keys=0, tables=(), drift=known)
    values = metric_values(manifest(verify=verified), SETTINGS)
    assert (values[NULL_SHARE_CHANGED], values[COLUMNS_CHANGED], values[KEYS_KEPT]) == (25, 3, 75)
    empty = KeyOverlap(both=0, only_now=100, only_before=0, share=None)
    for keys in (None, empty):
        unknown = known.model_copy(
            update={"new_columns": (), "vanished_columns": (), "null_shares": (), "keys": keys}
        )
        values = metric_values(manifest(verify=verified.model_copy(update={"drift": unknown})), SETTINGS)
        assert values[COLUMNS_CHANGED] == 0
        assert not {NULL_SHARE_CHANGED, KEYS_KEPT} & set(values)


def test_local_run_has_no_cost() -> None:
    local = manifest(discover=SNAPSHOT).model_copy(update={"runtime": "local"})
    assert COST not in metric_values(local, SETTINGS)


def test_metric_values_omit_stages_not_run() -> None:
    assert metric_values(manifest(), SETTINGS) == {SECONDS: 0, COST: pytest.approx(2 / 60, abs=1e-6)}
    assert set(metric_values(manifest(discover=SNAPSHOT), SETTINGS)) == {SECONDS, ROWS, COST}


def test_skew_is_zero_without_rows() -> None:
    assert metric_values(manifest(bucket=bucketed(outcome(0, 0))), SETTINGS)[SKEW] == 0


def test_metric_values_are_all_declared_metrics() -> None:
    assert set(metric_values(manifest(discover=SNAPSHOT, bucket=BUCKETS), SETTINGS)) <= set(METRICS)


@pytest.mark.parametrize(
    ("setting", "runtime", "expected"),
    [("auto", "emr-serverless", "emf"), ("auto", "glue", "put"), ("auto", "spark", "none"), ("put", "local", "put")],
)
def test_route_follows_setting_and_runtime(setting: Any, runtime: str, expected: str) -> None:
    assert route(setting, runtime) == expected


def test_emf_line_and_metric_data_have_equal_values() -> None:
    values: dict[Metric, float] = {ROWS: 100, SKEW: 2.8}
    document = json.loads(emf_line("Test", DIMENSIONS, values, MOMENT, {"run": "r"}))
    assert document == {
        "_aws": {
            "Timestamp": 1_761_970_269_250,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Test",
                    "Dimensions": [["Environment", "Dataset"]],
                    "Metrics": [{"Name": "Rows", "Unit": "Count"}, {"Name": "Skew", "Unit": "None"}],
                }
            ],
        },
        "run": "r",
        **DIMENSIONS,
        "Rows": 100,
        "Skew": 2.8,
    }
    data = metric_data(DIMENSIONS, values, MOMENT)
    assert len(data) == len(values)
    for entry in data:
        assert entry["Value"] == document[entry["MetricName"]]
        assert {d["Name"]: d["Value"] for d in entry["Dimensions"]} == DIMENSIONS
        assert entry["Timestamp"] == MOMENT


def summary(failure: Failure | None = None, **results: Any) -> Summary:
    run = manifest("failed" if failure else "finished", **results)
    return summarize(run, "prod", "e", failure, {"Rows": 100})


def test_summary_counts_files_of_tables() -> None:
    finished = summary(discover=SNAPSHOT, bucket=BUCKETS)
    assert [(t.name, t.rows, t.files, t.bytes) for t in finished.tables] == [("a", 100, 2, 1002), ("b", 100, 2, 1002)]
    assert (finished.rows, finished.bytes, finished.seconds) == (100, 2004, 2.5)
    early = summary(Failure(kind="SchemaError", message="m"), discover=SNAPSHOT)
    assert (early.rows, early.bytes, early.tables, early.status) == (100, None, (), "failed")


def test_subject_fits_limits_of_sns() -> None:
    subject = notification.subject("prod", "d" * 60, f"FAILED ({'E' * 60})")
    assert len(subject) == 100
    assert subject.startswith("Bucketwheel prod: dddd")
    assert subject.endswith("...")
    assert notification.subject("prod", "na\u00efve\nname", "x") == "Bucketwheel prod: na?ve?name x"


def test_failure_notification_starts_with_error_and_command() -> None:
    failure = Failure(
        kind="QualityError", message="7 rows have a NULL key", advice="To resume: bucketwheel run people"
    )
    subject, text = notification.run_notification(
        summary(failure, discover=SNAPSHOT, bucket=BUCKETS), "s3://b/summary.json"
    )
    assert subject == "Bucketwheel prod: people FAILED (QualityError)"
    assert text.splitlines()[:3] == [
        "QualityError: 7 rows have a NULL key",
        "",
        "To resume: bucketwheel run people",
    ]
    assert "stages done  discover, bucket\n" in text
    assert text.endswith("docs/operations.md explains each failure and its fix.")


def test_long_error_is_truncated_before_command() -> None:
    failure = Failure(kind="UnreadableFilesError", message="x" * 10**6, advice="To resume: bucketwheel run people")
    _, text = notification.run_notification(summary(failure), "p")
    assert len(text.encode()) < 256 * 1024
    assert "\nTo resume: bucketwheel run people\n" in text
    _, text = notification.failed_start_notification("prod", "people", failure)
    assert "\nTo resume: bucketwheel run people\n" in text
