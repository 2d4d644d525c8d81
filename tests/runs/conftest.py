from __future__ import annotations

import os
from pathlib import Path

import pytest

from runs_support import JANUARY, Case, Clock


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A case with the snapshot of January."""
    made = Case(tmp_path)
    made.snapshot(JANUARY)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "books"
