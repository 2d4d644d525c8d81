"""Rows in wrong buckets: verify refuses each of them, where Trino looks at samples."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from trino.exceptions import TrinoQueryError

from bucketwheel.kernel.hashing import hash_keys

from .by_hand import Hash, by_bytes, hashed_by, int_as_bigint, refused, standard_murmur3, unsigned_bytes
from .judge_keys import FREE, KEY, VERSIONS, rows, trinos_buckets
from .lake import Lake, LakeProject

COUNT = 4
POSITIONS = (0, 1, 50, 96, 97, 98, 194, 249)


def strays(project: LakeProject, numbers: dict[tuple[object, ...], int], count: int) -> list[object]:
    """Return the keys of all rows that are not in the bucket that Trino gives them."""
    found = project.ask(f'SELECT {KEY}, "$bucket" FROM {project.table(project.name)}', **FREE).rows
    return [key for key, bucket in found if bucket != numbers[(key,)] % count]


@pytest.fixture(scope="module")
def numbers(lake: Lake) -> dict[tuple[object, ...], int]:
    """The buckets of the keys below."""
    project = lake.publish("in_place", counted(), [KEY], buckets={"count": COUNT})
    return trinos_buckets(lake, project.table("in_place"), [KEY], 1, "in_place")


def counted() -> pa.Table:
    """2 to 1,001: Hive's buckets of small numbers are their remainders, bucket 1 has 5, 9, 13 …"""
    return pa.table({KEY: pa.array(range(2, 1002), pa.int64())})


@pytest.mark.parametrize("position", POSITIONS)
def test_one_stray_row_is_found_wherever_it_is(
    lake: Lake, numbers: dict[tuple[object, ...], int], position: int
) -> None:
    stray = 4 * position + 2

    def misplaced(columns: Sequence[pa.ChunkedArray], scheme: str) -> npt.NDArray[np.int32]:
        hashes = hash_keys(columns, scheme).copy()
        hashes[columns[0].to_numpy() == stray] = 1
        return hashes

    with hashed_by(misplaced):
        project, result = refused(lake, f"stray_{position}", counted(), KEY, count=COUNT)
    assert result.exit_code == 3
    text = f"000001_0.snappy.parquet: bucket 1: row {position} with key '{stray}' belongs to bucket 2 (1 such rows)"
    assert text in result.stderr
    assert strays(project, numbers, COUNT) == [stray]
    table = project.table(project.name)
    # It is lost for who looks for it, and without a word: Trino looks into bucket 2.
    assert project.ask(f"SELECT {KEY} FROM {table} WHERE {KEY} = {stray}").rows == []
    if position == 0:
        with pytest.raises(TrinoQueryError, match="is for bucket 1, but contains a row for bucket 2") as caught:
            project.ask(f"SELECT {KEY} FROM {table}")
        assert caught.value.error_name == "HIVE_INVALID_BUCKET_FILES"
    if position in (50, 96, 98, 194):
        assert len(project.ask(f"SELECT {KEY} FROM {table}").rows) == 1000


@pytest.mark.parametrize(
    ("name", "wrong", "kind", "scheme", "count"),
    [
        # By 256 buckets it would be right: what is lost are multiples of 256.
        ("unsigned", by_bytes(unsigned_bytes), "string", "hive_v1", 10),
        ("murmur3", by_bytes(standard_murmur3), "string", "hive_v2", 256),
        ("widened", int_as_bigint, "int", "hive_v1", 256),
        ("widened_v2", int_as_bigint, "int", "hive_v2", 10),
    ],
)
def test_a_wrong_hash_is_refused(lake: Lake, name: str, wrong: Hash, kind: str, scheme: str, count: int) -> None:
    with hashed_by(wrong):
        project, result = refused(lake, name, rows(kind), KEY, count=count, hash=scheme)
    assert result.exit_code == 3
    found = re.search(
        r"/(\d{6})_0\.snappy\.parquet: bucket (\d+): row \d+ with key .+ belongs to bucket (\d+)", result.stderr
    )
    assert found, result.stderr
    assert int(found[1]) == int(found[2]) != int(found[3])
    with pytest.raises(TrinoQueryError, match="contains a row for bucket") as caught:
        project.ask(f"SELECT {KEY} FROM {project.table(name)}")
    assert caught.value.error_name == "HIVE_INVALID_BUCKET_FILES"
    assert strays(project, trinos_buckets(lake, project.table(name), [KEY], VERSIONS[scheme], name), count)
