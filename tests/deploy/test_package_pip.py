"""`package --without-docker`: the environment that pip installs from wheels of the platform."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bucketwheel import api
from bucketwheel.errors import BucketwheelError, MissingDependencyError, UsageError
from bucketwheel.packaging.fit import check_fit
from bucketwheel.packaging.pip import install
from bucketwheel.packaging.target import Target
from deploy_support import ROOT, checkout, configuration
from forged_archives import AARCH64, SITE, X86_64, elf

GLUE = Target("Glue", "x86_64")
ON_ARM = {"deploy__platform": "emr-serverless", "emr_serverless__architecture": "ARM64"}


def write_wheel(directory: Path, name: str, tag: str, files: dict[str, bytes]) -> Path:
    """Write a wheel with version 1 of a package."""
    info = f"{name}-1.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=") for path, body in content.items()
    }
    record = "".join(f"{path},sha256={digests[path].decode()},{len(body)}\n" for path, body in content.items())
    wheel = directory / f"{name}-1-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as written:
        for path, body in {**content, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            written.writestr(path, body)
    return wheel


def native(directory: Path, machine: str, number: int) -> Path:
    tag = f"cp311-cp311-manylinux_2_28_{machine}"
    return write_wheel(directory, "fast", tag, {f"fast.cpython-311-{machine}-linux-gnu.so": elf(number)})


class Index:
    """A directory of wheels, and a checkout whose lock names them."""

    def __init__(self, directory: Path) -> None:
        self.wheels, self.source = directory / "wheels", checkout(directory / "checkout")
        self.wheels.mkdir()
        scripts = {"plain.py": b"", "plain-1.data/scripts/plain": b"#!python\n"}
        write_wheel(self.wheels, "plain", "py3-none-any", scripts)
        native(self.wheels, "x86_64", X86_64)
        native(self.wheels, "aarch64", AARCH64)
        (self.source / "docker").mkdir()
        self.lock()

    def lock(self) -> None:
        """Lock the wheels as they are now."""
        lines = []
        for name in ("fast", "plain"):
            hashes = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in self.wheels.glob(f"{name}-*")]
            lines.append(f"{name}==1 " + " ".join(f"--hash=sha256:{digest}" for digest in sorted(hashes)))
        (self.source / "docker/requirements.txt").write_text("\n".join(lines) + "\n")

    def remove(self, pattern: str) -> None:
        for wheel in self.wheels.glob(pattern):
            wheel.unlink()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    directory = Index(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory.wheels))
    return directory


def contents(packed: api.Package) -> dict[str, bytes]:
    with tarfile.open(packed.directory / "environment.tar.gz") as opened:
        files = ((member.name, opened.extractfile(member)) for member in opened if member.isfile())
        return {name: file.read() for name, file in files if file}


def package(index: Index, to: Path, **overrides: Any) -> api.Package:
    return api.package(configuration(**overrides), to, index.source, without_docker=True)


def test_package_without_docker_is_reproducible(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = package(index, tmp_path / "first")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    # Settings of the user's pip that would break or change the build.
    for name, value in (("USER", "1"), ("REQUIRE_VIRTUALENV", "1"), ("NO_BINARY", ":all:"), ("TARGET", "/nowhere")):
        monkeypatch.setenv(f"PIP_{name}", value)
    old = os.umask(0o077)
    try:
        second = package(index, tmp_path / "second")
    finally:
        os.umask(old)
    assert second.digest == first.digest
    assert first.machine == "x86_64"
    with tarfile.open(first.directory / "environment.tar.gz") as opened:
        members = {member.name: member for member in opened}
    assert list(members) == sorted(members)
    assert members["bin/python"].linkname == "/usr/bin/python3.11"
    files = contents(first)
    assert files[f"{SITE}/fast.cpython-311-x86_64-linux-gnu.so"] == elf()
    assert f"{SITE}/bucketwheel/__init__.py" in files
    assert sorted(name for name in files if name.startswith("bin/")) == ["bin/activate"]
    assert [name for name in files if name.endswith(".pyc") or f"{SITE}/bin/" in name] == []
    assert b"bin/plain" not in files[f"{SITE}/plain-1.dist-info/RECORD"]


def test_package_without_docker_takes_wheels_of_architecture(index: Index, tmp_path: Path) -> None:
    packed = package(index, tmp_path / "package", **ON_ARM)
    assert packed.machine == "aarch64"
    assert [name for name in contents(packed) if "/fast." in name] == [
        f"{SITE}/fast.cpython-311-aarch64-linux-gnu.so"
    ]


def test_missing_wheel_of_platform_names_package(index: Index, tmp_path: Path) -> None:
    index.remove("fast-*aarch64*")
    with pytest.raises(UsageError, match=r"has no wheel of fast==1 for EMR Serverless \(Linux aarch64, Python 3.11"):
        package(index, tmp_path / "package", **ON_ARM)
    assert not (tmp_path / "package").exists()


def test_wheel_with_wrong_content_is_refused(index: Index, tmp_path: Path) -> None:
    """A wheel whose tag is right and whose library is not."""
    index.remove("fast-*x86_64*")
    native(index.wheels, "x86_64", AARCH64)
    index.lock()
    with pytest.raises(UsageError, match=r"fast.cpython-311-x86_64-linux-gnu.so: is for Linux aarch64"):
        package(index, tmp_path / "package")


def test_changed_wheel_is_refused(index: Index, tmp_path: Path) -> None:
    write_wheel(index.wheels, "plain", "py3-none-any", {"plain.py": b"# changed\n"})
    with pytest.raises(BucketwheelError, match=r"other files than those in docker/requirements.txt; use an index"):
        package(index, tmp_path / "package")


def test_unreachable_index_names_variables(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(BucketwheelError, match=r"cannot reach its package index; check .* PIP_INDEX_URL") as refused:
        package(index, tmp_path / "package")
    assert "secret" not in str(refused.value)


def test_missing_pip_is_named(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    with pytest.raises(
        MissingDependencyError, match=r"needs pip, which .* does not have; install it: .* -m ensurepip"
    ):
        package(index, tmp_path / "package")


def test_checkout_without_lock_is_refused(index: Index, tmp_path: Path) -> None:
    (index.source / "docker/requirements.txt").unlink()
    with pytest.raises(UsageError, match=r"docker/requirements.txt does not exist; run this in a checkout"):
        package(index, tmp_path / "package")


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11) or platform.machine() != "x86_64", reason="needs Glue's Python")
def test_environment_of_real_wheels_runs(tmp_path: Path, cannot: Callable[[str], NoReturn]) -> None:
    """Install the real packages, and run a sample with a Python that sees no others."""
    environment = tmp_path / "environment"
    try:
        install(ROOT, environment, GLUE)
    except BucketwheelError as error:
        if "cannot reach" not in str(error):
            raise
        cannot(str(error))
    archive = tmp_path / "environment.tar"
    with tarfile.open(archive, "w") as written:
        written.add(environment, "")
    with tarfile.open(archive) as opened:
        check_fit(archive, opened, {member.name: member for member in opened if member.name}, GLUE)
    path = {"PYTHONPATH": str(environment / SITE), "HOME": str(tmp_path)}
    for words in (("sample", ".", "--rows", "2000"), ("run", "infobase_attributes")):
        # -S: without the packages of this Python.
        command = [sys.executable, "-S", "-m", "bucketwheel", *words]
        done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert " finished" in done.stdout
