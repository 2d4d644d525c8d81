"""Manifest, error and notes of a failed run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from failures import BoomError, break_stage

from bucketwheel import plugins
from bucketwheel.contracts import BucketCheck, Engine, EngineStatistics, Progress, Services
from bucketwheel.errors import EngineError, LeaseError, SelectionError, StorageError, VerificationError
from bucketwheel.kernel.checksum import row_hashes
from bucketwheel.runs.manifest import BucketOutcome, Manifest
from bucketwheel.settings import STAGES
from bucketwheel.stages.bucket import Bucket
from bucketwheel.stages.register import Register
from bucketwheel.storage import Storage
from runs_support import DATASET, JANUARY, Case, CountingEngine, notes_of, reports, warnings_in

# Only bugs end a run with another class of error.
AGAIN = "Fix the cause, then run again: "


@pytest.mark.parametrize("stage", STAGES[3:])
def test_failed_stage_is_recorded_and_resumed(case: Case, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    break_stage(monkeypatch, stage)
    with pytest.raises(BoomError) as caught:
        case.run()
    (manifest,) = case.manifests()
    assert (manifest.status, manifest.error) == ("failed", f"{stage} broke")
    assert tuple(manifest.stages) == STAGES[: STAGES.index(stage)]
    assert notes_of(caught.value) == f"{AGAIN}bucketwheel run {DATASET} --resume {manifest.run_id}"
    monkeypatch.undo()
    outcome = case.run(resume="last")
    assert outcome.changed
    assert (outcome.manifest.run_id, outcome.manifest.status) == (manifest.run_id, "finished")
    assert outcome.manifest.error is None
    assert tuple(outcome.manifest.stages) == STAGES
    assert set(case.shown()) == {f"{prefix}_{name}" for prefix in ("ext", "bucketed") for name in case.names()}


class FailingEngine(CountingEngine):
    """Fail in one stage and report why the workers died."""

    def __init__(self, inner: Engine, stage: str) -> None:
        super().__init__(inner)
        self._stage = stage
        self._failed = False

    def _fail(self, stage: str) -> None:
        if self._stage == stage:
            self._failed = True
            raise BoomError("no worker is left")

    def bucket(self, *arguments: Any) -> Iterator[BucketOutcome]:
        yield from super().bucket(*arguments)
        self._fail("bucket")

    def verify(self, *arguments: Any) -> Iterator[BucketCheck]:
        yield from super().verify(*arguments)
        self._fail("verify")

    def statistics(self) -> EngineStatistics:
        return EngineStatistics(warnings=("worker 1 died", "worker 2 died") if self._failed else ())


def test_changed_key_in_shuffle_fails_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.uint64]:
        found = row_hashes(columns)
        found[:1] ^= np.uint64(1)
        return found

    monkeypatch.setattr("bucketwheel.kernel.gather.row_hashes", changed)
    with pytest.raises(EngineError, match="the keys in the written files are not those that were read"):
        case.run()
    assert not case.catalog.exists()
    with pytest.raises(EngineError, match="the keys in the written files are not those that were read"):
        case.run(resume="last")


@pytest.mark.parametrize("stage", ["bucket", "verify"])
def test_engine_warnings_are_in_error_log_and_manifest(
    case: Case, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    make = plugins.engine
    monkeypatch.setattr(plugins, "engine", lambda settings: FailingEngine(make(settings), stage))
    steps: list[Progress] = []
    with pytest.raises(BoomError) as caught:
        case.run(STAGES[:5], report=steps.append)
    reasons = ("worker 1 died", "worker 2 died")
    assert notes_of(caught.value).startswith(f"worker 1 died\nworker 2 died\n{AGAIN}")
    logged = [(step.stage, step.message) for step in steps if step.state == "warning"]
    assert [(stage, reason) for reason in reasons] == [entry for entry in logged if entry[0] == stage]
    (manifest,) = case.manifests()
    assert manifest.error == "no worker is left"
    assert manifest.notes == tuple(notes_of(caught.value).splitlines())
    monkeypatch.undo()
    outcome = case.run(STAGES[:5], resume="last")
    assert (outcome.manifest.error, outcome.manifest.notes) == (None, ())


def test_closed_output_does_not_hide_failure(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    make = plugins.engine
    monkeypatch.setattr(plugins, "engine", lambda settings: FailingEngine(make(settings), "bucket"))

    def report(step: Progress) -> None:
        if step.message == "worker 1 died":
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BoomError, match="no worker is left") as caught:
        case.run(STAGES[:5], report=report)
    assert "warnings could not be printed: [Errno 32] Broken pipe" in notes_of(caught.value)
    (manifest,) = case.manifests()
    assert manifest.error == "no worker is left"


@pytest.mark.parametrize("stage", STAGES[:3])
def test_failure_before_data_leaves_no_run(case: Case, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, stage)
        with pytest.raises(BoomError) as caught:
            case.run(tables=["people_1"], snapshot_dt=JANUARY)
    options = f"--snapshot-dt {JANUARY} --tables-filter people_1"
    assert notes_of(caught.value) == f"{AGAIN}bucketwheel run {DATASET} {options}"
    assert case.manifests() == []
    with pytest.raises(SelectionError, match="--resume last: people has no run"):
        case.run(["bucket"], resume="last")
    steps, report = reports()
    assert case.run(resume="last", report=report).manifest.status == "finished"
    assert "--resume last: nothing to resume, there is no run; continuing as without --resume" in warnings_in(steps)


def test_resume_hint_repeats_selected_stages(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.run(["discover", "split", "size"])
    break_stage(monkeypatch, "verify")
    with pytest.raises(BoomError) as caught:
        case.run(["bucket", "verify"])
    (manifest,) = case.manifests()
    assert f"bucketwheel run {DATASET} --stages bucket,verify --resume {manifest.run_id}" in notes_of(caught.value)


def test_register_refuses_files_missing_after_verify(case: Case) -> None:
    case.run(["discover", "split", "size", "bucket", "verify"])
    (manifest,) = case.manifests()
    next((case.target / DATASET).glob(f"*/{manifest.run_id}/*")).unlink()
    with pytest.raises(VerificationError, match=f"is missing or has changed size since run {manifest.run_id} wrote"):
        case.run(["register"])
    assert not case.catalog.exists()


def test_run_with_lost_lease_keeps_manifest_of_new_holder(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = case.target / "_bucketwheel" / DATASET / "lease.json"
    run = Bucket.run

    def lose(stage: Bucket, manifest: Manifest, services: Services) -> object:
        result = run(stage, manifest, services)
        lease.write_text(json.dumps(json.loads(lease.read_text()) | {"token": "x"}))
        case.store().save(manifest.model_copy(update={"error": "written by the follower"}))
        return result

    monkeypatch.setattr(Bucket, "run", lose)
    with pytest.raises(LeaseError, match="lost the lease") as caught:
        case.run()
    (manifest,) = case.manifests()
    assert manifest.error == "written by the follower"
    assert "the failure could not be written to the manifest" in notes_of(caught.value)


def test_full_disk_while_recording_does_not_hide_failure(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Register.run
    full = StorageError("manifest.json: cannot write: no space left on the device")

    def fail(stage: Register, manifest: Manifest, services: Services) -> object:
        def refuse(*_: object, **__: object) -> None:
            raise full

        run(stage, manifest, services)
        monkeypatch.setattr(Storage, "replace", refuse)
        raise BoomError("the first failure")

    monkeypatch.setattr(Register, "run", fail)
    with pytest.raises(BoomError, match="the first failure") as caught:
        case.run()
    assert "could not be written to the manifest: manifest.json: cannot write: no space left" in notes_of(
        caught.value
    )
    assert AGAIN in notes_of(caught.value)


def test_interrupt_is_recorded_as_failure(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    break_stage(monkeypatch, "bucket", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        case.run()
    assert [(manifest.status, manifest.error) for manifest in case.manifests()] == [("failed", "KeyboardInterrupt")]
    assert "--resume" in notes_of(caught.value)
