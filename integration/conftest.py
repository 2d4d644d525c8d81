"""Fixtures of integration tests: servers and images, started once per session.

Each process of pytest-xdist would start its own: run these tests in one process, as `make test` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NoReturn

# Testcontainers reads its configuration when it is imported. Its cleaner
# needs an image and privileges; the fixtures stop their containers themselves.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
os.environ.setdefault("TC_POOLING_INTERVAL", "0.1")

import container_support as support
import docker
import pytest
from container_support import Cluster, Service
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

import requirements

cannot = requirements.cannot
java = requirements.java


@pytest.fixture(scope="session")
def docker_client(cannot: Callable[[str], NoReturn]) -> Iterator[docker.DockerClient]:
    """The Docker daemon."""
    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        cannot(f"no Docker daemon answers ({error}); start one")
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(docker_client: docker.DockerClient, cannot: Callable[[str], NoReturn]) -> Callable[[str], str]:
    """Return the name of an image that is on this machine, given its variable."""

    def named(variable: str) -> str:
        name = support.image_name(variable)
        if support.absent(docker_client, name):
            cannot(f"{variable}={name} is not here; `make images` pulls it, `make images-offline` builds another")
        return name

    return named


@pytest.fixture(scope="session")
def glue_image(image: Callable[[str], str]) -> str:
    """The application of this checkout on Glue's base: the image's id."""
    image("BASE_IMAGE")
    return support.build("glue")


@pytest.fixture(scope="session")
def emr_image(image: Callable[[str], str]) -> str:
    """The application of this checkout on EMR Serverless's base: the image's id."""
    image("EMR_BASE_IMAGE")
    return support.build("emr")


@pytest.fixture(scope="session")
def network(docker_client: docker.DockerClient) -> Iterator[Network]:
    """The network of all containers, with the host names `localstack` and `moto`."""
    new_network = Network()
    with new_network:
        yield new_network
    new_network._docker.client.close()


@pytest.fixture(scope="session")
def localstack(image: Callable[[str], str], network: Network) -> Iterator[Service]:
    """S3 by LocalStack. Each test uses its own bucket."""
    with support.s3_server(image("LOCALSTACK_IMAGE"), network, "localstack") as server:
        yield server


@pytest.fixture(scope="session")
def s3_endpoint(localstack: Service) -> str:
    """URL of S3 for this process."""
    return localstack.url


@pytest.fixture(scope="session")
def moto(image: Callable[[str], str], network: Network) -> Iterator[Service]:
    """The APIs of Glue, Athena and EMR Serverless. Each test uses its own database."""
    container = DockerContainer(image("MOTO_IMAGE"), network=network, network_aliases=["moto"])
    container.with_tmpfs_mount("/tmp").with_kwargs(read_only=True, **support.UNPRIVILEGED)
    with support.published(container, 5000):
        url = f"http://127.0.0.1:{container.get_exposed_port(5000)}"
        support.wait_until(lambda: support.answers(f"{url}/moto-api/data.json"), "moto")
        yield Service(container, url, "http://moto:5000")


@pytest.fixture(scope="session")
def cluster(glue_image: str, network: Network) -> Iterator[Cluster]:
    """A Spark cluster of two workers; tests that kill workers create their own by `spark_cluster`."""
    with support.spark_cluster(glue_image, network) as new_cluster:
        yield new_cluster
