"""Run commands in threads, exactly one at a time, and choose by a seed who makes the next step."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Fault = Literal["", "lost", "repeated", "throttled"]

LEASE_SECONDS = 600
_START = datetime(2025, 4, 1, 12, tzinfo=UTC)
_STEP_SECONDS = 0.05
_LATER_SECONDS = (1.0, LEASE_SECONDS * 1.1, LEASE_SECONDS * 1.1, 30 * 3600.0)
_LAST_PAUSE = 90
_MAX_STEPS = 20_000


class Killed(BaseException):
    """Ends the thread of a killed command: its process is gone."""


class Violation(AssertionError):  # noqa: N818
    """An invariant does not hold."""


@dataclass(frozen=True)
class Style:
    """How a schedule disturbs its commands: probabilities per step.

    Attributes:
        switch: another command continues.
        pauses: number of times that each command is suspended, at random steps; each time another continues.
        later: the clock advances far after such a switch.
        fault: the call is throttled, or its response is lost.
        kill: the command is killed.
    """

    switch: float = 0.0
    pauses: int = 0
    later: float = 0.5
    fault: float = 0.0
    kill: float = 0.0


@dataclass(eq=False)
class Actor:
    """A command and its thread.

    `suspend_before` suspends it once, for longer than its lease, before the first call whose text contains this.
    """

    name: str
    command: Callable[[], Any]
    suspend_before: str = ""
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    killed: bool = False
    done: bool = False
    result: Any = None
    error: BaseException | None = None
    epoch: int = 0
    steps: int = 0
    pauses: set[int] = field(default_factory=set)


class Scheduler:
    """The clock, the actors and the choices of one schedule."""

    def __init__(self, seed: int, style: Style) -> None:
        self.random = random.Random(seed)
        self.style = style
        self.actors: list[Actor] = []
        self.words: list[str] = []
        self.time = _START
        self.violation: BaseException | None = None
        self._steps = 0
        self._ids = 0
        self._ended = threading.Semaphore(0)

    def now(self) -> datetime:
        """Return the simulated time."""
        return self.time

    def new_id(self) -> str:
        """Return an id that only the seed determines."""
        self._ids += 1
        return f"{self.random.getrandbits(112):028x}{self._ids:04x}"

    def say(self, text: str) -> None:
        """Add a line to the schedule in words."""
        self.words.append(f"{self._steps:5d} {self.time:%d %H:%M:%S} {text}")

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.time += timedelta(seconds=seconds)

    def run(self, actors: list[Actor], context: Callable[[Actor], Any]) -> None:
        """Run the commands until all have ended; `context` returns the block in which a command runs.

        Raises:
            Violation: an invariant does not hold.
        """
        self.actors = actors
        for actor in actors:
            actor.pauses = {self.random.randrange(_LAST_PAUSE) for _ in range(self.style.pauses)}
        threads = [threading.Thread(target=self._act, args=(actor, context), daemon=True) for actor in actors]
        for thread in threads:
            thread.start()
        self._first().turn.release()
        self._ended.acquire()
        for thread in threads:
            thread.join()
        if self.violation is not None:
            raise self.violation

    def step(self, actor: Actor, call: str) -> Fault:
        """Let the scheduler act before a call; return the fault that the call suffers.

        Raises:
            Killed: the command is dead.
        """
        if actor.killed or self.violation is not None:
            raise Killed
        self._steps += 1
        actor.steps += 1
        self.advance(_STEP_SECONDS)
        if self._steps > _MAX_STEPS:
            self.fail(Violation(f"{actor.name} does not end"))
            raise Killed
        if actor.suspend_before and actor.suspend_before in call:
            actor.suspend_before = ""
            self._switch(actor, call, LEASE_SECONDS * 1.1)
        style, chance = self.style, self.random.random()
        if chance < style.kill:
            self.kill(actor, f"before {call}")
        if chance < style.kill + style.switch or actor.steps in actor.pauses:
            self._switch(actor, call)
        if style.fault and self.random.random() < style.fault:
            return self.random.choice(("lost", "repeated", "throttled"))
        return ""

    def kill(self, actor: Actor, when: str) -> None:
        """Kill the command."""
        self.say(f"{actor.name} is killed {when}")
        actor.killed = True
        raise Killed

    def sleep(self, actor: Actor, seconds: float) -> None:
        """Wait in simulated time."""
        self.step(actor, "waiting")
        self.advance(seconds)

    def fail(self, error: BaseException) -> None:
        """Record a violation; every command ends at its next step."""
        self.violation = self.violation or error

    def _switch(self, actor: Actor, call: str, seconds: float = 0) -> None:
        others = [each for each in self.actors if not each.done and each is not actor]
        if not others:
            return
        following = self.random.choice(others)
        actor.pauses = {each for each in actor.pauses if each > actor.steps}
        if not seconds and self.random.random() < self.style.later:
            seconds = self.random.choice(_LATER_SECONDS)
        self.advance(seconds)
        text = f" for {seconds:g} s" if seconds else ""
        self.say(f"{actor.name} is suspended{text} before {call}; {following.name} continues")
        following.turn.release()
        actor.turn.acquire()
        if self.violation is not None:
            raise Killed

    def _first(self) -> Actor:
        directed = [actor for actor in self.actors if actor.suspend_before]
        return directed[0] if directed else self._next()

    def _next(self) -> Actor:
        return self.random.choice([actor for actor in self.actors if not actor.done])

    def _act(self, actor: Actor, context: Callable[[Actor], Any]) -> None:
        actor.turn.acquire()
        try:
            if self.violation is None:
                with context(actor):
                    actor.result = actor.command()
        except Killed:
            pass
        except Violation as violation:
            self.fail(violation)
        except BaseException as error:  # noqa: BLE001 the invariants judge how a command ends
            actor.error = error
        finally:
            actor.done = True
            self.say(f"{actor.name} {_ending(actor)}")
            if all(each.done for each in self.actors):
                self._ended.release()
            else:
                self._next().turn.release()


def _ending(actor: Actor) -> str:
    if actor.killed:
        return "is dead"
    if actor.error is not None:
        return f"fails with {type(actor.error).__name__}: {actor.error}"
    return "succeeds"


class SimulatedClock:
    """The clock of one actor."""

    def __init__(self, scheduler: Scheduler, actor: Actor) -> None:
        self._scheduler = scheduler
        self._actor = actor

    def now(self) -> datetime:
        """See `system.Clock.now`."""
        return self._scheduler.time

    def monotonic(self) -> float:
        """See `system.Clock.monotonic`."""
        return (self._scheduler.time - _START).total_seconds()

    def sleep(self, seconds: float) -> None:
        """See `system.Clock.sleep`."""
        self._scheduler.sleep(self._actor, seconds)


class Inline(Executor):
    """An executor that runs the work in the thread that submits it."""

    def __init__(self, _threads: int = 1) -> None:
        self._broken = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `Executor.submit`."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 the future keeps it
            future.set_exception(error)
        return future
