"""Values as PySpark returns them."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pyarrow as pa


def as_spark_has_it(value: Any, kind: pa.DataType) -> Any:
    """Convert a pyarrow value to that of PySpark in UTC: instants without zone, structs as tuples."""
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return value.astimezone(UTC).replace(tzinfo=None) if kind.tz else value
    if pa.types.is_map(kind):
        return {name: as_spark_has_it(inner, kind.item_type) for name, inner in value}
    if pa.types.is_struct(kind):
        return tuple(as_spark_has_it(value[field.name], field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [as_spark_has_it(inner, kind.value_type) for inner in value]
    return value
