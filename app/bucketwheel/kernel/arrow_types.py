"""Convert Arrow types that differ only in memory layout to one canonical form.

The Arrow schema of a file can ask for views or dictionaries. Few Arrow functions accept views, a slice of a view
keeps its whole buffer alive, and nested dictionaries differ between slices. Parquet has neither.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

_Leaf = Callable[[pa.DataType], pa.DataType]
_DECIMAL128_DIGITS = 38
# Text with offsets of 32 bits has fewer bytes.
MOST_TEXT_BYTES = 2**31


def canonical_type(kind: pa.DataType) -> pa.DataType:
    """Return the type without views and dictionaries, at any depth."""
    return _convert(kind, _canonical_leaf, large=False)


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Return a type for two that Parquet stores in the same way, or None if it stores them differently.

    Arrow types keep more than Parquet stores: the width of offsets, dictionaries, the name of a time zone, extension
    types. Values of nested fields may be NULL if they may be NULL in either type.
    """
    stored = _stored_type(first)
    return stored if stored.equals(_stored_type(second)) else None


def _stored_type(kind: pa.DataType) -> pa.DataType:
    return _convert(kind, _stored_leaf, large=True, nullable=True)


def is_list_view(kind: pa.DataType) -> bool:
    """Return whether values are lists in any order, with offsets of either width."""
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def has_list_view(kind: pa.DataType) -> bool:
    """Return whether a type has a list view at any depth."""
    inner = range(kind.num_fields) if pa.types.is_nested(kind) else ()
    return is_list_view(kind) or any(has_list_view(kind.field(number).type) for number in inner)


def convert_leaves(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return the type with another type in place of each one that is not nested, from left to right."""
    return _convert(kind, leaf, large=False)


def large_type(kind: pa.DataType) -> pa.DataType:
    """Return the type with 64-bit instead of 32-bit offsets, at any depth; maps keep 32-bit offsets."""
    return _convert(kind, _large_leaf, large=True)


def _convert(kind: pa.DataType, leaf: _Leaf, large: bool, nullable: bool = False) -> pa.DataType:
    def inner(field: pa.Field) -> pa.Field:
        converted = field.with_type(_convert(field.type, leaf, large, nullable))
        return converted.with_nullable(True) if nullable else converted

    if pa.types.is_map(kind):
        return pa.map_(inner(kind.key_field).with_nullable(False), inner(kind.item_field))
    if pa.types.is_struct(kind):
        return pa.struct([inner(field) for field in kind])
    if pa.types.is_fixed_size_list(kind) and not nullable:
        return pa.list_(inner(kind.value_field), kind.list_size)
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or is_list_view(kind):
        # pyarrow 26 corrupts list views from a file when it casts them to lists with offsets of the same width.
        wide = types.is_large_list(kind) or types.is_list_view(kind)
        return (pa.large_list if large or wide else pa.list_)(inner(kind.value_field))
    return leaf(kind)


def _canonical_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return canonical_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def _stored_leaf(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return _stored_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _stored_type(kind.value_type)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp(kind.unit, "UTC")
    if pa.types.is_decimal(kind) and kind.precision <= _DECIMAL128_DIGITS:
        return pa.decimal128(kind.precision, kind.scale)
    return pa.date32() if pa.types.is_date64(kind) else _large_leaf(_canonical_leaf(kind))


def _large_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if hasattr(pa, "JsonType") and isinstance(kind, pa.JsonType):
        return pa.json_(pa.large_string())
    return kind
