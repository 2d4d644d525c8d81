"""Runs on a cluster with input and target on S3: failing requests, killed workers and late writes."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from faults.proxy import FaultProxy, Request, healthy, seeded
from spark_cluster import KEYS, send, until
from spark_scene import Scene, shown

from aws_server import served
from bucketwheel.runs.manifest import Manifest
from bucketwheel.sample import Sample
from project import WIDE
from run_output import S3_LEASES, unexpected_files
from s3_support import Bucket

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.crash, pytest.mark.xdist_group("cluster")]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with served() as started:
        yield started


@pytest.fixture
def proxy(endpoint: str) -> Iterator[FaultProxy]:
    """The proxy between the cluster and the S3 server."""
    with FaultProxy(endpoint, serialize=True, delay_seconds=0.1) as started:
        yield started


@dataclass
class RemoteProject(Scene):
    """A project in a bucket."""

    bucket: Bucket | None = None

    @property
    def there(self) -> Bucket:
        assert self.bucket
        return self.bucket

    def names(self) -> list[str]:
        return [key for key in self.there.keys("out/") if key.endswith(".parquet")]

    def gathered(self, count: int) -> None:
        def happened() -> bool:
            time.sleep(0.1)
            return len(self.names()) >= count

        self.under_way(happened, f"{count} objects")

    def manifest(self) -> Manifest:
        (key,) = (key for key in self.there.keys("out/") if key.endswith("/manifest.json"))
        return Manifest.model_validate_json(self.there.get(key))

    def hashes(self) -> dict[str, str]:
        return self.there.hashes()

    def unexpected(self) -> list[str]:
        keys = [key.removeprefix("out/") for key in self.there.keys("out/")]
        return unexpected_files(keys, [WIDE], S3_LEASES) + [f"upload to {key}" for key in self.there.uploads()]

    def check_tables(self) -> None:
        assert shown(self.project) == shown(self.expected)
        done = self.project.cli("verify", "last", "--engine", "arrow")
        assert done.exit_code == 0, done.stderr


@pytest.fixture
def remote(
    scene: Scene, endpoint: str, proxy: FaultProxy, larger: Sample, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RemoteProject]:
    """A project in a new bucket, with the sample as input."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    options: dict[str, Any] = {
        "aws_access_key_id": "other",
        "aws_secret_access_key": "other",
        "region_name": "us-east-1",
    }
    client: Any = boto3.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}), **options)
    bucket = Bucket(client, f"test-{uuid.uuid4().hex}")
    client.create_bucket(Bucket=bucket.name)
    scene.project.set(
        target=bucket.uri("out"),
        datasets=bucket.upload(larger),
        storage={"endpoint_url": proxy.url, "region": "us-east-1"},
    )
    yield RemoteProject(scene.cluster, scene.server, scene.project, scene.expected, scene.rows, bucket=bucket)
    client.close()


@pytest.mark.parametrize("seed", range(2))
def test_run_survives_tenth_of_requests_failing(remote: RemoteProject, proxy: FaultProxy, seed: int) -> None:
    proxy.plan = seeded(seed, 0.1)
    remote.begin()
    answer = remote.answer()
    proxy.plan = healthy
    assert not answer.error, answer.error
    hit = [one.request for one in proxy.answered if one.fault]
    assert {"GET", "PUT"} <= {request.method for request in hit if request.key.endswith(".parquet")}
    remote.check()


@pytest.mark.parametrize(("seed", "phase"), [(2, "scatter"), (3, "gather")])
def test_run_survives_killed_worker_and_failing_requests(
    remote: RemoteProject, proxy: FaultProxy, seed: int, phase: str
) -> None:
    victim = remote.cluster.workers[seed % 2]
    proxy.plan = seeded(seed, 0.05)
    remote.begin()
    remote.scattered(victim, 1) if phase == "scatter" else remote.gathered(random.Random(seed).randint(1, 40))
    remote.catch(victim)
    remote.cluster.remove(victim)
    answer = remote.answer()
    proxy.plan = healthy
    assert not answer.error, answer.error
    assert re.search("ExecutorLost|FetchFailed", remote.warnings(answer))
    remote.check()


def test_worker_waking_after_publication_changes_nothing(remote: RemoteProject) -> None:
    victim = remote.cluster.workers[0]
    remote.begin()
    remote.gathered(15)
    stopped = remote.pause(victim)
    answer = remote.finished()
    assert "heartbeat" in remote.warnings(answer)
    send(signal.SIGCONT, [process for process in stopped if process.pid != victim.process.pid])
    time.sleep(3)
    send(signal.SIGCONT, stopped)
    remote.check()


def test_executors_reload_expired_credentials(remote: RemoteProject, proxy: FaultProxy) -> None:
    # Of each file of the source the first range, and every tenth file that is written.
    chosen = re.compile(r"raw_input/.*\.parquet|.*0_0\.snappy\.parquet")
    proxy.plan = lambda r: "400 ExpiredToken" if not r.number and chosen.search(r.key) else None
    remote.begin()
    answer = remote.answer()
    proxy.plan = healthy
    assert not answer.error, answer.error
    # By the workers themselves: no task had to be tried again for it.
    assert remote.warnings(answer) == ""
    refused = [one.request for one in proxy.answered if one.status == 400]
    assert {"GET", "PUT"} <= {request.method for request in refused}
    remote.check()


def test_run_with_expired_credentials_fails_and_can_be_resumed(remote: RemoteProject, proxy: FaultProxy) -> None:
    proxy.plan = lambda r: "400 ExpiredToken" if r.key.endswith("/000001_0.snappy.parquet") else None
    remote.begin()
    answer = remote.refused()
    proxy.plan = healthy
    assert "000001_0.snappy.parquet: PutObject: the credentials have expired" in answer.error
    assert " failed and were retried: StorageError: " in remote.reasons(answer)
    remote.begin("--resume", "last")
    assert not remote.answer().error
    remote.check()


def test_write_arriving_after_publication_changes_nothing(remote: RemoteProject, proxy: FaultProxy) -> None:
    held, release = threading.Event(), threading.Event()
    late: list[str] = []

    def plan(request: Request) -> None:
        if request.method == "PUT" and request.key.endswith(".parquet") and not held.is_set():
            late.append(request.key)
            held.set()
            release.wait(120)

    proxy.plan = plan
    remote.begin()
    remote.under_way(held.is_set, "a write on its way")
    for worker in remote.cluster:
        send(signal.SIGKILL, worker.pythons())
    answer = remote.finished()
    assert re.search("exited unexpectedly|Connection reset|Broken pipe", remote.warnings(answer))
    before = remote.there.head(late[0])["LastModified"]
    written = [one for one in proxy.answered if one.request.key == late[0] and one.request.method == "PUT"]
    time.sleep(1)
    release.set()
    until(
        lambda: (
            len([one for one in proxy.answered if (one.request.key, one.request.method) == (late[0], "PUT")])
            > len(written)
        ),
        "the late write",
    )
    # S3 refuses to replace the file of the repeated task.
    assert remote.there.head(late[0])["LastModified"] == before
    remote.check()
