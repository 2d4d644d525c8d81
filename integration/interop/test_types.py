"""Trino reads every value of every published type as it was written."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trino.exceptions import TrinoQueryError

from .key_tables import KEY
from .lake import Lake
from .on_disk import show

NAME = "of_all_types"
# None of them ends with zeros in its unit.
TIMES = {
    "s": datetime(2025, 10, 22, 12, 34, 56),
    "ms": datetime(2025, 10, 22, 12, 34, 56, 789_000),
    "us": datetime(1931, 2, 3, 4, 5, 6, 789_012),
    "ns": datetime(2025, 10, 22, 12, 34, 56, 789_012),
}
WIDE = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def pair(kind: pa.DataType, *values: Any) -> pa.Array:
    """Return an array of two values and a NULL."""
    return pa.array([*values, None], kind)


def columns() -> dict[str, pa.Array]:
    texts, parts = ("é天😁", ""), (b"\x00\xff", b"")
    amounts = (Decimal("1234567.89"), Decimal("-0.01"))
    pairs = {
        "boolean": pair(pa.bool_(), True, False),
        **{f"int_{bits}": _limits(bits) for bits in (8, 16, 32, 64)},
        "unsigned_8": pair(pa.uint8(), 255, 0),
        "unsigned_16": pair(pa.uint16(), 65_535, 0),
        "float": pair(pa.float32(), 1.5, float("-inf")),
        "double": pair(pa.float64(), 0.1, -1e300),
        "date_32": pair(pa.date32(), date(2025, 10, 22), date(1, 1, 1)),
        "date_64": pair(pa.date64(), date(2025, 10, 22), date(1969, 12, 31)),
        "text": pair(pa.string(), *texts),
        "large_text": pair(pa.large_string(), *texts),
        "codes": pair(pa.string(), *texts).dictionary_encode(),
        "bytes": pair(pa.binary(), *parts),
        "large_bytes": pair(pa.large_binary(), *parts),
        "three_bytes": pair(pa.binary(3), b"\x00\xff\x01", b"abc"),
        # Four, eight and sixteen bytes in Parquet.
        **{f"decimal_{digits}": pair(pa.decimal128(digits, 2), *amounts) for digits in (9, 18, 38)},
        "longest_decimal": pair(pa.decimal128(38, 0), Decimal("9" * 38), Decimal(-1)),
        "wide_decimal": pair(pa.decimal256(38, 2), *amounts),
        "time_us": pair(pa.time64("us"), 1, 86_399_000_001),
        "time_ns": pair(pa.time64("ns"), 1_000, 86_399_000_001_000),
        **{f"at_{unit}": pair(pa.timestamp(unit), time, datetime(1970, 1, 1)) for unit, time in TIMES.items()},
        **{
            f"instant_{unit}": pair(pa.timestamp(unit, "Europe/Berlin"), time.replace(tzinfo=UTC))
            for unit, time in TIMES.items()
        },
        **{f"span_{unit}": pair(pa.duration(unit), 1, -WIDE[unit]) for unit in TIMES},
        "list": pair(pa.list_(pa.int32()), [1, None, 3], []),
        "large_list": pair(pa.large_list(pa.string()), ["é", None], []),
        "list_of_two": pair(pa.list_(pa.int16(), 2), [1, 2], [3, 4]),
        "list_unsigned": pair(pa.list_(pa.uint8()), [255], [None]),
        "map": pair(pa.map_(pa.string(), pa.int64()), [("a", 1), ("b", None)], []),
        "struct": pair(pa.struct({"x": pa.int32(), "y": pa.string()}), {"x": 1, "y": "é"}, {"x": None, "y": None}),
        "deep": pair(
            pa.list_(pa.struct({"m": pa.map_(pa.string(), pa.list_(pa.float64())), "d": pa.date32()})),
            [{"m": [("k", [1.5, None])], "d": date(2025, 1, 1)}, None],
            [],
        ),
    }
    return {name: array if len(array) == 3 else pa.concat_arrays([array[:1], array]) for name, array in pairs.items()}


def _limits(bits: int) -> pa.Array:
    kinds = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
    return pair(kinds[bits], (1 << (bits - 1)) - 1, -(1 << (bits - 1)))


def as_trino_has_it(value: Any, kind: pa.DataType) -> Any:
    """Convert a pyarrow value to that of Trino's client: timestamps without zone, times of day as numbers."""
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        # Of nanoseconds it is pandas' class, which has none that a datetime does not.
        return datetime.fromisoformat(str(value)[:26]).replace(tzinfo=None)
    if pa.types.is_map(kind):
        return {key: as_trino_has_it(inner, kind.item_type) for key, inner in value}
    if pa.types.is_struct(kind):
        return tuple(as_trino_has_it(value[field.name], field.type) for field in kind)
    if pa.types.is_list(kind):
        return [as_trino_has_it(inner, kind.value_type) for inner in value]
    return value


def test_values_of_all_types_match_the_files(lake: Lake) -> None:
    given = columns()
    project = lake.publish(NAME, pa.table({KEY: ["a", "b", "c"], **given}), [KEY], buckets={"count": 1})
    (file,) = project.data(NAME)
    written = pq.read_table(io.BytesIO(lake.get(file)))
    text = f"SELECT {', '.join(written.column_names)} FROM {project.table(NAME)} ORDER BY {KEY}"
    (*read,) = zip(*project.ask(text, hive__timestamp_precision="NANOSECONDS").rows, strict=True)
    assert sorted(written.column_names) == sorted([KEY, *given])
    for name, values in zip(written.column_names, read, strict=True):
        column = written.column(name)
        if pa.types.is_time(column.type):
            column = column.cast(pa.int64())
        assert list(values) == [as_trino_has_it(value, column.type) for value in column.to_pylist()], name


# By the nearest type of Hive.
@pytest.mark.parametrize(
    ("kind", "hive", "value", "read"),
    [
        (pa.uint32(), "bigint", 2**32 - 1, -1),
        (pa.uint64(), "bigint", 2**64 - 1, -1),
        (pa.float16(), "float", 1.5, None),
        (pa.time32("ms"), "int", 1, None),
    ],
)
def test_types_that_trino_misreads_cannot_be_published(
    lake: Lake, kind: pa.DataType, hive: str, value: Any, read: int | None
) -> None:
    name = f"no_type_{str(kind).partition('[')[0]}"
    directory = lake.root / name
    directory.mkdir()
    written = pa.table({KEY: ["a"], "odd": pa.array([value], kind)})
    pq.write_table(written, directory / "000000_0.snappy.parquet")
    table = show(lake, name, {KEY: "string", "odd": hive}, f"local:///{name}/", [KEY], count=1)
    if read is None:
        with pytest.raises(TrinoQueryError, match="Unsupported Trino column type") as caught:
            lake.trino.rows(f"SELECT odd FROM {table}")
        assert caught.value.error_name == "NOT_SUPPORTED"
    else:
        assert lake.trino.rows(f"SELECT odd FROM {table}") == [[read]]
