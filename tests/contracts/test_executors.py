from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executor_support import athena_settings, s3_engine

from bucketwheel.executors.athena import AthenaExecutor
from bucketwheel.executors.trino import TrinoExecutor
from bucketwheel.settings import CatalogSettings, CtasSettings, Settings, StorageSettings, TrinoSettings
from bucketwheel.storage import Storage
from bucketwheel.testing.executor import ExecutorContract, MakeExecutor
from fake_athena import FakeAthena, athena_served
from fake_executor import FakeExecutor
from fake_sql import TinySql
from fake_trino import trino_served
from memory_catalog import MemoryCatalog


class TestFakeExecutor(ExecutorContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> str:
        return str(tmp_path)

    @pytest.fixture
    def sql_engine(self) -> TinySql:
        return TinySql(MemoryCatalog(), Storage(StorageSettings()))

    @pytest.fixture
    def make_executor(self, sql_engine: TinySql) -> MakeExecutor:
        return lambda timeout=60: FakeExecutor(sql_engine, timeout)


class TestAthenaExecutor(ExecutorContract):
    @pytest.fixture
    def settings(self, aws: str) -> Settings:
        return athena_settings(aws)

    @pytest.fixture
    def target(self, settings: Settings) -> str:
        return settings.target

    @pytest.fixture
    def sql_engine(self, settings: Settings) -> TinySql:
        return s3_engine(settings)

    @pytest.fixture
    def make_executor(self, settings: Settings, sql_engine: TinySql) -> Iterator[MakeExecutor]:
        def make(timeout: float = 60) -> AthenaExecutor:
            ctas = settings.ctas.model_copy(update={"timeout_seconds": timeout})
            return AthenaExecutor(settings.model_copy(update={"ctas": ctas}))

        with athena_served(FakeAthena(sql_engine, str(settings.athena.output_location))):
            yield make


class TestTrinoExecutor(ExecutorContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> str:
        return str(tmp_path)

    @pytest.fixture
    def sql_engine(self) -> TinySql:
        return TinySql(MemoryCatalog(), Storage(StorageSettings()))

    @pytest.fixture
    def make_executor(self, sql_engine: TinySql, target: str) -> Iterator[MakeExecutor]:
        with trino_served(sql_engine) as server:

            def make(timeout: float = 60, **changes: Any) -> TrinoExecutor:
                return TrinoExecutor(
                    Settings(
                        target=target,
                        catalog=CatalogSettings(kind="glue", path=None, database="db"),
                        ctas=CtasSettings(method="trino", timeout_seconds=timeout),
                        trino=TrinoSettings(host="127.0.0.1", port=server.port, **changes),
                    )
                )

            yield make
