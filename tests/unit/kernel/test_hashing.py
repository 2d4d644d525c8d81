"""The bucket hashes against vectors of Hive, Trino and Spark and against the slow reference."""

from __future__ import annotations

import datetime
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import reference_hashing as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketwheel.errors import ConfigError, SchemaError
from bucketwheel.kernel.hashing import bucket_numbers, hash_keys, key_buckets, key_type_name, stable_order

ARROW = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "string": pa.string(),
    "varchar(15)": pa.string(),
    "date": pa.date32(),
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "tinyint": st.integers(-(2**7), 2**7 - 1),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "int": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "string": st.text(max_size=12) | st.sampled_from(["", "José", "天地", "😁", "\x7f\x80", "ÿ" * 13]),
    "date": st.dates(),
}
VALUES["varchar(15)"] = VALUES["string"]
SCHEMES = ("hive_v1", "hive_v2", "spark")
LAYOUTS = ("plain", "sliced", "chunked", "dictionary", "null in dictionary", "long dictionary")
STRINGS = (pa.string(), pa.large_string(), pa.string_view())

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "bucket_vectors.json").read_text("utf-8"))
# Spark's own hashes of strings whose tail bytes are negative, from the tests of Apache DataFusion Comet.
SPARK_STRINGS = {"hello": 3286402344, "bar": 2486176763, "": 142593372, "😁": 885025535, "天地": 2395000894}
VECTORS += [
    {"scheme": "spark_murmur3", "type": "string", "value": value, "hash": reference.to_int32(hash_)}
    for value, hash_ in SPARK_STRINGS.items()
]


def native(vector: dict[str, Any]) -> tuple[Any, str, str]:
    value = vector["value"]
    if vector["type"] == "date" and value is not None:
        value = datetime.date.fromisoformat(value)
    return value, vector["type"], vector["scheme"].removesuffix("_murmur3")


def agrees(vector: dict[str, Any], hash_: int) -> bool:
    if "hash" in vector and vector["hash"] != hash_:
        return False
    bucket = reference.bucket(hash_, vector.get("bucket_count", 1), native(vector)[2])
    return bool(bucket == vector.get("bucket", 0))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['scheme']}-{v['type']}-{v['value']}")
def test_hash_and_bucket_match_reader_vectors(vector: dict[str, Any]) -> None:
    value, type_name, scheme = native(vector)
    hashes = hash_keys([pa.array([value], ARROW[type_name])], scheme, [type_name])
    assert hashes.tolist() == [vector.get("hash", hashes[0])]
    if "bucket" in vector:
        assert bucket_numbers(hashes, vector["bucket_count"], scheme).tolist() == [vector["bucket"]]


def test_vectors_cover_every_scheme_and_type() -> None:
    assert len(VECTORS) >= 148
    covered = {native(vector)[1:] for vector in VECTORS}
    assert covered >= {(t, "hive_v1") for t in ARROW} | {(t, "hive_v2") for t in ARROW}
    assert covered >= {(t, "spark") for t in ARROW if t != "varchar(15)"}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_vectors_distinguish_signed_bytes(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(native(vector)[:2], vector) for vector in VECTORS if native(vector)[2] == scheme]
    assert rows
    assert all(agrees(vector, reference.row_hash([v], [t], scheme)) for (v, t), vector in rows)
    monkeypatch.setattr(reference, "signed", int)
    assert not all(agrees(vector, reference.row_hash([v], [t], scheme)) for (v, t), vector in rows)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_vectors_distinguish_schemes(scheme: str) -> None:
    rows = [(native(vector), vector) for vector in VECTORS]
    wrong = [
        agrees(vector, int(hash_keys([pa.array([v], ARROW[t])], scheme, [t])[0]))
        for (v, t, own), vector in rows
        if own != scheme and v
    ]
    assert sum(wrong) < len(wrong) / 4


def test_hive_buckets_of_common_keys_among_256() -> None:
    expected = {
        **{"": 0, "a": 97, "U1": 124, "customer_1": 16, "U0000001": 60, "12345": 51, "-1": 164},
        **{"f47ac10b-58cc-4372-a567-0e02b2c3d479": 131, "José": 116, "😁": 216, "天地": 207, "apache spark": 139},
    }
    buckets = key_buckets([pa.array(list(expected))], "hive_v1", 256)
    assert dict(zip(expected, buckets.tolist(), strict=True)) == expected


def test_width_and_declared_type_decide_the_hive_v1_hash() -> None:
    def bucket(value: Any, t: pa.DataType, name: str) -> int:
        return int(bucket_numbers(hash_keys([pa.array([value], t)], "hive_v1", [name]), 256, "hive_v1")[0])

    assert [bucket(-42, pa.int64(), "bigint"), bucket(-42, pa.int32(), "int")] == [41, 214]
    assert [bucket(-1, pa.int64(), "bigint"), bucket(-1, pa.int32(), "int")] == [0, 255]
    assert bucket(300_000_000_000, pa.int64(), "bigint") == 69
    assert [bucket("", pa.string(), name) for name in ("string", "varchar", "VARCHAR (40)")] == [0, 1, 1]


def dictionary_of(values: list[Any], t: pa.DataType, index: pa.DataType, layout: str) -> pa.DictionaryArray:
    """A slice of a dictionary array, the dictionary itself a slice or with values that no row uses."""
    unused = [value for value in values if value is not None] * (9 if layout == "long dictionary" else 1)
    distinct = [v for v in dict.fromkeys(values) if v is not None or layout == "null in dictionary"]
    shift = len(unused) if layout == "long dictionary" else 0
    codes = [shift + distinct.index(v) if v in distinct else None for v in values]
    dictionary = pa.array(unused + distinct, t).slice(len(unused) - shift)
    sliced = pa.array([None, *codes, None], index)
    return pa.DictionaryArray.from_arrays(sliced, dictionary).slice(1, len(values))


def lay_out(draw: st.DrawFn, values: list[Any], t: pa.DataType, layout: str) -> pa.Array | pa.ChunkedArray:
    """The same column as Arrow may hand it over in many ways."""
    index = draw(st.sampled_from((pa.int16(), pa.int64(), pa.uint32())))
    if layout == "plain":
        return pa.array(values, t)
    if layout == "sliced":
        before, after = draw(st.integers(0, 17)), draw(st.integers(0, 9))
        padded = values[:1] * before + values + values[-1:] * after
        return pa.array(padded, t).slice(before if values else 0, len(values))
    if layout == "chunked":
        cuts = sorted(draw(st.lists(st.integers(0, len(values)), max_size=4)))
        parts = [values[low:high] for low, high in zip([0, *cuts], [*cuts, len(values)], strict=True)]
        if draw(st.booleans()):
            return pa.chunked_array([pa.array(part, t) for part in parts])
        return pa.chunked_array([dictionary_of(part, t, index, layout) for part in parts])
    return dictionary_of(values, t, index, layout)


@st.composite
def keys(draw: st.DrawFn, type_names: Sequence[str], most: int) -> tuple[list[str], list[list[Any]], list[Any]]:
    """Some key columns: their types, their values, and the values as Arrow arrays of any layout."""
    names = draw(st.lists(st.sampled_from(type_names), min_size=1, max_size=most))
    size = draw(st.integers(0, 12))
    columns, arrays = [], []
    for name in names:
        values = draw(st.lists(st.none() | VALUES[name], min_size=size, max_size=size))
        t = draw(st.sampled_from(STRINGS)) if ARROW[name] == pa.string() else ARROW[name]
        columns.append(values)
        kind = t if draw(st.booleans()) or any(v is not None for v in values) else pa.null()
        arrays.append(lay_out(draw, values, kind, draw(st.sampled_from(LAYOUTS))))
    return names, columns, arrays


def check(key: tuple[list[str], list[list[Any]], list[Any]], scheme: str) -> None:
    names, columns, arrays = key
    hashes = hash_keys(arrays, scheme, names)
    assert hashes.dtype == np.int32
    assert hashes.tolist() == [reference.row_hash(row, names, scheme) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ARROW)
def test_any_column_layout_hashes_like_reference(name: str, scheme: str) -> None:
    @settings(max_examples=settings().max_examples // 2)
    @given(keys([name], 1))
    def run(key: tuple[list[str], list[list[Any]], list[Any]]) -> None:
        check(key, scheme)

    run()


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data())
def test_several_columns_hash_like_reference(scheme: str, data: st.DataObject) -> None:
    check(data.draw(keys(list(ARROW), 4)), scheme)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_huge_string_hashes_like_reference_in_little_memory(scheme: str) -> None:
    rng = np.random.default_rng(7)
    distinct = ["é" * int(rng.integers(0, 9)) + "x" * int(rng.integers(0, 30)) for _ in range(300)]
    # Longer than a window of the running sums; its count of words, cut to 16 bits, would sort wrongly.
    distinct += ["", "天" * 140_001]
    codes = rng.integers(0, 301, 150_000)
    codes[70_000] = 301
    expected = np.array([reference.row_hash([value], ["string"], scheme) for value in distinct])
    for t in STRINGS:
        array = pa.array([distinct[code] for code in codes], t)
        tracemalloc.start()
        hashes = hash_keys([array], scheme)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.array_equal(hashes, expected[codes])
        # pyarrow 17 has to make Python objects of string views on the way.
        assert peak < (24_000_000 if t == pa.string_view() else 12_000_000)


@pytest.mark.parametrize("scheme", ["hive_v2", "spark"])
@pytest.mark.parametrize("many", [1, 64, 65, 200])
def test_long_strings_hash_like_reference(many: int, scheme: str) -> None:
    values: list[str | None] = ["short", *("ß天a"[i % 3] * (250 + 7 * i) for i in range(many)), None]
    expected = [reference.row_hash([value], ["string"], scheme) for value in values]
    assert hash_keys([pa.array(values)], scheme).tolist() == expected


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("length", [0, 1, 3, 4, 17, 64, 66])
def test_strings_of_equal_length_hash_like_reference(length: int, scheme: str) -> None:
    distinct = [("ü" * (length // 4) + f"{number:066}")[: length - length // 4] for number in range(5)]
    assert {len(value.encode()) for value in distinct} == {length}
    codes = np.random.default_rng(3).integers(0, len(distinct), 3000)
    values = pa.array([*distinct, *(distinct[code] for code in codes)]).slice(len(distinct))
    for name in ("string", "varchar"):
        expected = np.array([reference.row_hash([value], [name], scheme) for value in distinct])
        assert np.array_equal(hash_keys([values], scheme, [name]), expected[codes])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bytes_under_null_do_not_change_hash(scheme: str) -> None:
    validity = pa.py_buffer(b"\x05")
    numbers = pa.py_buffer(np.array([1, 2, 3], np.int64))
    offsets = pa.py_buffer(np.array([0, 1, 4, 5], np.int32))
    longs = pa.Array.from_buffers(pa.int64(), 3, [validity, numbers])
    texts = pa.Array.from_buffers(pa.string(), 3, [validity, offsets, pa.py_buffer(b"axyzb")])
    expected = hash_keys([pa.array([1, None, 3]), pa.array(["a", None, "b"])], scheme)
    assert np.array_equal(hash_keys([longs, texts], scheme), expected)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("t", [*ARROW.values(), *STRINGS, pa.null(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_hash_of_no_rows_and_of_nulls(t: pa.DataType, scheme: str) -> None:
    for empty in (pa.array([], t), pa.chunked_array([], t)):
        assert hash_keys([empty], scheme).tolist() == []
    assert hash_keys([pa.nulls(3, t)], scheme).tolist() == [42 if scheme == "spark" else 0] * 3


def test_key_types_have_their_hive_names() -> None:
    assert {t: key_type_name(t) for t in ARROW.values()} == {t: n for n, t in ARROW.items() if n != "varchar(15)"}
    assert {key_type_name(t) for t in (*STRINGS, pa.dictionary(pa.int32(), pa.large_string()))} == {"string"}


@pytest.mark.parametrize(
    "t",
    [
        *(pa.float32(), pa.float64(), pa.decimal128(10, 2), pa.timestamp("us"), pa.time32("s"), pa.date64()),
        *(pa.uint8(), pa.uint64(), pa.binary(), pa.list_(pa.int32()), pa.dictionary(pa.int8(), pa.float64())),
    ],
    ids=str,
)
def test_hash_keys_rejects_unbucketable_types(t: pa.DataType) -> None:
    assert key_type_name(t) is None
    with pytest.raises(SchemaError) as caught:
        hash_keys([pa.array([1]), pa.nulls(1, t)], "hive_v1")
    assert str(t) in str(caught.value)
    assert all(name.removesuffix("(15)") in str(caught.value) for name in ARROW)


@pytest.mark.parametrize(("t", "name"), [(pa.int64(), "int"), (pa.int32(), "varchar"), (pa.string(), "char(3)")])
def test_hash_keys_rejects_mismatched_type_name(t: pa.DataType, name: str) -> None:
    with pytest.raises(SchemaError, match=name.partition("(")[0]):
        hash_keys([pa.nulls(1, t)], "hive_v1", [name])


def test_hash_keys_rejects_invalid_arguments() -> None:
    one, two = pa.array([1]), pa.array([1, 2])
    with pytest.raises(ConfigError, match=r"hive_v3.+hive_v1, hive_v2, spark, iceberg"):
        hash_keys([one], "hive_v3")
    with pytest.raises(ConfigError, match="hive_v3"):
        bucket_numbers(np.zeros(1, np.int32), 4, "hive_v3")
    for columns, types in (([], None), ([one, two], None), ([one], ["bigint", "int"]), ([one], [])):
        with pytest.raises(ValueError, match="Key columns must match"):
            hash_keys(columns, "spark", types)


def test_negative_hashes_get_java_bucket_numbers() -> None:
    hashes = np.array([-(2**31), -1, -42, 0, 2**31 - 1], np.int32)
    assert bucket_numbers(hashes, 100, "hive_v1").tolist() == [0, 47, 6, 0, 47]
    assert bucket_numbers(hashes, 100, "spark").tolist() == [52, 99, 58, 0, 47]
    assert bucket_numbers(hashes, 256, "hive_v2").tolist() == bucket_numbers(hashes, 256, "spark").tolist()


@given(st.lists(st.integers(-(2**31), 2**31 - 1)), st.integers(1, 2**31 - 1), st.sampled_from(SCHEMES))
def test_bucket_numbers_equal_the_reference(hashes: list[int], count: int, scheme: str) -> None:
    buckets = bucket_numbers(np.array(hashes, np.int32), count, scheme)
    assert buckets.dtype == np.int32
    assert buckets.tolist() == [reference.bucket(hash_, count, scheme) for hash_ in hashes]


@pytest.mark.parametrize("count", [0, -1, 2**31])
def test_bucket_numbers_rejects_invalid_count(count: int) -> None:
    with pytest.raises(ConfigError, match=str(count)):
        bucket_numbers(np.zeros(1, np.int32), count, "hive_v1")


@pytest.mark.parametrize("limit", [1, 256, 1 << 16, (1 << 16) + 1])
def test_stable_order_sorts_and_keeps_order_of_equals(limit: int) -> None:
    numbers = np.array([limit - 1, 0, limit // 2, limit - 1, 0, limit // 2], np.int32)
    expected = sorted(range(len(numbers)), key=lambda row: int(numbers[row]))
    assert stable_order(numbers, limit).tolist() == expected
    assert stable_order(numbers[:0], limit).tolist() == []
