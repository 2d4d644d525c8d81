"""Dictionary-encoded columns on their way from slices to files: as codes of one book for each column.

Each slice of the source has its own dictionary. A book numbers the values of all of them, so that codes of
different slices can be joined and moved like any integers. A file gets the values it uses, in ascending
order: its bytes do not depend on the order in which the book was filled.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


class Codebook:
    """The values of one column; safe for use by several threads.

    The code of a value is its position plus one, and 0 is NULL. Codes never change; they come in the
    narrowest unsigned type that held them when they were made.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: pa.Array = None
        self._ascending: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._in_order: pa.Array = None

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

    def decode(self, codes: npt.NDArray[np.unsignedinteger]) -> pa.DictionaryArray:
        """Return the column of the codes, with only the values that occur, in ascending order."""
        with self._lock:
            values = self._values
            if self._in_order is None or len(self._in_order) < len(values):
                self._ascending = np.asarray(pc.sort_indices(values)).view(np.int64) + 1
                self._in_order = values.take(pa.array(self._ascending - 1))
            ascending, in_order = self._ascending, self._in_order
        if len(values) <= len(codes):
            occurs = np.bincount(codes, minlength=len(values) + 1) > 0
        else:
            occurs = np.zeros(len(values) + 1, np.bool_)
            occurs[codes] = True
        used = ascending[occurs[ascending]]
        positions = np.zeros(len(values) + 1, np.int32)
        positions[used] = np.arange(len(used), dtype=np.int32)
        missing = codes == 0 if occurs[0] else None
        indices = pa.array(np.take(positions, codes), mask=missing)
        # Where a file uses every value, as most do, the dictionary need not be made again.
        dictionary = in_order if len(used) == len(values) else values.take(pa.array(used - 1))
        return pa.DictionaryArray.from_arrays(indices, dictionary, safe=False)


class Codebooks:
    """The books of all columns that travel as codes, by source name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._books: dict[str, Codebook] = {}

    def book(self, name: str) -> Codebook:
        """Return the book of a column; it is made when first asked for."""
        with self._lock:
            return self._books.setdefault(name, Codebook())

    def __contains__(self, name: str) -> bool:
        return name in self._books
