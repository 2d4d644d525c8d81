"""Values of metrics, notices and lines for CloudWatch, from manifests made by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bucketwheel.monitoring import notification
from bucketwheel.monitoring.emf import embedded, metric_data
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
from bucketwheel.monitoring.run_metrics import measured
from bucketwheel.runs.manifest import (
    BucketOutcome,
    BucketResult,
    Drift,
    FileRecord,
    KeyOverlap,
    Manifest,
    NullShare,
    StageRecord,
    VerifyResult,
)
from bucketwheel.runs.summary import Failure, Summary, summarise
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
        name: StageRecord(started="", seconds=1.25, result=found.model_dump(mode="json"))
        for name, found in results.items()
    }
    values = {"run_id": "r", "dataset": "people", "created": "c", "planned_stages": (), "runtime": "glue"}
    return Manifest.model_validate(
        {**values, "status": status, "fingerprint": {}, "versions": {}, "stages": stages, "snapshot_dt": "2025-10-22"}
    )


SNAPSHOT = discovered([column("Key"), column("A")], [[60], [40]])
BUCKETS = bucketed(outcome(0, 70, nulls=7, duplicates=3), outcome(1, 30, duplicates=2), outcome(2, 0), outcome(3, 0))


def test_values_are_those_of_the_buckets() -> None:
    assert measured(manifest(discover=SNAPSHOT, bucket=BUCKETS), SETTINGS) == {
        SECONDS: 2.5,
        ROWS: 100,
        BYTES_WRITTEN: 2 * (701 + 301),
        SKEW: 2.8,  # 70 rows where 25 would be even; empty buckets count.
        NULL_KEYS: 7,
        DUPLICATE_KEYS: 5,
        COST: pytest.approx(4 * 0.5 * 60 / 3600, abs=1e-6),  # Four DPUs for the least time that is billed.
    }


def test_the_change_in_rows_is_that_of_verify() -> None:
    changed = Drift(run_id="q", snapshot_dt="2025-09-22", rows_before=80, rows=100, rows_changed_percent=25)
    verified = VerifyResult(rows=100, key_checksum=0, null_keys=0, duplicate_keys=0, tables=(), drift=changed)
    assert measured(manifest(verify=verified), SETTINGS)[ROWS_CHANGED] == 25
    alone = verified.model_copy(update={"drift": None})
    assert ROWS_CHANGED not in measured(manifest(verify=alone), SETTINGS)


def test_what_differs_from_the_published_snapshot_is_measured_as_far_as_it_is_known() -> None:
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
    found = measured(manifest(verify=verified), SETTINGS)
    assert (found[NULL_SHARE_CHANGED], found[COLUMNS_CHANGED], found[KEYS_KEPT]) == (25, 3, 75)
    empty = KeyOverlap(both=0, only_now=100, only_before=0, share=None)
    for keys in (None, empty):
        unknown = known.model_copy(
            update={"new_columns": (), "vanished_columns": (), "null_shares": (), "keys": keys}
        )
        found = measured(manifest(verify=verified.model_copy(update={"drift": unknown})), SETTINGS)
        assert found[COLUMNS_CHANGED] == 0
        assert not {NULL_SHARE_CHANGED, KEYS_KEPT} & set(found)


def test_a_run_on_a_laptop_has_no_price() -> None:
    local = manifest(discover=SNAPSHOT).model_copy(update={"runtime": "local"})
    assert COST not in measured(local, SETTINGS)


def test_what_is_not_known_yet_has_no_value() -> None:
    assert measured(manifest(), SETTINGS) == {SECONDS: 0, COST: pytest.approx(2 / 60, abs=1e-6)}
    assert set(measured(manifest(discover=SNAPSHOT), SETTINGS)) == {SECONDS, ROWS, COST}


def test_buckets_without_rows_have_no_skew() -> None:
    assert measured(manifest(bucket=bucketed(outcome(0, 0))), SETTINGS)[SKEW] == 0


def test_all_values_have_a_place_in_the_dashboard() -> None:
    assert set(measured(manifest(discover=SNAPSHOT, bucket=BUCKETS), SETTINGS)) <= set(METRICS)


@pytest.mark.parametrize(
    ("chosen", "runtime", "way"),
    [("auto", "emr-serverless", "emf"), ("auto", "glue", "put"), ("auto", "spark", "none"), ("put", "local", "put")],
)
def test_the_way(chosen: Any, runtime: str, way: str) -> None:
    assert route(chosen, runtime) == way


def test_both_ways_say_the_same() -> None:
    values: dict[Metric, float] = {ROWS: 100, SKEW: 2.8}
    document = json.loads(embedded("Ours", DIMENSIONS, values, MOMENT, {"run": "r"}))
    assert document == {
        "_aws": {
            "Timestamp": 1_761_970_269_250,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Ours",
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
    made = manifest("failed" if failure else "finished", **results)
    return summarise(made, "prod", "e", failure, {"Rows": 100})


def test_a_summary_counts_tables_by_their_files() -> None:
    found = summary(discover=SNAPSHOT, bucket=BUCKETS)
    assert [(t.name, t.rows, t.files, t.bytes) for t in found.tables] == [("a", 100, 2, 1002), ("b", 100, 2, 1002)]
    assert (found.rows, found.bytes, found.seconds) == (100, 2004, 2.5)
    early = summary(Failure(kind="SchemaError", message="m"), discover=SNAPSHOT)
    assert (early.rows, early.bytes, early.tables, early.status) == (100, None, (), "failed")


def test_a_subject_is_what_sns_takes() -> None:
    subject = notification.subject("prod", "d" * 60, f"FAILED ({'E' * 60})")
    assert len(subject) == 100
    assert subject.startswith("Bucketwheel prod: dddd")
    assert subject.endswith("...")
    assert notification.subject("prod", "na\u00efve\nname", "x") == "Bucketwheel prod: na?ve?name x"


def test_a_notice_of_a_failure_begins_with_what_to_know() -> None:
    failure = Failure(kind="QualityError", message="7 rows have a NULL key", resume="bucketwheel submit glue people")
    subject, text = notification.of_run(summary(failure, discover=SNAPSHOT, bucket=BUCKETS), "s3://b/summary.json")
    assert subject == "Bucketwheel prod: people FAILED (QualityError)"
    assert text.splitlines()[:4] == [
        "QualityError: 7 rows have a NULL key",
        "",
        "To go on once that is put right:",
        "  bucketwheel submit glue people",
    ]
    assert "stages done  discover, bucket\n" in text
    assert text.endswith("docs/operations.md has what each failure means and what to do.")


def test_a_long_error_leaves_room_for_the_command() -> None:
    failure = Failure(kind="UnreadableFilesError", message="x" * 10**6, resume="bucketwheel submit glue people")
    _, text = notification.of_run(summary(failure), "p")
    assert len(text.encode()) < 256 * 1024
    assert "  bucketwheel submit glue people\n" in text
    _, text = notification.of_failed_start("prod", "people", failure, "")
    assert "  bucketwheel submit glue people\n" in text
