"""Text that is not UTF-8 is found at any depth, and replaced without changing anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bucketwheel.kernel.utf8 import is_valid, replaced

GOOD = [b"plain", "Zürich".encode(), None, b"", "日本".encode()]
BAD = [*GOOD, b"R\xc9UNION", b"\xff"]
FIXED = [None if text is None else text.decode("utf-8", "replace") for text in BAD]


def texts(values: list[bytes | None], large: bool = False) -> pa.Array:
    """Return text without a check of its bytes."""
    kind, stored = (pa.large_string(), pa.large_binary()) if large else (pa.string(), pa.binary())
    return pa.array(values, stored).view(kind)


def shapes(values: list[bytes | None]) -> dict[str, pa.Array]:
    """Return arrays of many types with these texts inside, in the same order."""
    count = len(values)
    ends, text = list(range(count + 1)), texts(values)
    keys = pa.array([f"k{number}" for number in range(count)])
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), text)
    return {
        "text": text,
        "large text": texts(values, large=True),
        "dictionary": pa.DictionaryArray.from_arrays(pa.array(ends[:-1], pa.int32()), text),
        "list": lists,
        "large list": pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), text),
        "fixed-size list": pa.FixedSizeListArray.from_arrays(text, 1),
        "struct": pa.StructArray.from_arrays([keys, text], ["a", "b"], mask=pa.array([n == 1 for n in range(count)])),
        "list of structs": pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()), pa.StructArray.from_arrays([text, keys], ["a", "b"])
        ),
        "map": pa.MapArray.from_arrays(pa.array(ends, pa.int32()), keys, text),
        "map of lists": pa.MapArray.from_arrays(pa.array(ends, pa.int32()), keys, lists),
    }


@pytest.mark.parametrize("shape", list(shapes(GOOD)))
def test_text_is_valid_unless_a_byte_is_not_utf8(shape: str) -> None:
    assert is_valid(shapes(GOOD)[shape])
    assert not is_valid(shapes(BAD)[shape])
    assert is_valid(shapes([b"a" * 99, None])[shape])


@pytest.mark.parametrize("shape", [*shapes(GOOD)])
@pytest.mark.parametrize("start", [0, 3])
def test_replaced_column_differs_in_invalid_text_only(shape: str, start: int) -> None:
    expected = shapes([None if text is None else text.encode() for text in FIXED])[shape].slice(start)
    found, count = replaced(shapes(BAD)[shape].slice(start))
    assert found.type == expected.type
    assert found.to_pylist() == expected.to_pylist()
    found.validate(full=True)
    assert count == 2


def test_character_shared_by_two_values_is_invalid() -> None:
    assert not is_valid(texts([b"\xc3", b"\xa9"]))
    assert replaced(texts([b"\xc3", b"\xa9"]))[0].to_pylist() == ["\ufffd", "\ufffd"]


def test_text_outside_a_slice_does_not_count() -> None:
    column = texts([b"\xff", b"ok", b"\xff"])
    assert is_valid(column.slice(1, 1))
    assert is_valid(column.slice(1, 0))
    assert not is_valid(column.slice(1))


def test_rows_of_replaced_dictionary_values_are_counted() -> None:
    codes = pa.array([0, 1, None, 1, 1], pa.int8())
    found, count = replaced(pa.DictionaryArray.from_arrays(codes, texts([b"ok", b"\xff", b"\xfe"])))
    assert (found.to_pylist(), count) == (["ok", "\ufffd", None, "\ufffd", "\ufffd"], 3)


@pytest.mark.parametrize("values", [pa.array([b"\xff"]), pa.array([1]), pa.nulls(3), pa.array([[1.5]])], ids=str)
def test_other_types_are_always_valid(values: Any) -> None:
    assert is_valid(values)


def test_many_texts_are_checked_whole() -> None:
    rows = np.random.default_rng(1).permutation(10_000)
    column = texts([b"\xe9" if row == 9_999 else b"row %d" % row for row in rows])
    assert not is_valid(column)
    assert replaced(column)[1] == 1
