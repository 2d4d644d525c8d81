"""Warnings about buckets in several files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api

PLANNED = "more than buckets.max_file_bytes (10.0 kB), and get several files each; Spark will sort them again"
FIX = "Spark will sort them again in joins; raise buckets.max_file_bytes or buckets.count"
WRITTEN = f"table 'wide' has 2 buckets in several files, because of buckets.max_file_bytes (10.0 kB); {FIX}"


@pytest.mark.parametrize(
    ("buckets", "warns"),
    [
        ({"hash": "spark", "max_file_bytes": 10_000}, True),
        ({"hash": "spark", "max_file_bytes": 2**30}, False),
        ({"hash": "spark", "max_file_bytes": 10_000, "sort": False}, False),
        ({"hash": "hive_v1", "max_file_bytes": 10_000}, False),
        ({"hash": "spark", "max_file_bytes": 10_000, "count": "none"}, False),
    ],
)
def test_split_sorted_buckets_for_spark_are_a_warning(tmp_path: Path, buckets: dict[str, Any], warns: bool) -> None:
    source = tmp_path / "in" / "snapshot_dt=2026-01-31"
    source.mkdir(parents=True)
    numbers = pa.array(range(2000), pa.int64())
    pq.write_table(
        pa.table({"id": numbers, "value": numbers, "flag": pa.nulls(2000, pa.bool_())}), source / "a.parquet"
    )
    mapping = tmp_path / "mapping.csv"
    mapping.write_text("table,column\nwide,value\nnarrow,flag\n")
    settings = {
        "target": str(tmp_path / "out"),
        "catalog.path": str(tmp_path / "c.duckdb"),
        "buckets": {"count": 2, **buckets},
        "datasets.x": {"source": str(source.parent), "mapping": str(mapping), "key": "id"},
    }
    config = api.load("local", None, settings, {})
    planned = [text for text in api.plan(config, "x").size.warnings if "several files" in text]
    written = [text for text in api.run(config, "x").manifest.bucket.warnings if "several files" in text]
    assert [PLANNED in text for text in planned] == [True] * warns
    assert written == [WRITTEN] * warns
