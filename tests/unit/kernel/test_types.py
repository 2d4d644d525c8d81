from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference_hashing as reference

from bucketwheel.kernel import gather
from bucketwheel.kernel.hashing import key_type_name
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.testing.jobs import (
    KEY,
    WHOLE,
    files_of,
    make_job,
    numbered,
    read_buckets,
    rows_of,
    run_kernel,
    write_files,
)
from kernel_jobs import key_order, overflow_offsets, people


def writes(kind: pa.DataType) -> bool:
    try:
        pq.write_table(pa.table({"x": pa.nulls(1, kind)}), pa.BufferOutputStream())
    except pa.ArrowNotImplementedError:
        return False
    return True


# Of the supported pyarrows, those that cannot write views read them as what they are views of.
VIEWS = writes(pa.string_view())
SCHEMES = ("hive_v1", "hive_v2", "spark")

KEY_ARRAYS: dict[str, pa.Array] = {
    "boolean": pa.array([True, None, False, True]),
    "tinyint": pa.array([3, None, -128, 127], pa.int8()),
    "smallint": pa.array([3, None, -32768, 32767], pa.int16()),
    "int": pa.array([3, None, -(2**31), 2**31 - 1], pa.int32()),
    "bigint": pa.array([3, None, -(2**63), 2**63 - 1], pa.int64()),
    "date": pa.array([3, None, -800, 20_000], pa.date32()),
    "string": pa.array(["b", None, "", "José"]),
    "large string": pa.array(["b", None, "", "José"], pa.large_string()),
    "dictionary": pa.array(["b", None, "", "b"]).dictionary_encode(),
    "large dictionary": pa.array(["b", None, "", "b"], pa.large_string()).dictionary_encode(),
}
if VIEWS:
    KEY_ARRAYS["string view"] = pa.array(["b", None, "", "José" * 9], pa.string_view())


@pytest.mark.parametrize("max_rows", [WHOLE, 2])
@pytest.mark.parametrize("store_schema", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KEY_ARRAYS)
def test_keys_of_every_type_and_encoding_get_their_bucket(
    tmp_path: Path, kind: str, scheme: str, store_schema: bool, max_rows: int
) -> None:
    column = KEY_ARRAYS[kind]
    files = write_files(tmp_path / "source", [people(column)], 3, store_schema=store_schema)
    # Naming the key among the dictionary columns must not keep it coded: it is sorted as plain values.
    coded = frozenset([KEY])
    job = make_job(tmp_path, files, {"t": ["Number"]}, bucket_count=3, hash=scheme, dictionary_columns=coded)
    run_kernel(job, max_rows)
    name = key_type_name(column.type)
    assert name is not None
    rows_by_bucket = {bucket: rows_of(table) for bucket, table in read_buckets(job, "t").items()}
    for bucket, rows in rows_by_bucket.items():
        assert [bucket] * len(rows) == [
            reference.bucket(reference.row_hash([key], [name], scheme), 3, scheme) for key, _ in rows
        ]
        assert rows == sorted(rows, key=lambda row: (key_order(row[:1]), row[1]))
    assert sorted(row[1] for rows in rows_by_bucket.values() for row in rows) == [0, 1, 2, 3]


DAY = datetime.date(2020, 2, 29)


def some(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return pa.array([None, *values, None, *values], kind)


STRUCT = pa.struct([("x", pa.string()), ("y", pa.list_(pa.int16())), ("z", pa.struct([("w", pa.date32())]))])
VALUES: dict[str, Callable[[], pa.Array]] = {
    "boolean": lambda: some([True, False], pa.bool_()),
    **{
        str(kind): partial(some, [0, 1, 127], kind)
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32())
    },
    "uint64": lambda: some([0, 2**64 - 1], pa.uint64()),
    "float16": lambda: some([np.float16(1.5), np.float16("inf")], pa.float16()),
    "float": lambda: some([0.0, -0.0, 1e-45, float("-inf")], pa.float32()),
    "double": lambda: some([0.0, -0.0, 5e-324, float("inf")], pa.float64()),
    "text and empty text": lambda: some(["", "x", "José", "y" * 300], pa.string()),
    "large text": lambda: some(["", "x"], pa.large_string()),
    "binary": lambda: some([b"", b"\x00\xff"], pa.binary()),
    "fixed-size binary": lambda: some([b"abc", b"\x00\x00\xff"], pa.binary(3)),
    "decimal128": lambda: some([1, -2], pa.int64()).cast(pa.decimal128(38, 9)),
    "decimal256": lambda: some([1, -2], pa.int64()).cast(pa.decimal256(70, 40)),
    "small decimal": lambda: some([1, -2], pa.int64()).cast(pa.decimal128(21, 2)),
    "date32": lambda: some([0, -5, 20_000], pa.date32()),
    "date64": lambda: some([0, 86_400_000], pa.date64()),
    **{
        f"timestamp {unit} {zone}": partial(some, [0, 10**9 + 1], pa.timestamp(unit, zone))
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "Europe/Paris")
    },
    "time32 s": lambda: some([0, 86_399], pa.time32("s")),
    "time32 ms": lambda: some([0, 86_399_999], pa.time32("ms")),
    "time64 us": lambda: some([0, 86_399_999_999], pa.time64("us")),
    "time64 ns": lambda: some([0, 86_399_999_999_999], pa.time64("ns")),
    "duration": lambda: some([0, -7], pa.duration("us")),
    "all null": lambda: pa.nulls(6, pa.string()),
    "null type": lambda: pa.nulls(6),
    "list": lambda: some([[], [1, None, 3]], pa.list_(pa.int32())),
    "list of text": lambda: some([[], ["", None, "x"]], pa.list_(pa.string())),
    "large list": lambda: some([[], ["", None, "x"]], pa.large_list(pa.large_string())),
    "list of list": lambda: some([[], [[], None, [1, 2]]], pa.list_(pa.list_(pa.int8()))),
    "fixed-size list": lambda: pa.array([[1, 2], [3, 4], [5, None]] * 2, pa.list_(pa.int8(), 2)),
    "struct": lambda: some([{"x": "", "y": [1], "z": {"w": DAY}}, {"x": None, "y": None, "z": None}], STRUCT),
    "list of struct": lambda: some([[], [{"x": "a", "y": [2], "z": None}, None]], pa.list_(STRUCT)),
    "map": lambda: some([[], [("a", 1), ("b", None)]], pa.map_(pa.string(), pa.int64())),
    "map of list": lambda: some([[(1, ["x", None])], []], pa.map_(pa.int32(), pa.list_(pa.string()))),
    "dictionary": lambda: some(["", "x", "y"], pa.string()).dictionary_encode(),
    "dictionary of ints": lambda: some([5, -6], pa.int64()).dictionary_encode(),
    "list of dictionary": lambda: pa.ListArray.from_arrays(
        pa.array([0, 2, 2, 3, 3, 5, 6]), some(["a", "b"], pa.string()).dictionary_encode()
    ),
    "struct of dictionary": lambda: pa.StructArray.from_arrays(
        [some(["a", ""], pa.string()).dictionary_encode()], ["x"]
    ),
}
if VIEWS:
    VALUES |= {
        "text view": lambda: some(["", "x", "José" * 9], pa.string_view()),
        "binary view": lambda: some([b"", b"x", b"y" * 40], pa.binary_view()),
        "list of text view": lambda: some([[], ["x" * 40, None]], pa.list_(pa.string_view())),
        "list view": lambda: some([[], [1, None]], pa.list_view(pa.int8())),
        "large list view": lambda: some([[], ["x" * 40, None]], pa.large_list_view(pa.string_view())),
        "json": lambda: pa.ExtensionArray.from_storage(pa.json_(), some(["{}", "[1]"], pa.string())),
        "uuid": lambda: pa.ExtensionArray.from_storage(pa.uuid(), some([b"a" * 16], pa.binary(16))),
    }


@pytest.mark.parametrize("how", ["plain", "no stored schema", "coded", "batches", "large", "unsorted"])
@pytest.mark.parametrize("kind", VALUES)
def test_values_of_every_type_are_unchanged(
    tmp_path: Path, kind: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "large":
        monkeypatch.setattr(gather, "_join", overflow_offsets)
    values = VALUES[kind]()
    source = people(numbered(len(values)), Value=values)
    files = write_files(tmp_path / "source", [source, source.slice(1, 3)], 3, store_schema=how != "no stored schema")
    coded = frozenset(["Value"] if how == "coded" else [])
    job = make_job(tmp_path, files, {"t": ["Value", "Number"]}, bucket_count=2, dictionary_columns=coded)
    job = replace(job, sort=how != "unsorted")
    for outcome in run_kernel(job, 2 if how == "batches" else WHOLE):
        if outcome.rows:
            verify_bucket(job, outcome)
    # Group by group: pyarrow reads no nested dictionaries across row groups.
    read = [pq.ParquetFile(part.path).read_row_group(group) for part in job.slices for group in part.row_groups]
    expected = sorted(
        row for table in read for row in zip(table[KEY].to_pylist(), texts(table["Value"]), strict=True)
    )
    rows = sorted(
        row
        for table in read_buckets(job, "t").values()
        for row in zip(table["customer_user_id"].to_pylist(), texts(table["value"]), strict=True)
    )
    assert rows == expected
    written = pq.read_metadata(files_of(job, "t")[0]).schema
    original = pq.read_metadata(files[0]).schema
    leaves = {c.path: c for c in map(original.column, range(len(original)))}
    compared = 0
    for leaf in map(written.column, range(len(written))):
        if leaf.path.startswith("value"):
            compared += 1
            source_leaf = leaves[leaf.path.replace("value", "Value", 1)]
            assert (leaf.physical_type, str(leaf.logical_type)) == (
                source_leaf.physical_type,
                str(source_leaf.logical_type),
            )
    assert compared


@pytest.mark.parametrize("slices", [1, 2])
def test_columns_beyond_32_bit_offsets_use_large_types(monkeypatch: pytest.MonkeyPatch, slices: int) -> None:
    inner = pa.struct([("x", pa.string()), ("y", pa.list_(pa.binary()))])
    columns = {
        "text": pa.array(["", None]),
        "bytes": pa.array([b"", None]),
        "list": pa.array([["a"], None]),
        "map": pa.array([[("a", b"b")], None], pa.map_(pa.string(), pa.binary())),
        "struct": pa.array([{"x": "a", "y": [b"b"]}, None], inner),
        "pair": pa.array([["a", "b"], ["c", None]], pa.list_(pa.string(), 2)),
        "number": pa.array([1, None]),
    }
    batches = [pa.record_batch(columns)] * slices
    assert gather.combined(batches).schema == batches[0].schema
    monkeypatch.setattr(gather, "_join", overflow_offsets)
    wide = gather.combined(batches)
    large = pa.struct([("x", pa.large_string()), ("y", pa.large_list(pa.large_binary()))])
    assert wide.schema.types == [
        pa.large_string(),
        pa.large_binary(),
        pa.large_list(pa.large_string()),
        pa.map_(pa.large_string(), pa.large_binary()),
        large,
        pa.list_(pa.large_string(), 2),
        pa.int64(),
    ]
    assert wide.to_pylist() == batches[0].to_pylist() * slices


def texts(column: pa.ChunkedArray) -> list[str]:
    """What the values are, whatever Arrow type they came in; durations are numbers in Parquet."""
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    if pa.types.is_duration(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_timestamp(column.type) or pa.types.is_time(column.type):
        column = column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32())
    return [repr(value) for value in column.to_pylist()]


@pytest.mark.parametrize("kind", ["list of dictionary", "struct of dictionary"])
def test_nested_dictionaries_are_read_across_row_groups(tmp_path: Path, kind: str) -> None:
    # pyarrow cannot read several row groups of them at once.
    source = people(numbered(6), Value=VALUES[kind]())
    files = write_files(tmp_path / "source", [source], 2)
    job = make_job(tmp_path, files, {"t": ["Value"]}, groups_per_slice=3, bucket_count=1)
    run_kernel(job)
    (table,) = read_buckets(job, "t").values()
    assert table["value"].to_pylist() == source.sort_by(KEY)["Value"].to_pylist()


def test_int96_timestamps_become_microseconds(tmp_path: Path) -> None:
    moments = pa.array([datetime.datetime(9999, 12, 31, 1, 2, 3, 456_789), None], pa.timestamp("us"))
    files = write_files(tmp_path / "source", [people(numbered(2), At=moments)], use_deprecated_int96_timestamps=True)
    job = make_job(tmp_path, files, {"t": ["At"]}, bucket_count=1)
    run_kernel(job)
    (table,) = read_buckets(job, "t").values()
    assert table["at"].type == pa.timestamp("us")
    assert set(table["at"].to_pylist()) == set(moments.to_pylist())
