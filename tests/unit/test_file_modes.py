"""Permissions of the files and directories that commands write on disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from project import WIDE, Project


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(paths: Iterator[Path], directories: bool) -> set[str]:
    return {oct(stat.S_IMODE(path.stat().st_mode)) for path in paths if path.is_dir() is directories}


@pytest.mark.parametrize(
    ("mask", "private", "public"), [(0o022, "0o640", "0o644"), (0o002, "0o660", "0o664"), (0o077, "0o600", "0o600")]
)
def test_metadata_is_hidden_from_other_users(project: Project, mask: int, private: str, public: str) -> None:
    def directory(mode: str) -> str:
        return oct(int(mode, 8) | (int(mode, 8) & 0o444) >> 2)

    with umask(mask):
        project.run()
        assert project.cli("run", WIDE, "--stages", "register", "--resume", "last").exit_code == 0
        project.cli("report", "last", "--to", str(project.root / "report.html"))
    metadata = project.target / "_bucketwheel"
    assert modes(metadata.rglob("*"), directories=False) == {private}
    assert modes(iter([metadata, *metadata.rglob("*")]), directories=True) == {directory(private)}
    assert modes(iter([project.root / "report.html"]), directories=False) == {private}
    assert modes(project.target.glob("*/metadata/tables.json"), directories=False) == {private}
    # Readers may be other users.
    assert modes(project.target.glob("*/metadata/snapshot_dt.txt"), directories=False) == {public}
    assert modes(project.target.glob(f"{WIDE}/*/*/*.parquet"), directories=False) == {public}
    assert modes(iter([project.target, project.target / WIDE]), directories=True) == {directory(public)}
