"""Tables and sort orders for tests of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from bucketwheel.testing.jobs import KEY


def people(keys: pa.Array, **columns: pa.Array) -> pa.Table:
    return pa.table({KEY: keys, "Number": pa.array(range(len(keys)), pa.int32()), **columns})


def overflow_offsets(table: pa.Table) -> pa.Table:
    """Join the chunks of a table like pyarrow when text exceeds 32-bit offsets."""
    kinds = [column.type for column in table.columns]
    if any(pa.types.is_list(kind) or (pa.types.is_map(kind) and pa.types.is_string(kind.key_type)) for kind in kinds):
        raise pa.ArrowInvalid("offset overflow while concatenating arrays")
    if any(pa.types.is_string(kind) or pa.types.is_binary(kind) for kind in kinds):
        half = table.num_rows // 2
        return pa.concat_tables([table.slice(0, half), table.slice(half)])
    return table.combine_chunks()


def key_order(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return a sort key for the expected order of files: NULL first, text by its bytes."""
    plain = [value.encode() if isinstance(value, str) else value for value in values]
    return tuple((value is not None, value) if value is not None else (False,) for value in plain)
