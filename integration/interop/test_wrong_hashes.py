"""Rows in wrong buckets: `verify` refuses every one, while Trino only samples rows."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from trino.exceptions import TrinoQueryError

from bucketwheel.kernel.hashing import hash_keys

from .by_hand import Hash, by_bytes, hashed_by, int_as_bigint, refused, standard_murmur3, unsigned_bytes
from .key_tables import FREE, KEY, VERSIONS, literal, rows, trinos_buckets
from .lake import Lake
from .on_disk import show_written

COUNT = 4
HOME = 1
KINDS = {"bigint": "hive_v1", "string": "hive_v2"}
# Trino looks at the first row of every page; its first pages have one row, two, four and so on.
SEEN, UNSEEN = (0, 1, 7), (50, 96, 97, 98, 194, 249)
Numbers = Mapping[tuple[Any, ...], int]


def keys(kind: str) -> list[Any]:
    # Of the texts some of another bucket come at every one of those positions.
    return [number if kind == "bigint" else f"é{7 * number:04d}" for number in range(2, 1002)]


@pytest.fixture(scope="module")
def numbers(lake: Lake) -> dict[str, Numbers]:
    """Return the buckets of the keys above."""
    numbers_by_kind: dict[str, Numbers] = {}
    for kind, scheme in KINDS.items():
        table = show_written(lake, f"in_place_{kind}", pa.table({KEY: keys(kind)}), [KEY], count=COUNT, hash=scheme)
        numbers_by_kind[kind] = trinos_buckets(lake, table, [KEY], VERSIONS[scheme], f"in_place_{kind}", COUNT)
    return numbers_by_kind


def stray_at(position: int, numbers: Numbers) -> Any:
    """Return a key of another bucket that sorts to a given position in the file of bucket `HOME`."""
    ordered = sorted(key for (key,) in numbers)
    at_home = [key for key in ordered if numbers[(key,)] == HOME]
    return next(key for key in ordered if key not in at_home and bisect(at_home, key) == position)


def strays(lake: Lake, table: str, numbers: Numbers) -> list[Any]:
    """Return the keys of all rows outside the bucket that Trino computes."""
    rows = lake.trino.rows(f'SELECT {KEY}, "$bucket" FROM {table}', **FREE)
    return [key for key, bucket in rows if bucket != numbers[(key,)]]


@pytest.mark.parametrize("position", [*SEEN, *UNSEEN])
@pytest.mark.parametrize("kind", KINDS)
def test_verify_finds_one_misplaced_row_at_any_position(
    lake: Lake, numbers: dict[str, Numbers], kind: str, position: int
) -> None:
    stray = stray_at(position, numbers[kind])
    right = numbers[kind][(stray,)]

    def misplaced(columns: Sequence[pa.ChunkedArray], scheme: str) -> npt.NDArray[np.int32]:
        hashes = hash_keys(columns, scheme).copy()
        hashes[[key == stray for key in columns[0].to_pylist()]] = HOME
        return hashes

    rows = pa.table({KEY: keys(kind)})
    with hashed_by(misplaced):
        table, result = refused(lake, f"stray_{kind}_{position}", rows, KEY, count=COUNT, hash=KINDS[kind])
    assert result.exit_code == 3
    place = f"{HOME:06d}_0.snappy.parquet: bucket {HOME}: row {position}"
    assert f"{place} belongs to bucket {right} by its key (1 such row)" in result.stderr
    assert strays(lake, table, numbers[kind]) == [stray]
    # A query for this key silently returns no rows: Trino reads only the bucket that the key belongs to.
    assert lake.trino.rows(f"SELECT {KEY} FROM {table} WHERE {KEY} = {literal(stray)}") == []
    whole = f"SELECT {KEY} FROM {table}"
    if position in SEEN:
        text = f"is for bucket {HOME}, but contains a row for bucket {right}"
        with pytest.raises(TrinoQueryError, match=text) as caught:
            lake.trino.rows(whole)
        assert caught.value.error_name == "HIVE_INVALID_BUCKET_FILES"
    else:
        assert len(lake.trino.rows(whole)) == len(rows)


@pytest.mark.parametrize(
    ("name", "wrong", "kind", "scheme", "count"),
    [
        # With 256 buckets the result would be correct: the hash differs by multiples of 256.
        ("unsigned", by_bytes(unsigned_bytes), "string", "hive_v1", 10),
        ("murmur3", by_bytes(standard_murmur3), "string", "hive_v2", 256),
        ("widened", int_as_bigint, "int", "hive_v1", 256),
        ("widened_v2", int_as_bigint, "int", "hive_v2", 10),
    ],
)
def test_wrong_hash_is_refused(lake: Lake, name: str, wrong: Hash, kind: str, scheme: str, count: int) -> None:
    with hashed_by(wrong):
        table, result = refused(lake, name, rows(kind), KEY, count=count, hash=scheme)
    assert result.exit_code == 3
    match = re.search(r"/(\d{6})_0\.snappy\.parquet: bucket (\d+): row \d+ belongs to bucket (\d+)", result.stderr)
    assert match, result.stderr
    assert int(match[1]) == int(match[2]) != int(match[3])
    with pytest.raises(TrinoQueryError, match="contains a row for bucket") as caught:
        lake.trino.rows(f"SELECT {KEY} FROM {table}")
    assert caught.value.error_name == "HIVE_INVALID_BUCKET_FILES"
    assert strays(lake, table, trinos_buckets(lake, table, [KEY], VERSIONS[scheme], name, count))
