"""Strike at exact calls of the C library: kill the command, fail the call, write half, or press Ctrl-C.

At every moment readers see complete tables, each of the old or the new snapshot. The next command completes the work
with the same bytes as an undisturbed run. A command never ends in a traceback.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence

import pytest
from call_faults import CHANGES, Calls, Mode
from struck_project import EVERY, Ended, Fault, Project

from runs_support import DATASET, FEBRUARY, JANUARY

pytestmark = pytest.mark.crash

RUN = ("run", DATASET)
ROLLBACK = ("rollback", "--previous", DATASET)
EXPIRE = ("expire", DATASET, "--keep", "1", "--yes")


def test_run_killed_at_any_call_is_completed(project: Project) -> None:
    for number, ended in enumerate(project.strikes("january", RUN, 60, Mode.KILL, CHANGES)):
        assert ended.code in (0, -signal.SIGKILL), str(ended)
        project.readers_see(JANUARY, FEBRUARY)
        resume = ("--resume", "last") if project.begun() and number % 2 else ()
        again = project.command(*RUN, *resume)
        assert again.code == 0, f"{ended}\nthen {again}"
        project.check_february()


def test_resumed_run_killed_at_any_call_is_completed(project: Project) -> None:
    for ended in project.strikes("january", RUN, 12, Mode.KILL, CHANGES):
        # Strikes at the calls after the last change of the killed run: the same number of calls again.
        fault = Fault(max(1, 330 - ended.record.struck), Mode.KILL, CHANGES)
        second = project.command(*RUN, fault=fault)
        project.readers_see(JANUARY, FEBRUARY)
        again = project.command(*RUN)
        assert again.code == 0, f"{ended}\nthen {second}\nthen {again}"
        project.check_february()


def test_rollback_killed_at_any_call_is_completed(project: Project) -> None:
    for ended in project.strikes("february", ROLLBACK, 14, Mode.KILL, CHANGES):
        project.readers_see(JANUARY, FEBRUARY)
        again = project.command("rollback", project.case.run_ids()[0])
        assert again.code == 0, f"{ended}\nthen {again}"
        project.readers_see(JANUARY)
        assert project.case.snapshot_dt() == JANUARY


def test_expire_killed_at_any_call_is_completed(project: Project) -> None:
    for ended in project.strikes("february", EXPIRE, 14, Mode.KILL, CHANGES):
        project.readers_see(FEBRUARY)
        again = project.command(*EXPIRE)
        assert again.code == 0, f"{ended}\nthen {again}"
        project.check_february(dead_lease=True)
        assert not [path for path in project.case.target.rglob("*") if JANUARY in path.name], str(ended)


@pytest.mark.parametrize(("error", "rounds"), [(errno.EIO, 50), (errno.ENOSPC, 12)], ids=["EIO", "ENOSPC"])
def test_failed_call_of_run_loses_nothing(project: Project, error: int, rounds: int) -> None:
    calls = EVERY if error == errno.EIO else CHANGES
    for ended in project.strikes("january", RUN, rounds, Mode.FAIL, calls, error):
        ended.check_words()
        project.readers_see(*((JANUARY, FEBRUARY) if ended.code else (FEBRUARY,)))
        again = project.command(*RUN)
        assert again.code == 0, f"{ended}\nthen {again}"
        project.check_february()


def test_run_on_full_disk_loses_nothing(project: Project) -> None:
    writes = Calls.WRITE | Calls.SYNC
    for ended in project.strikes("january", RUN, 10, Mode.FAIL_ON, writes, errno.ENOSPC):
        ended.check_words()
        project.readers_see(*((JANUARY, FEBRUARY) if ended.code else (FEBRUARY,)))
        again = project.command(*RUN)
        assert again.code == 0, f"{ended}\nthen {again}"
        project.check_february()


def test_short_writes_leave_complete_files(project: Project) -> None:
    for ended in project.strikes("january", RUN, 8, Mode.SHORT, Calls.WRITE):
        ended.check_words()
        if ended.code:
            assert project.command(*RUN).code == 0, str(ended)
        project.check_february()


def test_failed_flush_fails_run_and_publishes_nothing(project: Project) -> None:
    project.restore("january")
    kinds = []
    for ended in project.strikes("january", RUN, 12, Mode.FAIL, Calls.SYNC):
        kinds.append(ended.record.call)
        # Only a record of the end, which no reader of the tables needs, may be lost with a warning.
        assert ended.code == 1 or "warning: the summary was not written" in ended.stderr, str(ended)
        ended.check_words()
        # Each of the two publishing stages restores its own tables.
        project.readers_see(JANUARY, FEBRUARY)
    assert kinds


def test_disk_that_lost_the_data_publishes_nothing(project: Project) -> None:
    project.restore("january")
    place = next(
        ended.record.struck
        for ended in (at_sync(project, number) for number in range(1, 400))
        if ended.record.call == "syncfs"
    )
    ended = at_sync(project, place)
    assert ended.code == 1, str(ended)
    assert f"error: {project.case.target}: cannot flush to disk: [Errno 5] Input/output error" in ended.stderr
    project.readers_see(JANUARY)
    assert project.case.snapshot_dt() == JANUARY


def at_sync(project: Project, place: int) -> Ended:
    project.restore("january")
    return project.command(*RUN, fault=Fault(place, Mode.FAIL, Calls.SYNC))


@pytest.mark.parametrize(
    "words",
    [("rollback", "--previous", DATASET), ("expire", DATASET, "--keep", "1", "--yes")],
    ids=lambda words: words[0],
)
def test_failed_call_of_other_commands_loses_nothing(project: Project, words: Sequence[str]) -> None:
    dates = (JANUARY, FEBRUARY) if words[0] == "rollback" else (FEBRUARY,)
    for ended in project.strikes("february", words, 16, Mode.FAIL, EVERY):
        ended.check_words()
        project.readers_see(*dates)
        again = words if words[0] == "expire" else ("rollback", project.case.run_ids()[0])
        assert project.command(*again).code == 0, str(ended)
        project.readers_see(dates[0])


@pytest.mark.parametrize(
    "words",
    [
        ("tables",),
        ("runs",),
        ("show", "last"),
        ("report", "last", "--to", "report.html"),
        ("verify", "last"),
        ("plan", DATASET),
        ("config",),
        ("doctor",),
    ],
    ids=lambda words: words[0],
)
def test_failed_call_of_reading_command_ends_in_words(project: Project, words: Sequence[str]) -> None:
    for ended in project.strikes("february", words, 6, Mode.FAIL, EVERY):
        assert "Traceback" not in ended.stderr, str(ended)
        assert ended.code in (0, 1, 2, 3, 4), str(ended)
    project.readers_see(FEBRUARY)


def test_interrupt_at_any_call_ends_in_words(project: Project) -> None:
    for ended in project.strikes("january", RUN, 14, Mode.INTERRUPT, EVERY):
        assert "Traceback" not in ended.stderr, str(ended)
        # The last calls come after the work.
        assert ended.code in (0, 130), str(ended)
        assert ended.code == 0 or "interrupted" in ended.stderr, str(ended)
        project.readers_see(JANUARY, FEBRUARY)
        again = project.command(*RUN)
        assert again.code == 0, f"{ended}\nthen {again}"
        project.check_february()
