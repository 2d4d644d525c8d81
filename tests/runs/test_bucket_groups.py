"""Runs at the same time, and runs that must not begin."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bucketwheel import plugins
from bucketwheel.errors import CatalogError, ConfigError, LeaseError, SelectionError
from runs_support import DATASET, FEBRUARY, JANUARY, Case


def test_two_runs_of_one_dataset_at_once_are_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_another(*_: object) -> None:
        case.run()

    monkeypatch.setattr(type(plugins.stage("split")), "run", run_another)
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
    from bucketwheel.pipeline.services import RunRequest, make_services, utc_now

    services = make_services(case.settings(), RunRequest(DATASET), lambda _: None, utc_now)
    assert services.checkpoints.load() == {}
    with pytest.raises(LeaseError, match="holds no lease"):
        services.checkpoints.clear()
    with pytest.raises(LeaseError, match="holds no lease"):
        services.fence.guard()
