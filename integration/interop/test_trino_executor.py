"""The Trino executor on a real Trino: statements and failures."""

from __future__ import annotations

import io
import os
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from unittest import mock

import pyarrow.parquet as pq
import pytest

from aws_server import CREDENTIALS
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.contracts import CatalogTable, TableCopy
from bucketwheel.errors import ExecutorError, ExecutorResourcesError, StatementError, TooManyWritersError
from bucketwheel.executors.trino import TrinoExecutor

from .key_tables import FREE, KEY, SECOND, rows
from .lake import Lake, LakeProject
from .people_tables import PeopleTables

NAME = "executor"
COUNT = 4


@pytest.fixture(scope="module")
def project(lake: Lake) -> LakeProject:
    """A project with a table of unsorted promoted files and a view `endless` that runs until it is cancelled."""
    published = lake.publish(NAME, rows("two columns"), [KEY, SECOND], buckets={"count": COUNT, "sort": False})
    # The view takes weeks and returns no row, so that a copy of it writes nothing.
    parts = " CROSS JOIN ".join(f"{published.table(NAME)} AS {name}" for name in "abcdef")
    never = " + ".join(f"{name}.number" for name in "abcdef") + " < 0"
    published.ask(f"CREATE VIEW hive.{NAME}.endless AS SELECT a.{KEY} FROM {parts} WHERE {never}")
    return published


@pytest.fixture(scope="module")
def catalog(project: LakeProject) -> Iterator[GlueCatalog]:
    with mock.patch.dict(os.environ, CREDENTIALS):
        yield GlueCatalog(project.configuration().settings)


@pytest.fixture
def source(catalog: GlueCatalog) -> CatalogTable:
    table = catalog.get(f"ext_{NAME}")
    assert table is not None
    return table


@pytest.fixture
def copy(lake: Lake, source: CatalogTable) -> TableCopy:
    """Return a request for a copy at a new location."""
    name = f"tmp_{secrets.token_hex(3)}"
    return TableCopy(source, name, f"s3://{lake.bucket}/{NAME}/{name}", "hive_v2")


def executor(project: LakeProject, **overrides: object) -> TrinoExecutor:
    return TrinoExecutor(project.configuration(**overrides).settings)


def endless(copy: TableCopy) -> TableCopy:
    source = CatalogTable("endless", "", ((KEY, "string"),), (KEY,), 2)
    return replace(copy, source=source)


def fate(project: LakeProject, copy: TableCopy) -> list[list[str]]:
    """Return states and errors of the queries that create a copy."""
    text = f"SELECT state, error_code FROM system.runtime.queries WHERE query LIKE 'CREATE TABLE%{copy.name}%'"
    return project.ask(text).rows


def in_order(lake: Lake, location: str) -> set[bool]:
    """Return for each file below a location whether its rows are sorted by key, NULLs first."""
    hashes = set()
    for name in lake.keys(location.removeprefix(f"s3://{lake.bucket}/")):
        columns = pq.read_table(io.BytesIO(lake.get(name)), columns=[KEY, SECOND]).to_pydict().values()
        keys = [tuple((value is not None, value) for value in row) for row in zip(*columns, strict=True)]
        hashes.add(keys == sorted(keys))
    return hashes


def definition(project: LakeProject) -> str:
    return str(project.ask(f"SHOW CREATE TABLE {project.table(project.name)}").rows[0][0])


def test_copies_by_hive_v2_are_sorted_on_request(lake: Lake) -> None:
    name, source = "sorted_by_trino", rows("two columns")
    settings = {"ctas": {"method": "trino"}, "trino": {"sorted": True}}
    buckets = {"count": COUNT, "hash": "hive_v2", "sort": False}
    project = lake.publish(name, source, [KEY, SECOND], buckets=buckets, **settings)
    places = project.locations()
    assert "/ctas-" in places[f"bucketed_{name}"]
    # Rows that were in order already would be so in a copy that nobody sorts.
    assert in_order(lake, places[f"ext_{name}"]) == {False}
    assert in_order(lake, places[f"bucketed_{name}"]) == {True}
    compared = project.ask(
        f'SELECT count(*), count_if(o."$bucket" <> t."$bucket"), count(DISTINCT t."$bucket") '
        f"FROM {project.table(name, prefix='ext_')} o JOIN {project.table(name)} t ON o.number = t.number",
        **FREE,
    )
    assert compared.rows == [[len(source), 0, COUNT]]
    shown = definition(project)
    assert "bucketing_version = 2" in shown
    assert f"bucketed_by = ARRAY['{KEY}','{SECOND}']" in shown


def test_copies_without_buckets_have_the_same_rows(lake: Lake) -> None:
    name, source = "copied_without_buckets", rows("string")
    project = lake.publish(name, source, [KEY], buckets={"count": "none"}, ctas={"method": "trino"})
    assert "/ctas-" in project.locations()[f"bucketed_{name}"]
    assert "bucketed_by" not in definition(project)
    answer_rows = project.ask(f"SELECT {KEY}, number FROM {project.table(name)}").rows
    assert Counter(map(tuple, answer_rows)) == Counter(tuple(row.values()) for row in source.to_pylist())


def test_copy_refuses_non_empty_location_and_keeps_its_files(
    lake: Lake, project: LakeProject, catalog: GlueCatalog, copy: TableCopy
) -> None:
    dear = f"{NAME}/{copy.name}/dear"
    lake.put(dear, b"to somebody")
    with pytest.raises(StatementError, match=r"copy of ext_executor\) failed: HIVE_PATH_ALREADY_EXISTS"):
        executor(project).copy(copy, Event())
    assert catalog.get(copy.name) is None
    assert (lake.keys(f"{NAME}/{copy.name}"), lake.get(dear)) == ([dear], b"to somebody")


def test_error_names_missing_table(project: LakeProject) -> None:
    with pytest.raises(StatementError, match=r"keys of nowhere\) failed: TABLE_NOT_FOUND.*'hive\.executor\.nowhere'"):
        executor(project).keys("nowhere", [KEY], Event())


def test_too_many_buckets_fail_with_alternatives(
    people: PeopleTables, project: LakeProject, catalog: GlueCatalog, copy: TableCopy
) -> None:
    """Each of Trino's few writers receives more than 100 buckets of the keys of 6,000 people."""
    with mock.patch.dict(os.environ, CREDENTIALS):
        source = GlueCatalog(people.bucketed.configuration().settings).get("ext_ibe_01")
    assert source is not None
    many = replace(copy, source=replace(source, bucket_count=1000))
    with pytest.raises(
        TooManyWritersError, match=r"HIVE_TOO_MANY_OPEN_PARTITIONS.*ctas\.method=promote.*or lower buckets\.count"
    ) as caught:
        executor(people.bucketed).copy(many, Event())
    assert caught.value.exit_code == 2
    assert catalog.get(copy.name) is None


def test_copy_is_cancelled_in_trino_when_run_stops(
    project: LakeProject, catalog: GlueCatalog, copy: TableCopy
) -> None:
    stop = Event()

    def stop_it() -> None:
        deadline = time.monotonic() + 60
        while fate(project, copy) != [["RUNNING", None]] and time.monotonic() < deadline:
            time.sleep(0.1)
        stop.set()

    watcher = threading.Thread(target=stop_it)
    watcher.start()
    with pytest.raises(ExecutorError, match=r"copy of endless.* was cancelled because the run is being stopped"):
        executor(project).copy(endless(copy), stop)
    watcher.join()
    assert fate(project, copy) == [["FAILED", "USER_CANCELED"]]
    assert catalog.get(copy.name) is None


def test_copy_is_cancelled_in_trino_after_timeout(
    project: LakeProject, catalog: GlueCatalog, copy: TableCopy
) -> None:
    limited = executor(project, ctas__timeout_seconds=1)
    with pytest.raises(
        ExecutorResourcesError, match=r"copy of endless.* did not end within 1 s.*ctas\.timeout_seconds"
    ):
        limited.copy(endless(copy), Event())
    assert fate(project, copy) == [["FAILED", "USER_CANCELED"]]
    assert catalog.get(copy.name) is None


def test_missing_trino_keeps_final_tables_and_run_resumes_later(lake: Lake) -> None:
    name, source = "out_of_reach", rows("int")
    project = lake.publish(name, source, [KEY], buckets={"count": COUNT})
    before = project.locations()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    project.set(trino={"port": port}, ctas={"method": "trino"})
    result = project.cli("run", name)
    assert result.exit_code == 1
    for text in (f"Trino at 127.0.0.1:{port} (catalogs): cannot be reached", "trino.host, trino.port", "--resume"):
        assert text in result.stderr
    assert project.locations() == before
    assert project.ask(f"SELECT count({KEY}), count(*) FROM {project.table(name)}").rows == [
        [len(source) - source[KEY].null_count, len(source)]
    ]
    project.set(trino={"port": lake.trino.port})
    project.publish(name, "--resume", "last")
    after = project.locations()
    assert f"/ctas-{project.run_ids()[-1]}-" in after[f"bucketed_{name}"]
    assert after[f"ext_{name}"] == before[f"ext_{name}"]
    assert project.ask(f"SELECT count(*) FROM {project.table(name)}").rows == [[len(source)]]
