"""Trino reads the column statistics in Glue, and plans joins with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from bucketwheel.catalogs.sql import quoted

from .lake import Lake, LakeProject, write_snapshot
from .people_tables import nodes

ENABLED = {"hive__statistics_enabled": True}
ROWS = 3000
COLUMNS = ("k", "n", "small", "d", "f", "price", "day", "at", "flag", "code", "text", "raw", "none")


def rows_of_every_type(rows: int = ROWS) -> pa.Table:
    numbers = range(rows)

    def some(values: list[Any], every: int) -> list[Any]:
        return [None if number % every == 0 else value for number, value in enumerate(values)]

    start = datetime(1999, 12, 31, 23, 59, 59, 500_000)
    return pa.table(
        {
            "k": [f"key {number:06d}" for number in numbers],
            "n": pa.array(some([(number * 7919) % 2000 - 1000 for number in numbers], 3), pa.int64()),
            "small": pa.array([number % 7 - 3 for number in numbers], pa.int8()),
            "d": pa.array(some([number / 8 for number in numbers], 5), pa.float64()),
            "f": pa.array([float(number % 50) for number in numbers], pa.float32()),
            "price": pa.array([Decimal(number - 100).scaleb(-2) for number in numbers], pa.decimal128(20, 2)),
            "day": pa.array(some([date(1969, 12, 1) + timedelta(days=number % 90) for number in numbers], 4)),
            "at": pa.array([start + timedelta(hours=number) for number in numbers], pa.timestamp("us")),
            "flag": pa.array(some([number % 4 == 0 for number in numbers], 10)),
            "code": pa.array(some([f"C{number % 300}" for number in numbers], 2)),
            "text": pa.array([f"née {number}" * (number % 3) for number in numbers]),
            "raw": pa.array(some([b"x" * (number % 9) for number in numbers], 6), pa.binary()),
            "none": pa.nulls(rows, pa.string()),
        }
    )


def shown(project: LakeProject, table: str) -> dict[str, dict[str, Any]]:
    """Return Trino's statistics by column; the row count has the key None."""
    names = ("column", "size", "distinct", "nulls", "rows", "low", "high")
    answer = project.ask(f"SHOW STATS FOR {project.table(table)}", **ENABLED)
    return {row[0]: dict(zip(names, row, strict=True)) for row in answer.rows}


def measured(rows: pa.Table, name: str) -> dict[str, Any]:
    column = quoted(name)
    size = f"octet_length({column})" if name == "raw" else f"strlen({column}::VARCHAR)"
    text = f"count(DISTINCT {column}), 1 - count({column}) / count(*), sum({size}), min({column}), max({column})"
    with duckdb.connect() as connection:
        connection.register("t", rows)
        (row,) = connection.execute(f"SELECT {text} FROM t").fetchall()
    return dict(zip(("distinct", "nulls", "size", "low", "high"), row, strict=True))


def test_trino_shows_the_statistics_of_every_column(lake: Lake) -> None:
    rows = rows_of_every_type()
    settings = {"catalog": {"column_statistics": "distinct"}, "buckets": {"count": 4}}
    project = lake.publish("statistics", rows, ["k"], **settings)
    columns = shown(project, "statistics")
    assert columns[None]["rows"] == ROWS
    for name in COLUMNS:
        column, expected = columns[name], measured(rows, name)
        assert column["nulls"] == pytest.approx(expected["nulls"]), name
        if name != "raw":
            assert column["distinct"] == pytest.approx(expected["distinct"], rel=0.1), name
        if name in ("k", "code", "text", "none"):
            assert column["size"] == pytest.approx(expected["size"] or 0), name
        elif name in ("n", "small", "d", "f", "price", "day"):
            kind = type(expected["low"])
            low, high = ((text if kind is date else kind(text)) for text in (column["low"], column["high"]))
            limits = (expected["low"], expected["high"])
            assert (low, high) == (tuple(map(str, limits)) if kind is date else limits), name
    assert columns["n"]["distinct"] == measured(rows, "n")["distinct"]
    assert columns["small"]["distinct"] == measured(rows, "small")["distinct"]


def scans(node: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of a plan, in its order."""
    for below in nodes(node):
        table = below["descriptor"].get("table", "")
        if table:
            yield "few" if "few" in table else "many"


def joined_tables(lake: Lake, name: str, level: str) -> list[str]:
    """Publish a large and a small table; return the order in which Trino joins them if a filter selects few rows."""
    datasets = {}
    for table, count in (("many", 4000), ("few", 1000)):
        numbers = range(count)
        content = pa.table(
            {
                "k": [f"key {number}" for number in numbers],
                "v": pa.array(numbers, pa.int64()),
                "code": [f"C{number % 500}" for number in numbers],
            }
        )
        source = write_snapshot(lake.root / name / table, content)
        datasets[table] = {"source": str(source), "key": "k"}
    project = lake.project(name, datasets, catalog={"column_statistics": level}, buckets={"count": 4})
    for table in datasets:
        project.publish(table)
    few, many = project.table("few"), project.table("many")
    text = f"SELECT * FROM {many} AS many JOIN {few} AS few ON many.v = few.v WHERE many.code = 'C1'"
    answer = project.ask(f"EXPLAIN (TYPE LOGICAL, FORMAT JSON) {text}", **ENABLED)
    return list(scans(json.loads(answer.rows[0][0])))


def test_column_statistics_make_trino_build_from_the_filtered_table(lake: Lake) -> None:
    assert joined_tables(lake, "with_statistics", "distinct") == ["few", "many"]
    # Numbers of rows alone do not tell that the filter selects 8 of 4,000 rows.
    assert joined_tables(lake, "without_statistics", "none") == ["many", "few"]


def test_trino_shows_statistics_of_the_run_that_is_published(lake: Lake) -> None:
    rows = rows_of_every_type(300)
    project = lake.publish("months", rows, ["k"], catalog={"column_statistics": "distinct"}, buckets={"count": 4})
    (first,) = project.run_ids()
    write_snapshot(lake.root / "months" / "in", rows.slice(0, 100).drop_columns(["d"]), "2025-11-22")
    project.set(quality={"schema_changes": "allow", "max_rows_changed_percent": None})
    project.publish("months")
    columns = shown(project, "months")
    assert "d" not in columns
    assert (columns[None]["rows"], columns["k"]["distinct"], columns["n"]["nulls"]) == pytest.approx((100, 100, 0.34))
    assert project.cli("rollback", first).exit_code == 0
    columns = shown(project, "months")
    assert (columns[None]["rows"], columns["k"]["distinct"], columns["d"]["nulls"]) == pytest.approx((300, 300, 0.2))
