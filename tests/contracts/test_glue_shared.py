"""Tables in Glue with concurrent readers and with two concurrent writers.

moto accepts an update of a stale version; `aws_server.strict_glue` in front of it refuses one, as AWS documents.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from glue_support import glue_settings

from aws_faults import Faults, faulty
from aws_server import plain_client
from bucketwheel.aws import clients as aws_module
from bucketwheel.catalogs.definitions import DATASET
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.catalogs.publish import publish_all
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import CatalogError, ConcurrentPublishError, ForeignTableError
from bucketwheel.testing.tables import table_at

ROUNDS = 20
RACES = 12
TABLES = ("t1", "t2", "t3")


class Fence:
    @contextmanager
    def guard(self) -> Iterator[None]:
        yield


def of_run(directory: Path, run: str) -> list[CatalogTable]:
    tables = [table_at(directory, name, run) for name in TABLES]
    return [replace(table, parameters={**table.parameters, DATASET: "people"}) for table in tables]


@pytest.fixture
def settings(aws: str, tmp_path: Path) -> Any:
    return glue_settings(aws, str(tmp_path))


def shown(catalog: GlueCatalog) -> dict[str, str]:
    """Return the run that each table shows; check that its location and its parameter agree."""
    run_names = {}
    for table in catalog.tables():
        run_names[table.name] = table.location.rpartition("/")[2]
        assert table.run_id == f"run {run_names[table.name]}"
    return run_names


class Meeting:
    """Holds the first change of each of two writers until both have read the list and the table."""

    def __init__(self, faults: Faults, change: str) -> None:
        self._together = threading.Barrier(2)
        faults.plan(change, self._wait, self._wait)

    def _wait(self, _: Any) -> None:
        self._together.wait(30)


def race(catalog: GlueCatalog, tables: list[CatalogTable]) -> ConcurrentPublishError | None:
    try:
        publish_all(catalog, Fence(), tables, adopt=False)
    except ConcurrentPublishError as error:
        return error
    return None


def test_reader_sees_every_table_and_no_mixed_one(aws: str, settings: Any, tmp_path: Path) -> None:
    catalog = GlueCatalog(settings)
    publish_all(catalog, Fence(), of_run(tmp_path, "round0"), adopt=False)
    stop, reads = threading.Event(), []

    def read() -> None:
        glue = plain_client("glue", aws)
        while not stop.is_set():
            for name in TABLES:
                table = glue.get_table(DatabaseName=catalog.database, Name=name)["Table"]
                location = Path(table["StorageDescriptor"]["Location"])
                assert table["Parameters"]["bucketwheel.run_id"] == f"run {location.name}"
                assert list(location.glob("*.parquet"))
                reads.append(location.name)

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for number in range(1, ROUNDS + 1):
            publish_all(catalog, Fence(), of_run(tmp_path, f"round{number}"), adopt=False)
            if number % 5 == 0:
                publish_all(catalog, Fence(), of_run(tmp_path, f"round{number - 1}"), adopt=False)
            if reader.done():
                break
        stop.set()
        reader.result()
    assert len(set(reads)) > 5
    assert shown(catalog) == dict.fromkeys(TABLES, f"round{ROUNDS - 1}")


@pytest.mark.parametrize("change", ["UpdateTable", "CreateTable"])
def test_one_of_two_publishers_without_lease_wins(settings: Any, tmp_path: Path, change: str) -> None:
    catalog = GlueCatalog(settings)
    publish_all(catalog, Fence(), of_run(tmp_path, "start"), adopt=False)
    wins = 0
    with faulty(aws_module.client("glue", settings.aws)) as faults:
        for number in range(RACES):
            if change == "CreateTable":
                for table in catalog.tables():
                    catalog.remove(table)
            Meeting(faults, change)
            names = [f"a{number}", f"b{number}"]
            with ThreadPoolExecutor(2) as pool:
                racers = [pool.submit(race, catalog, of_run(tmp_path, name)) for name in names]
                outcomes = {name: racer.result() for name, racer in zip(names, racers, strict=True)}
            winners = [name for name, error in outcomes.items() if error is None]
            losers = [error for error in outcomes.values() if error is not None]
            assert [error.exit_code for error in losers] == [4]
            assert "another process published it" in str(losers[0])
            assert shown(catalog) == dict.fromkeys(TABLES, winners[0])
            wins += len(winners)
    assert wins == RACES


def test_foreign_tables_are_refused_or_adopted_and_restored(aws: str, settings: Any, tmp_path: Path) -> None:
    catalog = GlueCatalog(settings)
    publish_all(catalog, Fence(), of_run(tmp_path, "first")[:1], adopt=False)
    glue = plain_client("glue", aws)
    given = {"Name": "t2", "Owner": "somebody", "StorageDescriptor": {"Location": "s3://theirs/"}}
    glue.create_table(DatabaseName=catalog.database, TableInput=given)
    with pytest.raises(ForeignTableError, match=r"'t2' exists.*adopt=true"):
        publish_all(catalog, Fence(), of_run(tmp_path, "second"), adopt=False)

    def fail() -> None:
        raise CatalogError("no more")

    with pytest.raises(CatalogError, match="no more"):
        publish_all(catalog, Fence(), of_run(tmp_path, "second"), adopt=True, then=fail)
    table = glue.get_table(DatabaseName=catalog.database, Name="t2")["Table"]
    assert {name: table[name] for name in given} == given
    assert {table.name for table in catalog.tables()} == {"t1", "t2"}
    publish_all(catalog, Fence(), of_run(tmp_path, "second"), adopt=True)
    assert shown(catalog) == dict.fromkeys(TABLES, "second")
