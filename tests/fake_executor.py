"""An in-process SQL executor that fulfills the whole contract."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from threading import Event

from bucketwheel.catalogs.sql import drop_table, key_facts, name_of
from bucketwheel.contracts import Statement, TableCopy
from bucketwheel.errors import ExecutorError, ExecutorResourcesError
from bucketwheel.executors.error_mapping import failure
from bucketwheel.executors.trino import copy_statement
from fake_sql import SqlRefusedError, TinySql


class FakeExecutor:
    """Executes statements on a `TinySql`."""

    writers: int | None = 1000
    hashes: tuple[str, ...] = ("hive_v1", "hive_v2")
    timestamp_unit = "us"
    sorts = True
    catalogs: tuple[str, ...] | None = None

    def __init__(self, sql: TinySql, timeout: float = 60) -> None:
        self.sql = sql
        self.chooses_location = sql.enforced is not None
        self._timeout = timeout
        self._numbers = itertools.count()

    def check(self) -> None:
        """Pass: there is nothing to check."""

    def copy(self, copy: TableCopy, stop: Event) -> Statement:
        text = copy_statement(copy, "fake", "db", False)
        try:
            return self._execute(text, f"copy of {copy.source.name}", stop)
        except ExecutorError:
            for location in self.sql.written.pop(text, []):
                self.sql.storage.delete(location)
            raise

    def keys(self, table: str, columns: Sequence[str], stop: Event) -> Statement:
        return self._execute(key_facts(name_of("db", table), columns), f"keys of {table}", stop)

    def drop(self, table: str, stop: Event) -> None:
        self._execute(drop_table(name_of("db", table)), f"drop of {table}", stop)

    def _execute(self, text: str, thing: str, stop: Event) -> Statement:
        query_id = f"fake-{next(self._numbers)}"
        plan = self.sql.begin(text)
        if plan and plan.hang:
            if stop.wait(self._timeout):
                raise ExecutorError(f"{thing} was cancelled because the run is being stopped")
            raise ExecutorResourcesError(f"{thing} did not end within {self._timeout} s and was cancelled")
        try:
            if plan:
                raise SqlRefusedError(plan.name, plan.message)
            rows = tuple(self.sql.execute(text, query_id))
        except SqlRefusedError as error:
            raise failure(thing, str(error)) from error
        return Statement(query_id, rows, 1, 0.0)
