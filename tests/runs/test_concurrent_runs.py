"""Concurrent runs, and runs that are refused before they start."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bucketwheel import plugins
from bucketwheel.errors import CatalogError, ConfigError, LeaseError, SelectionError
from runs_support import DATASET, FEBRUARY, JANUARY, Case


def test_concurrent_run_of_same_dataset_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_another(*_: object) -> None:
        case.run()

    monkeypatch.setattr(type(plugins.stage("split")), "run", run_another)
    with pytest.raises(LeaseError, match=f"another run holds the lease .*process {os.getpid()} ") as caught:
        case.run()
    assert caught.value.exit_code == 4


def test_unknown_engine_or_catalog_is_refused_before_writing(case: Case) -> None:
    for change in ({"engine": "arow"}, {"catalog__kind": "duckbd"}):
        with pytest.raises(SelectionError, match="did you mean"):
            case.run(**change)  # type: ignore[arg-type]
    assert not case.target.exists()
    assert case.run(["discover"], catalog__kind="duckbd").manifest.status == "finished"


def test_locked_catalog_fails_run_and_keeps_published_month(case: Case) -> None:
    case.run()
    before = case.shown()
    case.snapshot(FEBRUARY)
    case.catalog.with_name("catalog.duckdb.wal").write_text("another process is writing")
    with pytest.raises(CatalogError, match=r"\.wal"):
        case.run()
    case.catalog.with_name("catalog.duckdb.wal").unlink()
    assert case.shown() == before
    assert case.snapshot_dt() == JANUARY
    case.run(resume="last")
    assert set().union(*case.shown().values()) == {FEBRUARY}


def run_in_process(case: Case) -> None:
    case.run()


def test_concurrent_processes_share_one_catalog(tmp_path: Path) -> None:
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


def test_concurrent_threads_share_one_catalog(tmp_path: Path) -> None:
    cases = [Case(tmp_path, dataset=f"set{number}", tables=2) for number in range(4)]
    for case in cases:
        case.snapshot(JANUARY)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda case: case.run(), cases))
    assert all(outcome.changed for outcome in outcomes)
    assert len(cases[0].shown()) == 16
    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(lambda case: case.run().changed, cases))


def test_table_of_another_dataset_is_not_replaced(tmp_path: Path) -> None:
    ours, theirs = Case(tmp_path / "a"), Case(tmp_path / "b", dataset="people_again")
    for case in (ours, theirs):
        case.snapshot(JANUARY)
    theirs.mapping.write_text(theirs.mapping.read_text().replace("people_again_1,", "people_1,"))
    ours.run()
    with pytest.raises(CatalogError, match="'ext_people_1' exists in the catalog and belongs to dataset 'people'"):
        theirs.run(catalog__path=str(ours.catalog))


def test_source_that_contains_target_is_refused(case: Case) -> None:
    with pytest.raises(ConfigError, match="the target is inside the source"):
        case.run(target=str(case.mapping.parent / "out"))


def test_services_without_lease_refuse_to_publish(case: Case) -> None:
    from bucketwheel.pipeline.services import RunRequest, make_services

    services = make_services(case.settings(), RunRequest(DATASET), lambda _: None)
    assert services.checkpoints.load() == []
    with pytest.raises(LeaseError, match="holds no lease"):
        services.checkpoints.clear()
    with pytest.raises(LeaseError, match="holds no lease"):
        services.fence.guard()
