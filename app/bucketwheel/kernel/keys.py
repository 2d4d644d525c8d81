"""Sort and compare keys: NULL first, then ascending, strings by their bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def key_order(keys: pa.Table) -> npt.NDArray[np.int64]:
    """Return the stable permutation that sorts the rows by key."""
    # pyarrow 26 deprecates the option that puts NULL first, and pyarrow 17 lacks its successor.
    if keys.num_columns == 1:
        column = keys.column(0)
        last = np.asarray(pc.sort_indices(column)).view(np.int64)
        return np.roll(last, column.null_count) if column.null_count else last
    parts: dict[str, pa.ChunkedArray] = {}
    for number, column in enumerate(keys.columns):
        if column.null_count:
            parts[f"{number} is present"] = pc.is_valid(column)
        parts[str(number)] = column
    by = [(name, "ascending") for name in parts]
    order: npt.NDArray[np.int64] = np.asarray(pc.sort_indices(pa.table(parts), sort_keys=by)).view(np.int64)
    return order


def first_disorder(columns: Sequence[pa.ChunkedArray]) -> int | None:
    """Return the first row whose key is smaller than the key of the row before it, or None."""
    descends: pa.ChunkedArray | None = None
    # Start with the last column: an earlier column decides unless its values are equal.
    for column in reversed(columns):
        before, after = column.slice(0, max(len(column) - 1, 0)), column.slice(1)
        greater, equal = pc.greater(before, after), pc.equal(before, after)
        if column.null_count:
            valid_before, null_after = pc.is_valid(before), pc.is_null(after)
            greater = pc.or_(pc.fill_null(greater, False), pc.and_(valid_before, null_after))
            equal = pc.or_(pc.fill_null(equal, False), pc.and_not(null_after, valid_before))
        descends = greater if descends is None else pc.or_(greater, pc.and_(equal, descends))
    position = pc.index(descends, True).as_py()
    return None if position < 0 else position + 1


def complete_rows(keys: pa.Table) -> pa.Table:
    """Return the rows in which no key column is NULL."""
    complete = None
    for column in keys.columns:
        if column.null_count:
            valid = pc.is_valid(column)
            complete = valid if complete is None else pc.and_(complete, valid)
    return keys if complete is None else keys.filter(complete)


def repeated_keys(ordered: pa.Table) -> int:
    """Return the number of rows with the same key as the row before; rows are sorted and have no NULL."""
    if ordered.num_rows < 2:
        return 0
    same = None
    for column in ordered.columns:
        equal = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
        same = equal if same is None else pc.and_(same, equal)
    return int(pc.sum(same).as_py())


def key_text(columns: Sequence[pa.Array | pa.ChunkedArray], row: int) -> str:
    """Return the key of one row as text for messages and records."""
    return "|".join(_text(column[row]) for column in columns)


def _text(value: pa.Scalar) -> str:
    try:
        return str(value.as_py()) if value.is_valid else "NULL"
    except UnicodeDecodeError:
        return str(value.as_buffer().to_pybytes(), errors="backslashreplace")
