"""Workers that pause until others have done their work, then resume."""

from __future__ import annotations

import random
import signal
import time

import psutil
import pytest
from spark_cluster import DAEMON, EXECUTOR, named, send
from spark_scene import Scene

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.crash, pytest.mark.xdist_group("cluster")]

# A task that was at work when it was stopped takes less.
ZOMBIE_SECONDS = 3


def wake(stopped: list[psutil.Process]) -> None:
    """Resume a paused executor and its Python processes, and later the worker, which would end them."""
    executor = [*named(stopped, EXECUTOR), *named(stopped, DAEMON)]
    assert len(executor) >= 3
    send(signal.SIGCONT, executor)
    time.sleep(ZOMBIE_SECONDS)
    send(signal.SIGCONT, stopped)


@pytest.mark.parametrize(("seed", "phase"), [(0, "scatter"), (1, "gather")])
def test_worker_resumed_during_task_retry_changes_nothing(scene: Scene, seed: int, phase: str) -> None:
    victim = scene.cluster.workers[seed % 2]
    scene.begin()
    scene.scattered(victim, 1) if phase == "scatter" else scene.gathered(random.Random(seed).randint(1, 60))
    stopped = scene.pause(victim)
    scene.retried()
    send(signal.SIGCONT, stopped)
    answer = scene.finished()
    assert "heartbeat" in scene.warnings(answer)


@pytest.mark.parametrize("seed", range(2, 4))
def test_worker_resumed_after_publication_changes_nothing(scene: Scene, seed: int) -> None:
    victim = scene.cluster.workers[seed % 2]
    scene.begin()
    scene.gathered(random.Random(seed).randint(1, 60))
    stopped = scene.pause(victim)
    answer = scene.finished()
    assert "heartbeat" in scene.warnings(answer)
    wake(stopped)
    scene.check()
