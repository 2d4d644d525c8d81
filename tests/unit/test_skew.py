"""Warnings about uneven buckets."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import api
from bucketwheel.stages.skew import BucketRows, skew_warnings


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        ([100] * 8, ""),
        ([100, 0, 100, 0, 100, 0, 100, 0], ""),
        (
            [400, 0, 400, 0, 0, 0, 0, 0],
            "key id fills only 2 of 8 buckets; joins wait for the tasks of the largest buckets; choose another",
        ),
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
    texts = skew_warnings(BucketRows(tuple(rows), (0,) * len(rows), tuple(rows)), ["id"], "hive_v1")
    assert texts[0].startswith(warning) if warning else texts == []


def test_null_keys_of_largest_bucket_are_counted() -> None:
    buckets = BucketRows((900, *[100] * 7), (800, *[0] * 7), (100,) * 8)
    (text,) = skew_warnings(buckets, ["id"], "hive_v1", sample=True)
    assert "900 rows, 800 of them with a NULL key in a sample of 1,600 rows, 4.5x the" in text
    assert text.endswith(
        "all NULL keys share a bucket, whatever the hash; fill the key in the source, or remove these rows"
    )


def test_fewer_keys_than_usual_that_collide_need_another_hash() -> None:
    empty = (0,) * 255
    buckets = BucketRows((21_000, *empty), (0,) * 256, (3_000, *empty))
    (text,) = skew_warnings(buckets, ["id"], "hive_v1")
    assert text.endswith("; choose another buckets.hash or another key")


def test_null_in_one_of_two_keys_does_not_decide_the_bucket() -> None:
    empty = (0,) * 7
    buckets = BucketRows((4_000, *empty), (2_400, *empty), (1_600, *empty))
    (text,) = skew_warnings(buckets, ["a", "b"], "hive_v1")
    assert text.endswith("; choose another buckets.hash or another key")


@pytest.mark.parametrize(("hash_name", "uneven"), [("hive_v1", True), ("hive_v2", False)])
def test_ids_with_common_divisor_are_a_warning_of_plan_and_run(tmp_path: Path, hash_name: str, uneven: bool) -> None:
    planned, written = warnings(tmp_path, [64 * number for number in range(4000)], hash_name)
    expected = "key id fills only 1 of 64 buckets"
    assert any(text.startswith(f"{expected} in a sample") for text in planned) == uneven
    assert any(text.startswith(f"{expected};") for text in written) == uneven
    if uneven:
        assert planned[-1].endswith("; choose another buckets.hash or another key")
        assert written[-1].endswith("; choose another buckets.hash or another key")


NULLS = "all NULL keys share a bucket, whatever the hash; fill the key in the source, or remove these rows"
KEYS = "all rows of a key share a bucket, whatever the hash, and few keys have most rows; choose another key"


@pytest.mark.parametrize("hash_name", ["hive_v1", "spark"])
@pytest.mark.parametrize(
    ("period", "value", "few", "fix"),
    [(10, None, 6, NULLS), (10, 7, 3, KEYS), (1, 7, 0, KEYS)],
    ids=["NULL", "one key", "three keys"],
)
def test_fix_of_rows_that_no_hash_separates_names_their_keys(
    tmp_path: Path, hash_name: str, period: int, value: int | None, few: int, fix: str
) -> None:
    """`few` of `period` rows have the key `value`; with a period of 1, there are three keys."""
    ids = [value if number % period < few else number if period > 1 else number % 3 for number in range(4000)]
    for texts in warnings(tmp_path, ids, hash_name):
        assert [
            text.endswith(f"; {fix}") for text in texts if "joins wait for the tasks of the largest buckets" in text
        ] == [True]


def warnings(root: Path, ids: list[int | None], hash_name: str) -> list[tuple[str, ...]]:
    """Return the warnings of plan and run about the buckets of these keys."""
    source = root / "in" / "snapshot_dt=2026-01-31"
    source.mkdir(parents=True)
    pq.write_table(pa.table({"id": pa.array(ids, pa.int64()), "value": pa.array(range(4000))}), source / "a.parquet")
    settings = {
        "target": str(root / "out"),
        "catalog.path": str(root / "c.duckdb"),
        "buckets": {"count": 64, "hash": hash_name},
        "datasets.x": {"source": str(source.parent), "key": "id"},
        "quality.null_keys": "allow",
    }
    config = api.load("local", None, settings, {})
    return [api.plan(config, "x").size.warnings, api.run(config, "x").manifest.bucket.warnings]
