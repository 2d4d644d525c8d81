"""Bucket groups that the kernel gathers at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bucketwheel.contracts import BucketJob
from bucketwheel.engines.bucket_groups import group_buckets, group_buckets_by_average
from bucketwheel.testing.jobs import KEY, make_job, numbered, write_files


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        ([5, 5, 5, 5], [[0, 1], [2, 3]]),
        ([4, 4, 4, 4], [[0, 1], [2, 3]]),
        ([50, 1, 9, 1], [[0], [1, 2], [3]]),
        ([0, 0, 10, 0], [[0, 1, 2, 3]]),
        ([11, 12, 13, 14], [[0], [1], [2], [3]]),
    ],
)
def test_group_exceeds_max_rows_only_with_one_bucket(rows: list[int], groups: list[list[int]]) -> None:
    assert group_buckets(range(4), np.array(rows), 10) == groups


def test_group_buckets_omits_other_buckets() -> None:
    assert group_buckets([1, 4, 5], np.array([9, 2, 9, 9, 2, 2]), 4) == [[1, 4], [5]]


@pytest.fixture
def job(tmp_path: Path) -> BucketJob:
    """A thousand rows in 64 buckets."""
    files = write_files(tmp_path / "source", [pa.table({KEY: numbered(1000), "Number": range(1000)})])
    return replace(make_job(tmp_path / "out", files, {"t": ["Number"]}), bucket_count=64)


@pytest.mark.parametrize("parts", [1, 4, 16, 63, 64])
def test_every_part_gets_a_group_and_every_bucket_is_grouped(job: BucketJob, parts: int) -> None:
    groups = group_buckets_by_average(job, range(64), parts)
    assert [bucket for group in groups for bucket in group] == list(range(64))
    assert len(groups) >= parts
    assert (max(map(len, groups)) > 1) == (parts < 33)


def test_wide_rows_are_not_grouped(job: BucketJob) -> None:
    wide = replace(job, decoded_bytes_per_row=4 * 2**20)
    assert {len(group) for group in group_buckets_by_average(wide, range(64), 1)} == {1}
    assert max(len(group) for group in group_buckets_by_average(job, range(64), 1)) > 32
