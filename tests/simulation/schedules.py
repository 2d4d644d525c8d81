"""Make a schedule from a seed, run it, and tell it in words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest import mock

from bucketwheel.errors import BucketwheelError, LeaseError
from bucketwheel.storage import s3_upload
from bucketwheel.system import system
from simulation import world as commands
from simulation.invariants import Judge
from simulation.scheduler import Actor, Killed, Scheduler, Style, Violation
from simulation.world import FEBRUARY, JANUARY, World, templates

_STYLES = (
    Style(switch=0.02),
    Style(switch=0.15, later=0.2),
    Style(pauses=1, later=0.8),
    Style(pauses=2, later=0.8),
    Style(pauses=3, later=0.6),
    Style(pauses=2, later=0.8, fault=0.02),
    Style(switch=0.05, kill=0.005),
    Style(pauses=2, fault=0.01, kill=0.005),
)
# Files have two parts in the simulation.
_PART = 512
_ATTEMPTS = 3
_PAUSE_SECONDS = 100
_QUIET_SECONDS = 72 * 3600.0


class FailedScheduleError(AssertionError):
    """A schedule that violates an invariant, in words."""


def simulate(seed: int, checked: bool = False, names: Sequence[str] = ()) -> int:
    """Run the schedule of a seed and return its number of steps; `names` are the commands, by default any.

    Raises:
        FailedScheduleError: an invariant does not hold, or the code has raised an unexpected error.
    """
    choice = Scheduler(seed, Style(switch=0))
    style = choice.random.choice(_STYLES)
    name = choice.random.choice(sorted(templates()))
    scheduler = Scheduler(seed, style)
    world = World(scheduler, templates()[name], checked)
    judge = Judge(world)
    actors = _actors(choice, world, judge, names)
    scheduler.say(f"{name}; {', '.join(actor.name for actor in actors)} begin")
    with mock.patch.object(s3_upload, "_PART", _PART):
        try:
            scheduler.run(actors, world.acting)
            _check(world, judge, actors)
        except Violation as violation:
            raise FailedScheduleError(_described(seed, scheduler, violation)) from None
    return len(scheduler.words)


def direct(start: str, first: tuple[str, Callable[[], Any]], suspend_before: str, second: Callable[[], Any]) -> None:
    """Run a command that is suspended for longer than its lease before a call, while a second command runs.

    Raises:
        FailedScheduleError: an invariant does not hold.
    """
    scheduler = Scheduler(0, Style())
    world = World(scheduler, templates()[start])
    judge = Judge(world)
    name, command = first
    actors = [Actor(name, command, suspend_before), Actor("second", second)]
    for actor in actors:
        actor.command = partial(_judged, actor, actor.command, judge)
    with mock.patch.object(s3_upload, "_PART", _PART):
        try:
            scheduler.run(actors, world.acting)
            if actors[0].suspend_before:
                raise Violation(f"{name} never came to: {suspend_before}")
            _check(world, judge, actors)
        except Violation as violation:
            raise FailedScheduleError(_described(0, scheduler, violation)) from None


def _actors(choice: Scheduler, world: World, judge: Judge, names: Sequence[str]) -> list[Actor]:
    publishing: list[tuple[str, Callable[[], Any]]] = [
        ("run", commands.run_new),
        ("rollback-january", partial(commands.roll_back, world.run_ids[JANUARY])),
        ("rollback-february", partial(commands.roll_back, world.run_ids[FEBRUARY])),
        ("expire-1", partial(commands.expire_all_but, 1)),
    ]
    all_kinds: list[tuple[str, Callable[[], Any]]] = [
        *publishing,
        ("run-january", partial(commands.run_at, JANUARY)),
        ("resume", commands.resume),
        ("publish", commands.publish),
        ("expire-2", partial(commands.expire_all_but, 2)),
        ("unmark", partial(commands.remove_mark, world.run_ids[FEBRUARY])),
    ]
    kinds = choice.random.choice((publishing, all_kinds))
    chosen = [choice.random.choice(kinds) for _ in range(choice.random.choice((2, 2, 3)))]
    if names:
        chosen = [(name, dict(all_kinds)[name]) for name in names]
    actors: list[Actor] = []
    for number, (name, command) in enumerate(chosen, 1):
        actor = Actor(f"{name}-{number}", command)
        actor.command = partial(_judged, actor, command, judge)
        actors.append(actor)
    return actors


def _judged(actor: Actor, command: Callable[[], Any], judge: Judge) -> Any:
    for left in reversed(range(_ATTEMPTS)):
        try:
            actor.result = command()
            break
        except LeaseError as error:
            if not left or "another run " not in str(error):
                raise
            # As a user or a scheduler would, try again later.
            system().clock.sleep(_PAUSE_SECONDS)
    judge.judge_success(actor)
    return actor.result


def _check(world: World, judge: Judge, actors: list[Actor]) -> None:
    for actor in actors:
        if actor.error is not None and not isinstance(actor.error, BucketwheelError):
            raise Violation(f"{actor.name} failed with an unexpected error: {actor.error!r}") from actor.error
    judge.check_rest(actors)
    # The lease of a killed command expires, and no query still reads.
    world.scheduler.advance(_QUIET_SECONDS)
    world.scheduler.say("all is quiet; a last expire begins")
    try:
        world.calmly(partial(commands.expire_all_but, 1), "last expire")
    except (BucketwheelError, Killed) as error:
        raise world.scheduler.violation or Violation(f"the last expire failed: {error}") from error
    if world.scheduler.violation is not None:
        raise world.scheduler.violation
    judge.check_nothing_left()


def _described(seed: int, scheduler: Scheduler, violation: Violation) -> str:
    words = "\n".join(scheduler.words)
    return (
        f"{violation}\n\nThe schedule of seed {seed} (step, day, time):\n{words}\n\n{violation}\n"
        f"Repeat it with: make simulate SEED={seed}"
    )


def quiet_log() -> None:
    """Turn off the log of the commands, which costs time and is of no use here."""
    logging.getLogger("bucketwheel").setLevel(logging.CRITICAL + 1)
