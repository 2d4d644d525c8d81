"""Warnings about uneven buckets."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.stages.skew import skew_warnings


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        ([100] * 8, ""),
        ([100, 0, 100, 0, 100, 0, 100, 0], ""),
        ([400, 0, 400, 0, 0, 0, 0, 0], "key id fills only 2 of 8 buckets; joins wait for its task; choose another"),
        (
            [900, 100, 100, 100, 100, 100, 100, 100],
            "bucket 0 has 900 rows, 4.5x the mean of 8 buckets by key id;",
        ),
        ([9, 0, 0, 0, 0, 0, 0, 0], ""),
        ([1000], ""),
        ([], ""),
    ],
)
def test_only_uneven_buckets_with_enough_rows_are_a_warning(rows: list[int], warning: str) -> None:
    texts = skew_warnings(rows, ["id"], "hive_v1")
    assert texts[0].startswith(warning) if warning else texts == []


def test_null_keys_of_largest_bucket_are_counted() -> None:
    (text,) = skew_warnings([900, *[100] * 7], ["id"], "spark", null_keys=800, sample=True)
    assert "900 rows, 800 of them with a NULL key in a sample of 1,600 rows, 4.5x the" in text
    assert "buckets.hash" not in text


@pytest.mark.parametrize(("hash_name", "uneven"), [("hive_v1", True), ("hive_v2", False)])
def test_ids_with_common_divisor_are_a_warning_of_plan_and_run(tmp_path: Path, hash_name: str, uneven: bool) -> None:
    source = tmp_path / "in" / "snapshot_dt=2026-01-31"
    source.mkdir(parents=True)
    ids = pa.array([64 * number for number in range(4000)], pa.int64())
    pq.write_table(pa.table({"id": ids, "value": pa.array(range(4000))}), source / "a.parquet")
    settings = {
        "target": str(tmp_path / "out"),
        "catalog.path": str(tmp_path / "c.duckdb"),
        "buckets": {"count": 64, "hash": hash_name},
        "datasets.x": {"source": str(source.parent), "key": "id"},
    }
    config = api.load("local", None, settings, {})
    expected = "key id fills only 1 of 64 buckets"
    assert any(text.startswith(f"{expected} in a sample") for text in api.plan(config, "x").size.warnings) == uneven
    manifest = api.run(config, "x").manifest
    assert any(text.startswith(f"{expected};") for text in manifest.bucket.warnings) == uneven
