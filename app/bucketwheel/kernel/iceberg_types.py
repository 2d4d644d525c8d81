"""Map Arrow types to Iceberg types, and give the fields of files the ids by which readers of Iceberg find them.

Readers of Iceberg take the type from the table and expect the physical type that the specification names for it.
Types that Iceberg lacks are therefore written as the next wider type, or refused if values could change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.errors import SchemaError
from bucketwheel.kernel.arrow_types import canonical_type, large_type

# The writer of Parquet files takes the id of a field from this entry of its metadata.
FIELD_ID = b"PARQUET:field_id"

_WIDENED = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.time32("s"): pa.time64("us"),
    pa.time32("ms"): pa.time64("us"),
}
_NAMES = {
    pa.bool_(): "boolean",
    pa.int32(): "int",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.time64("us"): "time",
    **dict.fromkeys((pa.string(), pa.large_string()), "string"),
    **dict.fromkeys((pa.binary(), pa.large_binary()), "binary"),
}
_MOST_DIGITS = 38
_MICROS = "us"
# Has the type of the files, for each type in which Iceberg has no value for some of those of the source.
_INSTEAD = (
    (pa.types.is_uint64, "int64 or decimal(20,0)"),
    (pa.types.is_timestamp, "timestamp in microseconds"),
    (pa.types.is_time, "time64 in microseconds"),
    (pa.types.is_duration, "int64"),
    (pa.types.is_decimal, f"decimal of at most {_MOST_DIGITS} digits"),
    (pa.types.is_null, "the type of its values"),
)

_Convert = Callable[[str, pa.Field], pa.Field]


def iceberg_file_type(kind: pa.DataType, column: str) -> pa.DataType:
    """Return the Arrow type of a column in the files of an Iceberg table.

    Args:
        kind: Arrow type of the source column.
        column: its name, for the error.

    Raises:
        SchemaError: Iceberg has no type for all values of this type.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return kind if _is_uuid(kind) else iceberg_file_type(kind.storage_type, column)
    kind = canonical_type(kind)
    nested = _with_inner(kind, column, lambda path, field: field.with_type(iceberg_file_type(field.type, path)))
    if nested is not None:
        return nested
    if pa.types.is_decimal(kind) and kind.precision <= _MOST_DIGITS:
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return pa.timestamp(_MICROS, "UTC" if kind.tz else None)
    written = _WIDENED.get(kind, kind)
    return written if written in _NAMES or pa.types.is_fixed_size_binary(written) else _refuse(kind, column)


def iceberg_file_schema(
    source: pa.Schema, columns: Iterable[tuple[str, str]], ids: Mapping[str, int] | None = None
) -> pa.Schema:
    """Return the Arrow schema of the files of an Iceberg table, with field ids.

    Args:
        source: schema of the snapshot.
        columns: (source name, new name) of each column, keys first.
        ids: the id of each field of an existing table, by its full name: `address.city` is a field of a struct,
            `tags.element` the elements of a list, `limits.key` and `limits.value` those of a map. Other fields get
            larger ids, first all columns, then the fields inside them; a new table numbers from 1.

    Raises:
        SchemaError: Iceberg has no type for a column.
    """
    fields = [pa.field(name, iceberg_file_type(source.field(column).type, column)) for column, name in columns]
    numbers = dict(ids or {})
    paths = [field.name for field in fields] + [path for field in fields for path in _inner_paths(field.name, field)]
    following = max(numbers.values(), default=0)
    for path in paths:
        if path not in numbers:
            following += 1
            numbers[path] = following
    return pa.schema([_numbered(field.name, field, numbers) for field in fields])


def to_iceberg_content(content: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the content of a file in the types and with the field ids of `schema`.

    Dictionaries stay dictionaries, and text keeps the width of its offsets, because Parquet has neither.

    Raises:
        SchemaError: a column has a value that its type in Iceberg cannot hold.
    """
    arrays = [_widened(column, field) for column, field in zip(content.columns, schema, strict=True)]
    fields = [_typed_as(field, array.type) for field, array in zip(schema, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def has_field_ids(schema: pa.Schema) -> bool:
    """Return whether the columns of a schema have field ids."""
    return any(FIELD_ID in (field.metadata or {}) for field in schema)


def field_id(field: pa.Field) -> int:
    """Return the id of a field that has one."""
    return int(field.metadata[FIELD_ID])


def field_ids(schema: pa.Schema) -> list[tuple[str, int | None]]:
    """Return the full name and the id of every field, at any depth; None for a field without id."""

    def walk(path: str, field: pa.Field) -> Iterator[tuple[str, int | None]]:
        yield path, field_id(field) if FIELD_ID in (field.metadata or {}) else None
        for inner_path, inner in _inner(path, field.type):
            yield from walk(inner_path, inner)

    return [pair for field in schema for pair in walk(field.name, field)]


def leaf_fields(schema: pa.Schema) -> list[tuple[pa.Field, bool]]:
    """Return the field of each Parquet column of a schema, in their order, and whether it is in a list or a map."""

    def leaves(field: pa.Field, repeated: bool) -> Iterator[tuple[pa.Field, bool]]:
        inner = [child for _, child in _inner("", field.type)]
        if not inner:
            yield field, repeated
        for child in inner:
            yield from leaves(child, repeated or not pa.types.is_struct(field.type))

    return [leaf for field in schema for leaf in leaves(field, False)]


def iceberg_schema(schema: pa.Schema) -> str:
    """Return the Iceberg schema, in JSON, of files with this schema; every value may be NULL."""
    return json.dumps({"type": "struct", "schema-id": 0, "fields": _struct_fields(schema)}, separators=(",", ":"))


def iceberg_type(kind: pa.DataType) -> str | dict[str, Any]:
    """Return the Iceberg type, in JSON, of a type that `iceberg_file_type` returns."""
    if isinstance(kind, pa.BaseExtensionType):
        return "uuid"
    if pa.types.is_struct(kind):
        return {"type": "struct", "fields": _struct_fields(kind)}
    if pa.types.is_map(kind):
        key, value = kind.key_field, kind.item_field
        return {
            "type": "map",
            **{"key-id": field_id(key), "key": iceberg_type(key.type)},
            **{"value-id": field_id(value), "value-required": False, "value": iceberg_type(value.type)},
        }
    if _is_list(kind):
        element = kind.value_field
        described = {
            "element-id": field_id(element),
            "element-required": False,
            "element": iceberg_type(element.type),
        }
        return {"type": "list", **described}
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    return f"fixed[{kind.byte_width}]" if pa.types.is_fixed_size_binary(kind) else _NAMES[kind]


def _struct_fields(fields: Iterable[pa.Field]) -> list[dict[str, Any]]:
    return [
        {"id": field_id(field), "name": field.name, "required": False, "type": iceberg_type(field.type)}
        for field in fields
    ]


def _refuse(kind: pa.DataType, column: str) -> NoReturn:
    instead = next((name for applies, name in _INSTEAD if applies(kind)), "a type that Iceberg has")
    raise SchemaError(
        f"column {column!r} has type {kind}, which Iceberg tables cannot hold; have the snapshot written with "
        f"{instead}, or remove the column from the mapping"
    )


def _is_uuid(kind: pa.BaseExtensionType) -> bool:
    return str(kind.extension_name) == "arrow.uuid"


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _inner(path: str, kind: pa.DataType) -> list[tuple[str, pa.Field]]:
    """Return the full name and the field of everything directly inside a nested type; nothing for other types."""
    if pa.types.is_map(kind):
        return [(f"{path}.key", kind.key_field), (f"{path}.value", kind.item_field)]
    if _is_list(kind):
        return [(f"{path}.element", kind.value_field)]
    return [(f"{path}.{field.name}", field) for field in kind] if pa.types.is_struct(kind) else []


def _inner_paths(path: str, field: pa.Field) -> Iterator[str]:
    for inner_path, inner in _inner(path, field.type):
        yield inner_path
        yield from _inner_paths(inner_path, inner)


def _with_inner(kind: pa.DataType, path: str, convert: _Convert) -> pa.DataType | None:
    """Return a nested type with converted fields, or None for other types."""
    fields = [convert(inner_path, field) for inner_path, field in _inner(path, kind)]
    if pa.types.is_map(kind):
        key, value = fields
        return pa.map_(key.with_nullable(False), value)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(fields[0], kind.list_size)
    if _is_list(kind):
        return (pa.large_list if pa.types.is_large_list(kind) else pa.list_)(fields[0])
    if not pa.types.is_struct(kind):
        return None
    names = [field.name for field in fields]
    for name in names:
        if not name or names.count(name) > 1:
            fault = "two fields called" if name else "a field called"
            raise SchemaError(
                f"column {path!r} has {fault} {name!r}, which Iceberg tables cannot hold; ask the supplier of the "
                "snapshot for other names, or remove the column from the mapping"
            )
    return pa.struct(fields) if fields else _refuse(kind, path)


def _numbered(path: str, field: pa.Field, numbers: Mapping[str, int]) -> pa.Field:
    inner = _with_inner(field.type, path, lambda inner_path, child: _numbered(inner_path, child, numbers))
    numbered = field if inner is None else field.with_type(inner)
    return numbered.with_metadata({FIELD_ID: str(numbers[path])})


def _widened(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    large = large_type(field.type)
    coded = pa.types.is_dictionary(column.type)
    if (column.type.value_type if coded else column.type) in (field.type, large):
        return column
    target = large if column.type == large_type(column.type) else field.type
    try:
        if coded:
            parts = [(chunk.indices, pc.cast(chunk.dictionary, target)) for chunk in column.chunks]
            return pa.chunked_array([pa.DictionaryArray.from_arrays(*part) for part in parts])
        extension = isinstance(column.type, pa.BaseExtensionType)
        return pc.cast(pa.chunked_array([chunk.storage for chunk in column.chunks]) if extension else column, target)
    except pa.ArrowInvalid as error:
        raise SchemaError(
            f"column {field.name!r} has a value that does not fit into {field.type}, the type of its Iceberg column; "
            "have the snapshot written without it, or remove the column from the mapping"
        ) from error


def _typed_as(field: pa.Field, kind: pa.DataType) -> pa.Field:
    """Return the field with its ids in a type that differs from its own in dictionaries or the width of offsets."""
    if pa.types.is_dictionary(kind):
        return field.with_type(kind)
    return field if kind == field.type else field.with_type(large_type(field.type))
