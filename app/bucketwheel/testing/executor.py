"""The test suite that every SQL executor passes.

A test class inherits `ExecutorContract` and defines three fixtures:

* `sql_engine` returns the `SqlEngine` behind the executor.
* `make_executor` returns a function that takes `timeout`, in seconds, and returns an executor for this engine.
* `target` returns a location that the engine and the storage share, such as a local directory.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.contracts import Catalog, CatalogTable, SqlExecutor, TableCopy
from bucketwheel.errors import (
    ExecutorBusyError,
    ExecutorDeniedError,
    ExecutorError,
    ExecutorResourcesError,
    StatementError,
    TooManyWritersError,
)
from bucketwheel.storage import Storage, join

COLUMNS = (("customer_user_id", "string"), ("select", "bigint"), ("1st", "string"))
MakeExecutor = Callable[..., SqlExecutor]


class SqlEngine(Protocol):
    """The SQL engine behind an executor, or a fake of it."""

    @property
    def catalog(self) -> Catalog:
        """Return the catalog whose tables the engine reads and creates."""
        ...

    @property
    def storage(self) -> Storage:
        """Return the storage of the files of these tables."""
        ...

    def fail_next_copy(self, name: str, message: str) -> None:
        """Make the next copy fail.

        Args:
            name: the error name of Trino and Athena; an engine with other names uses its own one for the same cause.
            message: the message of the error.
        """
        ...

    def hang_next_copy(self) -> None:
        """Make the next copy run until the executor cancels it."""
        ...


def publish_source(sql_engine: SqlEngine, target: str, name: str = "ext_ibe_01") -> CatalogTable:
    """Publish a table of 2 bucket files and return its definition."""
    location = join(target, "people", name, "run")
    for bucket in range(2):
        rows = {"customer_user_id": [f"{bucket}a", f"{bucket}ü"], "select": [1, None], "1st": ["x", "y"]}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(rows), sink)
        sql_engine.storage.write(join(location, f"{bucket:06d}_0.snappy.parquet"), sink.getvalue().to_pybytes())
    table = CatalogTable(
        name=name,
        location=location,
        columns=COLUMNS,
        bucket_columns=("customer_user_id",),
        bucket_count=2,
        sorted=True,
        parameters={"bucketwheel.run_id": "run", "bucketing_version": "1"},
    )
    return sql_engine.catalog.put(table, None)


class ExecutorContract:
    """Tests of the rules in `bucketwheel.contracts.SqlExecutor`."""

    # Whether error messages contain the error names of Trino and Athena.
    trino_error_names = True

    def match_error(self, statement: str, name: str, message: str = "") -> str:
        """Return a pattern that matches the error of a failed statement."""
        return f"{re.escape(statement)}.*failed: {name if self.trino_error_names else ''}.*{message}"

    @pytest.fixture
    def source(self, sql_engine: SqlEngine, target: str) -> CatalogTable:
        """Return a published table to copy."""
        return publish_source(sql_engine, target)

    @pytest.fixture
    def executor(self, make_executor: MakeExecutor) -> SqlExecutor:
        """Return a checked executor."""
        executor = make_executor()
        executor.check()
        return executor

    @pytest.fixture
    def copy(self, source: CatalogTable, target: str) -> TableCopy:
        """Return a request to copy the source."""
        return TableCopy(source, "tmp_copy", join(target, "people", "ext_ibe_01", "ctas-run-1"), "hive_v1")

    def test_copy_creates_table_at_location(
        self, executor: SqlExecutor, sql_engine: SqlEngine, copy: TableCopy
    ) -> None:
        """A copy is a table at the requested location, with the columns and buckets of its source."""
        statement = executor.copy(copy, Event())
        table = sql_engine.catalog.get("tmp_copy")
        assert table is not None
        assert table.location == copy.location
        assert (table.columns, table.bucket_columns, table.bucket_count) == (COLUMNS, ("customer_user_id",), 2)
        assert statement.query_id
        assert statement.bytes_scanned > 0
        assert sql_engine.catalog.get("ext_ibe_01") == copy.source

    @pytest.mark.parametrize(("columns", "count"), [(("select", "customer_user_id"), 8), ((), 0)])
    def test_copy_has_requested_buckets(
        self, executor: SqlExecutor, sql_engine: SqlEngine, copy: TableCopy, columns: tuple[str, ...], count: int
    ) -> None:
        """A copy has the requested buckets and hash, or no buckets."""
        source = replace(copy.source, bucket_columns=columns, bucket_count=count)
        assert executor.hashes
        for scheme in executor.hashes:
            executor.copy(replace(copy, source=source, location=f"{copy.location}{scheme}", hash=scheme), Event())
            table = sql_engine.catalog.get("tmp_copy")
            assert table is not None
            assert (table.bucket_columns, table.bucket_count) == (columns, count)
            versions = {"hive_v1": "1", "hive_v2": "2"}
            assert table.parameters.get("bucketing_version", "1") == (versions[scheme] if count else "1")
            executor.drop("tmp_copy", Event())

    def test_keys_match_only_between_table_and_its_copy(
        self, executor: SqlExecutor, sql_engine: SqlEngine, copy: TableCopy
    ) -> None:
        """A table and its copy have the same row count and checksums until rows are lost."""
        executor.copy(copy, Event())
        columns = ["customer_user_id", "select"]
        expected = executor.keys("ext_ibe_01", columns, Event())
        assert len(expected.rows) == 1
        assert (expected.rows[0][0], len(expected.rows[0])) == ("4", 3)
        assert executor.keys("tmp_copy", columns, Event()).rows == expected.rows
        sql_engine.storage.delete(sql_engine.storage.list(str(copy.location))[0].location)
        assert executor.keys("tmp_copy", columns, Event()).rows != expected.rows

    def test_drop_removes_table_but_not_files(
        self, executor: SqlExecutor, sql_engine: SqlEngine, copy: TableCopy
    ) -> None:
        """Dropping a copy keeps its files; dropping a missing table succeeds."""
        executor.copy(copy, Event())
        for _ in range(2):
            executor.drop("tmp_copy", Event())
            assert sql_engine.catalog.get("tmp_copy") is None
        assert len(sql_engine.storage.list(str(copy.location))) == 2

    @pytest.mark.parametrize(
        ("name", "message", "error_class", "hint"),
        [
            (
                "HIVE_TOO_MANY_OPEN_PARTITIONS",
                "Exceeded limit of 100 open writers for partitions/buckets",
                TooManyWritersError,
                r"ctas\.method=promote, which moves no data, or lower buckets",
            ),
            ("PERMISSION_DENIED", "Access Denied: no s3:PutObject", ExecutorDeniedError, "needs permission"),
            ("QUERY_QUEUE_FULL", "Too many queued queries", ExecutorBusyError, "lower ctas.concurrency"),
            ("EXCEEDED_LOCAL_MEMORY_LIMIT", "Query exceeded 1GB", ExecutorResourcesError, "promote"),
            ("SYNTAX_ERROR", "line 1:1: mismatched input", StatementError, "rejects the statement"),
            ("ADMINISTRATIVELY_KILLED", "Query killed. Message: lunch", ExecutorError, "lunch"),
        ],
        ids=["writers", "denied", "busy", "resources", "statement", "other"],
    )
    def test_failure_determines_error_class(
        self,
        executor: SqlExecutor,
        sql_engine: SqlEngine,
        copy: TableCopy,
        name: str,
        message: str,
        error_class: type[ExecutorError],
        hint: str,
    ) -> None:
        """The error class and the advice follow from the cause; no table is left.

        `bucketwheel.executors.error_mapping.failure` returns such errors.
        """
        sql_engine.fail_next_copy(name, message)
        with pytest.raises(ExecutorError, match=self.match_error("copy of ext_ibe_01", name, hint)) as caught:
            executor.copy(copy, Event())
        assert type(caught.value) is error_class
        assert sql_engine.catalog.get("tmp_copy") is None

    def test_copy_is_cancelled_when_run_is_stopped(
        self, executor: SqlExecutor, sql_engine: SqlEngine, copy: TableCopy
    ) -> None:
        """A copy ends soon after its run is stopped."""
        sql_engine.hang_next_copy()
        stop = Event()
        timer = threading.Timer(0.4, stop.set)
        timer.start()
        started = time.monotonic()
        with pytest.raises(ExecutorError, match="cancelled because the run is being stopped"):
            executor.copy(copy, stop)
        timer.join()
        assert time.monotonic() - started < 10

    def test_copy_is_cancelled_on_timeout(
        self, make_executor: MakeExecutor, sql_engine: SqlEngine, copy: TableCopy
    ) -> None:
        """A copy is cancelled when it reaches the timeout."""
        sql_engine.hang_next_copy()
        with pytest.raises(ExecutorResourcesError, match=r"did not end within 0.3 s and was cancelled"):
            make_executor(timeout=0.3).copy(copy, Event())

    def test_copy_refuses_location_that_is_not_empty(
        self, executor: SqlExecutor, sql_engine: SqlEngine, copy: TableCopy
    ) -> None:
        """A copy never writes into a location with files."""
        existing = join(str(copy.location), "existing")
        sql_engine.storage.write(existing, b"content")
        with pytest.raises(StatementError, match=self.match_error("copy of ext_ibe_01", "HIVE_PATH_ALREADY_EXISTS")):
            executor.copy(copy, Event())
        assert sql_engine.storage.read(existing) == b"content"

    def test_keys_of_missing_table_name_the_table(self, executor: SqlExecutor) -> None:
        """The error names the missing table."""
        with pytest.raises(StatementError, match=self.match_error("keys of nowhere", "TABLE_NOT_FOUND", "nowhere")):
            executor.keys("nowhere", ["a"], Event())

    def test_executor_is_thread_safe(self, executor: SqlExecutor, sql_engine: SqlEngine, target: str) -> None:
        """Several threads copy tables with one executor."""

        def copy_table(number: int) -> tuple[tuple[str | None, ...], ...]:
            source = publish_source(sql_engine, target, f"ext_{number}")
            location = join(target, "people", source.name, "ctas")
            executor.copy(TableCopy(source, f"tmp_{number}", location, "hive_v1"), Event())
            return executor.keys(f"tmp_{number}", ["customer_user_id"], Event()).rows

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(copy_table, range(6)))) == 1
