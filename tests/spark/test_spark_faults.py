"""Workers, executors and Python processes that die in the middle of a run on a cluster."""

from __future__ import annotations

import random
import re
import signal

import pytest

from spark_cluster import DAEMON, named, send
from spark_scene import Scene

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.crash, pytest.mark.xdist_group("cluster")]


def test_an_undisturbed_run_on_two_workers_writes_the_same_bytes(scene: Scene) -> None:
    scene.begin()
    answer = scene.finished()
    assert scene.warnings(answer) == ""
    assert all(worker.executors() for worker in scene.cluster)


@pytest.mark.parametrize("seed", range(2))
def test_a_worker_killed_in_scatter_is_made_up_for(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    victim = scene.cluster.workers[seed % 2]
    scene.begin()
    scene.scattered(victim, chance.randint(1, 2))
    scene.cluster.remove(victim)
    answer = scene.finished()
    assert "spark" in scene.warnings(answer)


@pytest.mark.parametrize("seed", range(2))
def test_a_worker_killed_in_gather_is_made_up_for(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    victim = scene.cluster.workers[seed % 2]
    scene.begin()
    scene.gathered(chance.randint(1, 60))
    scene.cluster.remove(victim)
    answer = scene.finished()
    assert "spark" in scene.warnings(answer)


@pytest.mark.parametrize(("seed", "phase"), [(0, "scatter"), (1, "gather")])
def test_a_python_worker_killed_is_made_up_for(scene: Scene, seed: int, phase: str) -> None:
    victim = scene.cluster.workers[seed % 2]
    scene.begin()
    scene.scattered(victim, 1) if phase == "scatter" else scene.gathered(5)
    send(signal.SIGKILL, victim.python_workers())
    answer = scene.finished()
    assert re.search("Python worker exited unexpectedly|Connection reset", scene.warnings(answer))
