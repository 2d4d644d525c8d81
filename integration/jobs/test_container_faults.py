"""Kill, pause and restart containers in the middle of a run on a cluster with its data in S3."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
from container_jobs import WIDE, Running, Site, running, site
from container_support import Cluster, Service, s3_server, spark_cluster
from testcontainers.core.network import Network

from bucketwheel.sample import Sample, SampleSpec, write_sample

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


def on_cluster(made: Site, cluster: Cluster, target: str, *arguments: str) -> AbstractContextManager[Running]:
    """A run on the cluster that writes and publishes under a name."""
    conf = [word for name, value in SPARK.items() for word in ("--conf", f"{name}={value}")]
    where = ("--DATASET", WIDE, "--TARGET_PATH", f"s3://{made.bucket}/{target}", "--DATABASE", target)
    return running(made.job(*where, *arguments, spark=("--master", cluster.master, *conf)))


def files(made: Site, target: str) -> list[str]:
    return [key for key in made.objects(target) if key.endswith(".parquet")]


@dataclass(frozen=True)
class Scene:
    """A site, a cluster for its jobs, and the files that the arrow engine wrote from the same input."""

    site: Site
    cluster: Cluster
    expected: dict[str, str]

    def run(self, target: str, *arguments: str) -> AbstractContextManager[Running]:
        return on_cluster(self.site, self.cluster, target, *arguments)

    def gathered(self, run: Running, target: str, count: int) -> None:
        """Wait until the target has this many files."""
        run.until(lambda: len(files(self.site, target)) >= count, f"{count} files")

    def check(self, target: str) -> None:
        """Check that the run published exactly the expected files and tables."""
        assert self.site.manifest(target)["status"] == "finished"
        assert self.site.digests(target) == self.expected
        assert self.site.strays(target) == []
        names = {name.split("/")[1] for name in self.expected}
        assert names
        tables = self.site.tables(target)
        assert sorted(tables) == sorted(f"{prefix}{name}" for prefix in ("bucketed_", "ext_") for name in names)
        for name, table in tables.items():
            place = table["StorageDescriptor"]["Location"].partition(f"/{target}/")[2].rstrip("/")
            assert len([key for key in self.site.objects(target) if key.startswith(f"{place}/")]) == BUCKETS, name

    def warnings(self, target: str) -> str:
        return "\n".join(self.site.manifest(target)["stages"]["bucket"]["result"]["warnings"])


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return write_sample(tmp_path_factory.mktemp("sample"), SAMPLE)


@pytest.fixture(scope="module")
def own_cluster(glue_image: str, network: Network) -> Iterator[Cluster]:
    """A cluster whose workers a test may kill."""
    with spark_cluster(glue_image, network, "faults") as made:
        yield made


@pytest.fixture(scope="module")
def whole(
    localstack: Service, moto: Service, network: Network, glue_image: str, own_cluster: Cluster, sample: Sample
) -> Iterator[Scene]:
    with site("faults", localstack, moto, glue_image, network, sample, **SETTINGS) as made:
        where = ("--DATASET", WIDE, "--TARGET_PATH", "s3://faults/expected", "--DATABASE", "expected")
        made.run(*where, "--settings", '{"engine": "arrow"}')
        yield Scene(made, own_cluster, made.digests("expected"))


@pytest.fixture
def scene(whole: Scene) -> Scene:
    """A scene with a healthy cluster."""
    whole.cluster.heal()
    assert len(whole.expected) == 3 * BUCKETS
    return whole


def test_run_recovers_from_worker_killed_in_scatter(scene: Scene) -> None:
    with scene.run("scatter") as run:
        run.logs(r"Finished task \d+\.\d+ in stage 0\.")
        assert files(scene.site, "scatter") == []
        scene.cluster.workers[0].get_wrapped_container().kill()
        run.finished().check()
    assert re.search(f"{RETRIED}(ExecutorLost|FetchFailed)", scene.warnings("scatter"))
    scene.check("scatter")


def test_run_recovers_from_worker_killed_in_gather(scene: Scene) -> None:
    with scene.run("gather") as run:
        scene.gathered(run, "gather", 6)
        scene.cluster.workers[1].get_wrapped_container().kill()
        run.finished().check()
    assert re.search(f"{RETRIED}(ExecutorLost|FetchFailed)", scene.warnings("gather"))
    scene.check("gather")


def test_worker_that_resumes_after_publication_changes_nothing(scene: Scene) -> None:
    with scene.run("paused") as run:
        scene.gathered(run, "paused", 6)
        paused = scene.cluster.workers[0].get_wrapped_container()
        paused.pause()
        run.finished().check()
    assert "heartbeat" in scene.warnings("paused")
    scene.check("paused")
    paused.unpause()
    time.sleep(ZOMBIE_SECONDS)
    scene.check("paused")


def test_second_driver_takes_over_after_first_is_killed(scene: Scene) -> None:
    with scene.run("resumed") as run:
        scene.gathered(run, "resumed", 6)
        run.container.get_wrapped_container().kill()
    begun = scene.site.manifest("resumed")
    assert begun["status"] == "running"
    assert scene.site.tables("resumed") == {}
    scene.site.leases_end("resumed")
    with scene.run("resumed", "--resume", "last") as run:
        run.finished().check()
    assert scene.site.manifest("resumed")["run_id"] == begun["run_id"]
    scene.check("resumed")


def test_s3_that_loses_all_objects_fails_run_unpublished(
    scene: Scene, image: Callable[[str], str], moto: Service, network: Network, glue_image: str, sample: Sample
) -> None:
    with (
        s3_server(image("LOCALSTACK_IMAGE"), network, "forgetful") as s3,
        site("forgetful", s3, moto, glue_image, network, sample, **SETTINGS) as made,
        on_cluster(made, scene.cluster, "out", "--settings", '{"storage.attempts": 3}') as run,
    ):
        run.until(lambda: len(files(made, "out")) >= 6, "6 files")
        s3.container.get_wrapped_container().restart(timeout=0)
        done = run.finished()
        assert done.exit_code == 1
        said = done.stdout + done.stderr
        assert re.search("JobFailedError: .*(the bucket 'forgetful' does not exist|cannot be reached)", said)
        assert made.tables("out") == {}


def test_executor_out_of_memory_is_retried_or_fails_with_advice(
    scene: Scene, network: Network, glue_image: str
) -> None:
    since = int(time.time())
    with spark_cluster(glue_image, network, "starved", starved="420m") as cluster:
        with on_cluster(scene.site, cluster, "starved") as run:
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
        assert scene.site.tables("starved") == {}
        return
    assert re.search(f"{RETRIED}.*code 137.*spark.executor.memoryOverhead", scene.warnings("starved"))
    scene.check("starved")
