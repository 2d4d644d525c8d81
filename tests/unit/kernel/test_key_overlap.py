"""Overlap of the keys of two runs, compared with Python sets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketwheel.kernel.key_overlap import KeyFiles, compare_bucket, overlap
from bucketwheel.runs.drift_records import KeyCounts
from bucketwheel.settings import StorageSettings

Row = tuple[Any, ...]
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=3)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): TEXT,
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-3, 3),
    pa.int64(): st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, -(2**63)]),
    pa.date32(): st.dates(date(2024, 1, 1), date(2024, 1, 9)),
}


def expected(now: Sequence[Row], before: Sequence[Row]) -> KeyCounts:
    one, other = ({row for row in rows if None not in row} for rows in (now, before))
    return KeyCounts(len(one & other), len(one - other), len(other - one))


def table(rows: Sequence[Row], types: Sequence[pa.DataType]) -> pa.Table:
    columns = [pa.array([row[n] for row in rows], kind) for n, kind in enumerate(types)]
    return pa.table(dict(zip("abc", columns, strict=False)))


@st.composite
def two_sides(draw: st.DrawFn) -> tuple[list[pa.DataType], list[Row], list[Row]]:
    types = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3))
    row = st.tuples(*(st.none() | VALUES[kind] for kind in types))
    rows = st.lists(row, max_size=40)
    shared = draw(rows)
    return types, [*shared, *draw(rows)], [*draw(rows), *shared[: draw(st.integers(0, 40))]]


@given(two_sides(), st.integers(1, 7))
def test_overlap_counts_match_python_sets(case: tuple[list[pa.DataType], list[Row], list[Row]], size: int) -> None:
    types, now, before = case
    complete = [[row for row in rows if None not in row] for rows in (now, before)]
    one, other = (table(rows, types).to_batches(max_chunksize=size) for rows in complete)
    assert overlap(one, other) == expected(now, before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overlap")


def written(
    place: Path, name: str, rows: Sequence[Row], types: Sequence[pa.DataType], scheme: str, group: int = 3
) -> KeyFiles:
    """Write two files of one side, in row groups of `group` rows; the key columns are not the first ones."""
    keys, paths = table(rows, types), []
    for number, part in enumerate((keys.slice(0, len(rows) // 2), keys.slice(len(rows) // 2))):
        paths.append(str(place / f"{name}-{number}.parquet"))
        wide = part.add_column(0, "value", pa.array(range(part.num_rows)))
        pq.write_table(wide, paths[-1], row_group_size=group)
    return KeyFiles(StorageSettings(), tuple(paths), tuple(keys.column_names), scheme)


@given(two_sides(), st.integers(1, 5), st.sampled_from(["hive_v1", "spark"]))
def test_compare_bucket_gives_same_counts_for_any_parts(
    place: Path, case: tuple[list[pa.DataType], list[Row], list[Row]], parts: int, scheme: str
) -> None:
    types, now, before = case
    one, other = (written(place, name, rows, types, scheme) for name, rows in (("now", now), ("before", before)))
    assert compare_bucket(one, other, parts) == expected(now, before)


def test_each_part_holds_its_share_of_keys(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"person {number}",) for number in range(4_000)]
    side = written(place, "many", rows, [pa.string()], "hive_v1", group=100)
    held: list[int] = []

    def watched(now: list[pa.RecordBatch], before: list[pa.RecordBatch]) -> KeyCounts:
        held.append(sum(batch.num_rows for batch in (*now, *before)))
        return overlap(now, before)

    monkeypatch.setattr("bucketwheel.kernel.key_overlap.overlap", watched)
    assert compare_bucket(side, side, 4) == (4_000, 0, 0)
    assert len(held) == 4
    assert max(held) < 1.2 * 8_000 / 4


def test_overlap_ignores_offset_width() -> None:
    one = pa.record_batch({"k": pa.array(["a", "b"])})
    other = pa.record_batch({"k": pa.array(["b", "c"], pa.large_string())})
    assert overlap([one], [other]) == (1, 1, 1)


def test_bucket_without_files_has_no_keys(place: Path) -> None:
    side = written(place, "some", [("a",), ("b",)], [pa.string()], "hive_v1")
    none = KeyFiles(StorageSettings(), (), ("a",), "hive_v1")
    assert compare_bucket(side, none, 2) == (0, 2, 0)
    assert compare_bucket(none, side, 1) == (0, 0, 2)
    assert compare_bucket(none, none, 3) == (0, 0, 0)
