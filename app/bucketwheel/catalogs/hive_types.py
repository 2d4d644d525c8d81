"""Map Arrow types to Hive type names."""

from __future__ import annotations

import re

import pyarrow as pa

from bucketwheel.errors import SchemaError
from bucketwheel.kernel.arrow_types import is_list_view

_SCALARS = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "int",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.date64(): "date",
}
# Hive has no type that reads all values of these correctly: the nearest type, its fault, and a type to use instead.
# Readers do read smaller unsigned integers correctly.
_NEGATIVE = "in which values of {} or more become negative"
_TIME = ("int", "but Trino cannot read 32-bit times of day", "time64 (in microseconds)")
_NEAREST = {
    pa.uint32(): ("bigint", _NEGATIVE.format("2^31"), "int64"),
    pa.uint64(): ("bigint", _NEGATIVE.format("2^63"), "int64 or decimal(20,0)"),
    pa.float16(): ("float", "which has 4 bytes, but the file has 2, so readers reject it", "float32"),
    pa.time32("s"): _TIME,
    pa.time32("ms"): _TIME,
}
_MOST_DIGITS = 38
_FIX = "leave it out with a mapping (datasets.NAME.mapping), or ask the supplier of the snapshot for another type"
# Characters that separate the parts of a type name.
TYPE_MARKS = re.compile(r"[\s<>:,;`\"'()]")


def hive_type(kind: pa.DataType, column: str, exact: bool = True) -> str:
    """Return the Hive type name of a Parquet column.

    Args:
        kind: Arrow type of the column.
        column: its name, for the error.
        exact: refuse a type whose values Hive would change; False returns the nearest type, for readers that take
            the type from the files.

    Raises:
        SchemaError: Hive has no such type.
    """
    if isinstance(kind, pa.BaseExtensionType):
        # Before the dictionary lookup, because extension types may not be hashable.
        return hive_type(kind.storage_type, column, exact)
    if pa.types.is_dictionary(kind):
        return hive_type(kind.value_type, column, exact)
    if kind in _NEAREST:
        name, why, instead = _NEAREST[kind]
        if exact:
            raise SchemaError(
                f"column {column!r} has type {kind}; the nearest Hive type is {name}, {why}. Have the snapshot "
                f"written with {instead}, or leave the column unmapped"
            )
        return name
    return _SCALARS.get(kind) or _parameterised(kind, column, exact)


def _parameterised(kind: pa.DataType, column: str, exact: bool) -> str:
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        return "string"
    if (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or str(kind) == "binary_view"
    ):
        return "binary"
    if types.is_decimal(kind) and kind.precision <= _MOST_DIGITS:
        return f"decimal({kind.precision},{kind.scale})"
    if types.is_timestamp(kind):
        return "timestamp"
    if types.is_time64(kind) or types.is_duration(kind):
        return "bigint"
    if types.is_map(kind):
        return f"map<{hive_type(kind.key_type, column, exact)},{hive_type(kind.item_type, column, exact)}>"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or is_list_view(kind):
        return f"array<{hive_type(kind.value_type, column, exact)}>"
    if types.is_struct(kind):
        odd = [field.name for field in kind if TYPE_MARKS.search(field.name) or not field.name]
        if odd:
            raise SchemaError(
                f"column {column!r} has a field {odd[0]!r}, which Hive catalogs cannot name; have the snapshot "
                "written with other names, or leave the column out with a mapping (datasets.NAME.mapping)"
            )
        fields = ",".join(f"{field.name}:{hive_type(field.type, column, exact)}" for field in kind)
        return f"struct<{fields}>"
    # Writers that do not know a type, such as pandas and Polars, write this one.
    why = ", because all its values were missing when it was written" if types.is_null(kind) else ""
    raise SchemaError(f"column {column!r} has type {kind}, which Hive catalogs cannot name{why}; {_FIX}")
