"""Checks of the image files that need no Docker; integration/images checks the images themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "offline/base.txt", "offline/localstack.txt", "offline/moto.txt")


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of docker/Dockerfile by stage; "" precedes the first stage, "default" is the last."""
    text = re.sub(r"^#.*\n", "", (ROOT / "docker" / "Dockerfile").read_text(), flags=re.MULTILINE)
    instructions: dict[str, list[tuple[str, str]]] = {"": []}
    name = ""
    for line in text.replace("\\\n", " ").splitlines():
        instruction, _, words = line.partition(" ")
        if instruction == "FROM":
            name = words.partition(" AS ")[2] or "default"
            instructions[name] = []
        if instruction:
            instructions[name].append((instruction, words))
    return instructions


def pins(lock: Path) -> dict[str, str]:
    """Return versions by normalized package name."""
    locked = re.findall(r"^([A-Za-z0-9_.-]+)==([^ \\\n]+)", lock.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in locked}


def test_default_image_keeps_entry_point_of_base() -> None:
    # EMR Serverless refuses an image with another working directory, entry point or user.
    build_stages = stages()
    base = dict(line.split("=", 1) for line in (ROOT / "docker/images.env").read_text().splitlines())["BASE_IMAGE"]
    assert base.partition("@")[0] == "public.ecr.aws/glue/aws-glue-libs:5"
    assert build_stages[""] == [("ARG", f"BASE_IMAGE={base}")]
    assert build_stages["app"][0] == ("FROM", "${BASE_IMAGE} AS app")
    assert build_stages["app"][-1] == ("USER", "hadoop:hadoop")
    assert build_stages["default"] == [("FROM", "app")]
    used = {instruction for stage in build_stages.values() for instruction, _ in stage}
    assert used == {"ARG", "FROM", "USER", "RUN", "COPY", "ENV"}
    names = {word.partition("=")[0] for op, words in build_stages["app"] if op == "ENV" for word in words.split()}
    assert names.isdisjoint({"JAVA_HOME", "SPARK_HOME", "PATH"})


def test_dependency_layer_does_not_copy_code() -> None:
    build_stages = stages()
    assert [words for op, words in build_stages["dependencies"] if op == "COPY"] == [
        "docker/ca/ /tmp/ca/",
        "docker/requirements.txt /tmp/",
    ]
    copied = [words for op, words in build_stages["app"] if op == "COPY"]
    assert copied[0] == "--from=dependencies --chown=root:root /opt/bucketwheel /opt/bucketwheel"
    assert copied[-1] == "app /opt/bucketwheel/app"


def test_final_stage_has_no_install_and_no_build_certificates() -> None:
    text = str(stages()["app"])
    assert "docker/ca" not in text
    assert "pip" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_installed_packages_have_version_and_hash(lock: str) -> None:
    lines = (ROOT / "docker" / lock).read_text().replace("\\\n", " ").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    assert len(entries) > 10
    assert [line for line in entries if not re.match(r"[^ ]+==[^ ]+( +--hash=sha256:[0-9a-f]{64})+ *$", line)] == []


def test_image_has_requirements_at_tested_versions() -> None:
    image, floor = pins(ROOT / "docker" / "requirements.txt"), pins(ROOT / "constraints-floor.txt")
    tested = {name: floor[name] for name in image if name in floor and name != "pytz"}
    assert {name: image[name] for name in tested} == tested
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for requirement in map(
        Requirement, (*project["dependencies"], *extras["aws"], *extras["duckdb"], *extras["iceberg"])
    ):
        assert Version(image[requirement.name]) in requirement.specifier, requirement


def test_image_and_archive_have_versions_of_glue() -> None:
    image, glue = pins(ROOT / "docker" / "requirements.txt"), pins(ROOT / "docker" / "offline" / "base.in")
    for name in ("boto3", "botocore", "numpy", "pandas", "pyarrow"):
        assert image[name] == glue[name]


def test_image_and_archive_have_newest_versions_of_the_rest() -> None:
    # Glue has urllib3 1.25.10, with known vulnerabilities; the archive replaces all packages of Glue.
    image, newest = pins(ROOT / "docker" / "requirements.txt"), pins(ROOT / "constraints.txt")
    held_back = {name for name in image.keys() & newest.keys() if Version(image[name]) < Version(newest[name])}
    assert held_back == {"boto3", "botocore", "numpy", "pandas", "pyarrow", "s3transfer"}


def digests(directory: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run digests.sh on copies of the image files, with a `docker` that runs `script`."""
    own = directory / "docker"
    if not own.exists():
        own.mkdir()
        for name in ("digests.sh", "images.env", "Dockerfile"):
            shutil.copy(ROOT / "docker" / name, own / name)
    docker = directory / "docker-program" / "docker"
    docker.parent.mkdir(exist_ok=True)
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)
    path = f"{docker.parent}:/usr/bin:/bin"
    return subprocess.run(
        [own / "digests.sh", *arguments], env={"PATH": path}, capture_output=True, text=True, check=False
    )


def images(directory: Path) -> dict[str, str]:
    lines = (directory / "docker/images.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_digests_pin_images_and_replace_older_digests(tmp_path: Path) -> None:
    digest = f"sha256:{'a' * 64}"
    before = {name: value.partition("@")[0] for name, value in images(ROOT).items()}
    for new in (f"sha256:{'0' * 64}", digest):
        # The tag is the last argument; a tag with the digest of an earlier call would be none.
        done = digests(tmp_path, f'for last; do :; done; case "$last" in *@*) exit 1;; esac; echo {new}')
        assert done.returncode == 0, done.stderr
    pinned = {name: f"{value}@{digest}" for name, value in before.items() if name.endswith("_IMAGE")}
    assert images(tmp_path) == {**before, **pinned}
    assert f"\nARG BASE_IMAGE={pinned['BASE_IMAGE']}\n" in (tmp_path / "docker/Dockerfile").read_text()
    assert digests(tmp_path, f"echo {digest}", "--check").returncode == 0
    moved = digests(tmp_path, f"echo sha256:{'b' * 64}", "--check")
    assert (moved.returncode, "run: make digests" in moved.stderr) == (1, True)


@pytest.mark.parametrize("script", ["echo no such host >&2; exit 1", "echo '<no value>'"])
def test_digests_without_registry_change_nothing(tmp_path: Path, script: str) -> None:
    done = digests(tmp_path, script)
    assert (done.returncode, bool(done.stderr)) == (1, True)
    assert images(tmp_path) == images(ROOT)
