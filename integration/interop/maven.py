"""Fetch programs from Maven Central."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FETCH_SECONDS = 1800


class NotInstalledError(Exception):
    """A program is missing on this machine; the message names it and its source."""


def fetch(artifact: str, directory: Path) -> Path:
    """Download an artifact, such as ``group:name:version:tar.gz``, into a directory that may not exist.

    Raises:
        NotInstalledError: Maven is missing, or the download failed.
    """
    _, name, version, *kind = artifact.split(":")
    _maven(
        f"{name} {version}",
        directory,
        "dependency:copy",
        f"-Dartifact={artifact}",
        f"-DoutputDirectory={directory}",
        "-Dmdep.useBaseVersion=true",
    )
    return directory / f"{name}-{version}.{kind[0] if kind else 'jar'}"


def _maven(thing: str, directory: Path, *arguments: str) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NotInstalledError(f"there is no Maven, which fetches {thing}: install maven")
    directory.mkdir(parents=True, exist_ok=True)
    command = [maven, "-q", "-B", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
    if done.returncode:
        raise NotInstalledError(f"Maven cannot fetch {thing}: {done.stdout.strip()[-500:]}")


def jar(artifact: str, build: Path = ROOT / "build") -> Path:
    """Return a jar below `build`; download it if it does not exist. Raises as `fetch` does."""
    _, name, version = artifact.split(":")
    found = build / "jars" / f"{name}-{version}.jar"
    if not found.exists():
        partial = build / f"jars.partial-{os.getpid()}"
        try:
            fetched = fetch(artifact, partial)
            found.parent.mkdir(exist_ok=True)
            fetched.replace(found)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return found


def jars(project: Path, build: Path = ROOT / "build") -> list[Path]:
    """Return all jars that a Maven project needs, below `build`; download them if they do not exist.

    Raises as `fetch` does.
    """
    found = build / f"jars-{project.stem}-{hashlib.sha256(project.read_bytes()).hexdigest()[:12]}"
    if not found.exists():
        partial = found.with_name(f"{found.name}.partial-{os.getpid()}")
        try:
            where = ("-f", str(project), f"-DoutputDirectory={partial}")
            _maven(f"the jars of {project.name}", partial, "dependency:copy-dependencies", *where)
            partial.rename(found)
        except OSError:
            # Another process may have fetched them first.
            if not found.exists():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return sorted(found.glob("*.jar"))
