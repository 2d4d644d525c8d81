from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
from struck_project import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, cannot: Callable[[str], NoReturn]) -> Iterator[Project]:
    """A project with two published snapshots; see `struck_project.py`."""
    if sys.platform != "linux":
        pytest.skip("LD_PRELOAD needs Linux")
    try:
        project = Project(tmp_path_factory.mktemp("calls"))
    except FileNotFoundError as error:
        cannot(str(error))
    yield project
    project.close()
