"""What a run that fails leaves and says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from failures import BoomError, break_stage

from bucketwheel import plugins
from bucketwheel.contracts import BucketCheck, Engine, EngineStatistics, Progress, Services
from bucketwheel.errors import LeaseError, SelectionError, StorageError, VerificationError
from bucketwheel.runs.manifest import BucketOutcome, Manifest
from bucketwheel.settings import STAGES
from bucketwheel.stages.register import Register
from bucketwheel.stages.size import Size
from bucketwheel.storage import Storage
from runs_support import DATASET, Case, CountingEngine, notes_of


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_failure_is_noted_with_its_text_and_the_command_that_resumes(
    case: Case, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    break_stage(monkeypatch, stage)
    with pytest.raises(BoomError) as caught:
        case.run()
    (manifest,) = case.manifests()
    assert (manifest.status, manifest.error) == ("failed", f"{stage} broke")
    assert tuple(manifest.stages) == STAGES[: STAGES.index(stage)]
    assert notes_of(caught.value) == f"To go on from here: bucketwheel run {DATASET} --resume {manifest.run_id}"
    monkeypatch.undo()
    outcome = case.run(resume="last")
    assert outcome.changed
    assert (outcome.manifest.run_id, outcome.manifest.status) == (manifest.run_id, "finished")
    assert outcome.manifest.error is None
    assert tuple(outcome.manifest.stages) == STAGES
    assert set(case.shown()) == {f"{prefix}_{name}" for prefix in ("ext", "bucketed") for name in case.names()}


class Troubled(CountingEngine):
    """Fails in one stage, and knows what its workers died of."""

    def __init__(self, inner: Engine, stage: str) -> None:
        super().__init__(inner)
        self._stage = stage
        self._failed = False

    def _fail(self, stage: str) -> None:
        if self._stage == stage:
            self._failed = True
            raise BoomError("no worker is left")

    def bucket(self, *given: Any) -> Iterator[BucketOutcome]:
        yield from super().bucket(*given)
        self._fail("bucket")

    def verify(self, *given: Any) -> Iterator[BucketCheck]:
        yield from super().verify(*given)
        self._fail("verify")

    def statistics(self) -> EngineStatistics:
        return EngineStatistics(warnings=("worker 1 died", "worker 2 died") if self._failed else ())


@pytest.mark.parametrize("stage", ["bucket", "verify"])
def test_what_the_engine_knows_of_a_failure_is_on_the_error_in_the_log_and_in_the_manifest(
    case: Case, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    make = plugins.engine
    monkeypatch.setattr(plugins, "engine", lambda settings: Troubled(make(settings), stage))
    steps: list[Progress] = []
    with pytest.raises(BoomError) as caught:
        case.run(STAGES[:5], report=steps.append)
    reasons = ("worker 1 died", "worker 2 died")
    assert notes_of(caught.value).startswith("worker 1 died\nworker 2 died\nTo go on from here: ")
    said = [(step.stage, step.message) for step in steps if step.state == "warning"]
    assert [(stage, reason) for reason in reasons] == [entry for entry in said if entry[0] == stage]
    (manifest,) = case.manifests()
    assert (manifest.error, manifest.notes) == ("no worker is left", reasons)
    monkeypatch.undo()
    outcome = case.run(STAGES[:5], resume="last")
    assert (outcome.manifest.error, outcome.manifest.notes) == (None, ())


def test_an_output_that_is_gone_does_not_take_the_place_of_the_failure(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = plugins.engine
    monkeypatch.setattr(plugins, "engine", lambda settings: Troubled(make(settings), "bucket"))

    def report(step: Progress) -> None:
        if step.message == "worker 1 died":
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BoomError, match="no worker is left") as caught:
        case.run(STAGES[:5], report=report)
    assert "warnings could not be printed: [Errno 32] Broken pipe" in notes_of(caught.value)
    (manifest,) = case.manifests()
    assert manifest.error == "no worker is left"


def test_a_failure_before_a_run_was_begun_leaves_no_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    break_stage(monkeypatch, "discover")
    with pytest.raises(BoomError) as caught:
        case.run()
    assert notes_of(caught.value) == ""
    assert case.manifests() == []
    with pytest.raises(SelectionError, match="--resume last: people has no run"):
        case.run(resume="last")


def test_the_command_that_was_given_is_the_one_that_resumes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.run(["discover", "split", "size"])
    break_stage(monkeypatch, "verify")
    with pytest.raises(BoomError) as caught:
        case.run(["bucket", "verify"])
    (manifest,) = case.manifests()
    assert f"bucketwheel run {DATASET} --stages bucket,verify --resume {manifest.run_id}" in notes_of(caught.value)


def test_files_that_vanish_after_verify_are_not_published(case: Case) -> None:
    case.run(["discover", "split", "size", "bucket", "verify"])
    (manifest,) = case.manifests()
    next((case.target / DATASET).glob(f"*/{manifest.run_id}/*")).unlink()
    with pytest.raises(VerificationError, match=f"is gone or has another size than when run {manifest.run_id} wrote"):
        case.run(["register"])
    assert not case.catalog.exists()


def test_a_run_that_lost_its_lease_writes_nothing_into_the_books_of_its_follower(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = case.target / "_bucketwheel" / DATASET / "lease.json"
    run = Size.run

    def lose(stage: Size, manifest: Manifest, services: Services) -> object:
        result = run(stage, manifest, services)
        lease.write_text(lease.read_text().replace('"token": "', '"token": "x'))
        case.store().save(manifest.model_copy(update={"error": "written by the follower"}))
        return result

    monkeypatch.setattr(Size, "run", lose)
    with pytest.raises(LeaseError, match="lost the lease") as caught:
        case.run()
    (manifest,) = case.manifests()
    assert manifest.error == "written by the follower"
    assert "the failure could not be noted in the manifest" in notes_of(caught.value)


def test_a_disk_that_is_full_while_the_failure_is_noted_does_not_hide_the_failure(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Register.run
    full = StorageError("manifest.json: cannot write: no space left on the device")

    def fail(stage: Register, manifest: Manifest, services: Services) -> object:
        def refuse(*_: object, **__: object) -> None:
            raise full

        monkeypatch.setattr(Storage, "replace", refuse)
        run(stage, manifest, services)
        raise BoomError("the first failure")

    monkeypatch.setattr(Register, "run", fail)
    with pytest.raises(BoomError, match="the first failure") as caught:
        case.run()
    assert "could not be noted in the manifest: manifest.json: cannot write: no space left" in notes_of(caught.value)
    assert "To go on from here" in notes_of(caught.value)


def test_an_interrupt_is_noted_like_any_failure(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    break_stage(monkeypatch, "bucket", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        case.run()
    assert [(manifest.status, manifest.error) for manifest in case.manifests()] == [("failed", "KeyboardInterrupt")]
    assert "--resume" in notes_of(caught.value)
