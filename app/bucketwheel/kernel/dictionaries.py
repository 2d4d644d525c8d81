"""Carry dictionary-encoded columns from slices to files as codes of one unified dictionary per column.

Each slice of the source has its own dictionary. A unified dictionary numbers the values of all slices, so that
codes of different slices can be joined and moved like integers. The dictionary of a file contains the values that
the file uses, in ascending order, so its bytes do not depend on the order in which values were added.

Unified dictionaries stay in memory until the last file is written, so their bytes are limited. Rows of a column whose
dictionary reaches the limit travel as values; their files are the same.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.kernel.arrow_types import MOST_TEXT_BYTES, large_type
from bucketwheel.kernel.distinct import is_text, text_buffers
from bucketwheel.runs.manifest import SourceColumn

# Columns with a dictionary page up to this size stay dictionary-encoded: the page is small compared to its rows.
_SMALL_DICTIONARY = 32 * 2**10
# One column may take this share of the limit of all dictionaries.
_COLUMN_SHARE = 1 / 4
# A larger dictionary that has more values than half of the rows saves nothing.
_LARGE_DICTIONARY = 2**20


def stays_dictionary(column: SourceColumn, schema: pa.Schema) -> bool:
    """Return whether a source column stays dictionary-encoded from reading to writing."""
    kind = schema.field(column.name).type
    # Arrow cannot look up values of extension types.
    if pa.types.is_nested(kind) or pa.types.is_boolean(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    return column.dictionary_bytes is not None and column.dictionary_bytes <= _SMALL_DICTIONARY


@dataclass(frozen=True)
class _Order:
    """The values of a unified dictionary in ascending order, and their codes."""

    values: pa.Array
    codes: npt.NDArray[np.int64]


class UnifiedDictionary:
    """The values of one column in all slices; safe for use by several threads.

    The code of a value is its position plus one; 0 is NULL. Codes never change. `encode` returns them in the
    narrowest unsigned type that holds every code at that time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: pa.Array = None
        self._order: _Order | None = None
        self.bytes = 0

    def encode(self, column: pa.DictionaryArray) -> pa.Array:
        """Return the codes of a column; add its new values."""
        dictionary = column.dictionary
        codes = np.zeros(len(dictionary) + 1, np.int64)
        with self._lock:
            known = self._values
            codes[:-1] = self._codes_of(dictionary)
            if self._values is not known:
                self.bytes = self._values.nbytes
            narrow = codes.astype(np.min_scalar_type(len(self._values)))
        indices = column.indices.cast(pa.int32())
        if indices.null_count:
            indices = indices.fill_null(len(dictionary))
        return pa.array(np.take(narrow, indices.to_numpy()))

    @property
    def values(self) -> pa.Array:
        """Return the values in the order of their codes, or None if there are none yet."""
        with self._lock:
            return self._values

    def take_type(self, dictionary: pa.Array) -> None:
        """Take the type of the values from this dictionary, but no value."""
        with self._lock:
            self._codes_of(dictionary.slice(0, 0))

    def translation(self, values: pa.Array) -> npt.NDArray[np.unsignedinteger]:
        """Return the codes here for codes 0 to `len(values)` of another unified dictionary with these values."""
        codes = np.zeros(len(values) + 1, np.int64)
        with self._lock:
            codes[1:] = self._codes_of(values)
            narrow: npt.NDArray[np.unsignedinteger] = codes.astype(np.min_scalar_type(len(self._values)))
        return narrow

    def _codes_of(self, dictionary: pa.Array) -> npt.NDArray[np.int64]:
        if self._values is None:
            self._values = dictionary.slice(0, 0)
        positions = pc.index_in(dictionary, value_set=self._values)
        if positions.null_count:
            new = pc.drop_null(pc.unique(dictionary.filter(pc.is_null(positions))))
            if len(new):
                # In ascending order, so that tasks that see the same values give them the same codes.
                self._values = pa.concat_arrays([self._values, new.take(pc.sort_indices(new))])
                positions = pc.index_in(dictionary, value_set=self._values)
        codes: npt.NDArray[np.int64] = positions.fill_null(-1).to_numpy().astype(np.int64) + 1
        return codes

    def decode(self, codes: npt.NDArray[np.unsignedinteger[Any]], bounds: Sequence[int]) -> pa.ChunkedArray:
        """Return the decoded column with one chunk per part; its dictionary has the values of the part, ascending.

        Args:
            codes: codes of all parts.
            bounds: part i is `codes[bounds[i]:bounds[i + 1]]`.
        """
        order = self._sorted()
        width, count = len(order.codes) + 1, len(bounds) - 1
        if count > 1 and width * count > len(codes):
            # A table of codes by part would be larger than the codes.
            chunks = (self.decode(codes[start:end], [0, end - start]) for start, end in pairwise(bounds))
            return pa.chunked_array([part.chunk(0) for part in chunks])
        cells = codes if count == 1 else codes + np.repeat(np.arange(count) * width, np.diff(bounds))
        occurs = _occurring(cells, width * count).reshape(count, width)
        used = occurs[:, order.codes]
        positions = np.zeros((count, width), np.int32)
        positions[:, order.codes] = np.cumsum(used, axis=1, dtype=np.int32) - 1
        indices = pa.array(np.take(positions, cells), mask=codes == 0 if occurs[:, 0].any() else None)
        if used.all():
            values = [order.values] * count
        else:
            used_values = order.values.take(pa.array(np.nonzero(used)[1]))
            ends = [0, *np.cumsum(used.sum(axis=1)).tolist()]
            values = [used_values.slice(start, end - start) for start, end in pairwise(ends)]
        return pa.chunked_array(
            pa.DictionaryArray.from_arrays(indices.slice(start, end - start), dictionary, safe=False)
            for (start, end), dictionary in zip(pairwise(bounds), values, strict=True)
        )

    def _sorted(self) -> _Order:
        with self._lock:
            if self._order is None or len(self._order.values) < len(self._values):
                ascending = pc.sort_indices(self._values)
                codes = ascending.to_numpy().astype(np.int64) + 1
                self._order = _Order(self._values.take(ascending), codes)
            return self._order

    def encode_parts(self, values: pa.Array, bounds: Sequence[int]) -> pa.ChunkedArray:
        """Return what `decode` returns for the codes of these values."""
        # Values of many buckets may need longer offsets than those of the column.
        kind = values.type if values.nbytes >= MOST_TEXT_BYTES else self.values.type
        parts = (values.slice(start, end - start) for start, end in pairwise(bounds))
        return pa.chunked_array([_with_sorted_dictionary(part, kind) for part in parts])

    def values_of(self, codes: pa.Array) -> pa.Array:
        """Return the values that these codes stand for."""
        numbers, values = codes.to_numpy(), self.values
        if is_text(values.type) and len(codes) * (pc.max(pc.binary_length(values)).as_py() or 0) >= MOST_TEXT_BYTES:
            values = pc.cast(values, large_type(values.type))
        return values.take(pa.array(numbers.astype(np.int64) - 1, mask=numbers == 0))


def _with_sorted_dictionary(values: pa.Array, kind: pa.DataType) -> pa.DictionaryArray:
    column = values.dictionary_encode()
    if saves_nothing(column):
        # It will be written plain, so the order does not matter.
        return pa.DictionaryArray.from_arrays(column.indices, pc.cast(column.dictionary, kind))
    order = pc.sort_indices(column.dictionary)
    positions = np.zeros(len(order) + 1, np.int32)
    positions[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    indices = np.take(positions, column.indices.fill_null(len(order)).to_numpy())
    missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    dictionary = pc.cast(column.dictionary.take(order), kind)
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=missing), dictionary, safe=False)


def _occurring(codes: npt.NDArray[np.unsignedinteger], count: int) -> npt.NDArray[np.bool_]:
    if count <= len(codes):
        return np.bincount(codes, minlength=count) > 0
    # Marking is faster than counting if there are more values than rows.
    occurs = np.zeros(count, np.bool_)
    occurs[codes] = True
    return occurs


class UnifiedDictionaries:
    """The unified dictionaries of all columns that are moved as codes, by source name.

    Args:
        limit: bytes of all values after which new values travel as they are; None: no limit.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._lock = threading.Lock()
        self._columns: dict[str, UnifiedDictionary] = {}
        self._limit = limit
        self._bytes: dict[str, int] = {}
        self._total = 0
        self._closed: set[str] = set()

    def column(self, name: str) -> UnifiedDictionary:
        """Return the unified dictionary of a column; the first call creates it."""
        with self._lock:
            return self._columns.setdefault(name, UnifiedDictionary())

    def encode(self, name: str, column: pa.DictionaryArray) -> pa.Array | None:
        """Return the codes of a column, or None if its rows travel as values from now on."""
        dictionary = self.column(name)
        if name in self._closed:
            return None
        if self._limit is not None and self._is_too_large(column):
            dictionary.take_type(column.dictionary)
            self._closed.add(name)
            return None
        codes = dictionary.encode(column)
        if self._limit is not None:
            self._count(name, dictionary.bytes, self._limit)
        return codes

    def is_closed(self, name: str) -> bool:
        """Return whether new rows of a column travel as values."""
        return name in self._closed

    def _is_too_large(self, column: pa.DictionaryArray) -> bool:
        return saves_nothing(column) or column.dictionary.nbytes > (self._limit or 0) * _COLUMN_SHARE

    def _count(self, name: str, size: int, limit: int) -> None:
        if size == self._bytes.get(name, 0):
            return
        with self._lock:
            self._total += size - self._bytes.get(name, 0)
            self._bytes[name] = size
            if size > limit * _COLUMN_SHARE or self._total > limit:
                self._closed.add(name)

    def as_one_kind(self, batches: Sequence[pa.RecordBatch]) -> Sequence[pa.RecordBatch]:
        """Return the batches with values in place of codes, in columns in which any of them has values."""
        schemas: list[pa.Schema] = []
        for batch in batches:
            if batch.schema not in schemas:
                schemas.append(batch.schema)
        mixed = {
            name
            for name in schemas[0].names
            if name in self and len({is_coded(schema.field(name).type) for schema in schemas}) > 1
        }
        return [self._with_values(batch, mixed) for batch in batches] if mixed else batches

    def _with_values(self, batch: pa.RecordBatch, names: Collection[str]) -> pa.RecordBatch:
        arrays = [
            self.column(name).values_of(array) if name in names and is_coded(array.type) else array
            for name, array in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._columns))

    def __contains__(self, name: str) -> bool:
        return name in self._columns


def saves_nothing(column: pa.DictionaryArray) -> bool:
    """Return whether a column takes less memory and fewer bytes in a file without its dictionary."""
    dictionary = column.dictionary
    return 2 * len(dictionary) > len(column) and _value_bytes(dictionary) > _LARGE_DICTIONARY


def _value_bytes(values: pa.Array) -> int:
    """Return the bytes of values with 32-bit offsets, which depend on nothing but the values, unlike `nbytes`."""
    if not is_text(values.type):
        return int(values.nbytes)
    offsets, _ = text_buffers(values)
    return int(offsets[-1] - offsets[0]) + 4 * len(values)


def is_coded(kind: pa.DataType) -> bool:
    """Return whether a dictionary column has codes in this type; its values are never numbers."""
    return bool(pa.types.is_unsigned_integer(kind))
