"""Types that some reader rejects are written as types that all readers have, at any depth."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.kernel.conversion import ConversionError, convert
from bucketwheel.kernel.footers import FooterParser, FooterSummary
from bucketwheel.settings import TypeSettings
from compact_thrift import I32, STRUCT, Struct, change_footer

MOMENT = datetime.datetime(1931, 2, 3, 4, 5, 6, 789_012)
UUID = "f79c3e09-677c-4bbd-a479-3f349cb785e7"
# SQL of a value, the type that is written, and the value in it.
VALUES: dict[str, tuple[str, pa.DataType, Any]] = {
    "uuid": (f"'{UUID}'::UUID", pa.string(), UUID),
    "json": ("""'{"a": [1, null]}'::JSON""", pa.string(), '{"a": [1, null]}'),
    "enum": ("'blue'::ENUM('red', 'blue')", pa.string(), "blue"),
    "time": ("TIME '12:34:56.789'", pa.string(), "12:34:56.789"),
    "nanoseconds": (f"'{MOMENT}'::TIMESTAMP_NS", pa.timestamp("us"), MOMENT),
    "unsigned 32": (f"{2**32 - 1}::UINTEGER", pa.int64(), 2**32 - 1),
    "unsigned 64": (f"{2**64 - 1}::UBIGINT", pa.decimal128(20, 0), Decimal(2**64 - 1)),
}
# The column of a value, and its value and type in a row.
SHAPES: dict[str, tuple[str, Callable[[Any], Any], Callable[[pa.DataType], pa.DataType]]] = {
    "column": ("{}", lambda value: value, lambda kind: kind),
    "list": ("[{}, NULL]", lambda value: [value, None], pa.list_),
    "struct": ("{{'x': {}}}", lambda value: {"x": value}, lambda kind: pa.struct([("x", kind)])),
    "map": ("MAP {{'k': {}}}", lambda value: [("k", value)], lambda kind: pa.map_(pa.string(), kind)),
    "deep": (
        "[{{'m': MAP {{'k': [{}]}}}}]",
        lambda value: [{"m": [("k", [value])]}],
        lambda kind: pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.list_(kind)))])),
    ),
}


def summary_of(path: Path, **rules: Any) -> FooterSummary:
    content = path.read_bytes()
    summary = FooterParser(TypeSettings(**rules)).parse(content, len(content))
    assert isinstance(summary, FooterSummary), summary
    return summary


def schema_of(path: Path, **rules: Any) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(summary_of(path, **rules).schema))


def converted(path: Path, truncate: bool = False, **rules: Any) -> pa.Table:
    """Return the columns of a file as they are written."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    schema = schema_of(path, **rules)
    return pa.table([convert(table[field.name], field.type, truncate) for field in schema], schema=schema)


def reasons(path: Path, **rules: Any) -> dict[str, str]:
    return dict(summary_of(path, **rules).unsupported)


def by_duckdb(path: Path, *columns: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {', '.join(columns)} FROM range(5) t(i)) TO '{path}' (FORMAT parquet)")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", VALUES)
def test_type_is_written_as_one_that_all_readers_have(tmp_path: Path, kind: str, shape: str) -> None:
    sql, written, value = VALUES[kind]
    form, of_value, of_type = SHAPES[shape]
    path = tmp_path / "a.parquet"
    by_duckdb(path, f"CASE WHEN i % 2 = 1 THEN {form.format(sql)} END AS c")
    table = converted(path)
    expected = [of_value(value) if number % 2 else None for number in range(5)]
    assert table["c"].to_pylist() == expected
    assert convert_slice(path, table.schema.field("c").type) == expected[1:4]
    file = io.BytesIO()
    pq.write_table(pa.table({"c": pa.nulls(1, of_type(written))}), file, store_schema=False)
    assert leaf_types(table.schema) == leaf_types(pq.read_schema(file))
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False)
    assert pq.read_table(sink)["c"].to_pylist() == expected


def convert_slice(path: Path, kind: pa.DataType) -> list[Any]:
    with pq.ParquetFile(path) as file:
        (batch,) = file.read().combine_chunks().to_batches()
    values: list[Any] = convert(batch.column(0).slice(1, 3), kind).to_pylist()
    return values


def leaf_types(schema: pa.Schema) -> list[tuple[str, str]]:
    """Return the physical and logical types that a schema has in Parquet."""
    file = io.BytesIO()
    pq.write_table(schema.empty_table(), file, store_schema=False)
    parquet = pq.read_metadata(file).schema
    leaves = (parquet.column(number) for number in range(len(parquet)))
    return [(leaf.physical_type, str(leaf.logical_type)) for leaf in leaves]


def annotate(path: Path, name: str, converted_type: int | None, logical: int | None) -> None:
    """Change the annotations of a column: its ConvertedType and the field of its LogicalType."""

    def change(metadata: Struct) -> None:
        for element in metadata[2].values:
            if element[4] == name.encode():
                element[:] = [field for field in element if field.number not in (6, 10)]
                if converted_type is not None:
                    element.set(6, I32, converted_type)
                if logical is not None:
                    union = Struct()
                    union.set(logical, STRUCT, Struct())
                    element.set(10, STRUCT, union)

    change_footer(path, change)


@pytest.mark.parametrize("text", [pa.string(), pa.large_string()])
@pytest.mark.parametrize(("converted_type", "logical"), [(4, 4), (4, None), (19, 12), (19, None)])
def test_enum_and_json_are_text(tmp_path: Path, text: pa.DataType, converted_type: int, logical: int | None) -> None:
    path = tmp_path / "a.parquet"
    values = pa.array(["RED", None, "BLÜ"], text)
    pq.write_table(pa.table({"c": values, "n": [1, 2, 3]}), path, store_schema=False)
    annotate(path, "c", converted_type, logical)
    table = converted(path)
    assert leaf_types(table.schema)[0][1] == "String"
    assert table["c"].to_pylist() == ["RED", None, "BLÜ"]


def test_interval_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    by_duckdb(path, "INTERVAL 3 DAY AS span", "[INTERVAL 3 DAY] AS spans", "i")
    found = reasons(path)
    assert set(found) == {"span", "spans"}
    assert found["span"].startswith("column 'span' has type INTERVAL, which Spark and Trino cannot read; have the")


@pytest.mark.skipif(int(pa.__version__.split(".")[0]) < 21, reason="this pyarrow rejects files with VARIANT")
def test_variant_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    by_duckdb(path, "{'a': i}::VARIANT AS v", "{'metadata': 'x', 'value': 'y'} AS s")
    found = reasons(path)
    assert set(found) == {"v"}
    assert found["v"].startswith("column 'v' has type VARIANT, which not every reader can read; have the snapshot")


def test_bson_stays_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"c": pa.array([b"\x05\x00", None], pa.binary())}), path, store_schema=False)
    annotate(path, "c", 20, 13)
    table = converted(path)
    assert table["c"].to_pylist() == [b"\x05\x00", None]
    assert leaf_types(table.schema) == [("BYTE_ARRAY", "None")]


@pytest.mark.parametrize("shape", ["column", "list"])
def test_half_floats_become_floats(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.parquet"
    numbers = pa.array([np.float16(1.5), None, np.float16("inf"), np.float16("nan")], pa.float16())
    values = numbers if shape == "column" else pa.ListArray.from_arrays(pa.array([0, 3, 3, 4]), numbers)
    pq.write_table(pa.table({"c": values}), path)
    table = converted(path)
    flat = table["c"].combine_chunks() if shape == "column" else table["c"].combine_chunks().flatten()
    assert flat.type == pa.float32()
    assert [repr(value) for value in flat.to_pylist()] == ["1.5", "None", "inf", "nan"]


NOW = 1_700_000_000_123_456_000


@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
def test_nanoseconds_that_fit_become_microseconds(tmp_path: Path, zone: str | None) -> None:
    path = tmp_path / "a.parquet"
    values = pa.array([NOW, None, -1_000, 0], pa.timestamp("ns", zone))
    pq.write_table(pa.table({"c": values}), path)
    table = converted(path)
    assert pa.types.is_timestamp(table["c"].type)
    assert (table["c"].type.unit, bool(table["c"].type.tz)) == ("us", bool(zone))
    assert table["c"].cast(pa.int64()).to_pylist() == [NOW // 1000, None, -1, 0]


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("values", [[NOW + 7, 0], [-1, -2_000_000], [0, NOW, 1_000_007]])
def test_nanoseconds_that_do_not_fit_are_refused(tmp_path: Path, values: list[int], statistics: bool) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"c": pa.array(values, pa.timestamp("ns")), "d": [values] * len(values)})
    pq.write_table(table, path, write_statistics=statistics)
    problem = "has timestamps with digits that microseconds cannot hold, such as (1969|1970|2023)-.*=truncate"
    with pytest.raises(ConversionError, match=problem):
        converted(path)
    found = reasons(path)
    # The statistics of a file have two of its values.
    assert set(found) == ({"c"} if statistics and len(values) == 2 else set())
    assert all(text.startswith("column 'c' has timestamps with digits") for text in found.values())
    assert reasons(path, timestamps="truncate") == {}


def test_digits_are_cut_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"c": pa.array([NOW + 999, -1, None], pa.timestamp("ns"))}), path)
    table = converted(path, truncate=True, timestamps="truncate")
    # The time before 1970 is cut too, not moved towards 1970.
    assert table["c"].cast(pa.int64()).to_pylist() == [NOW // 1000, -1, None]


def test_kept_types_are_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    by_duckdb(path, f"'{UUID}'::UUID AS u", "TIME '12:34:56' AS t", "TIMESTAMP_NS '2020-01-01 00:00:00' AS n")
    rules: dict[str, Any] = {"uuid": "keep", "times": "keep", "timestamps": "keep"}
    assert summary_of(path, **rules).conversions == ()
    assert schema_of(path, **rules).equals(pq.read_schema(path))
    table = converted(path, **rules)
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False)
    # pyarrow 17 knows no UUIDs.
    assert leaf_types(pq.read_schema(sink)) == leaf_types(pq.read_schema(path))


def test_uuid_can_be_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    by_duckdb(path, f"'{UUID}'::UUID AS u", f"['{UUID}'::UUID] AS us")
    table = converted(path, uuid="binary")
    assert leaf_types(table.schema) == [("FIXED_LEN_BYTE_ARRAY", "None")] * 2
    octets = bytes.fromhex(UUID.replace("-", ""))
    assert table.to_pylist() == [{"u": octets, "us": [octets]}] * 5


def test_sixteen_bytes_without_annotation_stay_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"c": pa.array([b"a" * 16], pa.binary(16))}), path)
    assert converted(path)["c"].to_pylist() == [b"a" * 16]


def test_types_are_refused_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    by_duckdb(path, "[TIME '12:34:56'] AS t", "{'n': TIMESTAMP_NS '2020-01-01 00:00:00'} AS n")
    found = reasons(path, times="error", timestamps="error")
    assert found["t"].startswith("column 't' has type time64[us], and types.times is error; set it to text, or")
    assert found["n"].startswith("column 'n' has type timestamp[ns], and types.timestamps is error; set it to us or")


@pytest.mark.parametrize(
    ("unit", "numbers", "texts"),
    [
        ("s", [0, 86_399, 86_400], ["00:00:00", "23:59:59", "24:00:00"]),
        ("ms", [36_000_000, 36_000_010, 1], ["10:00:00", "10:00:00.01", "00:00:00.001"]),
        ("us", [1, 86_399_999_999, 86_400_000_000], ["00:00:00.000001", "23:59:59.999999", "24:00:00"]),
        ("ns", [1, 36_000_000_000_000, 1_500_000_000], ["00:00:00.000000001", "10:00:00", "00:00:01.5"]),
    ],
)
def test_times_have_the_digits_that_they_need(unit: str, numbers: list[int], texts: list[str]) -> None:
    small = unit in ("s", "ms")
    kind = (pa.time32 if small else pa.time64)(unit)
    values = pa.array([*numbers, None], pa.int32() if small else pa.int64()).view(kind)
    assert convert(values, pa.string()).to_pylist() == [*texts, None]
    assert convert(values.slice(1), pa.large_string()).to_pylist() == [*texts[1:], None]


@pytest.mark.parametrize("number", [-1, 86_400_000_001])
def test_time_outside_a_day_is_refused(number: int) -> None:
    values = pa.array([number], pa.int64()).view(pa.time64("us"))
    with pytest.raises(ConversionError, match=rf"has a time of day of {number} us since midnight"):
        convert(values, pa.string())


@pytest.mark.skipif(not hasattr(pa, "json_"), reason="pyarrow 17 writes no list views")
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("to", [pa.list_, pa.large_list])
def test_list_views_become_lists(tmp_path: Path, large: bool, to: Callable[[pa.DataType], pa.DataType]) -> None:
    view, path = (pa.large_list_view if large else pa.list_view), tmp_path / "a.parquet"
    for inner, written, last in ((pa.int8(), pa.int8(), [3]), (pa.time32("s"), pa.string(), ["00:00:03"])):
        pq.write_table(pa.table({"x": pa.array([[1, 2], None, [], [3]], view(inner))}), path)
        with pq.ParquetFile(path) as file:
            values = convert(file.read().column(0), to(written))
        values.validate(full=True)
        assert values.slice(1).to_pylist() == [None, [], last]


def test_dictionary_may_be_empty_inside_structs_that_are_null(tmp_path: Path) -> None:
    path, kinds = tmp_path / "a.parquet", (pa.dictionary(pa.int32(), pa.string()), pa.string())
    before, after = (pa.struct([pa.field("x", kind, nullable=False)]) for kind in kinds)
    pq.write_table(pa.table({"x": pa.array([None] * 3, before)}), path)
    with pq.ParquetFile(path) as file:
        values = convert(file.read().column(0), after)
    assert values.to_pylist() == [None] * 3
    pq.write_table(pa.table({"x": values}), path)


class Celsius(pa.ExtensionType):  # type: ignore[misc]
    """A number with a unit."""

    def __init__(self) -> None:
        super().__init__(pa.float32(), "tests.celsius")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage: pa.DataType, _serialized: bytes) -> Celsius:
        return cls()


def test_unknown_extension_types_become_their_storage(tmp_path: Path) -> None:
    pa.register_extension_type(Celsius())
    try:
        path = tmp_path / "a.parquet"
        values = pa.ExtensionArray.from_storage(Celsius(), pa.array([20.5, None], pa.float32()))
        pq.write_table(pa.table({"c": values, "l": pa.ListArray.from_arrays(pa.array([0, 1, 2]), values)}), path)
        table = converted(path)
        assert table.schema.types[0] == pa.float32()
        assert table.to_pylist() == [{"c": 20.5, "l": [20.5]}, {"c": None, "l": [None]}]
    finally:
        pa.unregister_extension_type("tests.celsius")


def test_conversions_name_both_types(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    by_duckdb(path, "i", f"{{'x': '{UUID}'::UUID}} AS s", "TIME '12:34:56' AS t")
    found = [(one.column, one.stored, one.written) for one in summary_of(path).conversions]
    assert found == [("s.x", "UUID", "string"), ("t", "time64[us]", "string")]
