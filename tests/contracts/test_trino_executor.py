"""The Trino executor: session, checks, and failures of the server or of a query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bucketwheel.contracts import TableCopy
from bucketwheel.errors import ConfigError, ExecutorBusyError, ExecutorError
from bucketwheel.executors.trino import TrinoExecutor
from bucketwheel.settings import CatalogSettings, CtasSettings, Settings, StorageSettings, TrinoSettings
from bucketwheel.storage import Storage
from bucketwheel.testing.executor import publish_source
from fake_sql import Plan, TinySql
from fake_trino import FakeTrino, trino_served
from memory_catalog import MemoryCatalog


@pytest.fixture
def engine() -> TinySql:
    return TinySql(MemoryCatalog(), Storage(StorageSettings()))


@pytest.fixture
def server(engine: TinySql) -> Iterator[FakeTrino]:
    with trino_served(engine) as fake:
        yield fake


def executor_at(port: int, **changes: Any) -> TrinoExecutor:
    return TrinoExecutor(
        Settings(
            catalog=CatalogSettings(kind="glue", path=None, database="OMC"),
            ctas=CtasSettings(method="trino"),
            trino=TrinoSettings(host="127.0.0.1", port=port, **changes),
        )
    )


def test_session_sets_timestamp_precision_and_codec(server: FakeTrino) -> None:
    executor_at(server.port, user="me").check()
    headers = server.headers
    assert (headers["X-Trino-User"], headers["X-Trino-Catalog"], headers["X-Trino-Schema"]) == ("me", "hive", "omc")
    assert "hive.compression_codec=SNAPPY" in headers["X-Trino-Session"]
    assert "hive.timestamp_precision=MICROSECONDS" in headers["X-Trino-Session"]
    assert "Authorization" not in headers


def test_check_with_missing_catalog_names_existing_ones(server: FakeTrino) -> None:
    with pytest.raises(ConfigError, match=r"trino\.catalog: Trino at 127\.0\.0\.1:\d+ has no catalog 'lake'.*hive"):
        executor_at(server.port, catalog="lake").check()


def test_check_with_unreachable_server_names_address(server: FakeTrino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(ExecutorBusyError, match=r"127\.0\.0\.1:1 \(catalogs\): cannot be reached.*trino\.host"):
        executor_at(1).check()
    server.refuse = True
    with pytest.raises(ExecutorBusyError, match="cannot be reached"):
        executor_at(server.port).check()


def test_killed_query_raises_executor_error(server: FakeTrino, engine: TinySql, tmp_path: Path) -> None:
    source = publish_source(engine, str(tmp_path))
    engine.plan("CREATE TABLE", Plan("ADMINISTRATIVELY_KILLED", "Query killed."))
    copy = TableCopy(source, "tmp", str(tmp_path / "ctas"), "hive_v1")
    with pytest.raises(
        ExecutorError, match=r"Trino query \d+_.* \(copy of ext_ibe_01\) failed: ADMINISTRATIVELY_KILL"
    ):
        executor_at(server.port).copy(copy, Event())


def test_interrupt_cancels_query_in_trino(server: FakeTrino, engine: TinySql, tmp_path: Path) -> None:
    source = publish_source(engine, str(tmp_path))
    engine.plan("CREATE TABLE", Plan(hang=True))

    class Interrupted(Event):
        def is_set(self) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor_at(server.port).copy(TableCopy(source, "tmp", str(tmp_path / "ctas"), "hive_v1"), Interrupted())
    assert len(server.cancelled) >= 1


def test_check_refuses_password_without_https(server: FakeTrino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRINO_PASSWORD", "secret")
    with pytest.raises(ConfigError, match=r"TRINO_PASSWORD is set.*trino\.https=true"):
        executor_at(server.port).check()
