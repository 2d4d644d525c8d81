"""Convert Arrow types that differ only in memory layout to one canonical form.

The Arrow schema of a file can ask for views or dictionaries. Few Arrow functions accept views, a slice of a view
keeps its whole buffer alive, and nested dictionaries differ between slices. Parquet has neither.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

_Leaf = Callable[[pa.DataType], pa.DataType]


def canonical_type(kind: pa.DataType) -> pa.DataType:
    """Return the type without views and dictionaries, at any depth."""
    return _convert(kind, _canonical_leaf, large=False)


def large_type(kind: pa.DataType) -> pa.DataType:
    """Return the type with 64-bit instead of 32-bit offsets, at any depth; maps keep 32-bit offsets."""
    return _convert(kind, _large_leaf, large=True)


def _convert(kind: pa.DataType, leaf: _Leaf, large: bool) -> pa.DataType:
    def inner(field: pa.Field) -> pa.Field:
        return field.with_type(_convert(field.type, leaf, large))

    if pa.types.is_map(kind):
        return pa.map_(inner(kind.key_field), inner(kind.item_field))
    if pa.types.is_struct(kind):
        return pa.struct([inner(field) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner(kind.value_field), kind.list_size)
    name = str(kind)
    if name.startswith(("list", "large_list")):
        # pyarrow 26 corrupts list views from a file when it casts them to lists with offsets of the same width.
        wide = name.startswith(("list_view", "large_list<"))
        return (pa.large_list if large or wide else pa.list_)(inner(kind.value_field))
    return leaf(kind)


def _canonical_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return canonical_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def _large_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if hasattr(pa, "JsonType") and isinstance(kind, pa.JsonType):
        return pa.json_(pa.large_string())
    return kind
