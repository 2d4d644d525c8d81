"""Build the Python environment with pip from wheels of the platform, on any machine and without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bucketwheel.errors import BucketwheelError, MissingDependencyError, UsageError
from bucketwheel.packaging.archive import SITE_PACKAGES
from bucketwheel.packaging.target import INTERPRETER, PYTHON, PYTHON_TEXT, Target

# The packages of the archive that Docker builds, with their hashes.
LOCK = "docker/requirements.txt"
_PYVENV = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON_TEXT}\n"
_ACTIVATE = """\
# Source this file with bash.
VIRTUAL_ENV=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$VIRTUAL_ENV/bin:$PATH
export VIRTUAL_ENV PATH
unset PYTHONHOME
"""
# Variables of pip that contradict the options below.
_CONTRADICTING = (
    *("ABI", "CONSTRAINT", "IMPLEMENTATION", "NO_BINARY", "ONLY_BINARY", "PLATFORM", "PREFIX", "PYTHON"),
    *("PYTHON_VERSION", "REPORT", "REQUIRE_VIRTUALENV", "REQUIREMENT", "ROOT", "TARGET", "USER"),
)
# pip reports these without failing, and then claims that the package does not exist. A missing package is error 404.
_UNREACHABLE = re.compile(r"Could not fetch URL (.*?)(?: - skipping)?$|(.*connection broken by.*)$", re.MULTILINE)
_NO_MATCH = re.compile(r"No matching distribution found for (\S+)")


@contextmanager
def installed_archive(source: Path, target: Target) -> Iterator[Path]:
    """Yield the archive of a new environment; it is deleted afterwards. See `install`."""
    with tempfile.TemporaryDirectory(prefix="bucketwheel-environment-") as directory:
        environment, archive = Path(directory) / "environment", Path(directory) / "environment.tar.gz"
        install(source, environment, target)
        # `normalise` compresses it again.
        with tarfile.open(archive, "w:gz", compresslevel=1) as written:
            written.add(environment, ".")
        shutil.rmtree(environment)
        yield archive


def install(source: Path, environment: Path, target: Target) -> None:
    """Create an environment in a new directory, with the locked packages and the code of the checkout `source`.

    Raises:
        MissingDependencyError: this Python has no pip.
        UsageError: the checkout has no lock, or a package has no wheel for the platform.
        BucketwheelError: pip failed, as without a connection; quotes its last lines.
    """
    lock, packages = source / LOCK, environment / SITE_PACKAGES
    if not lock.is_file():
        raise UsageError(f"{lock} does not exist; run this in a checkout of Bucketwheel, or name it: --source DIR")
    packages.mkdir(parents=True)
    _run_pip(lock, packages, target)
    _remove_programs(packages)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(source / "app/bucketwheel", packages / "bucketwheel", ignore=ignored)
    _write_skeleton(environment)


def _run_pip(lock: Path, to: Path, target: Target) -> None:
    options = ["--target", str(to), "--requirement", str(lock), "--require-hashes", "--no-deps", "--no-compile"]
    options += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON_TEXT]
    options += ["--abi", f"cp3{PYTHON[1]}", "--disable-pip-version-check", "--no-input", "-vv"]
    options += [word for tag in target.wheel_platforms() for word in ("--platform", tag)]
    contradicting = {f"PIP_{name}" for name in _CONTRADICTING}
    done = subprocess.run(  # noqa: S603 the pip of this Python
        [sys.executable, "-m", "pip", "install", *options],
        env={name: value for name, value in os.environ.items() if name not in contradicting},
        capture_output=True,
        text=True,
        check=False,
        umask=0o022,
    )
    if done.returncode:
        raise _pip_error(done.stdout, done.stderr, target)


def _pip_error(log: str, said: str, target: Target) -> BucketwheelError:
    if "No module named pip" in said:
        return MissingDependencyError(
            f"--without-docker needs pip, which {sys.executable} does not have; install it: "
            f"{sys.executable} -m ensurepip"
        )
    last = "\n".join(said.strip().splitlines()[-5:])
    missing = _NO_MATCH.search(said)
    causes = [match[1] or match[2] for match in _UNREACHABLE.finditer(f"{log}\n{said}")]
    if missing and (cause := next((cause for cause in causes if " 404 " not in cause), None)):
        return BucketwheelError(
            "pip cannot reach its package index; check the network, HTTPS_PROXY, PIP_CERT, and PIP_INDEX_URL if your "
            f"company has its own index. pip says: {cause.strip()}"
        )
    if "DO NOT MATCH THE HASHES" in said:
        return BucketwheelError(
            f"pip received other files than those in {LOCK}; use an index that passes files on unchanged. "
            f"Its last lines:\n{last}"
        )
    if missing:
        return UsageError(
            f"the package index of pip has no wheel of {missing[1]} for {target.text}; use another index "
            f"(PIP_INDEX_URL), or build with Docker: leave out --without-docker. Last lines of pip:\n{last}"
        )
    return BucketwheelError(
        f"pip failed; build with Docker instead: leave out --without-docker. Its last lines:\n{last}"
    )


def _remove_programs(packages: Path) -> None:
    """Remove the programs of packages: they begin with the path of this machine's Python; so do lines of RECORD."""
    shutil.rmtree(packages / "bin", ignore_errors=True)
    for record in packages.glob("*.dist-info/RECORD"):
        lines = record.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(("../../bin/", "bin/"))]
        record.write_text("".join(kept), "utf-8")


def _write_skeleton(environment: Path) -> None:
    """Write the files of a virtual environment, always the same, unlike those of this machine's `venv`."""
    (environment / "bin").mkdir()
    (environment / "bin/activate").write_text(_ACTIVATE, "utf-8")
    (environment / "bin/python").symlink_to(INTERPRETER)
    for name in ("python3", f"python{PYTHON_TEXT}"):
        (environment / "bin" / name).symlink_to("python")
    (environment / "lib64").symlink_to("lib")
    (environment / "pyvenv.cfg").write_text(_PYVENV, "utf-8")
