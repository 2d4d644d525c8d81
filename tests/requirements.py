"""What a test does where a tool that it needs is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import NoReturn

import pytest


@pytest.fixture(scope="session")
def cannot() -> Callable[[str], NoReturn]:
    """Skip for want of a tool; a failure instead where REQUIRE_ALL=1 says that nothing may be skipped."""

    def give_up(reason: str) -> NoReturn:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"REQUIRE_ALL=1, but {reason}")
        pytest.skip(reason)

    return give_up


@pytest.fixture(scope="session")
def java(cannot: Callable[[str], NoReturn]) -> None:
    """Needs a Java that Spark 3.5 runs on."""
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        cannot("there is no Java for Spark: install OpenJDK 17, or set JAVA_HOME")
