"""The hash of Iceberg's bucket transform against the vectors of its specification and a slow reference."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketwheel.errors import ConfigError, SchemaError
from bucketwheel.kernel.hashing import bucket_numbers, hash_keys, key_buckets
from bucketwheel.kernel.iceberg_hash import iceberg_key_type

EPOCH = datetime.datetime(1970, 1, 1)
MOMENT = datetime.datetime(2017, 11, 16, 22, 31, 8)
UUID = uuid.UUID("f79c3e09-677c-4bbd-a479-3f349cb785e7").bytes

# Appendix B of the Iceberg specification, "32-bit hash requirements".
VECTORS: list[tuple[Any, pa.DataType, int]] = [
    (34, pa.int32(), 2017239379),
    (34, pa.int64(), 2017239379),
    (decimal.Decimal("14.20"), pa.decimal128(9, 2), -500754589),
    (MOMENT.date(), pa.date32(), -653330422),
    (MOMENT.time(), pa.time64("us"), -662762989),
    (MOMENT, pa.timestamp("us"), -2047944441),
    (MOMENT.replace(tzinfo=datetime.UTC), pa.timestamp("us", "America/Los_Angeles"), -2047944441),
    (MOMENT.replace(microsecond=1), pa.timestamp("us"), -1207196810),
    ("iceberg", pa.string(), 1210000089),
    (UUID, pa.binary(16), 1488055340),
    (bytes(range(4)), pa.binary(4), -188683207),
    (bytes(range(4)), pa.binary(), -188683207),
]
# The same values in types that Iceberg stores as those above.
WIDENED: list[tuple[Any, pa.DataType, int]] = [
    *((34, kind, 2017239379) for kind in (pa.int8(), pa.int16(), pa.uint8(), pa.uint16(), pa.uint32())),
    (MOMENT.date(), pa.date64(), -653330422),
    (MOMENT.time(), pa.time32("s"), -662762989),
    (MOMENT, pa.timestamp("ms"), -2047944441),
    ("iceberg", pa.large_string(), 1210000089),
    ("iceberg", pa.string_view(), 1210000089),
    (bytes(range(4)), pa.binary_view(), -188683207),
]
KINDS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.date32(), st.dates()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.string(), st.text(max_size=12) | st.sampled_from(["", "José", "天地", "😁", "ÿ" * 13])),
    (pa.binary(), st.binary(max_size=9)),
    (pa.decimal128(38, 4), st.decimals(-(10**33), 10**33, places=4)),
]


def reference(data: bytes) -> int:
    """Murmur3 (x86, 32 bits, seed 0) as its author defines it."""

    def rotated(word: int, by: int) -> int:
        return (word << by | word >> (32 - by)) & 0xFFFFFFFF

    def scrambled(word: int) -> int:
        return rotated(word * 0xCC9E2D51 & 0xFFFFFFFF, 15) * 0x1B873593 & 0xFFFFFFFF

    state, whole = 0, len(data) & ~3
    for start in range(0, whole, 4):
        state = rotated(state ^ scrambled(int.from_bytes(data[start : start + 4], "little")), 13)
        state = (state * 5 + 0xE6546B64) & 0xFFFFFFFF
    state ^= scrambled(int.from_bytes(data[whole:], "little")) ^ len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    state = (state ^ state >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return state ^ state >> 16


def hashed_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, decimal.Decimal):
        unscaled = int(value.scaleb(4, decimal.Context(prec=40)))
        return unscaled.to_bytes((unscaled if unscaled >= 0 else ~unscaled).bit_length() // 8 + 1, "big", signed=True)
    if isinstance(value, datetime.datetime):
        value = (value - EPOCH) // datetime.timedelta(microseconds=1)
    elif isinstance(value, datetime.date):
        value = (value - EPOCH.date()).days
    return int(value).to_bytes(8, "little", signed=True)


def reference_hash(value: Any) -> int:
    if value is None:
        return 0
    hash_ = reference(hashed_bytes(value))
    return hash_ - 2**32 if hash_ >= 2**31 else hash_


@pytest.mark.parametrize(("value", "kind", "expected"), [*VECTORS, *WIDENED], ids=str)
def test_iceberg_hash_matches_specification_vectors(value: Any, kind: pa.DataType, expected: int) -> None:
    array = pa.array([value, None, value], kind)
    assert hash_keys([array], "iceberg").tolist() == [expected, 0, expected]


@pytest.mark.parametrize(("kind", "values"), KINDS, ids=[str(kind) for kind, _ in KINDS])
def test_iceberg_hash_equals_the_reference_for_any_value(kind: pa.DataType, values: st.SearchStrategy[Any]) -> None:
    @given(st.lists(st.none() | values, max_size=9), st.integers(0, 3))
    def run(rows: list[Any], cut: int) -> None:
        expected = [reference_hash(row) for row in rows]
        array = pa.array(rows, kind)
        padded = pa.array([*rows[:1], *rows], kind).slice(1 if rows else 0)
        chunked = pa.chunked_array([array.slice(0, cut), array.slice(cut)])
        for column in (array, padded, chunked):
            assert hash_keys([column], "iceberg").tolist() == expected
        if kind != pa.decimal128(38, 4):
            assert hash_keys([array.dictionary_encode()], "iceberg").tolist() == expected

    run()


def test_iceberg_uuid_extension_hashes_like_its_bytes() -> None:
    if not hasattr(pa, "uuid"):
        # pyarrow 17 has no such type, and reads UUIDs as 16 bytes.
        return
    array = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID, None], pa.binary(16)))
    assert hash_keys([array], "iceberg").tolist() == [1488055340, 0]


def test_iceberg_bucket_clears_the_sign_bit() -> None:
    hashes = np.array([-500754589, -(2**31), 34], np.int32)
    assert bucket_numbers(hashes, 100, "iceberg").tolist() == [(-500754589 & 0x7FFFFFFF) % 100, 0, 34]


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.null(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_iceberg_bucket_of_null_follows_the_last_bucket(kind: pa.DataType) -> None:
    assert key_buckets([pa.nulls(2, kind)], "iceberg", 16).tolist() == [16, 16]
    chunks = pa.chunked_array([pa.array([34], pa.int64()), pa.array([None, 34], pa.int64())])
    bucket = 2017239379 % 16
    assert key_buckets([chunks], "iceberg", 16).tolist() == [bucket, 16, bucket]


@pytest.mark.parametrize(
    "kind",
    [
        *(
            pa.bool_(),
            pa.float32(),
            pa.float64(),
            pa.uint64(),
            pa.timestamp("ns"),
            pa.time64("ns"),
            pa.duration("us"),
        ),
        *(pa.decimal256(40, 2), pa.list_(pa.int32()), pa.dictionary(pa.int8(), pa.float64())),
    ],
    ids=str,
)
def test_iceberg_hash_rejects_types_without_bucket(kind: pa.DataType) -> None:
    assert iceberg_key_type(kind) is None
    with pytest.raises(SchemaError, match="no bucket hash in Iceberg; cast it to int, long, string"):
        hash_keys([pa.nulls(1, kind)], "iceberg")


def test_iceberg_hash_rejects_several_key_columns() -> None:
    with pytest.raises(ConfigError, match="Iceberg buckets have one key column, not 2; choose one"):
        hash_keys([pa.array([1]), pa.array([2])], "iceberg")
