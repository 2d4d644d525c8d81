"""Dictionary-encoded columns on their way from slices to files: as codes of one book for each column.

Each slice of the source has its own dictionary. A book numbers the values of all of them, so that codes of
different slices can be joined and moved like any integers. A file gets the values it uses, in ascending
order: its bytes do not depend on the order in which the book was filled.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class _Order:
    """The values of a book in ascending order, and their codes."""

    values: pa.Array
    codes: npt.NDArray[np.int64]


class Codebook:
    """The values of one column; safe for use by several threads.

    The code of a value is its position plus one, and 0 is NULL. Codes never change; they come in the
    narrowest unsigned type that held them when they were made.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: pa.Array = None
        self._order: _Order | None = None

    def encode(self, column: pa.DictionaryArray) -> pa.Array:
        """Return the codes of a column, and add the values that are new."""
        dictionary = column.dictionary
        codes = np.zeros(len(dictionary) + 1, np.int64)
        with self._lock:
            codes[:-1] = self._codes_of(dictionary)
            narrow = codes.astype(np.min_scalar_type(len(self._values)))
        indices = column.indices.cast(pa.int32())
        if indices.null_count:
            indices = indices.fill_null(len(dictionary))
        return pa.array(np.take(narrow, indices.to_numpy()))

    @property
    def values(self) -> pa.Array:
        """The values in the order of their codes, to be sent along with codes; None before any were added."""
        with self._lock:
            return self._values

    def translation(self, values: pa.Array) -> npt.NDArray[np.unsignedinteger]:
        """Return what the codes 0 to `len(values)` of another book with these values are in this one."""
        codes = np.zeros(len(values) + 1, np.int64)
        with self._lock:
            codes[1:] = self._codes_of(values)
            narrow: npt.NDArray[np.unsignedinteger] = codes.astype(np.min_scalar_type(len(self._values)))
        return narrow

    def _codes_of(self, dictionary: pa.Array) -> npt.NDArray[np.int64]:
        if self._values is None:
            self._values = dictionary.slice(0, 0)
        found = pc.index_in(dictionary, value_set=self._values)
        if found.null_count:
            fresh = pc.drop_null(pc.unique(dictionary.filter(pc.is_null(found))))
            if len(fresh):
                self._values = pa.concat_arrays([self._values, fresh])
                found = pc.index_in(dictionary, value_set=self._values)
        codes: npt.NDArray[np.int64] = found.fill_null(-1).to_numpy().astype(np.int64) + 1
        return codes

    def decode(self, codes: npt.NDArray[np.unsignedinteger[Any]], bounds: Sequence[int]) -> pa.ChunkedArray:
        """Return a column with a chunk for each part, whose dictionary has what occurs in it in ascending order.

        Args:
            codes: those of all parts.
            bounds: the i-th part is `codes[bounds[i]:bounds[i + 1]]`.
        """
        order = self._ordered()
        width, count = len(order.codes) + 1, len(bounds) - 1
        if count > 1 and width * count > len(codes):
            # A table of what occurs where would be larger than what it saves.
            alone = (self.decode(codes[start:end], [0, end - start]) for start, end in pairwise(bounds))
            return pa.chunked_array([part.chunk(0) for part in alone])
        cells = codes if count == 1 else codes + np.repeat(np.arange(count) * width, np.diff(bounds))
        occurs = _occurring(cells, width * count).reshape(count, width)
        used = occurs[:, order.codes]
        places = np.zeros((count, width), np.int32)
        places[:, order.codes] = np.cumsum(used, axis=1, dtype=np.int32) - 1
        indices = pa.array(np.take(places, cells), mask=codes == 0 if occurs[:, 0].any() else None)
        if used.all():
            values = [order.values] * count
        else:
            found = order.values.take(pa.array(np.nonzero(used)[1]))
            ends = [0, *np.cumsum(used.sum(axis=1)).tolist()]
            values = [found.slice(start, end - start) for start, end in pairwise(ends)]
        return pa.chunked_array(
            pa.DictionaryArray.from_arrays(indices.slice(start, end - start), those, safe=False)
            for (start, end), those in zip(pairwise(bounds), values, strict=True)
        )

    def _ordered(self) -> _Order:
        with self._lock:
            if self._order is None or len(self._order.values) < len(self._values):
                ascending = pc.sort_indices(self._values)
                codes = ascending.to_numpy().astype(np.int64) + 1
                self._order = _Order(self._values.take(ascending), codes)
            return self._order


def _occurring(codes: npt.NDArray[np.unsignedinteger], count: int) -> npt.NDArray[np.bool_]:
    if count <= len(codes):
        return np.bincount(codes, minlength=count) > 0
    # Counting is faster than marking, but not where there are more values than rows.
    occurs = np.zeros(count, np.bool_)
    occurs[codes] = True
    return occurs


class Codebooks:
    """The books of all columns that travel as codes, by source name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._books: dict[str, Codebook] = {}

    def book(self, name: str) -> Codebook:
        """Return the book of a column; it is made when first asked for."""
        with self._lock:
            return self._books.setdefault(name, Codebook())

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._books))

    def __contains__(self, name: str) -> bool:
        return name in self._books
