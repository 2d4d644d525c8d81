"""DuckDB, PyIceberg and Polars read Iceberg tables: rows, months, statistics, and only the files of one bucket."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from .iceberg_disk import (
    BUCKETS,
    LAYOUTS,
    MONTHS,
    NAMESPACE,
    PUBLISHED,
    IcebergDisk,
    evolved,
    key,
    known_types,
    people,
)
from .maven import ROOT


class Answer(NamedTuple):
    rows: pa.Table
    plan: str


READERS = ROOT / ".venv-readers" / "bin" / "python"
TABLES = ("one", "two", "types", "clocks")


@pytest.fixture(scope="module")
def answers(
    disk: IcebergDisk, tmp_path_factory: pytest.TempPathFactory, cannot: Callable[[str], NoReturn]
) -> dict[str, Answer]:
    """Results and plans of DuckDB."""
    if not READERS.exists():
        cannot("there is no DuckDB with an Iceberg extension for tests: make it with `make readers`")
    work = tmp_path_factory.mktemp("duckdb")
    scans = {name: f"iceberg_scan('{disk.metadata(LAYOUTS['iceberg'] + name)}')" for name in TABLES}
    queries = {name: f"SELECT * FROM {scan}" for name, scan in scans.items()}
    queries["look-up"] = f"SELECT number FROM {scans['one']} WHERE id = '{key(17)}'"
    queries["join"] = f"SELECT id, number, added FROM {scans['one']} AS one JOIN {scans['two']} AS two USING (id)"
    (work / "queries").write_text(json.dumps(queries))
    command = [READERS, ROOT / "integration/interop/duckdb_script.py", work / "queries", work]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    plans = json.loads((work / "plans").read_text())
    return {name: Answer(pq.read_table(work / f"{name}.parquet"), plans[name]) for name in queries}


def in_files(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True), key=str)


def by_key(table: pa.Table, column: str) -> dict[str | None, Any]:
    return dict(zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True))


@pytest.mark.parametrize("table", TABLES)
def test_duckdb_returns_rows_of_source(answers: dict[str, Answer], table: str) -> None:
    rows, source = answers[table].rows, people(PUBLISHED)
    assert rows.num_rows == source.num_rows
    for name in rows.column_names:
        assert by_key(rows, name) == by_key(source, name), name


@pytest.mark.parametrize("layout", ["hive", "spark"])
def test_duckdb_finds_the_same_rows_in_other_layouts(
    disk: IcebergDisk, answers: dict[str, Answer], layout: str
) -> None:
    with duckdb.connect(str(disk.catalog), read_only=True) as connection:
        rows = connection.execute(f"FROM {NAMESPACE}.{LAYOUTS[layout]}two").fetchall()
    assert sorted(rows, key=str) == in_files(answers["two"].rows)


def test_duckdb_joins_rows_of_source(answers: dict[str, Answer]) -> None:
    source = people(PUBLISHED).select(["id", "number", "added"])
    assert in_files(answers["join"].rows) == in_files(source.filter(pc.is_valid(source["id"])))


def test_duckdb_reads_the_files_of_one_bucket(answers: dict[str, Answer]) -> None:
    assert answers["look-up"].rows["number"].to_pylist() == [17]
    files = {name: re.findall(r"Total Files Read: (\d+)", answers[name].plan) for name in ("look-up", "one")}
    assert files == {"look-up": ["1"], "one": [str(BUCKETS + 1)]}


@pytest.mark.parametrize("table", TABLES)
def test_pyiceberg_and_polars_return_rows_of_source(
    disk: IcebergDisk, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = disk.iceberg().load_table((NAMESPACE, LAYOUTS["iceberg"] + table))
    read = loaded.scan().to_arrow()
    columns, source = read.column_names, people(PUBLISHED)
    for name in columns:
        # PyIceberg 0.12 reads a list of structs that is NULL as an empty one.
        if name != "deep":
            assert by_key(read, name) == by_key(source, name), name
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    by_polars = pl.scan_iceberg(loaded).collect()
    assert (by_polars.height, by_polars.columns) == (read.num_rows, columns)


def test_pyiceberg_finds_every_month(disk: IcebergDisk) -> None:
    table = disk.iceberg().load_table((NAMESPACE, f"{LAYOUTS['iceberg']}two"))
    for month in MONTHS:
        snapshot = table.snapshot_by_name(month)
        assert snapshot is not None
        read = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()
        assert in_files(read) == in_files(people(month).select(["id", "added", "text_2"]))


def test_pyiceberg_shows_the_columns_of_each_month(disk: IcebergDisk) -> None:
    table = disk.iceberg().load_table((NAMESPACE, f"{LAYOUTS['hive']}evolved"))
    for month in MONTHS[:2]:
        snapshot = table.snapshot_by_name(month)
        assert snapshot is not None
        read, source = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow(), evolved(month)
        assert read.column_names == source.column_names
        assert read.sort_by("id").to_pylist() == source.to_pylist()


def test_pyiceberg_plans_the_files_of_one_bucket(disk: IcebergDisk) -> None:
    table = disk.iceberg().load_table((NAMESPACE, f"{LAYOUTS['iceberg']}one"))
    files = [len(list(table.scan(row_filter=text).plan_files())) for text in (f"id = '{key(17)}'", "id IS NULL")]
    assert files == [1, 1]
    assert len(list(table.scan().plan_files())) == BUCKETS + 1


def test_statistics_in_manifests_equal_files(disk: IcebergDisk) -> None:
    """Counts of rows and NULLs, and bounds, which readers use to skip files."""
    table = disk.iceberg().load_table((NAMESPACE, f"{LAYOUTS['iceberg']}types"))
    source = people(PUBLISHED)
    entries = table.inspect.files().to_pylist()
    assert sum(entry["record_count"] for entry in entries) == source.num_rows
    for entry in entries:
        content = pq.read_table(entry["file_path"].removeprefix("file://"))
        assert entry["record_count"] == content.num_rows
        for name in ("int_32", "date_32", "text", "boolean", "double", "decimal_18"):
            shown, column = entry["readable_metrics"][name], content[name]
            assert shown["value_count"] == content.num_rows
            assert shown["null_value_count"] == column.null_count
            if column.null_count < content.num_rows:
                least = pc.min_max(column)
                assert shown["lower_bound"] <= least["min"].as_py() <= least["max"].as_py() <= shown["upper_bound"]
    assert known_types().keys() > {"int_32"}
