"""Schedules that once violated an invariant, each with one suspension at a known call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bucketwheel.pipeline import run as run_module
from bucketwheel.pipeline import services
from simulation import scheduler
from simulation import world as commands
from simulation.invariants import Judge
from simulation.schedules import FailedScheduleError, direct
from simulation.world import FEBRUARY, JANUARY, templates

_PUBLISHED = "two runs are published"


def _rollback(date: str) -> Callable[[], Any]:
    return partial(commands.roll_back, templates()[_PUBLISHED].run_ids[date])


_CASES: dict[str, tuple[Callable[[], Any], str, Callable[[], Any]]] = {
    "expire before it claims": (partial(commands.expire_all_but, 1), "claim.json if", _rollback(JANUARY)),
    "expire before it deletes": (partial(commands.expire_all_but, 1), "deletes target/people", _rollback(JANUARY)),
    "rollback before its claim": (_rollback(JANUARY), "claim.json if", partial(commands.expire_all_but, 1)),
    "rollback before its first update": (_rollback(JANUARY), "points table", _rollback(FEBRUARY)),
    "rollback before its last update": (_rollback(JANUARY), "points table bucketed_people_2", _rollback(FEBRUARY)),
    "run before its final tables": (
        partial(commands.run_at, JANUARY),
        "points table bucketed_people_1",
        commands.run_new,
    ),
    "run before its record": (partial(commands.run_at, JANUARY), "writes target/people/metadata", commands.run_new),
}


@pytest.mark.parametrize("case", _CASES)
def test_suspended_command_violates_no_invariant(case: str) -> None:
    first, suspend_before, second = _CASES[case]
    direct(_PUBLISHED, (case, first), suspend_before, second)


def test_run_that_leaves_current_tables_to_late_writers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "settle", lambda _: None)
    monkeypatch.setattr(run_module, "is_s3", lambda _: False)
    first, suspend_before, second = _CASES["run before its final tables"]
    with pytest.raises(FailedScheduleError, match="a later holder, had reported success"):
        direct(_PUBLISHED, ("late run", first), suspend_before, second)


def test_expire_keeps_run_that_a_suspended_rollback_replaced_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "LEASE_SECONDS", 30 * 3600)
    start = templates()["a run is written, but not published"]
    schedule = scheduler.Scheduler(0, scheduler.Style())
    world = commands.World(schedule, start)
    # It watches every deletion.
    Judge(world)
    late = partial(commands.roll_back, start.run_ids[JANUARY])
    actors = [
        scheduler.Actor("rollback", late, "points table ext_people_1"),
        scheduler.Actor("nothing", lambda: None),
    ]
    schedule.run(actors, world.acting)
    assert actors[0].error is None
    assert world.calmly(partial(commands.expire_all_but, 1)) == []
    assert schedule.violation is None
