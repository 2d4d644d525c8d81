"""Estimates of the bytes that a run writes, compared with the files of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.kernel.write import parquet_writer
from bucketwheel.settings import STAGES
from bucketwheel.stages import written_bytes
from project import Project

ORDERS = "orders"
ROWS = 30_000


def orders() -> pa.Table:
    """Lines of orders, four to an order: neighbors share address, price, day and tags."""
    random = np.random.default_rng(5)
    order = np.arange(ROWS) // 4
    text = np.array([random.bytes(12).hex() for _ in range(ROWS // 4)])
    days = (random.integers(0, 2000, ROWS // 4) + 8000).astype("datetime64[D]")
    places = [{"x": number, "name": f"place {number}"} for number in random.integers(0, 10**6, ROWS // 4).tolist()]
    tags = [[f"t{number % 7}"] * (number % 3) for number in range(ROWS // 4)]
    return pa.table(
        {
            "line": np.arange(ROWS),
            "place": pa.array([places[number] for number in order]),
            "address": text[order],
            "price": random.integers(0, 10**9, ROWS // 4)[order] / 100,
            "day": pa.array(days[order]),
            "tags": pa.array([tags[number] for number in order]),
            "quantity": random.integers(1, 50, ROWS),
        }
    )


@pytest.fixture
def lake(project: Project, tmp_path: Path) -> Project:
    """A project whose only dataset is one snapshot of orders."""
    write(tmp_path, orders())
    project.settings["datasets"] = {ORDERS: {"source": str(tmp_path / "orders"), "key": "line"}}
    project.set()
    return project


def write(root: Path, table: pa.Table, **options: Any) -> Path:
    path = root / "orders" / "snapshot_dt=2025-10-22" / "part-0.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **{"row_group_size": ROWS, "compression": "zstd", **options})
    return path


def planned(project: Project, **overrides: Any) -> api.Plan:
    return api.plan(project.configuration(**overrides), ORDERS)


def from_footers(plan: api.Plan) -> int:
    return sum(column.compressed_bytes for column in plan.discover.columns)


@pytest.mark.parametrize("count", [1, 16])
def test_estimate_is_within_a_tenth_of_written_bytes(lake: Project, count: int) -> None:
    plan = planned(lake, buckets__count=count)
    (table,) = plan.size.tables
    api.run(lake.configuration(buckets__count=count), ORDERS)
    written = sum(path.stat().st_size for path in lake.target.rglob("*.parquet"))
    assert table.bytes == pytest.approx(written, rel=0.1)
    assert from_footers(plan) < 0.75 * written
    assert not [text for text in plan.warnings if "cannot be read" in text]


@pytest.mark.parametrize(("rows", "count"), [(300, 256), (4_000, 256), (ROWS, 64)])
def test_estimate_includes_footers_of_many_small_files(lake: Project, tmp_path: Path, rows: int, count: int) -> None:
    keys = np.random.default_rng(7).integers(0, 2**60, rows)
    write(tmp_path, orders().slice(0, rows).set_column(0, "line", pa.array(keys)))
    (tmp_path / "orders.csv").write_text("table,column\na,address\nb,price\nc,day\nc,quantity\nd,tags\n")
    lake.settings["datasets"][ORDERS]["mapping"] = str(tmp_path / "orders.csv")
    lake.set()
    plan = planned(lake, buckets__count=count)
    api.run(lake.configuration(buckets__count=count), ORDERS, STAGES[:4])
    for table in plan.size.tables:
        files = [path.stat().st_size for path in lake.target.rglob(f"{table.name}/**/*.parquet")]
        assert table.bytes == pytest.approx(sum(files), rel=0.1), table.name
        assert table.files == pytest.approx(len(files), rel=0.1)
    assert from_footers(plan) < 0.8 * sum(table.bytes for table in plan.size.tables)


def test_estimate_of_small_files_with_only_nulls_counts_footers(lake: Project, tmp_path: Path) -> None:
    write(tmp_path, pa.table({"line": np.arange(2_000), "none": pa.nulls(2_000, pa.int32())}))
    plan = planned(lake, buckets__count=64)
    api.run(lake.configuration(buckets__count=64), ORDERS, STAGES[:4])
    written = sum(path.stat().st_size for path in lake.target.rglob("*.parquet"))
    assert plan.size.tables[0].bytes == pytest.approx(written, rel=0.1)


def test_run_reads_one_sample(lake: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = []
    estimate = written_bytes._estimate

    def counted(*arguments: Any) -> Any:
        samples.append(arguments)
        return estimate(*arguments)

    monkeypatch.setattr(written_bytes, "_estimate", counted)
    sizes = api.run(lake.configuration(), ORDERS, STAGES[:3]).manifest.size
    assert len(samples) == 1
    assert sizes == planned(lake).size


@pytest.mark.parametrize("count", [1, 64])
def test_sample_encodes_columns_of_a_table_together(
    lake: Project, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    written: list[list[str]] = []
    write_sample = parquet_writer

    def counted(sink: Any, schema: pa.Schema, *arguments: Any) -> Any:
        written.append(schema.names)
        return write_sample(sink, schema, *arguments)

    monkeypatch.setattr(written_bytes, "parquet_writer", counted)
    together = planned(lake, buckets__count=count).size.tables[0].bytes
    # The files of several buckets are written once more for their footers.
    each = 1 if count == 1 else 2
    assert [len(names) for names in written] == [1] * each + [len(orders().column_names)] * each
    monkeypatch.setattr(written_bytes, "_HELD", 0)
    written.clear()
    alone = planned(lake, buckets__count=count).size.tables[0].bytes
    assert {len(names) for names in written[each:]} == {2}
    assert alone == pytest.approx(together, rel=0.01)


def test_estimate_is_the_same_each_time(lake: Project) -> None:
    assert planned(lake).size == planned(lake).size


def test_column_is_estimated_from_footer_if_sample_has_only_nulls(lake: Project, tmp_path: Path) -> None:
    half = ROWS // 2
    values = pa.array([None] * half + [f"a text of {number}" for number in range(half)])
    # The sample comes from the first of two row groups.
    write(tmp_path, pa.table({"line": np.arange(ROWS), "late": values}), row_group_size=half)
    plan = planned(lake)
    assert plan.size.tables[0].bytes > 0.9 * plan.discover.columns[1].compressed_bytes > 10_000


def test_unreadable_pages_are_warning_of_plan(lake: Project, tmp_path: Path) -> None:
    path = write(tmp_path, orders())
    content = bytearray(path.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    content[4:-footer] = bytes(len(content) - footer - 4)
    path.write_bytes(content)
    plan = planned(lake)
    start = f"bytes of the tables are estimated from footers only, because row group 0 of {path} cannot be read: "
    assert [text for text in plan.warnings if text.startswith(start)]
    assert plan.size.tables[0].bytes == from_footers(plan)
    result = lake.cli("plan", ORDERS)
    assert (result.exit_code, result.stderr) == (0, "")


def test_sample_reads_no_more_than_its_limit(lake: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = planned(lake).size.tables[0].bytes
    monkeypatch.setattr(written_bytes, "_DECODED", 1000)
    plan = planned(lake)
    assert plan.size.tables[0].bytes == from_footers(plan) != unlimited
    assert not [text for text in plan.warnings if "cannot be read" in text]


def test_estimate_holds_for_two_keys_without_buckets_and_order(lake: Project) -> None:

    lake.settings["datasets"][ORDERS]["key"] = ["line", "quantity"]
    lake.set()
    plan = planned(lake, buckets__sort=False, buckets__count="none")
    api.run(lake.configuration(buckets__sort=False, buckets__count="none"), ORDERS)
    written = sum(path.stat().st_size for path in lake.target.rglob("*.parquet"))
    assert plan.size.tables[0].bytes == pytest.approx(written, rel=0.1)
