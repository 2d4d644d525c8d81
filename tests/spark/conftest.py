from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from spark_cluster import Cluster, Worker, send
from spark_scene import Scene, Server

from bucketwheel.sample import Sample, SampleSpec, write_sample
from project import Project

# Sixteen row groups, so that scatter has several tasks for each worker.
ROWS = 120_000
_SPEC = SampleSpec(rows=ROWS, tables=4, columns=8, files=8, row_group_rows=ROWS // 16)
_BUCKETS = 32


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and two workers."""
    new_cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        new_cluster.start()
        yield new_cluster
    finally:
        new_cluster.end()


@pytest.fixture(scope="session")
def server(cluster: Cluster) -> Iterator[Server]:
    """A driver that executes the orders of tests."""
    new_server = Server(cluster, cluster.root / "server")
    yield new_server
    new_server.driver.end()


@pytest.fixture(scope="session")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A sample that takes two cores some seconds."""
    return write_sample(tmp_path_factory.mktemp("larger"), _SPEC)


@pytest.fixture(scope="session")
def by_arrow(tmp_path_factory: pytest.TempPathFactory, larger: Sample) -> Project:
    """Digests of the files that the arrow engine writes."""
    project = Project(tmp_path_factory.mktemp("by-arrow") / "p", larger)
    project.set(buckets={"count": _BUCKETS})
    project.run()
    return project


@pytest.fixture
def scene(
    java: None, request: pytest.FixtureRequest, by_arrow: Project, larger: Sample, tmp_path: Path
) -> Iterator[Scene]:
    """A project for runs on the cluster."""
    # Not before it is known that there is a Java.
    cluster: Cluster = request.getfixturevalue("cluster")
    server: Server = request.getfixturevalue("server")
    cluster.heal()
    server.await_executors(cluster)
    project = Project(tmp_path / "p", larger)
    project.set(buckets={"count": _BUCKETS}, engine="spark")
    yield Scene(cluster, server, project, by_arrow, ROWS)
    cluster.heal()
    shutil.rmtree(project.root)


@pytest.fixture
def slowed() -> Iterator[Callable[[Worker], None]]:
    """Let the Python processes of a worker run only a fifth of the time."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def run(worker: Worker) -> None:
        while not over.is_set():
            stopped = worker.python_workers()
            send(signal.SIGSTOP, stopped)
            over.wait(0.4)
            send(signal.SIGCONT, stopped)
            over.wait(0.1)

    def slow(worker: Worker) -> None:
        threads.append(threading.Thread(target=run, args=(worker,)))
        threads[-1].start()

    yield slow
    over.set()
    for thread in threads:
        thread.join()
