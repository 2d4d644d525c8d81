"""Fixtures: a Glue catalog with its own database, and injected faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from glue_support import glue_settings

from aws_faults import Faults, faulty
from bucketwheel.aws import clients as aws_module
from bucketwheel.catalogs.glue import GlueCatalog


@pytest.fixture
def settings(aws: str, tmp_path: Path) -> Any:
    return glue_settings(aws, str(tmp_path), {"attempts": 2}, retry_seconds=5)


@pytest.fixture
def catalog(settings: Any) -> GlueCatalog:
    return GlueCatalog(settings)


@pytest.fixture
def faults(settings: Any) -> Iterator[Faults]:
    with faulty(aws_module.client("glue", settings.aws)) as planned:
        yield planned
