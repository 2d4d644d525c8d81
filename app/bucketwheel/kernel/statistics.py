"""Collect statistics of columns while slices are read: NULLs, smallest and largest values, lengths, distinct values.

Every table has every row of the snapshot, so the statistics of a column are those of its source column. Parts are
collected apart and merged; the result does not depend on the slices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.contracts import BucketJob, ReadKeys
from bucketwheel.kernel.checksum import add, key_checksum
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.distinct import DistinctValues, hash_values, is_text
from bucketwheel.runs.column_statistics import ColumnStatistics

_Counts = npt.NDArray[np.int64]

# Integers in a range of this size are marked in an array, which is faster than hashing them.
_MOST_MARKED = 2**20


@dataclass
class _Column:
    """Statistics of the values of a column so far.

    `smallest` and `largest` are numbers; dates, times and timestamps count from their epoch in their own unit, and
    decimals are unscaled.
    """

    kind: pa.DataType
    distinct: DistinctValues | None
    rows: int = 0
    nulls: int = 0
    trues: int = 0
    longest: int = 0
    bytes: int = 0
    smallest: Any = None
    largest: Any = None

    def merge(self, other: _Column) -> None:
        self.rows += other.rows
        self.nulls += other.nulls
        self.trues += other.trues
        self.bytes += other.bytes
        self.longest = max(self.longest, other.longest)
        self.widen(other.smallest, other.largest)
        if self.distinct is not None and other.distinct is not None:
            self.distinct.merge(other.distinct)

    def widen(self, smallest: Any, largest: Any) -> None:
        """Include another range of values."""
        if smallest is not None:
            self.smallest = smallest if self.smallest is None else min(self.smallest, smallest)
            self.largest = largest if self.largest is None else max(self.largest, largest)


@dataclass
class StatisticsCollector:
    """Statistics of all columns of a job and its keys, or of a part of its rows; parts are picklable.

    Args:
        level: `none`, `basic` (distinct values of columns with a small dictionary only) or `distinct`.
        exact: columns with few values, whose distinct values are counted exactly.
        keys: the key, if it is one column; its outcomes tell the number of distinct keys.

    `invalid_texts` counts, by column, the texts that were not UTF-8.
    """

    level: str
    exact: Collection[str]
    keys: Collection[str] = ()
    columns: dict[str, _Column] = field(default_factory=dict)
    codes: dict[str, tuple[pa.DataType, _Counts]] = field(default_factory=dict)
    read: ReadKeys = field(default_factory=ReadKeys)
    invalid_texts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, job: BucketJob) -> StatisticsCollector:
        """Return an empty collector for the columns of a job."""
        keys = [source for source, _ in job.keys]
        return cls(job.column_statistics, job.dictionary_columns, keys if len(keys) == 1 else ())

    def merge(self, other: StatisticsCollector) -> None:
        """Add the statistics of other rows, whose codes are of the same dictionaries."""
        self._add_read(other.read)
        self.invalid_texts.update(other.invalid_texts)
        for name, (kind, counts) in other.codes.items():
            known = self.codes.get(name)
            self.codes[name] = (kind, counts if known is None else _sum(known[1], counts))
        for name, column in other.columns.items():
            if name in self.columns:
                self.columns[name].merge(column)
            else:
                self.columns[name] = column

    def add(self, name: str, column: pa.Array) -> None:
        """Add the values of a column that is not moved as codes."""
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        column = _wide_decimal(column)
        if self.level == "none" or pa.types.is_nested(column.type):
            return
        state = self._state(name, column.type)
        state.rows += len(column)
        state.nulls += column.null_count
        if column.null_count == len(column):
            return
        if pa.types.is_boolean(column.type):
            state.trues += column.true_count
            return
        if _is_text(column.type):
            _add_lengths(state, column)
        else:
            state.widen(*_range(column))
        if state.distinct is not None:
            values = _unique(column, state) if name in self.exact else column
            state.distinct.add(hash_values(values.drop_null() if values.null_count else values))

    def add_keys(self, keys: Sequence[pa.Array]) -> None:
        """Add the keys of a part of the rows."""
        self._add_read(ReadKeys(len(keys[0]), key_checksum(keys)))

    def _add_read(self, other: ReadKeys) -> None:
        self.read = ReadKeys(self.read.rows + other.rows, add(self.read.checksum, other.checksum))

    def add_codes(self, name: str, kind: pa.DataType, codes: npt.NDArray[np.unsignedinteger]) -> None:
        """Add the codes of a column; `finish` counts the values that they stand for."""
        if self.level == "none":
            return
        counts = np.bincount(codes)
        known = self.codes.get(name)
        self.codes[name] = (kind, counts if known is None else _sum(known[1], counts))

    def finish(self, dictionaries: UnifiedDictionaries) -> None:
        """Replace codes by the values of these dictionaries."""
        for name, (kind, counts) in self.codes.items():
            state = self._state(name, kind)
            state.rows += int(counts.sum())
            state.nulls += int(counts[:1].sum())
            used = np.flatnonzero(counts[1:])
            if not len(used):
                continue
            # Dictionaries also contain values that no row has.
            values = _wide_decimal(dictionaries.column(name).values.take(pa.array(used)))
            if _is_text(kind):
                _add_lengths(state, values, counts[1:][used])
            else:
                state.widen(*_range(values))
            if state.distinct is not None:
                state.distinct.add(hash_values(values))
        self.codes.clear()

    def _state(self, name: str, kind: pa.DataType) -> _Column:
        if name not in self.columns:
            counted = name in self.exact or self.level == "distinct"
            counted = counted and name not in self.keys and not pa.types.is_boolean(kind)
            self.columns[name] = _Column(kind, DistinctValues(name in self.exact) if counted else None)
        return self.columns[name]

    def result(self) -> tuple[ColumnStatistics, ...]:
        """Return the statistics of the columns, by name."""
        return tuple(_result(name, column) for name, column in sorted(self.columns.items()))


def _wide_decimal(values: pa.Array) -> pa.Array:
    """Return decimals of 32 and 64 bits, for which Arrow lacks functions, as decimals of 128 bits."""
    kind = values.type
    if pa.types.is_decimal(kind) and kind.bit_width < pa.decimal128(1).bit_width:
        return values.cast(pa.decimal128(kind.precision, kind.scale))
    return values


def _is_text(kind: pa.DataType) -> bool:
    return is_text(kind) or pa.types.is_fixed_size_binary(kind)


def _add_lengths(state: _Column, values: pa.Array, counts: _Counts | None = None) -> None:
    """Add the lengths of values in bytes; each occurs once, or as often as `counts` says."""
    lengths = pc.binary_length(values)
    state.longest = max(state.longest, pc.max(lengths).as_py())
    state.bytes += pc.sum(lengths).as_py() if counts is None else int(lengths.to_numpy().astype(np.int64) @ counts)


def _sum(one: _Counts, other: _Counts) -> _Counts:
    total = np.zeros(max(len(one), len(other)), np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


def _unique(column: pa.Array, state: _Column) -> pa.Array:
    """Return the distinct values of a part of a column with few values, which may include NULL."""
    if pa.types.is_integer(column.type):
        low, span = state.smallest, state.largest - state.smallest + 1
        # Larger values of uint64 do not fit into 64 signed bits.
        if span <= _MOST_MARKED and state.largest < 2**63:
            values = column.fill_null(low) if column.null_count else column
            seen = np.zeros(span, np.bool_)
            seen[values.to_numpy().astype(np.int64) - low] = True
            return pa.array(np.flatnonzero(seen) + low, pa.int64())
    # Arrow 17 finds no distinct values of float16.
    return column if pa.types.is_float16(column.type) else pc.unique(column)


def _range(values: pa.Array) -> tuple[Any, Any]:
    """Return the smallest and the largest value as numbers; NaN does not count, and -0.0 is 0.0."""
    kind, types = values.type, pa.types
    if types.is_floating(kind):
        numbers = (values.drop_null() if values.null_count else values).to_numpy(zero_copy_only=False)
        # Faster than Arrow, whose minimum ignores NaN.
        low, high = float(numbers.min()), float(numbers.max())
        if np.isnan(low):
            numbers = numbers[~np.isnan(numbers)]
            if not len(numbers):
                return None, None
            low, high = float(numbers.min()), float(numbers.max())
        return low + 0.0, high + 0.0
    if types.is_decimal(kind):
        limits = pc.min_max(values)
        return _unscaled(limits["min"].as_py(), kind.scale), _unscaled(limits["max"].as_py(), kind.scale)
    if not types.is_integer(kind):
        values = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    limits = pc.min_max(values)
    return limits["min"].as_py(), limits["max"].as_py()


def _unscaled(number: Decimal, scale: int) -> int:
    # The default context rounds to 28 digits.
    return int(number.scaleb(scale, Context(prec=100)))


def _result(name: str, column: _Column) -> ColumnStatistics:
    distinct, exact = column.distinct.count() if column.distinct is not None else (None, True)
    is_text, is_boolean = _is_text(column.kind), pa.types.is_boolean(column.kind)
    return ColumnStatistics(
        name=name,
        nulls=column.nulls,
        distinct=distinct,
        distinct_exact=exact,
        smallest=_text(column.smallest, column.kind),
        largest=_text(column.largest, column.kind),
        longest=column.longest if is_text else None,
        bytes=column.bytes if is_text else None,
        trues=column.trues if is_boolean else None,
    )


def _text(number: Any, kind: pa.DataType) -> str | None:
    """Return a value as text: ISO 8601 for dates and timestamps, which may have years beyond Python's."""
    if number is None:
        return None
    if pa.types.is_decimal(kind):
        # Not a quotient: contexts of the decimal module round to 28 digits.
        return str(Decimal(number).scaleb(-kind.scale, Context(prec=100)))
    if pa.types.is_date32(kind):
        return str(np.datetime64(number, "D"))
    if pa.types.is_date64(kind):
        return str(np.datetime64(number, "ms").astype("datetime64[D]"))
    return str(np.datetime64(number, kind.unit)) if pa.types.is_timestamp(kind) else repr(number)
