"""Run containers in tests; docs/containers.md explains how to get the images."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
from docker.types import Mount
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

ROOT = Path(__file__).parents[1]
REGION = "us-east-1"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    # Short-lived JVMs on few cores: the thorough compiler and parallel collectors cost them more than they bring.
    "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
# Drop privileges that no container needs.
UNPRIVILEGED: Mapping[str, Any] = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
SCRATCH = "/var/lib/bucketwheel"
SPARK_CLASS = "/usr/lib/spark/bin/spark-class"
SPARK_SUBMIT = "/usr/lib/spark/bin/spark-submit"


@dataclass(frozen=True)
class Finished:
    """A container that has ended. Spark in client mode redirects stderr of its Python driver to stdout."""

    exit_code: int
    stdout: str
    stderr: str
    out_of_memory: bool

    def check(self) -> str:
        """Return the stdout of the container; raise if it failed."""
        assert self.exit_code == 0, f"exit code {self.exit_code}\n{self.stdout[-4000:]}\n{self.stderr[-4000:]}"
        return self.stdout


@dataclass(frozen=True)
class Service:
    """A server in a container, with its URLs for this process and for containers on its network."""

    container: DockerContainer
    url: str
    inside: str


@dataclass(frozen=True)
class Cluster:
    """A standalone Spark cluster; tests may kill and pause `workers`, and `heal` restores them."""

    master: str
    workers: list[DockerContainer]
    start_worker: Callable[[], DockerContainer]

    def heal(self) -> None:
        """Resume paused workers and replace killed ones."""
        for place, worker in enumerate(self.workers):
            running = worker.get_wrapped_container()
            running.reload()
            if running.status == "paused":
                running.unpause()
            elif running.status != "running":
                self.workers[place] = self.start_worker()


def image_name(variable: str) -> str:
    """Return the name of an image from the environment, else from docker/.env, else its public name."""
    for listed in (ROOT / "docker" / ".env", ROOT / "docker" / "images.env"):
        lines = listed.read_text().splitlines() if listed.exists() else []
        if name := os.environ.get(variable) or dict(line.split("=", 1) for line in lines).get(variable):
            return name
    raise KeyError(f"{variable} is not among the images of docker/images.env")


def absent(client: docker.DockerClient, name: str) -> bool:
    """Return whether an image is missing on this machine; `docker run` would pull it."""
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        return True
    return False


def build(target: str) -> str:
    """Run docker/build.sh and return its output: the image id for `glue` and `emr`."""
    done = subprocess.run([ROOT / "docker" / "build.sh", target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_options(place: str, **changes: str) -> list[str]:
    """Return the options of a run from `place`/data to `place`; setting names have `__` for dots."""
    named = {
        "target": f"{place}/out",
        "buckets.count": "8",
        "catalog.path": f"{SCRATCH}/catalog.duckdb",
        "datasets.infobase_attributes.source": f"{place}/data/opus/infobase_attributes/raw_input",
        "datasets.infobase_attributes.mapping": f"{place}/data/opus/infobase_attributes/mapping.csv",
        "datasets.infobase_attributes.key": "Customer_User_id",
        "datasets.addressable_ids.source": f"{place}/data/opus/addressable_ids/raw_input",
        "datasets.addressable_ids.key": "Customer_User_id",
        "storage.spill_directory": SCRATCH,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return [word for name, value in named.items() for word in ("--set", f"{name}={value}")]


def application(
    image: str,
    command: Sequence[str],
    *,
    entrypoint: Sequence[str],
    environment: Mapping[str, str] | None = None,
    network: Network | None = None,
    alias: str | None = None,
    **options: Any,
) -> DockerContainer:
    """Return a container as in docker/compose.yaml: no privileges, only /tmp and the scratch directory are writable.

    The entry point is explicit, because the base images differ and EMR Serverless ignores it.
    """
    container = DockerContainer(image, network=network, network_aliases=[alias] if alias else None)
    container.with_command(list(command)).with_tmpfs_mount("/tmp", "exec,mode=1777")
    container.with_envs(**ENVIRONMENT, SPARK_LOCAL_DIRS=SCRATCH).with_envs(**(environment or {}))
    # Each call replaces what the one before has set.
    return container.with_kwargs(
        entrypoint=list(entrypoint),
        read_only=True,
        mounts=[Mount(SCRATCH, None)],
        **UNPRIVILEGED,
        **options,
    )


def finish(container: DockerContainer, seconds: float = 300) -> Finished:
    """Start a container and wait for its end.

    Raises:
        AssertionError: it did not end in time; the message has its output.
    """
    with container:
        return ended(container, seconds)


def ended(container: DockerContainer, seconds: float) -> Finished:
    """Wait for the end of a started container; see `finish`."""
    running = container.get_wrapped_container()
    try:
        exit_code = running.wait(timeout=seconds)["StatusCode"]
    except requests.exceptions.ConnectionError as error:
        running.kill()
        said = running.logs().decode(errors="replace")
        raise AssertionError(f"still running after {seconds} s:\n{said[-4000:]}") from error
    running.reload()
    stdout, stderr = (text.decode(errors="replace") for text in container.get_logs())
    return Finished(exit_code, stdout, stderr, running.attrs["State"]["OOMKilled"])


@contextmanager
def s3_server(image: str, network: Network, alias: str) -> Iterator[Service]:
    """Start LocalStack, which loses all objects on a restart; `alias` is its host name on the network."""
    container = DockerContainer(image, network=network, network_aliases=[alias])
    container.with_kwargs(**UNPRIVILEGED)
    container.with_env("SERVICES", "s3").waiting_for(LogMessageWaitStrategy("Ready.").with_startup_timeout(90))
    with published(container, 4566):
        url = f"http://127.0.0.1:{container.get_exposed_port(4566)}"
        yield Service(container, url, f"http://{alias}:4566")


def published(container: DockerContainer, port: int) -> DockerContainer:
    """Publish a port on this machine's loopback only, at any free number."""
    container.ports[str(port)] = ("127.0.0.1",)  # type: ignore[assignment]
    return container


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Poll until a condition holds.

    Raises:
        AssertionError: it did not hold in time.
    """
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Return whether a server responds at a URL without an error."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.exceptions.RequestException:
        return False


@contextmanager
def spark_cluster(
    image: str,
    network: Network,
    name: str = "spark",
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
    starved: str = "",
) -> Iterator[Cluster]:
    """Start a master and workers of one core and 2 GB each; `name` tells clusters on one network apart.

    `starved`, such as ``400m``, limits the memory of the first worker's container without telling the worker.
    """
    master = f"spark://{name}:7077"
    with ExitStack() as stack:
        options = ["--host", name, "--port", "7077"]
        first = application(
            image,
            ["org.apache.spark.deploy.master.Master", *options],
            entrypoint=[SPARK_CLASS],
            network=network,
            alias=name,
        )
        _wait_for_log(stack.enter_context(first), "New state: ALIVE")

        def begin_worker(limit: str = "") -> DockerContainer:
            options = ["--cores", "1", "--memory", "2g", "--work-dir", "/tmp/work", master]
            worker = application(
                image,
                ["org.apache.spark.deploy.worker.Worker", *options],
                entrypoint=[SPARK_CLASS],
                environment=environment,
                network=network,
                **({"mem_limit": limit, "memswap_limit": limit} if limit else {}),
            )
            return stack.enter_context(worker)

        def start_worker() -> DockerContainer:
            worker = begin_worker()
            _wait_for_log(worker, "Successfully registered with master")
            return worker

        begun = [begin_worker(starved if number == 0 else "") for number in range(workers)]
        for worker in begun:
            _wait_for_log(worker, "Successfully registered with master")
        yield Cluster(master, begun, start_worker)


def _wait_for_log(container: DockerContainer, text: str) -> None:
    running = container.get_wrapped_container()
    wait_until(lambda: text.encode() in running.logs(), f"{text!r} in the log of {running.name}", 120)
