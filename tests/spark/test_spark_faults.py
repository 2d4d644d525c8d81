"""Workers, executors and Python processes that die during a run on a cluster."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Callable, Iterator

import pytest
from spark_cluster import send
from spark_scene import Scene

from bucketwheel.sample import Sample
from project import WIDE

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.crash, pytest.mark.xdist_group("cluster")]

RETRIED = r"spark stage \d+.*: \d+ tasks? failed and were retried: "


def test_run_on_two_workers_writes_same_bytes(scene: Scene) -> None:
    scene.begin()
    answer = scene.finished()
    assert scene.warnings(answer) == ""
    assert all(worker.executors() for worker in scene.cluster)
    stages = scene.manifest().stages
    shuffled, read = stages["bucket"].result["shuffled_bytes"], stages["size"].result["bytes_to_read"]
    assert 0 < shuffled <= 1.3 * read


@pytest.mark.parametrize("seed", range(2))
def test_run_recovers_from_worker_killed_in_scatter(scene: Scene, seed: int) -> None:
    victim = scene.cluster.workers[seed % 2]
    scene.begin()
    scene.scattered(victim, random.Random(seed).randint(1, 2))
    scene.catch(victim)
    scene.cluster.remove(victim)
    answer = scene.finished()
    assert re.search(f"{RETRIED}(ExecutorLost|FetchFailed)", scene.warnings(answer))


@pytest.mark.parametrize("seed", range(2, 4))
def test_run_recovers_from_worker_killed_in_gather(scene: Scene, seed: int) -> None:
    victim = scene.cluster.workers[seed % 2]
    scene.begin()
    scene.gathered(random.Random(seed).randint(1, 60))
    scene.catch(victim)
    scene.cluster.remove(victim)
    answer = scene.finished()
    assert re.search(f"{RETRIED}(ExecutorLost|FetchFailed)", scene.warnings(answer))


@pytest.mark.parametrize(("seed", "phase"), [(4, "scatter"), (5, "gather")])
def test_run_recovers_from_killed_python_worker(scene: Scene, seed: int, phase: str) -> None:
    victim = scene.cluster.workers[seed % 2]
    scene.begin()
    scene.scattered(victim, 1) if phase == "scatter" else scene.gathered(random.Random(seed).randint(1, 60))
    scene.catch(victim)
    send(signal.SIGKILL, victim.python_workers())
    answer = scene.finished()
    assert re.search(f"{RETRIED}.*(exited unexpectedly|Connection reset|Broken pipe)", scene.warnings(answer))


def test_run_recovers_from_killed_python_of_an_executor(scene: Scene) -> None:
    victim = scene.cluster.workers[0]
    scene.begin()
    scene.gathered(10)
    scene.catch(victim)
    send(signal.SIGKILL, victim.pythons())
    answer = scene.finished()
    assert re.search(f"{RETRIED}.*(exited unexpectedly|Connection reset|Broken pipe)", scene.warnings(answer))


@pytest.mark.parametrize("phase", ["scatter", "gather"])
def test_run_recovers_from_executor_killed_for_memory(scene: Scene, phase: str) -> None:
    victim = scene.cluster.workers[1]
    scene.begin()
    scene.scattered(victim, 1) if phase == "scatter" else scene.gathered(20)
    scene.catch(victim)
    send(signal.SIGKILL, victim.executors())
    answer = scene.finished()
    warnings = scene.warnings(answer)
    assert re.search(f"{RETRIED}.*code 137.*spark.executor.memoryOverhead", warnings)


def test_corrupt_page_error_matches_arrow_engine(scene: Scene, dirty: Callable[..., Sample]) -> None:
    scene.project.use(dirty("corrupt_page"))
    scene.begin()
    answer = scene.refused()
    text = scene.manifest().error or ""
    assert answer.error.startswith(f"JobFailedError: UnreadableFilesError: {text}\n")
    reasons = scene.reasons(answer)
    assert re.search(f"{RETRIED}UnreadableFilesError: {re.escape(text)}", reasons)
    arrow = scene.project.cli("run", WIDE, "--resume", "last", "--engine", "arrow")
    assert arrow.exit_code == 3
    assert f"error: {text}\n" in arrow.stderr
    assert "row group" in text


def test_python_out_of_memory_fails_run_with_advice(scene: Scene) -> None:
    scene.begin(settings={"spark.executor.pyspark.memory": "300m"})
    answer = scene.refused()
    assert re.search("spark: a Python worker failed: .*Memory.*spark.executor.pyspark.memory", answer.error)
    assert re.search(f"{RETRIED}.*Memory.*spark.executor.pyspark.memory", scene.reasons(answer))
    done = scene.project.cli("run", WIDE, "--resume", "last", "--engine", "arrow")
    assert done.exit_code == 0, done.stderr
    scene.check()


SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "50ms",
    "spark.speculation.minTaskRuntime": "50ms",
    "spark.speculation.multiplier": "1.1",
    "spark.speculation.quantile": "0.1",
}


@pytest.fixture
def apart(scene: Scene) -> Iterator[Scene]:
    """A cluster whose workers Spark treats as two machines: it speculates only on another machine."""
    scene.cluster.remove(scene.cluster.workers[1])
    other = scene.cluster.worker("localhost")
    other.ready()
    yield scene
    scene.cluster.remove(other)


@pytest.mark.parametrize("seed", range(2))
def test_speculative_tasks_write_same_bytes(apart: Scene, seed: int, slowed: Callable[..., None]) -> None:
    scene = apart
    slowed(scene.cluster.workers[seed % 2])
    scene.begin(settings=SPECULATION)
    scene.finished()
    said = scene.said()
    # Only what runs twice at once is killed because the other has succeeded.
    assert re.search(r"Starting task \d+\.1 in stage", said)
    assert re.search(r"Killing attempt \d+ for task \d+\.\d+ in stage .* succeeded", said)
