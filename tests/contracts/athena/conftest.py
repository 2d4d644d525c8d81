"""Fixtures: a fake Athena with Glue and S3, a table to copy, and injected faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from executor_support import athena_settings, s3_engine

from aws_faults import Faults, faulty
from bucketwheel.aws import clients as aws_module
from bucketwheel.contracts import TableCopy
from bucketwheel.executors.athena import AthenaExecutor
from bucketwheel.settings import Settings
from bucketwheel.storage import join
from bucketwheel.testing.executor import publish_source
from fake_athena import FakeAthena, athena_served
from fake_sql import TinySql


@pytest.fixture
def settings(aws: str) -> Settings:
    return athena_settings(aws, {"attempts": 2})


@pytest.fixture
def engine(settings: Settings) -> TinySql:
    return s3_engine(settings)


@pytest.fixture
def fake(engine: TinySql, settings: Settings) -> Iterator[FakeAthena]:
    with athena_served(FakeAthena(engine, str(settings.athena.output_location))) as fake:
        yield fake


@pytest.fixture
def faults(settings: Settings) -> Iterator[Faults]:
    with faulty(aws_module.client("athena", settings.aws)) as injected:
        yield injected


@pytest.fixture
def executor(settings: Settings, fake: FakeAthena) -> AthenaExecutor:
    return AthenaExecutor(settings)


@pytest.fixture
def copy(engine: TinySql, settings: Settings) -> TableCopy:
    source = publish_source(engine, settings.target)
    return TableCopy(source, "tmp_copy", join(settings.target, "people", "ext_ibe_01", "ctas-run-1"), "hive_v1")
