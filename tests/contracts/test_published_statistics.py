"""Statistics of columns in Glue belong to the run that a table shows, or are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from glue_support import glue_settings

from aws_faults import Faults, faulty, lost_response, refusal
from aws_server import plain_client
from bucketwheel.aws import clients as aws_module
from bucketwheel.catalogs.definitions import DATASET
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.catalogs.publish import publish_all
from bucketwheel.contracts import CatalogTable, TableStatistics
from bucketwheel.contracts.catalog import STATISTICS
from bucketwheel.errors import CatalogError
from bucketwheel.runs.column_statistics import ColumnStatistics
from bucketwheel.testing.tables import table_at
from glue_calls import publication_calls

TABLES = ("t1", "t2")
UPDATE, DELETE, GET = (f"{verb}ColumnStatisticsForTable" for verb in ("Update", "Delete", "Get"))
DENIED = refusal("AccessDeniedException")


class Fence:
    @contextmanager
    def guard(self) -> Iterator[None]:
        yield


class Published:
    """Two tables in Glue; the statistics of run n have n as the number of distinct values."""

    def __init__(self, aws: str, settings: Any, directory: Path, faults: Faults) -> None:
        self.catalog = GlueCatalog(settings)
        self.faults = faults
        self._glue = plain_client("glue", aws)
        self._directory = directory

    def tables(self, run: int, statistics: bool = True, more: int = 0) -> list[CatalogTable]:
        columns = tuple((f"c{number}", "string") for number in range(more))
        values = {
            name: ColumnStatistics(name=name, nulls=0, distinct=run, longest=5, bytes=10)
            for name, _ in (("id", ""), ("mark", ""), *columns)
        }
        tables = []
        for name in TABLES:
            table = table_at(self._directory, name, f"run{run}")
            parameters = {**table.parameters, DATASET: "people"}
            if statistics:
                parameters[STATISTICS] = "basic"
            tables.append(
                replace(
                    table,
                    columns=(*table.columns, *columns),
                    parameters=parameters,
                    statistics=TableStatistics(2, values) if statistics else None,
                )
            )
        return tables

    def publish(self, run: int, statistics: bool = True, more: int = 0, **arguments: Any) -> tuple[str, ...]:
        tables = self.tables(run, statistics, more)
        return publish_all(self.catalog, Fence(), tables, adopt=False, **arguments).warnings

    def shown(self) -> dict[str, tuple[int, dict[str, int]]]:
        """Return the run that each table shows, and the number of distinct values by column."""
        database, shown = self.catalog.database, {}
        for table in self._glue.get_tables(DatabaseName=database)["TableList"]:
            storage = table["StorageDescriptor"]
            names = [column["Name"] for column in storage["Columns"]]
            values: dict[str, int] = {}
            for start in range(0, len(names), 100):
                entries = self._glue.get_column_statistics_for_table(
                    DatabaseName=database, TableName=table["Name"], ColumnNames=names[start : start + 100]
                )["ColumnStatisticsList"]
                data = {entry["ColumnName"]: entry["StatisticsData"] for entry in entries}
                values |= {
                    name: entry["StringColumnStatisticsData"]["NumberOfDistinctValues"]
                    for name, entry in data.items()
                }
            shown[table["Name"]] = (int(storage["Location"].removesuffix("/")[-1]), values)
        return shown

    def check_no_mix(self, _: Any = None) -> None:
        for run, statistics in self.shown().values():
            assert set(statistics.values()) <= {run}


def complete(run: int, *names: str) -> dict[str, tuple[int, dict[str, int]]]:
    return {name: (run, dict.fromkeys(("id", "mark"), run) if name in (names or TABLES) else {}) for name in TABLES}


@pytest.fixture
def published(aws: str, tmp_path: Path) -> Iterator[Published]:
    settings = glue_settings(aws, str(tmp_path), {"attempts": 1}, retry_seconds=0)
    with faulty(aws_module.client("glue", settings.aws)) as faults:
        yield Published(aws, settings, tmp_path, faults)


def test_no_call_of_a_publication_shows_statistics_of_another_run(published: Published) -> None:
    assert published.publish(1) == ()
    assert published.shown() == complete(1)
    for operation in ("UpdateTable", UPDATE, DELETE, GET, "GetTables", "GetTable"):
        published.faults.always(operation, published.check_no_mix)
    assert published.publish(2) == published.publish(1) == ()
    assert published.shown() == complete(1)
    assert published.faults.calls["UpdateTable"] == 4


def test_wide_tables_take_one_update_per_25_columns(published: Published) -> None:
    published.publish(1, more=148)
    assert published.faults.calls[UPDATE] == 6 * len(TABLES)
    assert {len(columns) for _, columns in published.shown().values()} == {150}
    before = sum(published.faults.calls.values()) - published.faults.calls["GetTables"]
    published.publish(2, more=148)
    published.check_no_mix()
    after = sum(published.faults.calls.values()) - published.faults.calls["GetTables"]
    assert after - before == publication_calls(150, 150) * len(TABLES)
    # One for each new table, before it exists, then one for each 100 columns.
    assert published.faults.calls[GET] == (1 + 2) * len(TABLES)
    assert published.faults.calls[DELETE] == 150 * len(TABLES)


def test_statistics_of_vanished_columns_are_deleted(published: Published) -> None:
    published.publish(1, more=3)
    published.publish(2)
    assert published.shown() == complete(2)
    published.publish(3, more=3)
    assert {frozenset(columns.values()) for _, columns in published.shown().values()} == {frozenset([3])}


def test_failed_publication_restores_statistics(published: Published) -> None:
    published.publish(1)

    def fail() -> None:
        published.check_no_mix()
        raise CatalogError("no more")

    with pytest.raises(CatalogError, match="no more"):
        published.publish(2, then=fail)
    assert published.shown() == complete(1)


def test_undeletable_statistics_fail_the_publication(published: Published) -> None:
    published.publish(1)
    published.faults.plan(DELETE, None, None, DENIED, DENIED)
    with pytest.raises(CatalogError, match="t2"):
        published.publish(2)
    assert published.shown() == complete(1)


@pytest.mark.parametrize("fault", [DENIED, refusal("InternalServiceException", 500), lost_response])
def test_unwritten_statistics_are_one_warning_and_finished_later(published: Published, fault: Any) -> None:
    published.publish(1)
    published.faults.plan(UPDATE, None, fault)
    (warning,) = published.publish(2)
    assert "'t2'" in warning
    assert "bucketwheel rollback run run2" in warning
    published.check_no_mix()
    assert published.publish(2) == ()
    assert published.shown() == complete(2)
    assert published.faults.calls["UpdateTable"] == 2


def test_killed_publication_leaves_none_and_the_next_one_finishes(published: Published) -> None:
    published.publish(1)

    class Killed(BaseException):
        pass

    def kill(_: Any) -> None:
        raise Killed

    published.faults.plan(UPDATE, None, kill)
    with pytest.raises(Killed):
        published.publish(2)
    assert published.shown() == complete(2, "t1")
    assert published.publish(2) == ()
    assert published.shown() == complete(2)


def test_unreadable_statistics_of_other_programs_are_a_warning(published: Published) -> None:
    published.publish(1, statistics=False)
    published.faults.always(GET, DENIED)
    (warning,) = published.publish(2)
    assert GET in warning
    assert published.faults.calls.get(UPDATE, 0) == published.faults.calls.get(DELETE, 0) == 0


def test_missing_permission_is_a_warning_in_every_month(published: Published) -> None:
    for operation in (GET, UPDATE, DELETE):
        published.faults.always(operation, DENIED)
    for run in (1, 2, 3):
        (warning,) = published.publish(run)
        assert GET in warning
        assert "'t1'" in warning
    published.faults.always(GET, None)
    (warning,) = published.publish(4)
    assert UPDATE in warning
    assert len(published.publish(5)) == 1


def test_unreadable_statistics_of_an_earlier_run_fail_the_publication(published: Published) -> None:
    published.publish(1)
    published.faults.plan(GET, DENIED)
    with pytest.raises(CatalogError, match="t1"):
        published.publish(2)
    assert published.shown() == complete(1)


def test_publication_without_statistics_deletes_those_of_bucketwheel(published: Published) -> None:
    published.publish(1)
    assert published.publish(2, statistics=False) == ()
    assert published.shown() == {name: (2, {}) for name in TABLES}
    calls = dict(published.faults.calls)
    published.publish(3, statistics=False)
    assert [published.faults.calls[name] == calls[name] for name in (GET, DELETE, UPDATE)] == [True] * 3


def test_refused_columns_are_named_in_a_warning(published: Published) -> None:
    tables = [replace(table, columns=(*table.columns, ("list", "string"))) for table in published.tables(1)]
    good = publish_all(published.catalog, Fence(), tables, adopt=False)
    assert good.warnings == ()
    entries = published.catalog.column_entries(tables[0])
    entries[0]["StatisticsData"] = {
        "Type": "LONG",
        "LongColumnStatisticsData": {"NumberOfNulls": 0, "NumberOfDistinctValues": 1},
    }
    (problem,) = published.catalog.put_column_statistics("t1", entries)
    table = f"{published.catalog.database}.t1"
    assert problem.startswith(f"table {table}: Glue refused the statistics of columns id: Invalid")
