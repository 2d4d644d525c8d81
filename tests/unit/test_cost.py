"""The cost of a run, against the figures of docs/reference/cost.md calculated by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bucketwheel.cli import text
from bucketwheel.runs import cost
from bucketwheel.runs.manifest import (
    BucketOutcome,
    BucketResult,
    CopiedTable,
    FileRecord,
    LayoutSize,
    Manifest,
    PublishResult,
    SizeResult,
    SliceRecord,
    SplitResult,
)
from bucketwheel.settings import STAGES, Settings, loading
from bucketwheel.stages import run_cost as costs
from project import WIDE, Project
from stage_support import DATASET, column, discovered, manifest, size, split

MB = 10**6


def settings(**changes: Any) -> Settings:
    given = {"engine": "spark", "target": "s3://lake/out", "glue__number_of_workers": 11} | changes
    return loading.load(
        overrides=[(name.replace("__", "."), value, "test") for name, value in given.items()]
    ).settings


def snapshot(location: str = "s3://lake/in", files: int = 3) -> Any:
    snapshot_result = discovered([column("Key", 100 * MB), column("A", 700 * MB)], [[50, 50]] * files)
    return snapshot_result.model_copy(update={"location": location})


def parts() -> SplitResult:
    return split(snapshot())


def layout(**changes: Any) -> SizeResult:
    """Two row groups in each of three slices, 800 MB to read, one table of 4 files."""
    slices = tuple(SliceRecord(index=n, file=n, first_row_group=0, row_groups=2, rows=100) for n in range(3))
    sizes = size(snapshot(), buckets__count=4)
    return sizes.model_copy(update={"slices": slices, "bytes_to_read": 800 * MB, **changes})


def finished(runtime: str, seconds: dict[str, float] | None = None, **results: Any) -> Manifest:
    done = manifest(discover=snapshot(), split=parts(), size=layout(), **results)
    took = {
        "discover": 10.0,
        "split": 1.0,
        "size": 1.0,
        "bucket": 1800.0,
        "verify": 360.0,
        "register": 4.0,
        "ctas": 4.0,
    }
    stages = {name: record for name, record in done.stages.items() if name in STAGES}
    empty = {"started": "", "result": {}}
    timed = {
        name: (stages[name].model_copy(update={"seconds": s}) if name in stages else {**empty, "seconds": s})
        for name, s in (seconds or took).items()
    }
    values = done.model_dump() | {
        "stages": {n: r if isinstance(r, dict) else r.model_dump() for n, r in timed.items()}
    }
    return Manifest.model_validate(values | {"runtime": runtime, "status": "finished"})


def test_glue_costs_dpu_hours() -> None:
    run = finished("glue", {"discover": 60, "size": 0, "bucket_of_others": 3540})
    run_cost = costs.cost_of(run, settings(glue__worker_type="G.4X", glue__price=0.5))
    assert run_cost is not None
    # 11 workers of 4 DPU for one hour.
    assert run_cost.usage == {"DPU-hours": 44}
    assert run_cost.workers == pytest.approx(22)
    assert (run_cost.platform, run_cost.seconds, run_cost.scans) == ("glue", 3600, 0)
    assert costs.run_cost(run, settings(glue__worker_type="G.4X", glue__price=0.5)) == run_cost.dollars


@pytest.mark.parametrize(("kind", "dpu"), [("G.1X", 1), ("G.16X", 16), ("R.2X", 2), ("G.25X", None), ("", None)])
def test_worker_type_determines_dpu(kind: str, dpu: int | None) -> None:
    assert cost.dpus(kind) == dpu


def test_emr_serverless_costs_vcpu_and_memory_of_all_workers() -> None:
    chosen = settings(
        emr_serverless__cores=8, emr_serverless__memory_gb=60, emr_serverless__max_executors=9,
        emr_serverless__price_vcpu=0.05, emr_serverless__price_gb=0.006,
    )  # fmt: skip
    run_cost = costs.cost_of(finished("emr-serverless", {"discover": 1800, "size": 0}), chosen)
    assert run_cost is not None
    assert run_cost.usage == {"vCPU-hours": 40, "GB-hours": 300}
    assert run_cost.workers == pytest.approx(40 * 0.05 + 300 * 0.006)


def test_shorter_run_is_billed_for_one_minute() -> None:
    run_cost = costs.cost_of(finished("glue", {"discover": 3, "size": 0}), settings())
    assert run_cost is not None
    assert run_cost.seconds == 3
    assert run_cost.usage["DPU-hours"] == pytest.approx(44 / 60)


def test_local_run_on_local_files_has_no_cost() -> None:
    here = settings(engine="arrow", target="/data/out")
    run = finished("local", {"discover": 3, "size": 0})
    local = run.model_dump()
    local["stages"]["discover"]["result"]["location"] = "/data/in"
    assert costs.run_cost(Manifest.model_validate(local), here) is None
    assert costs.estimate(here, STAGES, snapshot("/data/in"), parts(), layout()) is None
    assert costs.run_cost(manifest(), here) is None


def outcomes(sizes: list[int]) -> BucketResult:
    facts: dict[str, Any] = {"null_keys": 0, "duplicate_keys": 0, "smallest_key": "a", "largest_key": "b"}
    bucket_outcomes = tuple(
        BucketOutcome(
            bucket=n, rows=75, key_checksum=1, files=(FileRecord(table=DATASET, name="f", rows=75, bytes=b),), **facts
        )
        for n, b in enumerate(sizes)
    )
    return BucketResult(rows=300, empty_buckets=0, spilled_bytes=0, outcomes=bucket_outcomes)


def test_requests_are_counted_like_those_of_storage() -> None:
    # Small: one put, and opening reads all of it. Large: 3 parts plus start and completion; opened and read.
    run = finished(
        "local",
        {"discover": 1, "split": 1, "size": 1, "bucket": 1, "verify": 1},
        bucket=outcomes([60_000, 20 * 2**20]),
    )
    prices = {"cost__read_requests": 0.5, "cost__write_requests": 4.0, "quality__drift": "counts"}
    run_cost = costs.cost_of(run, settings(**prices))
    assert run_cost is not None
    # Footers of 3 files; a sample of 133 MB.
    sampled = 1 + 16
    # 3 slices of 267 MB, each opened and read in 32 requests; manifest. Two files are opened twice, because the keys
    # of the first table are decoded; the large one has 25 MB of keys in two row groups, each read in 2 requests.
    assert run_cost.reads == 3 + sampled + 3 * (1 + 32) + (9 + 3 * 5) + 2 + (1 + 4) + (1 + 2)
    # Listings of snapshots and files, and again of files; manifest and lease; listing for verify; 4 checkpoints; two
    # files.
    assert run_cost.writes == 3 + (5 + 2 * 5) + (12 + 2 * 5) + 1 + 4 + (1 + 5)
    assert run_cost.requests == pytest.approx((run_cost.reads * 0.5 + run_cost.writes * 4.0) / 1000)
    assert (run_cost.platform, run_cost.workers, run_cost.usage) == (None, 0, {})
    with_keys = costs.cost_of(run, settings(**prices | {"quality__drift": "keys"}))
    assert with_keys is not None
    assert with_keys.reads == run_cost.reads + 2 * 4 * (1 + 4)


def test_second_layout_costs_time_and_requests() -> None:
    far, one = settings(cost__mb_per_core_second=0.1), layout()
    two = layout(other_layouts=(LayoutSize(**{**dict(one.layouts[0]), "name": "spark"}),))
    both, alone = (costs.estimate(far, STAGES, snapshot(), parts(), size, []) for size in (two, one))
    assert both is not None
    assert alone is not None
    assert both.seconds == pytest.approx(1.5 * alone.seconds)
    files = sum(table.files for table in one.tables)
    # Files, a listing in verify, register and ctas for each table, and checkpoints.
    assert both.writes >= alone.writes + files + 3 * len(one.tables) + one.bucket_count
    earlier = finished("glue")
    scaled = costs.estimate(settings(), ["bucket"], snapshot(), parts(), two, [earlier])
    assert scaled is not None
    assert scaled.seconds == pytest.approx(1.5 * earlier.stages["bucket"].seconds)


def test_only_s3_locations_have_requests() -> None:
    near = settings(engine="arrow", target="/data/out")
    estimated = costs.estimate(near, STAGES, snapshot(), parts(), layout())
    assert estimated is not None
    assert (estimated.reads, estimated.writes) == (3 + 17 + 3 * 33, 3)
    assert estimated.basis == "requests only: the run uses no paid workers"


@pytest.mark.parametrize(("method", "scanned"), [("athena", 3 * 10**12), ("trino", 0)])
def test_athena_scans_are_priced_and_trino_scans_are_not(method: str, scanned: int) -> None:
    copies = tuple(
        CopiedTable(
            table=name, location="", rows=1, files=1, bytes=1, sorted=True, query_id="", bytes_scanned=b, seconds=1
        )
        for name, b in (("a", 10**12), ("b", 2 * 10**12))
    )
    run = finished("glue", None, ctas=PublishResult(tables=(), method=method, copies=copies))
    values = run.model_dump()
    del values["stages"]["bucket"]
    run_cost = costs.cost_of(Manifest.model_validate(values), settings(cost__scanned_tb=5))
    assert run_cost is not None
    assert run_cost.scanned_bytes == scanned
    assert run_cost.scans == pytest.approx(scanned / 10**12 * 5)


def test_athena_copy_scans_every_table_and_keys() -> None:
    by_athena = settings(
        ctas__method="athena", catalog__kind="glue", buckets__count=4, athena__output_location="s3://lake/results"
    )
    estimated = costs.estimate(by_athena, STAGES, snapshot(), parts(), layout())
    assert estimated is not None
    # 800 MB of one table, the keys of the source and of the copy.
    assert estimated.scanned_bytes == (800 + 2 * 100) * MB
    without = costs.estimate(by_athena, ["register"], snapshot(), parts(), layout())
    assert without is not None
    assert without.scanned_bytes == 0


def test_estimate_scales_newest_finished_run_of_platform() -> None:
    newer, older = finished("glue"), finished("glue", dict.fromkeys(STAGES, 1.0))
    newer = newer.model_copy(update={"run_id": "newer"})
    elsewhere = finished("emr-serverless")
    failed = finished("glue").model_copy(update={"status": "failed"})
    partial = finished("glue", {"discover": 5, "size": 5})
    earlier = [elsewhere, failed, partial, newer, older]
    # Half the bytes to read: half the time of bucket and verify, the full time of other stages.
    half = layout(bytes_to_read=400 * MB)
    estimated = costs.estimate(settings(), STAGES, snapshot(), parts(), half, earlier)
    assert estimated is not None
    assert estimated.seconds == pytest.approx((1800 + 360) / 2 + 10 + 1 + 1 + 4 + 4)
    assert estimated.basis == "scaled from run newer: 2,180 s for 0.8 GB"
    some = costs.estimate(settings(), ["bucket"], snapshot(), parts(), half, earlier)
    assert some is not None
    assert some.seconds == pytest.approx(900)


@pytest.mark.parametrize(
    ("changes", "cores"),
    [
        ({"glue__worker_type": "G.2X"}, 10 * 8),
        # A task has the time of one core, whatever it occupies.
        ({"glue__arguments": {"--conf": "spark.task.cpus=4"}}, 10 * 4),
        ({"glue__arguments": {"--conf": "spark.executor.cores=8 --conf spark.task.cpus=2"}}, 10 * 4),
        (
            {"deploy__platform": "emr-serverless", "emr_serverless__cores": 4, "emr_serverless__max_executors": 5},
            5 * 4,
        ),
    ],
)
def test_estimate_without_earlier_run_uses_configured_speed(changes: dict[str, Any], cores: int) -> None:
    slow = settings(cost__mb_per_core_second=0.1, **changes)
    estimated = costs.estimate(slow, STAGES, snapshot(), parts(), layout(), [finished("local")])
    assert estimated is not None
    assert estimated.seconds == pytest.approx(800 / (0.1 * cores))
    platform = slow.deploy.platform
    assert estimated.basis == (
        f"no finished run on {platform}; assuming 0.1 MB per second and core (cost.mb_per_core_second) "
        f"and {cores} cores"
    )
    nothing_heavy = costs.estimate(slow, ["register"], snapshot(), parts(), layout())
    assert nothing_heavy is not None
    assert nothing_heavy.seconds == 0


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"glue__timeout_minutes": 20}, "set glue.timeout_minutes=60 or set glue.number_of_workers=31"),
        (
            {"deploy__platform": "emr-serverless", "emr_serverless__timeout_minutes": 10},
            "set emr_serverless.timeout_minutes=96 or set emr_serverless.max_executors=240",
        ),
    ],
)
def test_run_beyond_time_out_is_warned(changes: dict[str, Any], fix: str) -> None:
    given = settings(**changes)
    # 10 workers with 160 cores, or 25 with 100.
    expected = costs.estimate(given, STAGES, snapshot(), parts(), layout(bytes_to_read=1_920_000 * MB))
    warning = costs.timeout_warning(given, expected)
    assert warning is not None
    assert warning.startswith(f"the run takes about {40 if 'deploy__platform' not in changes else 64} minutes (")
    assert warning.endswith(f"; {fix}")
    assert costs.timeout_warning(settings(), expected) is None
    assert costs.timeout_warning(given, None) is None


def test_cost_text_has_dollars_and_basis() -> None:
    run_cost = cost.Cost("glue", 3600, {"DPU-hours": 44}, 19.36, 12_345, 678, 0.008, 2 * 10**12, 10, "1 s of stages")
    shown = text.run_text(finished("glue", {"discover": 1}), True, run_cost)
    assert shown.splitlines()[-2:] == [
        "cost: at most 29.37 dollars: 44.00 DPU-hours 19.36, 12,345 S3 reads and 678 S3 writes 0.01, 2.0 TB scanned "
        "by Athena 10.00",
        "cost: 1 s of stages",
    ]
    requests = cost.Cost(None, 3600, {}, 0, 10, 20, 0.5, 0, 0, "requests only: the run uses no paid workers")
    assert text.run_text(manifest(), True, requests).splitlines()[-2:] == [
        "cost: at most 0.50 dollars: 10 S3 reads and 20 S3 writes 0.50",
        "cost: requests only: the run uses no paid workers",
    ]


def test_cost_document_has_total() -> None:
    run_cost = cost.Cost("glue", 1, {"DPU-hours": 1}, 0.44, 1, 2, 0.01, 3, 0.5, "why")
    assert json.loads(json.dumps(run_cost.document()))["dollars"] == pytest.approx(0.95)


def test_commands_show_no_cost_of_local_run(project: Project) -> None:
    planned = project.cli("plan", WIDE)
    done = project.run()
    shown = project.cli("show", "last", "--output", "json")
    assert "cost:" not in planned.stdout + done.stdout + project.cli("show", "last").stdout
    assert json.loads(shown.stdout)["cost"] is None
    assert json.loads(project.cli("plan", WIDE, "--output", "json").stdout)[WIDE]["cost"] is None


def test_commands_show_cost_of_job(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKETWHEEL_RUNTIME", "glue")
    done = project.run("--set", "glue.price=1")
    # 10 workers of 4 DPU for the minimum billed time.
    assert "cost: at most 0.67 dollars: 0.67 DPU-hours 0.67, 0 S3 reads and 0 S3 writes 0.00" in done.stdout
    (shown,) = [json.loads(project.cli("show", "last", "--set", "glue.price=1", "--output", "json").stdout)["cost"]]
    assert shown["dollars"] == pytest.approx(40 / 60)
    page = project.root / "page.html"
    project.cli("report", "last", "--set", "glue.price=1", "--to", str(page))
    assert "Workers of glue (upper limit)" in page.read_text()
