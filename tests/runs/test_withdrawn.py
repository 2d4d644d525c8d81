"""Runs after a rollback: the data that was rolled back from is not published again unasked."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from bucketwheel import plugins
from bucketwheel.errors import CatalogError, QualityError, SelectionError, StorageError, WithdrawnError
from bucketwheel.pipeline import run_states
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.plan import plan
from bucketwheel.pipeline.rollback import previous_run, rollback, unmark
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.runs.withdrawals import withdrawals
from memory_catalog import MemoryCatalog
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, notes_of, reports, warnings_in


@pytest.fixture
def rolled_back(tmp_path: Path) -> tuple[Case, str, str]:
    """A case that published January and February, and was rolled back to January."""
    case = Case(tmp_path, tables=1, rows=60)
    case.snapshot(JANUARY)
    january = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    february = case.run().manifest.run_id
    rollback(case.settings(), january, reason="wrong ages")
    return case, january, february


def marks(case: Case) -> set[str]:
    return set().union(*case.shown().values())


@pytest.mark.parametrize("changes", [{}, {"buckets__count": 2}, {"split__column_limit": 99}])
def test_run_of_withdrawn_data_is_refused(rolled_back: tuple[Case, str, str], changes: dict[str, Any]) -> None:
    case, _, february = rolled_back
    before = case.tree()
    with pytest.raises(WithdrawnError) as refused:
        case.run(**changes)
    assert refused.value.exit_code == 3
    text = f"{refused.value}\n{notes_of(refused.value)}"
    for words in ("wrong ages", f"bucketwheel unmark {february}", "--force", "Correct the snapshot or the mapping"):
        assert text.count(words) == 1
    assert marks(case) == {JANUARY}
    assert {path: state for path, state in case.tree().items() if "_bucketwheel" not in path} == {
        path: state for path, state in before.items() if "_bucketwheel" not in path
    }
    assert len(case.manifests()) == 2


@pytest.mark.parametrize("resume", [None, "last"])
@pytest.mark.parametrize(
    "stages", [["discover"], ["discover", "split", "size", "bucket", "verify"], ["verify"], ["ctas"]]
)
def test_every_job_of_a_chain_refuses_withdrawn_data(
    rolled_back: tuple[Case, str, str], stages: list[str], resume: str | None
) -> None:
    case, _, february = rolled_back
    before = case.manifest_file(february).read_bytes()
    with pytest.raises(WithdrawnError, match=february):
        case.run(stages, resume=resume)
    assert case.manifest_file(february).read_bytes() == before
    assert marks(case) == {JANUARY}


def test_corrected_snapshot_is_published(rolled_back: tuple[Case, str, str]) -> None:
    case, _, _ = rolled_back
    for path in (case.mapping.parent / f"snapshot_dt={FEBRUARY}").glob("*.parquet"):
        os.utime(path, (1, 1))
    assert case.run().changed
    assert marks(case) == {FEBRUARY}


def test_next_snapshot_is_published(rolled_back: tuple[Case, str, str]) -> None:
    case, _, _ = rolled_back
    case.snapshot(MARCH)
    case.run()
    assert marks(case) == {MARCH}


def test_unmark_allows_withdrawn_data(rolled_back: tuple[Case, str, str]) -> None:
    case, january, february = rolled_back
    mark = unmark(case.settings(), february)
    assert (mark.run_id, mark.replaced_by, mark.reason) == (february, january, "wrong ages")
    assert case.run().manifest.run_id == february
    assert marks(case) == {FEBRUARY}
    with pytest.raises(SelectionError, match=f"run '{february}' is not marked as withdrawn; marked: none"):
        unmark(case.settings(), february)


def test_forced_run_publishes_and_removes_mark(rolled_back: tuple[Case, str, str]) -> None:
    case, _, february = rolled_back
    seen, report = reports()
    assert case.run(force=True, report=report).manifest.run_id == february
    assert "published again with --force" in warnings_in(seen)
    assert withdrawals(case.store(), DATASET) == []
    assert not case.run().changed


def test_forced_job_that_does_not_publish_keeps_mark(rolled_back: tuple[Case, str, str]) -> None:
    case, _, february = rolled_back
    seen, report = reports()
    case.run(["discover", "split", "size", "bucket", "verify"], force=True, report=report)
    assert "not published by these stages, so the mark stays" in warnings_in(seen)
    assert [mark.run_id for mark in withdrawals(case.store(), DATASET)] == [february]
    for stage in ("register", "ctas"):
        case.run([stage], force=True)
    assert marks(case) == {FEBRUARY}
    assert withdrawals(case.store(), DATASET) == []


def test_withdrawn_data_beyond_limit_is_one_error(tmp_path: Path) -> None:
    case = Case(tmp_path, tables=1, rows=60)
    case.snapshot(JANUARY)
    january = case.run().manifest.run_id
    case.rows = 120
    case.snapshot(FEBRUARY)
    case.run(quality__max_rows_changed_percent=100)
    rollback(case.settings(), january)
    expected = r"was withdrawn at .*[\s\S]*100 % more than .*max_rows_changed_percent is 50"
    with pytest.raises(WithdrawnError, match=expected) as refused:
        case.run(buckets__count=2)
    assert "--force, then run again: " in notes_of(refused.value)
    assert "--set quality.max_rows_changed_percent=100" in notes_of(refused.value)
    with pytest.raises(QualityError):
        case.run(buckets__count=2, force=True)
    # A run that is refused removes no mark.
    assert len(withdrawals(case.store(), DATASET)) == 1


def test_plan_names_withdrawal_and_how_to_lift_it(rolled_back: tuple[Case, str, str]) -> None:
    case, _, february = rolled_back
    planned = plan(case.settings(), RunRequest(DATASET))
    assert [mark.run_id for mark in planned.withdrawals] == [february]
    (obstacle,) = planned.obstacles
    assert "wrong ages" in obstacle
    assert obstacle.endswith(f"publish it with --force, or run bucketwheel unmark {february}")
    unmark(case.settings(), february)
    assert plan(case.settings(), RunRequest(DATASET)).obstacles == ()


def test_rollback_to_withdrawn_run_is_refused_without_force(rolled_back: tuple[Case, str, str]) -> None:
    case, _, february = rolled_back
    with pytest.raises(WithdrawnError, match=f"wrong ages; nothing was changed.*bucketwheel unmark {february}"):
        rollback(case.settings(), february)
    assert marks(case) == {JANUARY}
    rollback(case.settings(), february, force=True)
    assert marks(case) == {FEBRUARY}
    assert withdrawals(case.store(), DATASET) == []


def test_rollback_forward_marks_no_earlier_run(rolled_back: tuple[Case, str, str]) -> None:
    case, january, february = rolled_back
    rollback(case.settings(), february, force=True)
    rollback(case.settings(), january)
    assert [mark.run_id for mark in withdrawals(case.store(), DATASET)] == [february]


def test_failed_rollback_leaves_no_mark(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    january = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    case.run()
    real = plugins.catalog(case.settings())

    class Refusing(MemoryCatalog):
        def __getattribute__(self, name: str) -> object:
            return refused if name in ("put", "put_all") else getattr(real, name)

    def refused(*_: object) -> None:
        raise CatalogError("access denied")

    monkeypatch.setattr(plugins, "catalog", lambda _: Refusing())
    with pytest.raises(CatalogError, match="access denied"):
        rollback(case.settings(), january)
    assert withdrawals(case.store(), DATASET) == []
    assert marks(case) == {FEBRUARY}


def test_mark_outlives_expired_run(rolled_back: tuple[Case, str, str]) -> None:
    case, _, february = rolled_back
    case.snapshot(MARCH)
    case.run()
    assert february in {run.run_id for run in expire(case.settings(), keep=1)}
    with pytest.raises(WithdrawnError, match=february):
        case.run(snapshot_dt=FEBRUARY)


def test_expire_does_not_count_withdrawn_runs(rolled_back: tuple[Case, str, str]) -> None:
    case, january, february = rolled_back
    case.snapshot(MARCH)
    case.run()
    assert [run.run_id for run in expire(case.settings(), keep=2)] == [february]
    assert january in case.store().ids(DATASET)


def test_damaged_mark_is_an_error(rolled_back: tuple[Case, str, str]) -> None:
    case, _, february = rolled_back
    path = Path(case.store().metadata_directory(DATASET)) / "withdrawn" / f"{february}.json"
    path.write_text("{")
    with pytest.raises(StorageError, match=f"{path}: is not the mark of a withdrawn run"):
        case.run()
    assert marks(case) == {JANUARY}


def test_previous_run_is_one_before_shown_run(rolled_back: tuple[Case, str, str]) -> None:
    case, january, _ = rolled_back
    case.snapshot(MARCH)
    case.run()
    assert previous_run(case.settings(), DATASET) == january
    rollback(case.settings(), january)
    with pytest.raises(SelectionError, match=f"no run that was published before {january}"):
        previous_run(case.settings(), DATASET)


def test_previous_run_published_a_table_of_newest_run(case: Case) -> None:
    january = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    case.run(tables=["people_1"])
    case.snapshot(MARCH)
    case.run(tables=["people_2"])
    assert previous_run(case.settings(), DATASET) == january
    rollback(case.settings(), january)
    assert marks(case) == {JANUARY}


def test_previous_run_without_tables_of_newest_run_is_refused(case: Case) -> None:
    january = case.run(tables=["people_1"]).manifest.run_id
    case.snapshot(FEBRUARY)
    february = case.run(tables=["people_2"]).manifest.run_id
    text = (
        f"nothing was changed: no run that still exists published people_2 before run {february}; "
        f"run {january} published only other tables"
    )
    with pytest.raises(SelectionError, match=text):
        previous_run(case.settings(), DATASET)


def test_previous_run_that_is_withdrawn_is_named(rolled_back: tuple[Case, str, str]) -> None:
    case, january, february = rolled_back
    rollback(case.settings(), february, force=True)
    case.snapshot(MARCH)
    march = case.run().manifest.run_id
    for run_id in (february, january):
        rollback(case.settings(), run_id)
    rollback(case.settings(), march, force=True)
    assert previous_run(case.settings(), DATASET) == january
    case.store().storage.delete(case.store().path(DATASET, january))
    with pytest.raises(
        SelectionError, match=f"only withdrawn runs published .*: bucketwheel rollback {february} --f"
    ):
        previous_run(case.settings(), DATASET)


def test_rollback_marks_no_run_that_was_only_staged(case: Case) -> None:
    january = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    february = case.run(["discover", "split", "size", "bucket", "verify", "register"]).manifest.run_id
    assert FEBRUARY in marks(case)
    rollback(case.settings(), january)
    assert marks(case) == {JANUARY}
    assert withdrawals(case.store(), DATASET) == []
    case.run(["ctas"], resume=february)
    assert case.shown()["bucketed_people_1"] == {FEBRUARY}


def test_rollback_of_staged_tables_alone_marks_their_run(case: Case) -> None:
    stages = ["discover", "split", "size", "bucket", "verify", "register"]
    january = case.run(stages).manifest.run_id
    case.snapshot(FEBRUARY)
    february = case.run(stages).manifest.run_id
    rollback(case.settings(), january, reason="  ")
    (mark,) = withdrawals(case.store(), DATASET)
    assert (mark.run_id, mark.reason) == (february, "")
    assert mark.text.endswith(f" by {mark.by}")
    (_, state) = run_states.run_states(case.settings())
    assert state.status_text == "withdrawn"
    assert dataclasses.replace(state, status="interrupted").status_text == "interrupted, withdrawn"
