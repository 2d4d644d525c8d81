"""Arrow types that say how values lie in memory, brought to one form.

A file may carry an Arrow schema that asks for views or dictionaries. Few kernels take views, a slice of one
drags its whole buffer along, and nested dictionaries differ from slice to slice; Parquet knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

_Leaf = Callable[[pa.DataType], pa.DataType]


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type without views and dictionaries, at any depth."""
    return _mapped(kind, _plain_leaf, large=False)


def large_type(kind: pa.DataType) -> pa.DataType:
    """Return the type with 64-bit offsets where it has 32-bit ones, at any depth; maps keep theirs."""
    return _mapped(kind, _large_leaf, large=True)


def _mapped(kind: pa.DataType, leaf: _Leaf, large: bool) -> pa.DataType:
    def inner(field: pa.Field) -> pa.Field:
        return field.with_type(_mapped(field.type, leaf, large))

    if pa.types.is_map(kind):
        return pa.map_(inner(kind.key_field), inner(kind.item_field))
    if pa.types.is_struct(kind):
        return pa.struct([inner(field) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner(kind.value_field), kind.list_size)
    name = str(kind)
    if name.startswith(("list", "large_list")):
        # Between offsets of the same width, pyarrow 26 turns views that come from a file into broken lists.
        wide = name.startswith(("list_view", "large_list<"))
        return (pa.large_list if large or wide else pa.list_)(inner(kind.value_field))
    return leaf(kind)


def _plain_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
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
