"""The servers of tests and Compose work and listen on loopback only."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

import boto3
import docker
import pytest
import yaml
from container_support import REGION, ROOT, SPARK_SUBMIT, Cluster, Service, application, finish
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.network import Network

pytestmark = pytest.mark.docker

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
HOSTS = """
import socket, time
from pyspark.sql import SparkSession

context = SparkSession.builder.getOrCreate().sparkContext
seen = set()
# A worker that registers late misses the first tasks.
for _ in range(10):
    seen |= set(context.parallelize(range(4), 4).map(lambda _: time.sleep(0.5) or socket.gethostname()).collect())
    if len(seen) == 2:
        break
print("hosts", len(seen))
"""
COMPOSE = {"1.29": ["docker-compose"], "2": ["docker", "compose"]}


def test_containers_and_host_see_the_same_objects(localstack: Service, network: Network, glue_image: str) -> None:
    s3 = boto3.client("s3", endpoint_url=localstack.url, **KEYS)
    s3.create_bucket(Bucket="seen-by-both")
    code = (
        f"import boto3; s3 = boto3.client('s3', endpoint_url='{localstack.inside}'); "
        "s3.put_object(Bucket='seen-by-both', Key='from/container', Body=b'here')"
    )
    finish(
        application(glue_image, ["-c", code], entrypoint=["/opt/bucketwheel/venv/bin/python"], network=network)
    ).check()
    assert s3.get_object(Bucket="seen-by-both", Key="from/container")["Body"].read() == b"here"
    s3.close()


def test_localstack_is_ready_in_ten_seconds(localstack: Service) -> None:
    container = localstack.container.get_wrapped_container()
    container.reload()
    lines = container.logs(timestamps=True).decode().splitlines()
    ready = next(line.split()[0] for line in lines if line.endswith("Ready."))
    begun = container.attrs["State"]["StartedAt"]
    # Docker writes nanoseconds, which Python does not read.
    seconds = [datetime.fromisoformat(f"{text[:23]}+00:00") for text in (begun, ready)]
    assert (seconds[1] - seconds[0]).total_seconds() < 10


def test_both_workers_of_the_cluster_take_tasks(cluster: Cluster, network: Network, glue_image: str) -> None:
    script = f"cat >/tmp/job.py <<'END'\n{HOSTS}END\nexec {SPARK_SUBMIT} --master {cluster.master} /tmp/job.py"
    done = finish(application(glue_image, ["-c", script], entrypoint=["/bin/bash"], network=network))
    assert "hosts 2" in done.check().splitlines()


def test_servers_are_published_on_loopback_only(
    docker_client: docker.DockerClient, localstack: Service, moto: Service, cluster: Cluster
) -> None:
    label = f"{LABEL_SESSION_ID}={SESSION_ID}"
    containers = docker_client.containers.list(filters={"label": label})
    assert len(containers) >= 5
    bound = [
        (container.image.tags, port["HostIp"])
        for container in containers
        for ports in container.attrs["NetworkSettings"]["Ports"].values()
        for port in ports or []
    ]
    assert len(bound) == 2
    assert {address for _, address in bound} == {"127.0.0.1"}


def test_servers_have_no_capabilities(localstack: Service, moto: Service) -> None:
    for service in (localstack, moto):
        done = service.container.get_wrapped_container().exec_run(["cat", "/proc/1/status"])
        assert "\nCapEff:\t0000000000000000\n" in done.output.decode()


@pytest.mark.parametrize("version", sorted(COMPOSE))
def test_both_compose_versions_publish_on_loopback_only(version: str, cannot: Callable[[str], NoReturn]) -> None:
    process = subprocess.run([*COMPOSE[version], "version"], capture_output=True, text=True, check=False)
    if process.returncode or f"version {version}" not in process.stdout.replace("version v", "version "):
        cannot(f"there is no Compose {version}: docker/offline/compose_v2.sh unpacks 2, Debian 12 has 1.29")
    command = [*COMPOSE[version], "-f", "docker/compose.yaml", "config"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    services: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    assert {"localstack", "moto", "master", "worker1", "worker2", "account", "app"} == set(services)
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all((port["host_ip"] if isinstance(port, dict) else port.split(":")[0]) == "127.0.0.1" for port in ports)
    for name, service in services.items():
        assert service.get("read_only", False) is (name != "localstack")
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
