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
    return _mapped(kind, _plain_leaf)


def large_type(kind: pa.DataType) -> pa.DataType:
    """Return the type with 64-bit offsets where it has 32-bit ones, at any depth; maps keep theirs."""
    return _mapped(kind, _large_leaf, large=True)


def _mapped(kind: pa.DataType, leaf: _Leaf, large: bool = False) -> pa.DataType:
    name = str(kind)
    if pa.types.is_map(kind):
        key = kind.key_field.with_type(_mapped(kind.key_type, leaf, large))
        return pa.map_(key, kind.item_field.with_type(_mapped(kind.item_type, leaf, large)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_mapped(field.type, leaf, large)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_mapped(kind.value_type, leaf, large)), kind.list_size)
    # By name: pyarrow 17 has no predicates for list views.
    if name.startswith(("list", "large_list")):
        value = kind.value_field.with_type(_mapped(kind.value_type, leaf, large))
        return pa.large_list(value) if large or name.startswith("large_list") else pa.list_(value)
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
    # Extension types cannot be cast between storages; without its annotation the value stays the same.
    return large_type(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind
