"""The run that a selection of stages attaches to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bucketwheel import plugins
from bucketwheel.contracts import Services
from bucketwheel.errors import LeaseError, ResumeError, SelectionError, StorageError
from bucketwheel.lease import Lease
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import STAGES
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, reports

JOBS: Sequence[Sequence[str]] = (["discover", "split", "size"], ["bucket", "verify"], ["register"], ["ctas"])


def prefixed(prefix: str, names: Sequence[str]) -> set[str]:
    return {f"{prefix}_{name}" for name in names}


def test_four_invocations_share_one_run(case: Case) -> None:
    outcomes = [case.run(job) for job in JOBS]
    assert len({outcome.manifest.run_id for outcome in outcomes}) == 1
    assert all(outcome.changed for outcome in outcomes)
    assert [outcome.manifest.status for outcome in outcomes] == ["finished"] * 4
    (manifest,) = case.manifests()
    assert tuple(manifest.stages) == manifest.planned_stages == STAGES
    assert set(case.shown()) == prefixed("ext", case.names()) | prefixed("bucketed", case.names())


def test_repeated_invocations_change_nothing(case: Case) -> None:
    for job in JOBS:
        case.run(job)
        before = case.tree()
        assert not case.run(job).changed
        assert case.tree() == before


def test_resume_without_stages_finishes_failed_selection(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.run(JOBS[0])
    with monkeypatch.context() as patch:
        patch.setattr(type(plugins.stage("verify")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run(JOBS[1])
    outcome = case.run(resume="last")
    assert tuple(outcome.manifest.stages) == STAGES[:5]
    assert outcome.manifest.status == "finished"


def test_resume_of_one_stage_leaves_run_failed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(plugins.stage("bucket")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run()
    outcome = case.run(["bucket"], resume="last")
    assert outcome.manifest.status == "failed"
    assert outcome.manifest.error == "stages not run: verify, register, ctas"
    assert not case.run(["bucket"], resume="last").changed
    assert case.run(resume="last").manifest.status == "finished"


@pytest.mark.parametrize("job", [["register"], ["bucket", "verify"], ["size"]])
def test_stages_without_needed_run_are_refused(case: Case, job: Sequence[str]) -> None:
    with pytest.raises(
        SelectionError, match=f"no run below .* has finished .* stage '{job[0]}' needs; run them first"
    ):
        case.run(job)


def test_stages_are_refused_when_newest_run_lacks_results(case: Case) -> None:
    case.run()
    case.snapshot(FEBRUARY)
    newest = case.run(["discover", "split", "size"]).manifest.run_id
    with pytest.raises(SelectionError, match=f"'register' needs bucket, verify, which the newest run {newest} of"):
        case.run(["register"])
    assert set().union(*case.shown().values()) == {JANUARY}


def test_stages_attach_to_newest_run_or_requested_snapshot(case: Case) -> None:
    first = case.run(["discover", "split"]).manifest.run_id
    case.snapshot(FEBRUARY)
    second = case.run(["discover", "split"]).manifest.run_id
    assert case.run(["size"]).manifest.run_id == second
    assert case.run(["size"], snapshot_dt=JANUARY).manifest.run_id == first
    with pytest.raises(SelectionError, match="no run below"):
        case.run(["size"], snapshot_dt=MARCH)


def test_stages_attach_to_run_with_requested_tables(case: Case) -> None:
    filtered = case.run(["discover", "split"], tables=["people_2", "people_1"]).manifest.run_id
    whole = case.run(["discover", "split"]).manifest.run_id
    assert case.run(["size"], tables=["people_1", "people_2"]).manifest.run_id == filtered
    assert case.run(["size"]).manifest.run_id == whole


def test_stages_are_refused_after_changed_setting(case: Case) -> None:
    case.run(["discover", "split", "size"])
    with pytest.raises(ResumeError, match=r"buckets\.count was 4, is now 8.*with the stage discover"):
        case.run(["bucket"], buckets__count=8)


def test_selection_with_gap_starts_no_run(case: Case) -> None:
    with pytest.raises(SelectionError, match="'register' needs split, size, bucket, verify, which a new run has not"):
        case.run(["discover", "register"])
    assert case.manifests() == []


def test_attached_selection_with_gap_leaves_run_unchanged(case: Case) -> None:
    case.run(["discover", "split"])
    before = case.tree()
    with pytest.raises(SelectionError, match="'register' needs bucket, verify, which run 2025"):
        case.run(["size", "register"])
    assert case.tree() == before


def test_new_run_warns_of_unreadable_manifest(case: Case) -> None:
    first = case.run().manifest.run_id
    case.manifest_file(first).write_text("{")
    steps, report = reports()
    second = case.run(report=report).manifest.run_id
    assert second > first
    assert any(f"{case.manifest_file(first)}: is not a manifest" in step.message for step in steps)


def test_stages_fail_when_newest_manifest_is_unreadable(case: Case) -> None:
    case.run()
    case.snapshot(FEBRUARY)
    newest = case.run(["discover"]).manifest.run_id
    case.manifest_file(newest).write_text("{")
    text = f"{newest}/manifest.json: is not a manifest"
    with pytest.raises(StorageError, match=text):
        case.run(["register"])
    with pytest.raises(StorageError, match=text):
        case.run(resume="last")


def test_lease_is_held_while_run_is_selected(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    run = type(plugins.stage("discover")).run

    def observe(stage: object, manifest: Manifest, services: Services) -> object:
        metadata = RunStore.of(services.settings).metadata_directory(DATASET)
        try:
            with Lease(metadata, 60, services.clock):
                seen.append(False)
        except LeaseError:
            seen.append(True)
        return run(stage, manifest, services)  # type: ignore[arg-type]

    monkeypatch.setattr(type(plugins.stage("discover")), "run", observe)
    case.run(["discover"])
    assert seen == [True]
