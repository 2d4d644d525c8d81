"""Check the versions of Python, its packages and Java against the tested range."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bucketwheel.doctor.checks import Check, CheckResult, failed, ok, warning
from bucketwheel.settings import PROMOTE, Settings
from bucketwheel.settings.layouts import catalog_kinds

_JAVA_SECONDS = 10


@dataclass(frozen=True)
class Range:
    """Supported versions: `least` and newer, tested up to `newest`; `below` and newer do not work."""

    least: str
    newest: str
    extra: str = ""
    below: str = ""


# pyproject.toml gives the lower bounds; the two constraints files give the versions that the tests use.
RANGES = {
    "python": Range("3.11", "3.13"),
    "pyarrow": Range("17.0.0", "26.0.1"),
    "numpy": Range("1.26.4", "2.4.6"),
    "pyspark": Range("3.5.4", "3.5.4", "spark", below="3.6"),
    "boto3": Range("1.34.131", "1.44.5", "aws"),
    "duckdb": Range("1.1", "2.0.0", "duckdb"),
    "pyiceberg": Range("0.12", "0.12.0", "iceberg", below="0.13"),
    "trino": Range("0.330", "0.340.0", "trino"),
}
# Spark 3.5 runs on these.
_JAVAS = (8, 11, 17)


def checks(settings: Settings | None, uses_aws: bool, remote_only: bool) -> Iterator[Check]:
    """Yield one check for each package that the settings need.

    Args:
        settings: None if they cannot be read.
        uses_aws: whether boto3 is needed.
        remote_only: whether Spark runs on AWS only, so that this machine does not need it.
    """
    names = ["pyarrow", "numpy"]
    yield Check("python", lambda: compare("python", platform.python_version()))
    if settings is not None:
        names += ["pyspark"] if settings.engine == "spark" else []
        names += ["boto3"] if uses_aws else []
        names += ["duckdb"] if settings.catalog.kind == "duckdb" else []
        names += ["pyiceberg"] if "iceberg" in catalog_kinds(settings) else []
        names += ["trino"] if settings.ctas.method not in (PROMOTE, "athena") else []
    for name in names:
        yield Check(name, lambda name=name: _package(name, remote_only and name == "pyspark"))  # type: ignore[misc]
    if settings is not None and settings.engine == "spark":
        yield Check("java", lambda: _java(remote_only))


def compare(name: str, version: str) -> CheckResult:
    """Compare a version with the supported range."""
    allowed = RANGES[name]
    text = f"{version}; supported: {allowed.least} or newer, tested up to {allowed.newest}"
    install = f"pip install 'bucketwheel[{allowed.extra}]'" if allowed.extra else f"install {name} {allowed.newest}"
    if _parts(version) < _parts(allowed.least):
        return failed(text, f"too old: {install}")
    if allowed.below and _parts(version) >= _parts(allowed.below):
        return failed(text, f"{name} {allowed.below} and newer are not supported: {install}")
    newest = _parts(allowed.newest)
    if _parts(version)[: len(newest)] > newest:
        return warning(text, f"newer than the tested versions; if something fails, try {name} {allowed.newest}")
    return ok(text)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[a-z+-]", version)[0]))


def _package(name: str, remote_only: bool) -> CheckResult:
    try:
        return compare(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        extra = RANGES[name].extra
        install = f"pip install 'bucketwheel[{extra}]'" if extra else f"pip install {name}"
        if remote_only:
            return warning(
                "not installed here", f"needed for runs on this machine only: {install}; jobs on AWS have it"
            )
        return failed("not installed", install)


def _java(remote_only: bool) -> CheckResult:
    java_home = os.environ.get("JAVA_HOME")
    program = str(Path(java_home) / "bin" / "java") if java_home else shutil.which("java")
    advice = f"install OpenJDK {_JAVAS[-1]}, or set JAVA_HOME to one"
    if program is None or not Path(program).exists():
        description = f"{program or 'java'} does not exist"
        return (
            warning(description, f"needed for runs on this machine only: {advice}")
            if remote_only
            else failed(description, advice)
        )
    command = [program, "-version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_JAVA_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return failed(f"{program} -version: {error}", advice)
    match = re.search(r'version "(?:1\.)?(\d+)[^"]*"', done.stderr + done.stdout)
    if match is None:
        return failed(f"{program} -version prints no version", advice)
    description = f"{match[0].removeprefix('version ')} ({program}); Spark 3.5 runs on {', '.join(map(str, _JAVAS))}"
    return ok(description) if int(match[1]) in _JAVAS else warning(description, advice)
