"""Dictionary-encoded columns on their way from slices to one file.

Each slice has its own dictionary. A file gets the values it uses, in ascending order, so its bytes do not
depend on how the source was cut or in which order it was read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CACHED = 8192


class DictionaryMerger:
    """Merges the dictionaries of slices; remembers the last merges, since every bucket asks for the same ones.

    Not safe for use by several threads at once; the results are read-only.
    """

    def __init__(self) -> None:
        self._merged: dict[tuple[int, ...], tuple[pa.Array, list[np.ndarray], list[pa.Array]]] = {}

    def merge(self, dictionaries: Sequence[pa.Array]) -> tuple[pa.Array, list[np.ndarray]]:
        """Return all values in ascending order and, per dictionary, the new code of each old code.

        Each dictionary has NULL at code 0; new codes keep 0 for NULL and count values from 1.
        """
        identity = tuple(dictionary.buffers()[-1].address for dictionary in dictionaries)
        known = self._merged.get(identity)
        if known is None:
            if len(self._merged) >= _CACHED:
                self._merged.clear()
            values = pc.drop_null(pc.unique(pa.chunked_array(list(dictionaries))))
            values = values.take(pc.sort_indices(values))
            codes = [_lookup(dictionary, values) for dictionary in dictionaries]
            # The dictionaries are kept so that no other buffer can get the address of one of theirs.
            known = self._merged[identity] = (values, codes, list(dictionaries))
        return known[0], known[1]


def _lookup(dictionary: pa.Array, values: pa.Array) -> np.ndarray:
    found = pc.index_in(dictionary, value_set=values).fill_null(-1)
    return (np.asarray(found) + 1).astype(np.min_scalar_type(len(values)))


def gathered(columns: Sequence[pa.DictionaryArray], order: np.ndarray | None, merger: DictionaryMerger) -> pa.Array:
    """Return the pieces of one column as a single array in `order`, with only the values it uses.

    Args:
        columns: one piece per slice, in slice order; code 0 is NULL.
        order: positions in the concatenation of the pieces (int64), or None to keep them.
        merger: remembers merged dictionaries.
    """
    values, lookups = merger.merge([column.dictionary for column in columns])
    codes = np.concatenate(
        [np.take(lookup, np.asarray(column.indices)) for lookup, column in zip(lookups, columns, strict=True)]
    )
    if order is not None:
        codes = np.take(codes, order)
    counts = np.bincount(codes, minlength=len(values) + 1)
    used = np.flatnonzero(counts[1:])
    if len(used) < len(values):
        compact = np.zeros(len(values) + 1, dtype=codes.dtype)
        compact[used + 1] = np.arange(1, len(used) + 1)
        codes = np.take(compact, codes)
        values = values.take(pa.array(used))
    missing = codes == 0 if counts[0] else None
    indices = pa.array(codes.astype(np.int32) - 1, mask=missing)
    return pa.DictionaryArray.from_arrays(indices, values, safe=False)
