"""Columns of all types that can be published, with the values that readers misread first."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

# None of them ends with zeros in its unit.
_TIMES = {
    "s": datetime(2025, 10, 22, 12, 34, 56),
    "ms": datetime(2025, 10, 22, 12, 34, 56, 789_000),
    "us": datetime(1931, 2, 3, 4, 5, 6, 789_012),
    "ns": datetime(2025, 10, 22, 12, 34, 56, 789_012),
}
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def _pair(kind: pa.DataType, *values: Any) -> pa.Array:
    """Return an array of two values and a NULL."""
    return pa.array([*values, None], kind)


def all_types() -> dict[str, pa.Array]:
    """Return a column of three values for each type; the last one is NULL."""
    texts, parts = ("é天😁", ""), (b"\x00\xff", b"")
    amounts = (Decimal("1234567.89"), Decimal("-0.01"))
    pairs = {
        "boolean": _pair(pa.bool_(), True, False),
        **{f"int_{bits}": _limits(bits) for bits in (8, 16, 32, 64)},
        "unsigned_8": _pair(pa.uint8(), 255, 0),
        "unsigned_16": _pair(pa.uint16(), 65_535, 0),
        "float": _pair(pa.float32(), 1.5, float("-inf")),
        "double": _pair(pa.float64(), 0.1, -1e300),
        "date_32": _pair(pa.date32(), date(2025, 10, 22), date(1, 1, 1)),
        "date_64": _pair(pa.date64(), date(2025, 10, 22), date(1969, 12, 31)),
        "text": _pair(pa.string(), *texts),
        "large_text": _pair(pa.large_string(), *texts),
        "codes": _pair(pa.string(), *texts).dictionary_encode(),
        "bytes": _pair(pa.binary(), *parts),
        "large_bytes": _pair(pa.large_binary(), *parts),
        "three_bytes": _pair(pa.binary(3), b"\x00\xff\x01", b"abc"),
        # Four, eight and sixteen bytes in Parquet.
        **{f"decimal_{digits}": _pair(pa.decimal128(digits, 2), *amounts) for digits in (9, 18, 38)},
        "longest_decimal": _pair(pa.decimal128(38, 0), Decimal("9" * 38), Decimal(-1)),
        "wide_decimal": _pair(pa.decimal256(38, 2), *amounts),
        "time_us": _pair(pa.time64("us"), 1, 86_399_000_001),
        "time_ns": _pair(pa.time64("ns"), 1_000, 86_399_000_001_000),
        **{f"at_{unit}": _pair(pa.timestamp(unit), time, datetime(1970, 1, 1)) for unit, time in _TIMES.items()},
        **{
            f"instant_{unit}": _pair(pa.timestamp(unit, "Europe/Berlin"), time.replace(tzinfo=UTC))
            for unit, time in _TIMES.items()
        },
        **{f"span_{unit}": _pair(pa.duration(unit), 1, -_PER_SECOND[unit]) for unit in _TIMES},
        "list": _pair(pa.list_(pa.int32()), [1, None, 3], []),
        "large_list": _pair(pa.large_list(pa.string()), ["é", None], []),
        "list_of_two": _pair(pa.list_(pa.int16(), 2), [1, 2], [3, 4]),
        "list_unsigned": _pair(pa.list_(pa.uint8()), [255], [None]),
        "map": _pair(pa.map_(pa.string(), pa.int64()), [("a", 1), ("b", None)], []),
        "struct": _pair(pa.struct({"x": pa.int32(), "y": pa.string()}), {"x": 1, "y": "é"}, {"x": None, "y": None}),
        "deep": _pair(
            pa.list_(pa.struct({"m": pa.map_(pa.string(), pa.list_(pa.float64())), "d": pa.date32()})),
            [{"m": [("k", [1.5, None])], "d": date(2025, 1, 1)}, None],
            [],
        ),
    }
    return {name: array if len(array) == 3 else pa.concat_arrays([array[:1], array]) for name, array in pairs.items()}


def as_written(column: pa.Array) -> pa.Array:
    """Return a column in the type in which it is written: microseconds, and times of day as text."""
    kind = column.type
    if pa.types.is_time(kind):
        micros = [
            None if value is None else value // (1000 if kind.unit == "ns" else 1) for value in _numbers(column)
        ]
        times = [None if value is None else (datetime.min + timedelta(microseconds=value)).time() for value in micros]
        return pa.array([None if time is None else time.isoformat().rstrip("0") for time in times], pa.string())
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pa.timestamp("us", kind.tz))
    return column.cast(pa.int64()) if pa.types.is_duration(kind) else column


def _numbers(column: pa.Array) -> list[int | None]:
    numbers: list[int | None] = column.cast(pa.int64()).to_pylist()
    return numbers


def _limits(bits: int) -> pa.Array:
    kinds = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
    return _pair(kinds[bits], (1 << (bits - 1)) - 1, -(1 << (bits - 1)))
