"""Choose how many values Parquet's writer encodes at once, so that pages stay near their size.

The writer looks at the size of a page only after each batch, and has one batch size for all columns of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.kernel.distinct import is_text

# Larger than Arrow's default of 1,024 values, for fewer calls into the encoders.
MOST_VALUES = 8192
# A few long values among many short ones must not make every batch a single row: a batch costs 75 ns for each column,
# as much as ten numbers. So it has this many values, or this share of those that fill a page on average if they are
# fewer.
_LEAST_VALUES = 16
_LEAST_SHARE = 1 / 4


def write_batch_values(content: pa.Table, group_rows: int, page_bytes: int) -> int:
    """Return the number of values of a batch: a power of two, at most 8,192.

    In every column that is written plain, a batch takes at most `page_bytes` besides its longest value. So a page
    takes less than two times `page_bytes` and one value, unless a few values are far longer than the others. The
    number depends on the content of the file only.

    Args:
        content: the rows of a file; dictionaries count as columns of codes.
        group_rows: rows of each row group.
        page_bytes: wanted bytes of a page before compression.
    """
    values = MOST_VALUES
    for position, kind in enumerate(content.schema.types):
        # Most columns are of these types, and this runs for every file.
        if pa.types.is_dictionary(kind):
            continue
        if pa.types.is_primitive(kind):
            values = _fixed_width(kind, values, page_bytes)
            continue
        for leaf in chain.from_iterable(map(_leaves, content.column(position).chunks)):
            # Batches begin with row groups, but nested values do not keep step with rows.
            group = group_rows if is_text(kind) else len(leaf)
            values = _fitting(leaf, values, group, page_bytes)
    return values


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """Yield the arrays of values that the writer stores as columns."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _leaves(array.storage)
    elif pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _leaves(array.field(number))
    elif pa.types.is_fixed_size_list(kind):
        yield from _leaves(array.flatten())
    elif pa.types.is_nested(kind):
        # Lists and maps. Flattening would copy the values if there are NULLs.
        offsets = array.offsets
        first, last = (offsets[0].as_py(), offsets[-1].as_py()) if len(offsets) else (0, 0)
        yield from _leaves(array.values.slice(first, last - first))
    elif not pa.types.is_dictionary(kind) and not pa.types.is_null(kind):
        yield array


def _fitting(leaf: pa.Array, values: int, group_rows: int, page_bytes: int) -> int:
    """Return the largest batch of at most `values` that fits the column."""
    if is_text(leaf.type):
        offsets = _offsets(leaf)
        total = int(offsets[-1]) - int(offsets[0])
        if total <= page_bytes:
            return values
        least = min(_LEAST_VALUES, page_bytes * len(leaf) / total * _LEAST_SHARE)
        while values > max(1, least) and not _fits(offsets, values, group_rows, page_bytes):
            values //= 2
        return values
    return _fixed_width(leaf.type, values, page_bytes)


def _fixed_width(kind: pa.DataType, values: int, page_bytes: int) -> int:
    while values > 1 and values * kind.bit_width > 8 * page_bytes:
        values //= 2
    return values


def _fits(offsets: npt.NDArray[Any], values: int, group_rows: int, page_bytes: int) -> bool:
    """Return whether each batch takes at most `page_bytes` besides its longest value."""
    count = len(offsets) - 1
    group_rows = min(group_rows, count)
    starts = np.add.outer(np.arange(0, count, group_rows), np.arange(0, group_rows, values)).ravel()
    starts = starts[starts < count]
    sizes = np.diff(offsets[starts], append=offsets[-1])
    if sizes.max() <= page_bytes:
        return True
    longest = np.maximum.reduceat(np.diff(offsets), starts)
    return bool((sizes - longest <= page_bytes).all())


def _offsets(leaf: pa.Array) -> npt.NDArray[Any]:
    if not len(leaf):
        return np.zeros(1, np.int64)
    wide = leaf.type in (pa.large_string(), pa.large_binary())
    offsets = np.frombuffer(leaf.buffers()[1], np.int64 if wide else np.int32)
    return offsets[leaf.offset : leaf.offset + len(leaf) + 1]
