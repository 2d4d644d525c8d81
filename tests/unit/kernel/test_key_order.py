from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketwheel.kernel.checksum import add, key_checksum
from bucketwheel.kernel.keys import complete_rows, first_disorder, key_order, key_text, repeated_keys
from kernel_jobs import key_order as expected_order

Rows = list[tuple[Any, ...]]

VALUES = {
    pa.string(): st.sampled_from(["", "a", "b", "é", "天", None]),
    pa.large_string(): st.sampled_from(["", "a", "aa", None]),
    pa.int8(): st.sampled_from([-128, 0, 127, None]),
    pa.int64(): st.sampled_from([-(2**63), -1, 2**63 - 1, None]),
    pa.bool_(): st.sampled_from([True, False, None]),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, Rows]:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES, key=str)), min_size=1, max_size=3))
    rows: Rows = draw(st.lists(st.tuples(*(VALUES[kind] for kind in kinds)), max_size=25))
    cuts = sorted(draw(st.sets(st.integers(0, len(rows)), max_size=3)))
    return chunked(rows, kinds, cuts), rows


def chunked(rows: Rows, kinds: Sequence[pa.DataType], cuts: Sequence[int]) -> pa.Table:
    bounds = [0, *cuts, len(rows)]
    columns = {}
    for number, kind in enumerate(kinds):
        whole = pa.array([row[number] for row in rows], kind)
        chunks = [whole.slice(start, end - start) for start, end in itertools.pairwise(bounds)]
        columns[f"key {number}"] = pa.chunked_array(chunks, kind)
    return pa.table(columns)


@given(tables())
def test_key_order_is_stable_null_first_and_bytewise(case: tuple[pa.Table, Rows]) -> None:
    table, rows = case
    assert key_order(table.combine_chunks()).tolist() == sorted(
        range(len(rows)), key=lambda i: expected_order(rows[i])
    )


@given(tables())
def test_first_disorder_is_found_across_chunks(case: tuple[pa.Table, Rows]) -> None:
    table, rows = case
    keys = [expected_order(row) for row in rows]
    descents = [row for row in range(1, len(keys)) if keys[row] < keys[row - 1]]
    assert first_disorder(table.columns) == (descents[0] if descents else None)
    ordered = table.take(pa.array(key_order(table.combine_chunks())))
    assert first_disorder(ordered.columns) is None


@pytest.mark.parametrize(
    ("keys", "row"),
    [
        ([("a", 1), ("a", 2), ("b", 1)], None),
        ([("a", 2), ("a", 1)], 1),
        ([("a", None), ("a", 1), (None, 5)], 2),
        ([(None, 1), (None, None)], 1),
        ([(None, None), (None, 1), ("", None)], None),
        ([("b", 1), ("a", 2)], 1),
    ],
)
def test_composite_key_order_uses_first_differing_column(keys: Rows, row: int | None) -> None:
    assert first_disorder(chunked(keys, [pa.string(), pa.int32()], []).columns) == row


@given(tables())
def test_complete_rows_and_repeated_keys(case: tuple[pa.Table, Rows]) -> None:
    table, rows = case
    ordered = table.take(pa.array(key_order(table.combine_chunks())))
    complete = [row for row in rows if None not in row]
    present = complete_rows(ordered)
    assert present.num_rows == len(complete)
    assert repeated_keys(present) == len(complete) - len(set(complete))


@given(tables(), st.randoms(use_true_random=False), st.integers(0, 25))
def test_checksum_is_independent_of_order_and_partition(case: tuple[pa.Table, Rows], random: Any, cut: int) -> None:
    table, rows = case
    shuffled = random.sample(range(len(rows)), len(rows))
    other = table.take(pa.array(shuffled, pa.int64()))
    whole = key_checksum(table.columns)
    assert key_checksum(other.columns) == whole
    assert add(key_checksum(table.slice(0, cut).columns), key_checksum(table.slice(cut).columns)) == whole


@given(tables(), st.integers(0, 25))
def test_checksum_detects_missing_and_duplicate_rows(case: tuple[pa.Table, Rows], row: int) -> None:
    table, rows = case
    if not rows:
        return
    row %= len(rows)
    whole = key_checksum(table.columns)
    assert key_checksum(pa.concat_tables([table, table.slice(row, 1)]).columns) != whole
    assert key_checksum(pa.concat_tables([table.slice(0, row), table.slice(row + 1)]).columns) != whole


@pytest.mark.parametrize("one", [["a", "b"], [None, "a"], ["", "a"]])
@pytest.mark.parametrize("other", [["b", "b"], ["c", "`"], ["", None], ["", ""]])
def test_checksum_distinguishes_key_sets(one: list[str | None], other: list[str | None]) -> None:
    # "a" and "b", and "c" and "`", have the same sum of hashes in Hive's scheme.
    assert key_checksum([pa.array(one, pa.string())]) != key_checksum([pa.array(other, pa.string())])


def test_checksum_of_nothing_is_zero_and_sums_wrap_at_64_bits() -> None:
    assert key_checksum([pa.array([], pa.string())]) == 0
    assert add(2**64 - 1, 2) == 1
    assert 0 <= key_checksum([pa.array(range(1000))]) < 2**64


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array(["José"]), "José"),
        (pa.array([None], pa.string()), "NULL"),
        (pa.array([b"a\xff"]).view(pa.string()), "a\\xff"),
        (pa.array([7], pa.date32()), "1970-01-08"),
        (pa.array([-7]), "-7"),
    ],
)
def test_key_text_accepts_invalid_utf8(column: pa.Array, text: str) -> None:
    assert key_text([column], 0) == text
    assert key_text([column, column], 0) == f"{text}|{text}"
