"""Kill, pause and restart containers in the middle of a run on a cluster with its data in S3."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
from container_jobs import WIDE, Running, Site, running, site
from container_support import Cluster, Service, s3_server, spark_cluster
from testcontainers.core.network import Network

from bucketwheel.runs.manifest import Manifest
from bucketwheel.sample import Sample, SampleSpec, write_sample
from run_output import FaultScene

pytestmark = pytest.mark.docker

# A file is a task of scatter, so that there are several for each worker.
ROWS = 24_000
SAMPLE = SampleSpec(rows=ROWS, tables=3, columns=6, files=12, row_group_rows=ROWS // 12)
BUCKETS = 16
SETTINGS = {"buckets": {"count": BUCKETS}, "lease": {"ttl_seconds": 6}}
# Detect a paused container after seconds instead of two minutes.
SPARK = {
    "spark.cores.max": "2",
    # No run begins with one worker only.
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    "spark.executor.memory": "700m",
    "spark.network.timeout": "8s",
    "spark.network.timeoutInterval": "1s",
    "spark.executor.heartbeatInterval": "1s",
    "spark.shuffle.io.maxRetries": "1",
    "spark.shuffle.io.retryWait": "1s",
}
RETRIED = r"spark stage \d+.*: \d+ tasks? failed and were retried: "
# Tasks that run while paused take less.
ZOMBIE_SECONDS = 4


_NUMBERS = count()


def on_cluster(job_site: Site, cluster: Cluster, target: str, *arguments: str) -> AbstractContextManager[Running]:
    """Start a run on the cluster, with a target and a database of this name."""
    conf = [word for name, value in SPARK.items() for word in ("--conf", f"{name}={value}")]
    where = ("--DATASET", WIDE, "--TARGET_PATH", f"s3://{job_site.bucket}/{target}", "--DATABASE", target)
    return running(job_site.job(*where, *arguments, spark=("--master", cluster.master, *conf)))


def files(job_site: Site, target: str) -> list[str]:
    return [key for key in job_site.objects(target) if key.endswith(".parquet")]


@dataclass(frozen=True)
class Scene(FaultScene):
    """A run on a cluster of containers, and the files that the arrow engine wrote from the same input."""

    site: Site
    cluster: Cluster
    expected: dict[str, str]
    target: str

    def run(self, *arguments: str) -> AbstractContextManager[Running]:
        """Start the run."""
        return on_cluster(self.site, self.cluster, self.target, *arguments)

    def files(self) -> list[str]:
        """Return the keys of the data files that the run has written so far."""
        return files(self.site, self.target)

    def gathered(self, run: Running, number: int) -> None:
        """Wait until the run has written this many files."""
        run.until(lambda: len(self.files()) >= number, f"{number} files")

    def manifest(self) -> Manifest:
        """See `FaultScene`."""
        return Manifest.model_validate(self.site.manifest(self.target))

    def hashes(self) -> dict[str, str]:
        """See `FaultScene`."""
        return self.site.digests(self.target)

    def expected_hashes(self) -> dict[str, str]:
        """See `FaultScene`."""
        return self.expected

    def unexpected(self) -> list[str]:
        """See `FaultScene`."""
        return self.site.strays(self.target)

    def tables(self) -> Mapping[str, Mapping[str, Any]]:
        """Return Glue's definitions of the tables that the run published."""
        return self.site.tables(self.target)

    def check_tables(self) -> None:
        """Check that every table is in the catalog, with all of its files at its location."""
        names = {name.split("/")[1] for name in self.expected}
        assert names
        tables = self.tables()
        assert sorted(tables) == sorted(f"{prefix}{name}" for prefix in ("bucketed_", "ext_") for name in names)
        for name, table in tables.items():
            location = table["StorageDescriptor"]["Location"].partition(f"/{self.target}/")[2].rstrip("/")
            assert len([key for key in self.files() if key.startswith(f"{location}/")]) == BUCKETS, name

    def warnings(self) -> str:
        """Return the warnings of the engine as lines."""
        return "\n".join(self.engine_warnings())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return write_sample(tmp_path_factory.mktemp("sample"), SAMPLE)


@pytest.fixture(scope="module")
def own_cluster(glue_image: str, network: Network) -> Iterator[Cluster]:
    """A cluster whose workers a test may kill."""
    with spark_cluster(glue_image, network, "faults") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def whole(
    localstack: Service, moto: Service, network: Network, glue_image: str, own_cluster: Cluster, sample: Sample
) -> Iterator[Scene]:
    with site("faults", localstack, moto, glue_image, network, sample, **SETTINGS) as job_site:
        where = ("--DATASET", WIDE, "--TARGET_PATH", "s3://faults/expected", "--DATABASE", "expected")
        # A job on Glue refuses the arrow engine.
        job_site.run(*where, "--settings", '{"engine": "arrow"}', BUCKETWHEEL_RUNTIME="container")
        yield Scene(job_site, own_cluster, job_site.digests("expected"), "expected")


@pytest.fixture
def scene(whole: Scene) -> Scene:
    """A scene with a healthy cluster and a new target."""
    whole.cluster.heal()
    assert len(whole.expected) == 3 * BUCKETS
    return replace(whole, target=f"run{next(_NUMBERS)}")


def test_run_recovers_from_worker_killed_in_scatter(scene: Scene) -> None:
    with scene.run() as run:
        # Both workers have a task now. Spark repeats the work of an idle worker without a failed task.
        run.logs(r"Starting task 1\.0 in stage 0\.")
        assert scene.files() == []
        scene.cluster.workers[0].get_wrapped_container().kill()
        run.finished().check()
    assert re.search(f"{RETRIED}(ExecutorLost|FetchFailed)", scene.warnings())
    scene.check()


def test_run_recovers_from_worker_killed_in_gather(scene: Scene) -> None:
    with scene.run() as run:
        scene.gathered(run, 6)
        scene.cluster.workers[1].get_wrapped_container().kill()
        run.finished().check()
    assert re.search(f"{RETRIED}(ExecutorLost|FetchFailed)", scene.warnings())
    scene.check()


def test_worker_that_resumes_after_publication_changes_nothing(scene: Scene) -> None:
    with scene.run() as run:
        scene.gathered(run, 6)
        paused = scene.cluster.workers[0].get_wrapped_container()
        paused.pause()
        run.finished().check()
    assert "heartbeat" in scene.warnings()
    scene.check()
    paused.unpause()
    time.sleep(ZOMBIE_SECONDS)
    scene.check()


def test_second_driver_takes_over_after_first_is_killed(scene: Scene) -> None:
    with scene.run() as run:
        scene.gathered(run, 6)
        run.container.get_wrapped_container().kill()
    interrupted = scene.manifest()
    assert interrupted.status == "running"
    assert scene.tables() == {}
    scene.site.leases_end(scene.target)
    with scene.run("--resume", "last") as run:
        run.finished().check()
    assert scene.manifest().run_id == interrupted.run_id
    scene.check()


def test_s3_that_loses_all_objects_fails_run_unpublished(
    scene: Scene, image: Callable[[str], str], moto: Service, network: Network, glue_image: str, sample: Sample
) -> None:
    with (
        s3_server(image("LOCALSTACK_IMAGE"), network, "forgetful") as s3,
        site("forgetful", s3, moto, glue_image, network, sample, **SETTINGS) as job_site,
        on_cluster(job_site, scene.cluster, "out", "--settings", '{"storage.attempts": 3}') as run,
    ):
        run.until(lambda: len(files(job_site, "out")) >= 6, "6 files")
        s3.container.get_wrapped_container().restart(timeout=0)
        done = run.finished()
        assert done.exit_code == 1
        said = done.stdout + done.stderr
        assert re.search("JobFailedError: .*(the bucket 'forgetful' does not exist|cannot be reached)", said)
        assert job_site.tables("out") == {}


def test_executor_out_of_memory_is_retried_or_fails_with_advice(
    scene: Scene, network: Network, glue_image: str
) -> None:
    since = int(time.time())
    with spark_cluster(glue_image, network, "starved", starved="420m") as cluster:
        with replace(scene, cluster=cluster).run() as run:
            done = run.finished(500)
        worker = cluster.workers[0].get_wrapped_container()
        # The container keeps running: it is Spark's worker, and the killed process is the executor that it started.
        killed = worker.client.events(
            since=since, until=int(time.time()) + 1, filters={"event": "oom", "container": worker.id}, decode=True
        )
        assert list(killed)
    assert "code 137" in done.stdout + done.stderr
    if done.exit_code:
        # The same task may have been killed each time.
        assert re.search("JobFailedError: .*spark.executor.memoryOverhead", done.stdout + done.stderr)
        assert scene.tables() == {}
        return
    assert re.search(f"{RETRIED}.*code 137.*spark.executor.memoryOverhead", scene.warnings())
    scene.check()
