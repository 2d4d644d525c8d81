"""Estimate the bytes of decoded values from the footers."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from bucketwheel.kernel.dictionaries import stays_dictionary
from bucketwheel.kernel.written_types import stored_type
from bucketwheel.runs.manifest import DiscoverResult, SourceColumn, TypeConversion

# Bytes of the offset of a text or list, and of the bit that tells NULL.
_OFFSET_BYTES, _NULL_BYTES = 4, 1 / 8
# Values that become text: their bytes in the file, and the characters of their text at most.
_TEXTS = {
    **dict.fromkeys(("UUID", "extension<arrow.uuid>"), (16, 36)),
    "time32[s]": (4, 8),
    "time32[ms]": (4, 12),
    "time64[us]": (8, 15),
    "time64[ns]": (8, 18),
}
_TEXT = "string"
# Each of these becomes a type of twice the bytes.
_DOUBLED = frozenset({"uint32", "uint64", "halffloat"})


def decoded_bytes(snapshot: DiscoverResult) -> dict[str, float]:
    """Return the average bytes of a decoded value of each column, in the type that is written."""
    schema, rows = snapshot.schema(), max(snapshot.rows, 1)
    return {column.name: _decoded_bytes(column, schema, rows, snapshot.conversions) for column in snapshot.columns}


def _decoded_bytes(
    column: SourceColumn, schema: pa.Schema, rows: int, conversions: Sequence[TypeConversion]
) -> float:
    kind = schema.field(column.name).type
    least, fixed = _least_bytes(kind)
    if fixed:
        return least
    in_file = column.uncompressed_bytes / rows
    if pa.types.is_nested(_value_type(kind)):
        inside = (part for part in conversions if _is_inside(part, column.name, schema))
        return max(least, in_file * max(map(_growth, inside), default=1.0) + _OFFSET_BYTES)
    own = next((part for part in conversions if _is_of(part, column.name, schema)), None)
    if own is not None and own.stored in _TEXTS:
        # Only texts of the file are read as dictionaries.
        return least + _TEXTS[own.stored][1] * (1 - (column.null_count or 0) / rows)
    return least if stays_dictionary(column, schema) else in_file + _OFFSET_BYTES


def _is_of(conversion: TypeConversion, name: str, schema: pa.Schema) -> bool:
    """Return whether a conversion is that of a column; a field of a struct may have the same path."""
    return conversion.column == name and conversion.written in str(schema.field(name).type)


def _is_inside(conversion: TypeConversion, name: str, schema: pa.Schema) -> bool:
    """Return whether a conversion is that of a part of a nested column; names of other columns may have dots."""
    path, kind = conversion.column, _value_type(schema.field(name).type)
    if not path.startswith(f"{name}."):
        return False
    if not pa.types.is_struct(kind):
        return path not in schema.names and conversion.written in str(kind)
    rest = path.removeprefix(f"{name}.") + "."
    fields = (kind.field(number) for number in range(kind.num_fields))
    return any(rest.startswith(f"{part.name}.") and conversion.written in str(part.type) for part in fields)


def _least_bytes(kind: pa.DataType) -> tuple[float, bool]:
    """Return the bytes of a value if its texts and lists are empty, and whether all values take that many."""
    kind = _value_type(kind)
    try:
        return float(kind.bit_width) / 8 + _NULL_BYTES, True
    except ValueError:
        pass  # Texts, and all nested types.
    listed = pa.types.is_fixed_size_list(kind)
    if not listed and not pa.types.is_struct(kind):
        return _OFFSET_BYTES + _NULL_BYTES, False
    parts = [_least_bytes(kind.field(number).type) for number in range(kind.num_fields)]
    size = sum(part for part, _ in parts) * (kind.list_size if listed else 1)
    return size + _NULL_BYTES, all(fixed for _, fixed in parts)


def _value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that values have without a dictionary and an extension."""
    kind = stored_type(kind)
    return stored_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _growth(conversion: TypeConversion) -> float:
    """Return how many times as many bytes a value takes in memory as in the file."""
    if conversion.stored in _DOUBLED:
        return 2
    if conversion.stored not in _TEXTS or conversion.written != _TEXT:
        return 1
    stored, characters = _TEXTS[conversion.stored]
    return (characters + _OFFSET_BYTES) / stored
