"""`expire` and publishing at the same time on S3 and Glue: every published table keeps its files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from cloud_support import Cloud

from bucketwheel.errors import BucketwheelError, ConcurrentPublishError, LeaseError, SelectionError
from bucketwheel.lease import Lease
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.system import System, SystemClock, use
from bucketwheel.testing.clock import Clock
from runs_support import DATASET, FEBRUARY, JANUARY

LATER = SystemClock().now() + timedelta(hours=48)
# By then, the lease of a command that began at LATER has expired.
AFTERWARDS = LATER + timedelta(minutes=30)


@pytest.fixture
def january(cloud: Cloud) -> str:
    """The id of a run that another one has replaced."""
    run_id = cloud.run().manifest.run_id
    cloud.snapshot(FEBRUARY)
    cloud.run()
    return run_id


def interrupt(
    monkeypatch: pytest.MonkeyPatch, number: int, command: Callable[[], object], before: bool = False
) -> list[object]:
    """Run a command after (or before) this check of a lease, as if its holder was suspended; return how it ended."""
    check, checks, ends = Lease._check, [], []

    def interrupted(lease: Lease) -> None:
        if not before:
            check(lease)
        checks.append(lease)
        if len(checks) == number:
            try:
                ends.append(command())
            except BucketwheelError as error:
                ends.append(error)
        if before:
            check(lease)

    monkeypatch.setattr(Lease, "_check", interrupted)
    return ends


def attempt(command: Callable[[], object]) -> BucketwheelError | None:
    try:
        command()
    except BucketwheelError as error:
        return error
    return None


def at(time: datetime, command: Callable[[], object]) -> Callable[[], object]:
    """Return the command with a clock that stands still at this time."""

    def run() -> object:
        with use(System(Clock(time))):
            return command()

    return run


def check_marks(cloud: Cloud, *snapshots: str) -> None:
    """Read every table, and check that all show these snapshots together."""
    shown = [cloud.marks(name) for name in cloud.tables_shown()]
    assert len(shown) == 4
    assert set().union(*shown) == {*snapshots}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_rollback_during_expire_keeps_files_of_published_tables(
    cloud: Cloud, january: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    settings = cloud.settings()
    with monkeypatch.context() as patch:
        ends = interrupt(patch, number, at(AFTERWARDS, lambda: rollback(settings, january)))
        error = attempt(at(LATER, lambda: expire(settings, keep=1)))
    (end,) = ends
    if number == 1:
        # The storage refused the claim of `expire`.
        assert error is None
        assert not isinstance(end, BucketwheelError)
        check_marks(cloud, JANUARY)
        return
    assert type(end) is SelectionError
    assert january in str(end)
    check_marks(cloud, FEBRUARY)
    # The third check comes after the manifest was deleted: `rollback` found no run, and took no lease.
    assert type(error) is (LeaseError if number == 2 else type(None))
    assert [run.run_id for run in expire(settings, keep=9)] == ([january] if number == 2 else [])
    assert cloud.store().all_run_ids(DATASET) == cloud.store().ids(DATASET)
    check_marks(cloud, FEBRUARY)


def test_expire_that_lost_its_lease_allows_rollback(
    cloud: Cloud, january: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cloud.settings()
    with monkeypatch.context() as patch:
        ends = interrupt(patch, 2, at(AFTERWARDS, lambda: rollback(settings, january)), before=True)
        error = attempt(at(LATER, lambda: expire(settings, keep=1)))
    assert [type(end) for end in ends] == [SelectionError]
    assert f"run {january} is being deleted" in str(ends[0])
    assert type(error) is LeaseError
    rollback(settings, january)
    check_marks(cloud, JANUARY)


@pytest.mark.parametrize("number", [1, 3, 8, 9])
def test_expire_during_rollback_keeps_files_of_published_tables(
    cloud: Cloud, january: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    settings = cloud.settings(expire__min_age_hours=24)
    with monkeypatch.context() as patch:
        ends = interrupt(patch, number, at(AFTERWARDS, lambda: expire(settings, keep=1)))
        error = attempt(at(LATER, lambda: rollback(settings, january, reason="test")))
    assert error is not None
    (end,) = ends
    assert isinstance(end, list)
    if number == 1:
        assert [run.run_id for run in end] == [january]
        check_marks(cloud, FEBRUARY)
        return
    assert end == []
    # The first table changes after the check with number 8, all others after the next one; `expire` finishes the
    # rollback, which seems to be interrupted.
    assert type(error) is (LeaseError if number == 3 else ConcurrentPublishError)
    check_marks(cloud, FEBRUARY if number == 3 else JANUARY)
