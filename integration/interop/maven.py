"""Fetch programs from Maven Central."""

from __future__ import annotations

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
    maven = shutil.which("mvn")
    if maven is None:
        raise NotInstalledError(f"there is no Maven, which fetches {name} {version}: install maven")
    directory.mkdir(parents=True, exist_ok=True)
    options = [f"-Dartifact={artifact}", f"-DoutputDirectory={directory}", "-Dmdep.useBaseVersion=true"]
    command = [maven, "-q", "-B", "dependency:copy", *options]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
    if done.returncode:
        raise NotInstalledError(f"Maven cannot fetch {name} {version}: {done.stdout.strip()[-500:]}")
    return directory / f"{name}-{version}.{kind[0] if kind else 'jar'}"


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
