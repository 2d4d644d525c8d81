"""Columns whose values are in the names of directories."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.cli.summary import summary_text
from bucketwheel.cli.text import plan_text, run_text
from bucketwheel.errors import SchemaError, SnapshotError
from bucketwheel.runs.manifest import Manifest

DIRECTORIES: dict[str, tuple[str | None, str]] = {
    "region=EU/day=1": ("EU", "1"),
    "region=US%2FEast/day=2": ("US/East", "2"),
    "region=__HIVE_DEFAULT_PARTITION__/day=3": (None, "3"),
}


def write(root: Path, directory: str, first: int, names: tuple[str, ...] = ("id", "value")) -> None:
    place = root / "in" / "snapshot_dt=2026-01-31" / directory
    place.mkdir(parents=True)
    numbers = range(first, first + 100)
    columns = {"id": [f"P{number:04d}" for number in numbers], "value": [number % 7 for number in numbers]}
    pq.write_table(pa.table({name: columns.get(name, ["x"] * 100) for name in names}), place / "part-0.parquet")


def configuration(root: Path, engine: str = "arrow", **settings: object) -> api.Configuration:
    mapping = root / "mapping.csv"
    mapping.write_text("table,column\nplaces,region\nplaces,value\ndays,day\n")
    dataset = {"source": str(root / "in"), "key": "id", "mapping": str(mapping), "partitions": "columns"}
    target = {"target": str(root / engine), "catalog.path": str(root / f"{engine}.duckdb"), "buckets.count": 3}
    return api.load("local", None, {**target, "engine": engine, "datasets.x": {**dataset, **settings}}, {})


def rows(root: Path, manifest: Manifest, table: str) -> dict[str, list[object]]:
    tables = [pq.read_table(path) for path in (root / "arrow" / "x" / table / manifest.run_id).glob("*.parquet")]
    return {str(row.pop("id")): list(row.values()) for table in tables for row in table.to_pylist()}


def test_directories_become_columns(tmp_path: Path) -> None:
    for number, directory in enumerate(DIRECTORIES):
        write(tmp_path, directory, number * 100)
    (tmp_path / "in" / "snapshot_dt=2026-01-31" / "_a").write_text("x")
    (tmp_path / "in" / "snapshot_dt=2026-01-31" / "b").touch()
    config = configuration(tmp_path)
    plan = api.plan(config, "x")
    assert plan.discover.partition_columns == ("region", "day")
    assert [column.null_count for column in plan.discover.columns] == [0, 0, 100, 0]
    assert "ignores 2 files: 1 empty (b); 1 hidden, with names that begin with . or _ (_a)" in plan_text(plan)
    outcome = api.run(config, "x")
    manifest = outcome.manifest
    assert "ignored  2 files: 1 empty (b); 1 hidden" in summary_text(config, outcome)
    assert "ignored 2 files: 1 empty (b); 1 hidden" in run_text(manifest, True)
    places, days = rows(tmp_path, manifest, "places"), rows(tmp_path, manifest, "days")
    assert len(places) == len(days) == 300
    for number, (region, day) in enumerate(DIRECTORIES.values()):
        for row in (number * 100, number * 100 + 99):
            assert places[f"P{row:04d}"] == [region, row % 7]
            assert days[f"P{row:04d}"] == [day]


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.xdist_group("spark")
def test_spark_writes_the_same_bytes_of_directory_columns(java: None, tmp_path: Path) -> None:
    for number, directory in enumerate(DIRECTORIES):
        write(tmp_path, directory, number * 100)
    contents = []
    for engine in ("arrow", "spark"):
        run_id = api.run(configuration(tmp_path, engine), "x").manifest.run_id
        files = (tmp_path / engine / "x").glob(f"*/{run_id}/*.parquet")
        contents.append({f"{path.parent.parent.name}/{path.name}": path.read_bytes() for path in files})
    assert len(contents[0]) == 6
    assert contents[0] == contents[1]


def test_column_of_files_counts_before_directory(tmp_path: Path) -> None:
    write(tmp_path, "Region=EU/day=1", 0, ("id", "value", "region"))
    discovered = api.plan(configuration(tmp_path), "x").discover
    assert discovered.partition_columns == ("day",)
    assert discovered.files[0].partition_values == ("1",)


@pytest.mark.parametrize(
    ("directories", "problem"),
    [
        (["region=EU/day=1", "region=US"], "the directories name different columns: 'region', 'day' for "),
        (["region=EU/day=1", "unpartitioned"], "none for "),
        (["region=EU/day=1/Region=US"], "a column appears in two of the directories"),
        (["region=%FF/day=1"], "is not UTF-8 when decoded"),
    ],
)
def test_contradicting_directories_are_refused(tmp_path: Path, directories: list[str], problem: str) -> None:
    for number, directory in enumerate(directories):
        write(tmp_path, directory, number * 100)
    with pytest.raises(SnapshotError, match=problem):
        api.plan(configuration(tmp_path), "x")


def test_error_names_setting_that_adds_the_column(tmp_path: Path) -> None:
    write(tmp_path, "region=EU/day=1", 0)
    with pytest.raises(SnapshotError, match=r"set datasets\.x\.partitions=columns to add the column"):
        api.plan(configuration(tmp_path, partitions="error"), "x")


@pytest.mark.parametrize("setting", ["error", "columns", "ignore"])
def test_key_that_only_directories_name_is_refused(tmp_path: Path, setting: str) -> None:
    write(tmp_path, "Region=EU", 0)
    problem = (
        r"key 'Region' is only in the names of directories \(Region=…\), .* column in its files, or set datasets\."
    )
    with pytest.raises(SchemaError, match=problem):
        api.plan(configuration(tmp_path, partitions=setting, key="id,region"), "x")
