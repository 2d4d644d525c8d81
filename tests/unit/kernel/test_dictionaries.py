from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketwheel.kernel.dictionaries import UnifiedDictionaries, UnifiedDictionary

Values = list[str | None]

TEXTS = st.lists(st.sampled_from(["", "a", "b", "é", "天地", "x" * 100, None]), max_size=20)


def coded(values: Sequence[str | None], kind: pa.DataType | None = None) -> pa.DictionaryArray:
    return pa.array(values, kind or pa.string()).dictionary_encode()


def decoded(dictionary: UnifiedDictionary, codes: npt.NDArray[Any]) -> pa.DictionaryArray:
    (whole,) = dictionary.decode(codes, [0, len(codes)]).chunks
    return whole


@given(st.lists(TEXTS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_decode_inverts_encode_for_any_slice_order(slices: list[Values], random: object) -> None:
    dictionary = UnifiedDictionary()
    codes: dict[int, pa.Array] = {}
    for number in random.sample(range(len(slices)), len(slices)):  # type: ignore[attr-defined]
        codes[number] = dictionary.encode(coded(slices[number]))
    joined = np.concatenate([codes[number].to_numpy() for number in range(len(slices))])
    values = [value for part in slices for value in part]
    decoded_values = decoded(dictionary, joined)
    assert decoded_values.to_pylist() == values
    assert decoded_values.dictionary.to_pylist() == sorted(
        {v for v in values if v is not None}, key=lambda v: v.encode()
    )


@given(st.lists(TEXTS, min_size=1, max_size=6), st.integers(1, 50))
def test_decoding_parts_at_once_equals_decoding_each(parts: list[Values], times: int) -> None:
    dictionary = UnifiedDictionary()
    codes = [np.repeat(dictionary.encode(coded(part)).to_numpy(), times) for part in parts]
    bounds = np.cumsum([0, *map(len, codes)]).tolist()
    together = dictionary.decode(np.concatenate(codes), bounds)
    assert together.num_chunks == len(parts)
    for part, alone in zip(together.chunks, codes, strict=True):
        assert part.equals(decoded(dictionary, alone))
        assert part.dictionary.equals(decoded(dictionary, alone).dictionary)


def test_decoded_columns_do_not_depend_on_insertion_order() -> None:
    first, second = coded(["b", "a", None]), coded(["c", "b", ""])
    columns = []
    for order in ([first, second], [second, first]):
        dictionary = UnifiedDictionary()
        codes = [dictionary.encode(column) for column in order]
        joined = np.concatenate([codes[order.index(column)].to_numpy() for column in (first, second)])
        columns.append(decoded(dictionary, joined))
    assert columns[0].indices.equals(columns[1].indices)
    assert columns[0].dictionary.equals(columns[1].dictionary)


def test_null_is_code_zero_and_the_first_value_code_one() -> None:
    dictionary = UnifiedDictionary()
    assert dictionary.encode(coded(["x", None, "y", "x"])).to_pylist() == [1, 0, 2, 1]
    assert dictionary.encode(coded([None, "y"])).to_pylist() == [0, 2]


def test_codes_of_equal_values_do_not_depend_on_their_order() -> None:
    codes = []
    for values in (["b", "c", "a"], ["c", "a", "b"]):
        dictionary = UnifiedDictionary()
        dictionary.encode(coded(values))
        dictionary.encode(coded(["d", *reversed(values), "e"]))
        codes.append(dictionary.values)
    assert codes[0].equals(codes[1])
    assert codes[0].to_pylist() == ["a", "b", "c", "d", "e"]


def test_null_inside_dictionary_is_null() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array([None, "a"]))
    dictionary = UnifiedDictionary()
    codes = dictionary.encode(column)
    assert codes.to_pylist() == [0, 1, 0]
    assert decoded(dictionary, codes.to_numpy()).to_pylist() == [None, "a", None]


def test_empty_text_is_a_value_and_null_is_not() -> None:
    dictionary = UnifiedDictionary()
    nothing, empty = dictionary.encode(coded([None, None])), dictionary.encode(coded(["", ""]))
    assert decoded(dictionary, nothing.to_numpy()).to_pylist() == [None, None]
    assert decoded(dictionary, empty.to_numpy()).to_pylist() == ["", ""]
    assert len(decoded(dictionary, nothing.to_numpy()).dictionary) == 0


@pytest.mark.parametrize(
    ("distinct", "kind"), [(255, pa.uint8()), (256, pa.uint16()), (65_535, pa.uint16()), (65_536, pa.uint32())]
)
def test_codes_use_narrowest_type(distinct: int, kind: pa.DataType) -> None:
    values = [f"v{number}" for number in range(distinct)]
    dictionary = UnifiedDictionary()
    codes = dictionary.encode(coded(values))
    assert codes.type == kind
    assert decoded(dictionary, codes.to_numpy()).to_pylist() == values
    assert decoded(dictionary, codes.to_numpy()[-1:]).to_pylist() == values[-1:]


def test_codes_keep_their_meaning_when_dictionary_grows() -> None:
    dictionary = UnifiedDictionary()
    early = dictionary.encode(coded(["old", None]))
    late = dictionary.encode(coded([f"v{number}" for number in range(300)]))
    assert (early.type, late.type) == (pa.uint8(), pa.uint16())
    assert decoded(dictionary, early.to_numpy()).to_pylist() == ["old", None]
    assert decoded(dictionary, np.concatenate([early.to_numpy(), late.to_numpy()])).to_pylist()[:3] == [
        "old",
        None,
        "v0",
    ]


@pytest.mark.parametrize("index", [pa.int8(), pa.uint8(), pa.int64(), pa.uint32()])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_encode_accepts_any_index_and_value_type(index: pa.DataType, kind: pa.DataType) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], index), pa.array([b"a", b"b"]).cast(kind))
    dictionary = UnifiedDictionary()
    decoded_values = decoded(dictionary, dictionary.encode(column).to_numpy())
    assert decoded_values.to_pylist() == column.to_pylist()
    assert decoded_values.type.value_type == kind


def test_encode_respects_offset_of_sliced_column() -> None:
    column = coded(["a", None, "b", "c", None])
    dictionary = UnifiedDictionary()
    assert decoded(dictionary, dictionary.encode(column.slice(2, 3)).to_numpy()).to_pylist() == ["b", "c", None]


def test_concurrent_encode_gives_consistent_codes() -> None:
    dictionary = UnifiedDictionary()
    start = threading.Barrier(4)
    parts = [[f"v{(number * step) % 500}" for number in range(500)] for step in (1, 3, 7, 9)]

    def encode(values: list[str]) -> pa.Array:
        start.wait()
        return [dictionary.encode(coded(values[at : at + 50])) for at in range(0, 500, 50)]

    with ThreadPoolExecutor(4) as pool:
        encoded = list(pool.map(encode, parts))
    for values, codes in zip(parts, encoded, strict=True):
        assert decoded(dictionary, np.concatenate([part.to_numpy() for part in codes])).to_pylist() == values


def test_unified_dictionaries_are_created_once_per_column() -> None:
    dictionaries = UnifiedDictionaries()
    assert "Code" not in dictionaries
    dictionary = dictionaries.column("Code")
    assert dictionaries.column("Code") is dictionary
    assert "Code" in dictionaries
    assert dictionaries.column("Other") is not dictionary
