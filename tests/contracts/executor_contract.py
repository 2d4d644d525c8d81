"""Contract of SQL executors; each test class inherits it and provides the fixtures `engine`, `make` and `target`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.contracts import CatalogTable, SqlExecutor, TableCopy
from bucketwheel.errors import (
    ExecutorBusyError,
    ExecutorDeniedError,
    ExecutorError,
    ExecutorResourcesError,
    StatementError,
    TooManyWritersError,
)
from bucketwheel.storage import join
from fake_sql import Plan, TinySql

COLUMNS = (("customer_user_id", "string"), ("select", "bigint"), ("1st", "string"))
MakeExecutor = Callable[..., SqlExecutor]


def source_in(engine: TinySql, target: str, name: str = "ext_ibe_01") -> CatalogTable:
    """Publish a table of two bucket files and return it."""
    location = join(target, "people", name, "run")
    for bucket in range(2):
        rows = {"customer_user_id": [f"{bucket}a", f"{bucket}ü"], "select": [1, None], "1st": ["x", "y"]}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(rows), sink)
        engine.storage.write(join(location, f"{bucket:06d}_0.snappy.parquet"), sink.getvalue().to_pybytes())
    table = CatalogTable(
        name=name,
        location=location,
        columns=COLUMNS,
        bucket_columns=("customer_user_id",),
        bucket_count=2,
        sorted=True,
        parameters={"bucketwheel.run_id": "run", "bucketing_version": "1"},
    )
    return engine.catalog.put(table, None)


class ExecutorContract:
    """Tests that every SQL executor passes."""

    @pytest.fixture
    def source(self, engine: TinySql, target: str) -> CatalogTable:
        return source_in(engine, target)

    @pytest.fixture
    def executor(self, make: MakeExecutor) -> SqlExecutor:
        executor = make()
        executor.check()
        return executor

    @pytest.fixture
    def copy(self, source: CatalogTable, target: str) -> TableCopy:
        return TableCopy(source, "tmp_copy", join(target, "people", "ext_ibe_01", "ctas-run-1"), "hive_v1")

    def test_copy_creates_table_at_location(self, executor: SqlExecutor, engine: TinySql, copy: TableCopy) -> None:
        statement = executor.copy(copy, Event())
        table = engine.catalog.get("tmp_copy")
        assert table is not None
        assert table.location == copy.location
        assert (table.columns, table.bucket_columns, table.bucket_count) == (COLUMNS, ("customer_user_id",), 2)
        assert statement.query_id
        assert statement.bytes_scanned > 0
        assert engine.catalog.get("ext_ibe_01") == copy.source

    @pytest.mark.parametrize(("columns", "count"), [(("select", "customer_user_id"), 8), ((), 0)])
    def test_copy_has_requested_buckets(
        self, executor: SqlExecutor, engine: TinySql, copy: TableCopy, columns: tuple[str, ...], count: int
    ) -> None:
        source = replace(copy.source, bucket_columns=columns, bucket_count=count)
        assert executor.hashes
        for scheme in executor.hashes:
            executor.copy(replace(copy, source=source, location=f"{copy.location}{scheme}", hash=scheme), Event())
            table = engine.catalog.get("tmp_copy")
            assert table is not None
            assert (table.bucket_columns, table.bucket_count) == (columns, count)
            versions = {"hive_v1": "1", "hive_v2": "2"}
            assert table.parameters.get("bucketing_version", "1") == (versions[scheme] if count else "1")
            executor.drop("tmp_copy", Event())

    def test_keys_match_only_between_table_and_its_copy(
        self, executor: SqlExecutor, engine: TinySql, copy: TableCopy
    ) -> None:
        executor.copy(copy, Event())
        columns = ["customer_user_id", "select"]
        expected = executor.keys("ext_ibe_01", columns, Event())
        assert len(expected.rows) == 1
        assert (expected.rows[0][0], len(expected.rows[0])) == ("4", 3)
        assert executor.keys("tmp_copy", columns, Event()).rows == expected.rows
        engine.storage.delete(engine.storage.list(str(copy.location))[0].location)
        assert executor.keys("tmp_copy", columns, Event()).rows != expected.rows

    def test_drop_removes_table_but_not_files(self, executor: SqlExecutor, engine: TinySql, copy: TableCopy) -> None:
        executor.copy(copy, Event())
        for _ in range(2):
            executor.drop("tmp_copy", Event())
            assert engine.catalog.get("tmp_copy") is None
        assert len(engine.storage.list(str(copy.location))) == 2

    @pytest.mark.parametrize(
        ("plan", "kind", "hint"),
        [
            (
                Plan("HIVE_TOO_MANY_OPEN_PARTITIONS", "Exceeded limit of 100 open writers for partitions/buckets"),
                TooManyWritersError,
                r"ctas\.method=promote, which moves no data, or fewer buckets",
            ),
            (Plan("PERMISSION_DENIED", "Access Denied: no s3:PutObject"), ExecutorDeniedError, "needs permission"),
            (Plan("QUERY_QUEUE_FULL", "Too many queued queries"), ExecutorBusyError, "lower ctas.concurrency"),
            (Plan("EXCEEDED_LOCAL_MEMORY_LIMIT", "Query exceeded 1GB"), ExecutorResourcesError, "promote"),
            (Plan("SYNTAX_ERROR", "line 1:1: mismatched input"), StatementError, "rejects the statement"),
            (Plan("ADMINISTRATIVELY_KILLED", "Query killed. Message: lunch"), ExecutorError, "lunch"),
        ],
    )
    def test_failure_determines_error_class(
        self,
        executor: SqlExecutor,
        engine: TinySql,
        copy: TableCopy,
        plan: Plan,
        kind: type[ExecutorError],
        hint: str,
    ) -> None:
        engine.plan("CREATE TABLE", plan)
        with pytest.raises(ExecutorError, match=f"copy of ext_ibe_01.*failed: {plan.name}.*{hint}") as caught:
            executor.copy(copy, Event())
        assert type(caught.value) is kind
        assert engine.catalog.get("tmp_copy") is None

    def test_copy_is_cancelled_when_run_is_stopped(
        self, executor: SqlExecutor, engine: TinySql, copy: TableCopy
    ) -> None:
        engine.plan("CREATE TABLE", Plan(hang=True))
        stop = Event()
        timer = threading.Timer(0.4, stop.set)
        timer.start()
        started = time.monotonic()
        with pytest.raises(ExecutorError, match="cancelled because the run is being stopped"):
            executor.copy(copy, stop)
        timer.join()
        assert time.monotonic() - started < 10

    def test_copy_is_cancelled_on_timeout(self, make: MakeExecutor, engine: TinySql, copy: TableCopy) -> None:
        engine.plan("CREATE TABLE", Plan(hang=True))
        with pytest.raises(ExecutorResourcesError, match=r"did not end within 0.3 s and was cancelled"):
            make(timeout=0.3).copy(copy, Event())

    def test_copy_refuses_location_that_is_not_empty(
        self, executor: SqlExecutor, engine: TinySql, copy: TableCopy
    ) -> None:
        kept = join(str(copy.location), "existing")
        engine.storage.write(kept, b"content")
        with pytest.raises(StatementError, match="HIVE_PATH_ALREADY_EXISTS"):
            executor.copy(copy, Event())
        assert engine.storage.read(kept) == b"content"

    def test_keys_of_missing_table_name_the_table(self, executor: SqlExecutor, engine: TinySql) -> None:
        with pytest.raises(StatementError, match=r"TABLE_NOT_FOUND.*nowhere"):
            executor.keys("nowhere", ["a"], Event())

    def test_executor_is_thread_safe(self, executor: SqlExecutor, engine: TinySql, target: str) -> None:
        def work(number: int) -> tuple[tuple[str | None, ...], ...]:
            source = source_in(engine, target, f"ext_{number}")
            location = join(target, "people", source.name, "ctas")
            executor.copy(TableCopy(source, f"tmp_{number}", location, "hive_v1"), Event())
            return executor.keys(f"tmp_{number}", ["customer_user_id"], Event()).rows

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(work, range(6)))) == 1
