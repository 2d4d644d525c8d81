"""Which run a selection of stages works on."""

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


def test_each_of_four_invocations_can_be_repeated(case: Case) -> None:
    for job in JOBS:
        case.run(job)
        before = case.tree()
        assert not case.run(job).changed
        assert case.tree() == before


def test_a_part_that_failed_goes_on_without_naming_its_stages(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.run(JOBS[0])
    with monkeypatch.context() as patch:
        patch.setattr(type(plugins.stage("verify")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run(JOBS[1])
    outcome = case.run(resume="last")
    assert tuple(outcome.manifest.stages) == STAGES[:5]
    assert outcome.manifest.status == "finished"


def test_some_stages_of_a_run_that_failed_do_not_make_it_finished(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(plugins.stage("size")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run()
    outcome = case.run(["size"], resume="last")
    assert outcome.manifest.status == "failed"
    assert outcome.manifest.error == "stages not run: bucket, verify, register, ctas"
    assert not case.run(["size"], resume="last").changed
    assert case.run(resume="last").manifest.status == "finished"


@pytest.mark.parametrize("job", [["register"], ["bucket", "verify"], ["size"]])
def test_stages_that_need_what_nobody_has_done_are_refused(case: Case, job: Sequence[str]) -> None:
    with pytest.raises(
        SelectionError, match=f"no run below .* has finished .* stage '{job[0]}' needs; run them first"
    ):
        case.run(job)


def test_stages_are_refused_where_the_newest_run_has_not_come_far_enough(case: Case) -> None:
    case.run()
    case.snapshot(FEBRUARY)
    newest = case.run(["discover", "split", "size"]).manifest.run_id
    with pytest.raises(SelectionError, match=f"'register' needs bucket, verify, which the newest run {newest} of"):
        case.run(["register"])
    assert set().union(*case.shown().values()) == {JANUARY}


def test_stages_attach_to_the_newest_run_or_to_that_of_the_snapshot_asked_for(case: Case) -> None:
    first = case.run(["discover", "split"]).manifest.run_id
    case.snapshot(FEBRUARY)
    second = case.run(["discover", "split"]).manifest.run_id
    assert case.run(["size"]).manifest.run_id == second
    assert case.run(["size"], snapshot_dt=JANUARY).manifest.run_id == first
    with pytest.raises(SelectionError, match="no run below"):
        case.run(["size"], snapshot_dt=MARCH)


def test_stages_attach_to_the_run_with_the_tables_asked_for(case: Case) -> None:
    filtered = case.run(["discover", "split"], tables=["people_2", "people_1"]).manifest.run_id
    whole = case.run(["discover", "split"]).manifest.run_id
    assert case.run(["size"], tables=["people_1", "people_2"]).manifest.run_id == filtered
    assert case.run(["size"]).manifest.run_id == whole


def test_stages_attach_only_while_nothing_changed(case: Case) -> None:
    case.run(["discover", "split", "size"])
    with pytest.raises(ResumeError, match=r"buckets\.count was 4, is 8.*with the stage discover"):
        case.run(["bucket"], buckets__count=8)


def test_a_selection_that_leaves_out_what_it_needs_begins_no_run(case: Case) -> None:
    with pytest.raises(SelectionError, match="'register' needs split, size, bucket, verify, which a new run has not"):
        case.run(["discover", "register"])
    assert case.manifests() == []


def test_an_attached_selection_with_a_gap_leaves_the_run_as_it_is(case: Case) -> None:
    case.run(["discover", "split"])
    before = case.tree()
    with pytest.raises(SelectionError, match="'register' needs bucket, verify, which run 2025"):
        case.run(["size", "register"])
    assert case.tree() == before


def test_new_runs_do_not_stumble_over_a_manifest_that_cannot_be_read(case: Case) -> None:
    first = case.run().manifest.run_id
    case.manifest_file(first).write_text("{")
    steps, report = reports()
    second = case.run(report=report).manifest.run_id
    assert second > first
    assert any(f"{case.manifest_file(first)}: is not a manifest" in step.message for step in steps)


def test_stages_do_not_pass_by_a_newest_run_that_cannot_be_read(case: Case) -> None:
    case.run()
    case.snapshot(FEBRUARY)
    newest = case.run(["discover"]).manifest.run_id
    case.manifest_file(newest).write_text("{")
    text = f"{newest}/manifest.json: is not a manifest"
    with pytest.raises(StorageError, match=text):
        case.run(["register"])
    with pytest.raises(StorageError, match=text):
        case.run(resume="last")


def test_a_lease_is_held_while_a_run_is_selected(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    run = type(plugins.stage("discover")).run

    def look(stage: object, manifest: Manifest, services: Services) -> object:
        home = RunStore.of(services.settings).home(DATASET)
        try:
            with Lease(home, 60, services.now):
                seen.append(False)
        except LeaseError:
            seen.append(True)
        return run(stage, manifest, services)  # type: ignore[arg-type]

    monkeypatch.setattr(type(plugins.stage("discover")), "run", look)
    case.run(["discover"])
    assert seen == [True]
