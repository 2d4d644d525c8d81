"""The application image: rules of EMR Serverless, unchanged parts of the base image, and Spark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import docker
import pytest
from container_support import SPARK_SUBMIT, application, finish
from testcontainers.core.container import DockerContainer

pytestmark = pytest.mark.docker

BASES = {"glue_image": "BASE_IMAGE", "emr_image": "EMR_BASE_IMAGE"}
SPARK_FILES = ("find-spark-home", "pyspark", "spark-class", "spark-shell", "spark-sql", "spark-submit")
MAXIMUM_LAYER = 250 * 10**6


@pytest.fixture(params=sorted(BASES))
def pair(request: pytest.FixtureRequest, image: Callable[[str], str]) -> tuple[str, str]:
    """The application image and its base image."""
    return request.getfixturevalue(request.param), image(BASES[request.param])


def config(client: docker.DockerClient, name: str) -> Mapping[str, Any]:
    return client.images.get(name).attrs["Config"]


def variables(found: Mapping[str, Any]) -> dict[str, str]:
    return dict(variable.split("=", 1) for variable in found["Env"])


def bash(image: str, script: str) -> str:
    return finish(application(image, ["-c", script], entrypoint=["/bin/bash"])).check()


def test_image_meets_rules_of_emr_serverless(docker_client: docker.DockerClient, emr_image: str) -> None:
    image_config = config(docker_client, emr_image)
    assert image_config["User"] == "hadoop:hadoop"
    assert image_config["WorkingDir"] == "/home/hadoop"
    assert image_config["Entrypoint"][0] == "/usr/bin/entrypoint.sh"
    known = variables(image_config)
    required_files = ["/usr/bin/tini", f"{known['JAVA_HOME']}/bin/java"]
    required_files += [f"{known['SPARK_HOME']}/bin/{name}" for name in SPARK_FILES]
    missing = bash(emr_image, f"for file in {' '.join(required_files)}; do [ -x $file ] || echo $file; done")
    assert missing == ""


def test_base_image_starts_unchanged(docker_client: docker.DockerClient, pair: tuple[str, str]) -> None:
    ours, base = (config(docker_client, name) for name in pair)
    for name in ("Entrypoint", "Cmd", "WorkingDir", "ExposedPorts", "Volumes"):
        assert ours.get(name) == base.get(name), name
    before, after = variables(base), variables(ours)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed == {"BUCKETWHEEL_CONF", "PYSPARK_DRIVER_PYTHON", "PYSPARK_PYTHON"}


def test_files_of_base_image_are_unchanged(pair: tuple[str, str]) -> None:
    # Certificates and tools of the build would show here too.
    script = (
        "find / -xdev -path /tmp -prune -o -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o "
        "-path /etc/hosts -prune -o -path /etc/hostname -prune -o -path /etc/resolv.conf -prune -o "
        "-path /opt/bucketwheel -prune -o -path /var/lib/bucketwheel -prune -o "
        r"\( -type f -o -type l \) -printf '%p %s\n' 2>/dev/null | sort"
    )
    ours, base = (set(bash(name, script).splitlines()) for name in pair)
    assert len(base) > 1000
    assert base - ours == set()
    assert [line.split()[0] for line in ours - base] == ["/usr/local/bin/bucketwheel"]


def test_layers_of_application_are_small(docker_client: docker.DockerClient, pair: tuple[str, str]) -> None:
    ours, base = (docker_client.images.get(name) for name in pair)
    assert ours.attrs["RootFS"]["Layers"][: len(base.attrs["RootFS"]["Layers"])] == base.attrs["RootFS"]["Layers"]
    assert ours.attrs["Size"] - base.attrs["Size"] < MAXIMUM_LAYER


def test_image_has_no_build_tools_and_is_read_only(pair: tuple[str, str]) -> None:
    script = (
        "id -un; id -gn; ls /opt/bucketwheel/venv/lib/python3.11/site-packages | grep -E '^(pip|setuptools|wheel)$'; "
        "find /opt/bucketwheel -writable -not -type l; find /opt/bucketwheel -name '*.crt' -o -name '*.pem' "
        "| grep -v -E '/(botocore|certifi)/cacert.pem$'"
    )
    container = DockerContainer(pair[0]).with_command(["-c", script]).with_kwargs(entrypoint=["/bin/bash"])
    assert finish(container).stdout.split() == ["hadoop", "hadoop"]


def test_spark_runs_without_privileges(pair: tuple[str, str]) -> None:
    example = "/usr/lib/spark/examples/src/main/python/pi.py"
    options = ["--deploy-mode", "client", "--master", "local", example, "2"]
    assert "Pi is roughly 3." in finish(application(pair[0], options, entrypoint=[SPARK_SUBMIT])).check()


def test_commands_are_on_path_of_login_shell(glue_image: str) -> None:
    # Glue's base starts with `bash -l`, which sets a PATH of its own.
    container = DockerContainer(glue_image).with_command(["-c", "bucketwheel --version"])
    assert finish(container).check().startswith("bucketwheel, version ")
