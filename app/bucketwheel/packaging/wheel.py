"""Build the wheel from a checkout, with the same bytes each time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bucketwheel.errors import MissingDependencyError, UsageError

# The earliest time that a zip file can store.
EPOCH = 315_532_800
_FILES = ("pyproject.toml", "README.md", "LICENSE")
_CODE = "from setuptools import build_meta; import sys; print(build_meta.build_wheel(sys.argv[1]))"


def build_wheel(source: Path, to: Path) -> Path:
    """Build the wheel of the checkout `source` and return its path below `to`.

    It is built from a copy, because setuptools leaves files in the source directory and packages old ones.

    Raises:
        UsageError: `source` is no checkout, or the build failed; quotes setuptools.
        MissingDependencyError: setuptools or wheel are not installed.
    """
    for name in (*_FILES, "app/bucketwheel/__init__.py"):
        if not (source / name).is_file():
            raise UsageError(
                f"{source / name} does not exist; run this in a checkout of Bucketwheel, or name it: --source DIR"
            )
    with tempfile.TemporaryDirectory(prefix="bucketwheel-wheel-") as directory:
        copy = Path(directory)
        for name in _FILES:
            shutil.copyfile(source / name, copy / name)
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(source / "app/bucketwheel", copy / "app/bucketwheel", ignore=ignored)
        for path in copy.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (copy / "dist").mkdir()
        _run_setuptools(copy)
        (wheel,) = (copy / "dist").glob("*.whl")
        return Path(shutil.copyfile(wheel, to / wheel.name))


def _run_setuptools(directory: Path) -> None:
    done = subprocess.run(  # noqa: S603 this Python, with our own code
        [sys.executable, "-c", _CODE, "dist"],
        cwd=directory,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
        umask=0o022,
    )
    if done.returncode == 0:
        return
    if "No module named 'setuptools'" in done.stderr or "invalid command 'bdist_wheel'" in done.stderr:
        raise MissingDependencyError(
            "building a wheel needs setuptools and wheel: pip install 'bucketwheel[package]'"
        )
    raise UsageError(f"the wheel cannot be built: {done.stderr.strip().splitlines()[-1]}")
