"""What every SQL executor promises; a test class per executor inherits this and brings `engine`, `make`, `target`."""

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
    """Publish a table of two bucket files."""
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
    """The tests."""

    @pytest.fixture
    def source(self, engine: TinySql, target: str) -> CatalogTable:
        return source_in(engine, target)

    @pytest.fixture
    def executor(self, make: MakeExecutor) -> SqlExecutor:
        made = make()
        made.check()
        return made

    @pytest.fixture
    def copy(self, source: CatalogTable, target: str) -> TableCopy:
        return TableCopy(source, "tmp_copy", join(target, "people", "ext_ibe_01", "ctas-run-1"), "hive_v1")

    def test_a_copy_is_a_table_of_its_own_at_the_place_given(
        self, executor: SqlExecutor, engine: TinySql, copy: TableCopy
    ) -> None:
        statement = executor.copy(copy, Event())
        made = engine.catalog.get("tmp_copy")
        assert made is not None
        assert made.location == copy.location
        assert (made.columns, made.bucket_columns, made.bucket_count) == (COLUMNS, ("customer_user_id",), 2)
        assert statement.query_id
        assert statement.bytes_scanned > 0
        assert engine.catalog.get("ext_ibe_01") == copy.source

    @pytest.mark.parametrize(("columns", "count"), [(("select", "customer_user_id"), 8), ((), 0)])
    def test_a_copy_has_the_buckets_that_were_asked_for(
        self, executor: SqlExecutor, engine: TinySql, copy: TableCopy, columns: tuple[str, ...], count: int
    ) -> None:
        source = replace(copy.source, bucket_columns=columns, bucket_count=count)
        assert executor.hashes
        for scheme in executor.hashes:
            executor.copy(replace(copy, source=source, location=f"{copy.location}{scheme}", hash=scheme), Event())
            made = engine.catalog.get("tmp_copy")
            assert made is not None
            assert (made.bucket_columns, made.bucket_count) == (columns, count)
            versions = {"hive_v1": "1", "hive_v2": "2"}
            assert made.parameters.get("bucketing_version", "1") == (versions[scheme] if count else "1")
            executor.drop("tmp_copy", Event())

    def test_keys_are_the_same_of_a_table_and_its_copy_and_of_no_other(
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

    def test_what_is_dropped_is_gone_and_its_files_are_not(
        self, executor: SqlExecutor, engine: TinySql, copy: TableCopy
    ) -> None:
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
    def test_failures_are_told_by_their_cause(
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

    def test_a_copy_is_cancelled_when_the_run_is_stopped(
        self, executor: SqlExecutor, engine: TinySql, copy: TableCopy
    ) -> None:
        engine.plan("CREATE TABLE", Plan(hang=True))
        stop = Event()
        timer = threading.Timer(0.4, stop.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(ExecutorError, match="cancelled because the run is being stopped"):
            executor.copy(copy, stop)
        timer.join()
        assert time.monotonic() - began < 10

    def test_a_copy_that_takes_too_long_is_cancelled(
        self, make: MakeExecutor, engine: TinySql, copy: TableCopy
    ) -> None:
        engine.plan("CREATE TABLE", Plan(hang=True))
        with pytest.raises(ExecutorResourcesError, match=r"did not end within 0.3 s and was cancelled"):
            make(timeout=0.3).copy(copy, Event())

    def test_a_place_that_is_not_empty_is_refused(
        self, executor: SqlExecutor, engine: TinySql, copy: TableCopy
    ) -> None:
        kept = join(str(copy.location), "dear")
        engine.storage.write(kept, b"to somebody")
        with pytest.raises(StatementError, match="HIVE_PATH_ALREADY_EXISTS"):
            executor.copy(copy, Event())
        assert engine.storage.read(kept) == b"to somebody"

    def test_a_missing_table_is_named(self, executor: SqlExecutor, engine: TinySql) -> None:
        with pytest.raises(StatementError, match=r"TABLE_NOT_FOUND.*nowhere"):
            executor.keys("nowhere", ["a"], Event())

    def test_several_threads_may_use_it(self, executor: SqlExecutor, engine: TinySql, target: str) -> None:
        def work(number: int) -> tuple[tuple[str | None, ...], ...]:
            source = source_in(engine, target, f"ext_{number}")
            place = join(target, "people", source.name, "ctas")
            executor.copy(TableCopy(source, f"tmp_{number}", place, "hive_v1"), Event())
            return executor.keys(f"tmp_{number}", ["customer_user_id"], Event()).rows

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(work, range(6)))) == 1
