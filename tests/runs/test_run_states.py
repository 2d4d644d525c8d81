"""The state of runs: running or interrupted, how far, and how many of their tables are live."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cloud_support import Cloud
from failures import failed_in_bucket
from lease_support import LocalLeaseDirectory

from bucketwheel.catalogs.live import LiveCount
from bucketwheel.contracts import Progress
from bucketwheel.errors import StorageError
from bucketwheel.lease import Holder
from bucketwheel.pipeline import rollback, run_states
from bucketwheel.pipeline.run_states import RunState
from bucketwheel.runs.manifest import Manifest
from bucketwheel.settings import STAGES
from bucketwheel.storage import Storage
from bucketwheel.system import System, SystemClock, use
from bucketwheel.testing.clock import Clock
from bucketwheel.testing.lease import TTL, store_changed_lease
from runs_support import DATASET, FEBRUARY, JANUARY, Case

ELSEWHERE = {"host": "elsewhere/boot/pid", "pid": 1}


def states(case: Case, clock: Clock | None = None) -> list[RunState]:
    with use(System(clock or SystemClock())):
        return run_states.run_states(case.settings(), DATASET)


def killed_in_bucket(case: Case) -> Manifest:
    """Return the manifest that a run leaves if its process is killed after two buckets."""
    store = case.store()
    manifest = store.load(DATASET, failed_in_bucket(case).run_id)
    store.save(manifest.model_copy(update={"status": "running", "error": None, "notes": ()}))
    return manifest


def leave_lease(case: Case, clock: Clock, **changes: object) -> None:
    store_changed_lease(LocalLeaseDirectory(Path(case.store().metadata_directory(DATASET))), clock, **changes)


def test_run_without_lease_is_interrupted(case: Case) -> None:
    killed = killed_in_bucket(case)
    (state,) = states(case)
    assert (state.manifest.run_id, state.status, state.buckets) == (killed.run_id, "interrupted", (2, 4))
    assert state.status_text == "interrupted (2 of 4 buckets)"
    assert run_states.run_state(case.settings(), "last") == state
    case.run(STAGES[:5], resume="last")
    assert [(each.status, each.buckets) for each in states(case)] == [("finished", None)]


@pytest.mark.parametrize(
    ("changes", "expired", "status"),
    [
        ({}, True, "running"),
        ({"process_started": -1.0}, False, "interrupted"),
        ({"pid": 2**22 + 1}, False, "interrupted"),
        (ELSEWHERE, False, "running"),
        (ELSEWHERE, True, "interrupted"),
    ],
)
def test_lease_tells_whether_run_is_interrupted(
    case: Case, clock: Clock, changes: dict[str, Any], expired: bool, status: str
) -> None:
    run_id = killed_in_bucket(case).run_id
    leave_lease(case, clock, run_id=run_id, **changes)
    clock.forward(TTL + 1 if expired else TTL - 1)
    assert [state.status for state in states(case, clock)] == [status]


@pytest.mark.parametrize(("run_id", "status"), [("", "interrupted"), ("another", "interrupted"), (None, "running")])
def test_lease_of_other_work_does_not_hide_interruption(
    case: Case, clock: Clock, run_id: str | None, status: str
) -> None:
    killed_in_bucket(case)
    leave_lease(case, clock, run_id=run_id)
    assert [state.status for state in states(case, clock)] == [status]


def test_run_in_progress_is_running_with_finished_buckets(case: Case) -> None:
    seen: list[tuple[str, str]] = []

    def look(step: Progress) -> None:
        if step.state in ("started", "done"):
            seen.extend((step.stage, state.status_text) for state in states(case))

    case.run(STAGES[:5], report=look)
    assert ("split", "running") in seen
    assert {text for stage, text in seen if stage == "bucket"} >= {
        f"running ({count} of 4 buckets)" for count in range(4)
    }
    assert [state.status_text for state in states(case)] == ["finished"]


def test_run_that_ends_during_the_look_is_not_interrupted(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = killed_in_bucket(case).run_id

    def end(_directory: str, _storage: Storage) -> Holder | None:
        store = case.store()
        store.save(store.load(DATASET, run_id).model_copy(update={"status": "failed", "error": "stopped"}))
        return None

    monkeypatch.setattr(run_states, "read_holder", end)
    assert [state.status for state in states(case)] == ["failed"]


def test_runs_on_s3_are_interrupted_when_their_lease_expires(cloud: Cloud) -> None:
    cloud.changes |= {"lease__ttl_seconds": 60}
    store = cloud.store()
    manifest = cloud.run(STAGES[:2]).manifest
    store.save(store.load(DATASET, manifest.run_id).model_copy(update={"status": "running"}))
    assert [state.status for state in states(cloud)] == ["interrupted"]
    path = f"{store.metadata_directory(DATASET)}/lease.json"
    text = '{"token":"t","host":"elsewhere","pid":1,"process_started":1,"acquired":"","expires":"%s","run_id":"%s"}'
    for seconds, status in ((60, "running"), (-1, "interrupted")):
        expires = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        store.storage.write(path, (text % (expires, manifest.run_id)).encode())
        assert [state.status for state in states(cloud)] == [status]


def test_shown_follows_runs_filters_and_rollback(case: Case) -> None:
    first = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    case.run(tables=["people_1"])
    assert [state.live for state in states(case)] == [LiveCount(1, 2, "final"), LiveCount(1, 1, "final")]
    assert [state.live_text for state in states(case)] == ["live: 1 of 2 tables", "live: 1 of 1 table"]
    rollback.rollback(case.settings(), first)
    live, replaced = (state.live_text for state in states(case))
    assert live == "live: 2 of 2 tables"
    assert replaced.startswith("was published, no longer live; run ")


def test_withdrawn_run_is_named_with_reason_and_remedy(case: Case) -> None:
    first = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    second = case.run().manifest.run_id
    rollback.rollback(case.settings(), first, reason="wrong ages")
    assert [state.status_text for state in states(case)] == ["finished", "withdrawn"]
    shown = run_states.run_state(case.settings(), second).live_text
    assert re.search(rf"run {second} \(.*\) was withdrawn at .*: wrong ages; .*: bucketwheel unmark {second}$", shown)
    rollback.unmark(case.settings(), second)
    assert [state.status_text for state in states(case)] == ["finished", "finished"]


def test_damaged_mark_is_a_warning_of_the_list(case: Case) -> None:
    case.run()
    mark = Path(case.store().metadata_directory(DATASET)) / "withdrawn" / "some.json"
    mark.parent.mkdir()
    mark.write_text("{")
    warnings: list[str] = []
    (state,) = run_states.run_states(case.settings(), warn=warnings.append)
    assert state.status_text == "finished"
    assert warnings[0].startswith(f"cannot tell which runs are withdrawn: {mark}: ")


def test_shown_text_of_unpublished_and_staged_run(case: Case) -> None:
    case.run(STAGES[:5])
    assert [state.live_text for state in states(case)] == ["not published"]
    case.run(["register"])
    assert [state.live_text for state in states(case)] == ["live: 2 of 2 staged tables"]


def test_damaged_manifest_is_reported_or_raised(case: Case) -> None:
    run_id = case.run(snapshot_dt=JANUARY).manifest.run_id
    case.manifest_file(run_id).write_text("{")
    with pytest.raises(StorageError, match="is not a manifest"):
        states(case)
    warnings: list[str] = []
    assert run_states.run_states(case.settings(), warn=warnings.append) == []
    assert len(warnings) == 1
