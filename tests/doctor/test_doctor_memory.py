"""`doctor` compares the sizes of the newest run with the memory of the jobs' workers."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from bucketwheel.runs.manifest import BucketOutcome, BucketResult, Manifest
from bucketwheel.runs.store import RunStore
from doctor_support import Diagnose
from project import NARROW
from stage_support import column, discovered, manifest, size, split

ROWS = 374_000_000


@pytest.fixture(scope="module")
def run() -> Manifest:
    """A run of 374 million rows in 256 buckets, the largest with 2 million."""
    columns = [column("Key", 10 * ROWS), *(column(f"c{number}", 3 * ROWS) for number in range(100))]
    types = {f"c{number}": pa.float64() for number in range(100)}
    snapshot = discovered(columns, [[ROWS // 3000] * 3000], types)
    outcome = BucketOutcome(
        bucket=0, rows=2_000_000, null_keys=0, duplicate_keys=0, smallest_key=None, largest_key=None, key_checksum=0,
        files=(),
    )  # fmt: skip
    written = BucketResult(rows=ROWS, empty_buckets=0, spilled_bytes=0, outcomes=(outcome,))
    parts = {"discover": snapshot, "split": split(snapshot), "size": size(snapshot, buckets__count=256)}
    return manifest(**parts, bucket=written)


def test_doctor_warns_with_largest_bucket_of_newest_run(
    diagnose: Diagnose, run: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newest(_: RunStore, dataset: str, **__: object) -> Iterator[Manifest]:
        return iter([run] if dataset == NARROW else [])

    monkeypatch.setattr(RunStore, "newest_first", newest)
    seen = diagnose()
    finding = seen[f"dataset {NARROW}"]
    assert finding.state == "warning"
    assert (
        "gathering table addressable_ids of the largest bucket (2,000,000 rows) takes about 3.5 GB" in finding.found
    )
    assert "a worker of type G.4X (64 GB) leaves about 1.6 GB to each of its 16 tasks (sizes of run test)" in (
        finding.found
    )
    assert finding.todo == (
        'set buckets.count=1024 or set glue.arguments={"--conf": "spark.task.cpus=4"} (4 tasks at a time)'
    )
    # Other settings than those of the run: its largest bucket becomes smaller.
    assert diagnose(buckets__count=1024)[f"dataset {NARROW}"].state == "ok"


def test_doctor_without_runs_names_plan_for_memory(diagnose: Diagnose) -> None:
    finding = diagnose()[f"dataset {NARROW}"]
    assert finding.state == "ok"
    assert finding.found.endswith(
        f"; memory is not compared before the first run; `bucketwheel plan {NARROW} --env prod` compares it"
    )
