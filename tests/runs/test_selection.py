"""Which run a command works on, and what it changes when there is nothing to do."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, reports

from bucketwheel import backends
from bucketwheel.contracts import Services
from bucketwheel.errors import CatalogError, ConfigError, LeaseError, ResumeError, SelectionError
from bucketwheel.lease import Lease
from bucketwheel.manifest import Manifest
from bucketwheel.operations import rollback, run_store
from bucketwheel.settings import STAGES

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
        patch.setattr(type(backends.stage("verify")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run(JOBS[1])
    outcome = case.run(resume="last")
    assert tuple(outcome.manifest.stages) == STAGES[:5]
    assert outcome.manifest.status == "finished"


def test_some_stages_of_a_run_that_failed_do_not_make_it_finished(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(backends.stage("size")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run()
    outcome = case.run(["size"], resume="last")
    assert outcome.manifest.status == "failed"
    assert outcome.manifest.error == "still to do: bucket, verify, register, ctas"
    assert not case.run(["size"], resume="last").changed
    assert case.run(resume="last").manifest.status == "finished"


@pytest.mark.parametrize("job", [["register"], ["bucket", "verify"], ["size"]])
def test_stages_that_need_what_nobody_has_done_are_refused(case: Case, job: Sequence[str]) -> None:
    with pytest.raises(SelectionError, match=f"no run below .* has finished .* stage '{job[0]}' needs; run them first"):
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
    filtered = case.run(["discover", "split"], tables=["people_3", "people_1"]).manifest.run_id
    whole = case.run(["discover", "split"]).manifest.run_id
    assert case.run(["size"], tables=["people_1", "people_3"]).manifest.run_id == filtered
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


def test_a_rerun_changes_nothing_on_disk_and_says_so(case: Case) -> None:
    first = case.run()
    before = case.tree()
    again = case.run()
    assert (first.changed, again.changed) == (True, False)
    assert again.manifest == first.manifest
    assert case.tree() == before


def test_a_rerun_names_the_run_that_did_the_work_even_if_it_is_not_the_newest(case: Case) -> None:
    january = case.run().manifest
    case.snapshot(FEBRUARY)
    case.run(["discover"])
    before = case.tree()
    outcome = case.run(snapshot_dt=JANUARY)
    assert outcome.manifest == january
    assert not outcome.changed
    assert case.tree() == before


def test_a_changed_setting_makes_a_new_run(case: Case) -> None:
    first = case.run().manifest
    second = case.run(buckets__count=8).manifest
    assert first.run_id != second.run_id
    assert len(case.data(second.run_id)) == 8 * case.tables


def test_a_run_whose_files_are_gone_is_not_taken_for_done(case: Case) -> None:
    first = case.run().manifest
    next((case.target / DATASET).glob(f"*/{first.run_id}/*")).unlink()
    second = case.run().manifest
    assert first.run_id != second.run_id
    assert case.data(second.run_id).keys() > case.data(first.run_id).keys()


def test_a_run_of_which_the_catalog_shows_nothing_is_published_again(case: Case) -> None:
    first = case.run().manifest
    case.catalog.unlink()
    outcome = case.run()
    assert outcome.changed
    assert outcome.manifest.run_id == first.run_id
    assert outcome.manifest.stages["bucket"] == first.stages["bucket"]
    assert set(case.shown()) == prefixed("ext", case.names()) | prefixed("bucketed", case.names())


def test_a_rerun_after_a_rollback_publishes_the_files_of_the_later_run_again(case: Case) -> None:
    january = case.run().manifest
    case.snapshot(FEBRUARY)
    february = case.run().manifest
    rollback(case.settings(), january.run_id)
    assert set().union(*case.shown().values()) == {JANUARY}
    files = case.data(february.run_id)
    outcome = case.run()
    assert outcome.changed
    assert outcome.manifest.run_id == february.run_id
    assert case.data(february.run_id) == files
    assert set().union(*case.shown().values()) == {FEBRUARY}
    assert case.note.read_text() == FEBRUARY
    assert not case.run().changed


def test_a_run_that_could_not_publish_is_taken_up_by_the_next_one(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(backends.stage("register")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run()
    (failed,) = case.manifests()
    outcome = case.run()
    assert outcome.manifest.run_id == failed.run_id
    assert outcome.manifest.status == "finished"


def test_another_prefix_publishes_under_the_other_names(case: Case) -> None:
    case.run()
    assert case.run(catalog__final_prefix="final_").changed
    assert prefixed("final", case.names()) <= set(case.shown_names())


def test_a_note_of_the_snapshot_that_is_gone_is_written_again(case: Case) -> None:
    case.run()
    case.note.unlink()
    assert case.run().changed
    assert case.note.read_text() == JANUARY


def test_the_snapshot_asked_for_is_taken_and_not_the_latest(case: Case) -> None:
    case.snapshot(FEBRUARY)
    case.snapshot(MARCH)
    manifest = case.run(snapshot_dt=FEBRUARY).manifest
    assert manifest.snapshot_dt == FEBRUARY
    assert manifest.run_id.startswith(f"{FEBRUARY}-")
    assert set().union(*case.shown().values()) == {FEBRUARY}
    assert case.note.read_text() == FEBRUARY
    case.run()
    assert case.note.read_text() == MARCH


def test_a_table_filter_makes_only_these_tables(case: Case) -> None:
    manifest = case.run(tables=["people_2"]).manifest
    assert manifest.tables_filter == ("people_2",)
    assert {name.partition("/")[0] for name in case.data(manifest.run_id)} == {"people_2"}
    assert set(case.shown()) == {"ext_people_2", "bucketed_people_2"}
    assert not case.run(tables=["people_2"]).changed
    assert case.run().manifest.run_id != manifest.run_id


def test_a_run_with_a_table_filter_is_resumed_with_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(backends.stage("split")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run(tables=["people_2"])
    case.run(resume="last")
    assert set(case.shown()) == {"ext_people_2", "bucketed_people_2"}


def test_a_bucket_without_rows_gets_no_file(tmp_path: Path) -> None:
    case = Case(tmp_path, rows=5, buckets=64)
    case.snapshot(JANUARY)
    manifest = case.run().manifest
    record = manifest.stages["bucket"].result
    filled = 64 - record["empty_buckets"]
    assert 1 <= filled <= 5
    assert len(case.data(manifest.run_id)) == filled * case.tables
    assert {name for name, marks in case.shown().items() if marks == {JANUARY}} == set(case.shown())


def test_two_runs_of_one_dataset_at_once_are_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_another(*_: object) -> None:
        case.run()

    monkeypatch.setattr(type(backends.stage("split")), "run", run_another)
    with pytest.raises(LeaseError, match=f"another run holds the lease .*process {os.getpid()} ") as caught:
        case.run()
    assert caught.value.exit_code == 4


def test_what_is_not_installed_is_known_before_anything_is_done(case: Case) -> None:
    for change in ({"engine": "arow"}, {"catalog__kind": "duckbd"}):
        with pytest.raises(SelectionError, match="did you mean"):
            case.run(**change)  # type: ignore[arg-type]
    assert not case.target.exists()
    assert case.run(["discover"], catalog__kind="duckbd").manifest.status == "finished"


def test_a_catalog_that_refuses_fails_the_run_and_leaves_the_month_before(case: Case) -> None:
    case.run()
    before = case.shown()
    case.snapshot(FEBRUARY)
    case.catalog.with_name("catalog.duckdb.wal").write_text("somebody is writing")
    with pytest.raises(CatalogError, match=r"\.wal"):
        case.run()
    case.catalog.with_name("catalog.duckdb.wal").unlink()
    assert case.shown() == before
    assert case.note.read_text() == JANUARY
    case.run(resume="last")
    assert set().union(*case.shown().values()) == {FEBRUARY}


def run_in_process(case: Case) -> None:
    case.run()


def test_runs_of_two_datasets_at_once_into_one_catalog_both_succeed(tmp_path: Path) -> None:
    cases = [Case(tmp_path, dataset=name) for name in ("people", "others")]
    for case in cases:
        case.snapshot(JANUARY)
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=run_in_process, args=(case,)) for case in cases]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(cases[0].shown()) == 4 * cases[0].tables


def test_runs_of_many_datasets_in_threads_of_one_process_all_succeed(tmp_path: Path) -> None:
    cases = [Case(tmp_path, dataset=f"set{number}", tables=2) for number in range(4)]
    for case in cases:
        case.snapshot(JANUARY)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda case: case.run(), cases))
    assert all(outcome.changed for outcome in outcomes)
    assert len(cases[0].shown()) == 16
    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(lambda case: case.run().changed, cases))


def test_two_datasets_with_a_table_of_the_same_name_do_not_take_it_from_each_other(tmp_path: Path) -> None:
    ours, theirs = Case(tmp_path / "a"), Case(tmp_path / "b", dataset="people_again")
    for case in (ours, theirs):
        case.snapshot(JANUARY)
    theirs.mapping.write_text(theirs.mapping.read_text().replace("people_again_1,", "people_1,"))
    ours.run()
    with pytest.raises(CatalogError, match="'ext_people_1' exists in the catalog and belongs to dataset 'people'"):
        theirs.run(catalog__path=str(ours.catalog))


def test_a_source_inside_what_a_run_writes_is_refused(case: Case) -> None:
    with pytest.raises(ConfigError, match="target lies inside the source"):
        case.run(target=str(case.mapping.parent / "out"))


def test_a_stage_that_asks_for_a_lease_it_has_not_got_may_not_publish(case: Case) -> None:
    from bucketwheel.assembly import RunRequest, make_services, utc_now

    services = make_services(case.settings(), RunRequest(DATASET), lambda _: None, utc_now)
    assert services.checkpoints.load() == {}
    with pytest.raises(LeaseError, match="holds no lease"):
        services.checkpoints.clear()
    with pytest.raises(LeaseError, match="holds no lease"):
        services.fence.guard()


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
    for action in (lambda: case.run(["register"]), lambda: case.run(resume="last")):
        with pytest.raises(Exception, match=f"{newest}/manifest.json: is not a manifest"):
            action()


def test_a_lease_is_held_while_a_run_is_selected(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    run = type(backends.stage("discover")).run

    def look(stage: object, manifest: Manifest, services: Services) -> object:
        home = run_store(services.settings).home(DATASET)
        try:
            with Lease(home, 60, services.now):
                seen.append(False)
        except LeaseError:
            seen.append(True)
        return run(stage, manifest, services)  # type: ignore[arg-type]

    monkeypatch.setattr(type(backends.stage("discover")), "run", look)
    case.run(["discover"])
    assert seen == [True]
