"""Iceberg types and field ids of written files."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from all_types import all_types
from bucketwheel.errors import SchemaError
from bucketwheel.kernel.iceberg_types import (
    field_ids,
    has_field_ids,
    iceberg_file_schema,
    iceberg_file_type,
    iceberg_schema,
    iceberg_type,
    leaf_fields,
    to_iceberg_content,
)

NESTED = pa.schema(
    {
        "Id": pa.int64(),
        "tags": pa.list_(pa.string()),
        "limits": pa.map_(pa.string(), pa.list_(pa.int16())),
        "address": pa.struct({"city": pa.string(), "at": pa.timestamp("ms")}),
        "age": pa.uint8(),
    }
)
COLUMNS = [("Id", "id"), ("tags", "tags"), ("limits", "limits"), ("address", "address"), ("age", "age")]


def refused(kind: pa.DataType) -> bool:
    try:
        iceberg_file_type(kind, "c")
    except SchemaError:
        return True
    return False


def plain_name(kind: pa.DataType) -> Any:
    return iceberg_type(iceberg_file_schema(pa.schema({"c": kind}), [("c", "c")]).field(0).type)


@pytest.mark.parametrize(
    ("kind", "written", "name"),
    [
        (pa.int8(), pa.int32(), "int"),
        (pa.uint16(), pa.int32(), "int"),
        (pa.uint32(), pa.int64(), "long"),
        (pa.float16(), pa.float32(), "float"),
        (pa.date64(), pa.date32(), "date"),
        (pa.time32("ms"), pa.time64("us"), "time"),
        (pa.timestamp("s"), pa.timestamp("us"), "timestamp"),
        (pa.timestamp("ms", "Europe/Berlin"), pa.timestamp("us", "UTC"), "timestamptz"),
        (pa.decimal256(38, 2), pa.decimal128(38, 2), "decimal(38, 2)"),
        (pa.binary(3), pa.binary(3), "fixed[3]"),
        (pa.string_view(), pa.large_string(), "string"),
        (pa.dictionary(pa.int8(), pa.int8()), pa.int32(), "int"),
        (pa.list_(pa.int8(), 2), pa.list_(pa.int32(), 2), None),
    ],
    ids=str,
)
def test_types_without_an_iceberg_type_are_widened(kind: pa.DataType, written: pa.DataType, name: str | None) -> None:
    assert iceberg_file_type(kind, "c") == written
    if name:
        assert plain_name(kind) == name


@pytest.mark.parametrize(
    ("kind", "instead"),
    [
        (pa.uint64(), "int64 or decimal"),
        (pa.timestamp("ns"), "timestamp in microseconds"),
        (pa.timestamp("ns", "UTC"), "timestamp in microseconds"),
        (pa.time64("ns"), "time64 in microseconds"),
        (pa.duration("s"), "int64"),
        (pa.decimal256(39, 0), "38 digits"),
        (pa.null(), "type of its values"),
        (pa.month_day_nano_interval(), "a type that Iceberg has"),
        (pa.struct([]), "a type that Iceberg has"),
    ],
    ids=str,
)
def test_types_that_iceberg_cannot_hold_are_refused_at_any_depth(kind: pa.DataType, instead: str) -> None:
    for outer in (kind, pa.list_(kind), pa.map_(pa.string(), kind), pa.struct({"x": kind})):
        with pytest.raises(SchemaError, match=f"column 'c.*Iceberg tables cannot hold.*{instead}"):
            iceberg_file_type(outer, "c")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "")])
def test_struct_fields_that_iceberg_cannot_name_are_refused(names: tuple[str, str]) -> None:
    kind = pa.struct([pa.field(name, pa.int32()) for name in names])
    with pytest.raises(SchemaError, match=f"column 'c' has .*{names[1]!r}"):
        iceberg_file_type(kind, "c")


def test_field_ids_number_columns_first_and_then_their_insides() -> None:
    schema = iceberg_file_schema(NESTED, COLUMNS)
    assert dict(field_ids(schema)) == {
        **{"id": 1, "tags": 2, "limits": 3, "address": 4, "age": 5, "tags.element": 6, "limits.key": 7},
        **{"limits.value": 8, "limits.value.element": 9, "address.city": 10, "address.at": 11},
    }
    assert has_field_ids(schema)
    assert not has_field_ids(NESTED)


def test_field_ids_of_an_existing_table_are_kept() -> None:
    ids = {"id": 1, "age": 3, "tags": 7, "tags.element": 12, "dropped": 20}
    schema = iceberg_file_schema(NESTED, COLUMNS, ids)
    numbers = {name: number or 0 for name, number in field_ids(schema)}
    assert {name: numbers[name] for name in ("id", "age", "tags", "tags.element")} == {
        **{"id": 1, "age": 3, "tags": 7, "tags.element": 12}
    }
    assert sorted(set(numbers.values()) - {1, 3, 7, 12}) == list(range(21, 28))


def test_iceberg_schema_describes_nested_fields() -> None:
    fields = {
        field["name"]: field for field in json.loads(iceberg_schema(iceberg_file_schema(NESTED, COLUMNS)))["fields"]
    }
    assert fields["id"] == {"id": 1, "name": "id", "required": False, "type": "long"}
    assert fields["tags"]["type"] == {"type": "list", "element-id": 6, "element-required": False, "element": "string"}
    assert fields["limits"]["type"]["key-id"] == 7
    assert fields["limits"]["type"]["value"]["element"] == "int"
    assert fields["address"]["type"]["fields"][1] == {"id": 11, "name": "at", "required": False, "type": "timestamp"}


def test_files_carry_field_ids_at_every_depth() -> None:
    source = pa.schema({name: array.type for name, array in all_types().items() if not refused(array.type)})
    assert len(source) > 25
    schema = iceberg_file_schema(source, [(name, name) for name in source.names])
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink, store_schema=False)
    written = pq.read_metadata(sink).schema
    assert field_ids(written.to_arrow_schema()) == field_ids(schema)
    assert len(leaf_fields(schema)) == len(written)
    paths = [written.column(number).path for number in range(len(written))]
    assert "list.list.element" in paths
    assert "map.key_value.key" in paths


@pytest.mark.parametrize("coded", [False, True])
def test_content_is_converted_to_the_types_and_ids_of_the_schema(coded: bool) -> None:
    arrays = {
        "Id": pa.array(["a", "b"], pa.large_string()),
        "small": pa.array([1, None], pa.int8()),
        "at": pa.array([1, 2], pa.timestamp("ms")),
        "list": pa.array([[1], None], pa.list_(pa.int8())),
    }
    source = pa.schema({name: array.type for name, array in arrays.items()}).set(0, pa.field("Id", pa.string()))
    schema = iceberg_file_schema(source, [(name, name) for name in arrays])
    content = pa.table({n: a.dictionary_encode() if coded and n != "list" else a for n, a in arrays.items()})
    converted = to_iceberg_content(content, schema)
    assert field_ids(converted.schema) == field_ids(schema)
    assert converted.to_pydict() == content.to_pydict()
    assert [pa.types.is_dictionary(kind) for kind in converted.schema.types] == [coded] * 3 + [False]
    kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in converted.schema.types]
    assert kinds == [pa.large_string(), pa.int32(), pa.timestamp("us"), pa.list_(pa.int32())]


def test_content_with_a_value_that_iceberg_cannot_hold_is_refused() -> None:
    schema = iceberg_file_schema(pa.schema({"at": pa.timestamp("s")}), [("at", "at")])
    with pytest.raises(SchemaError, match=r"column 'at' has a value that does not fit into timestamp\[us\]"):
        to_iceberg_content(pa.table({"at": pa.array([2**61], pa.timestamp("s"))}), schema)
