"""Statistics of columns in the manifest."""

from __future__ import annotations

from bucketwheel.runs.record import Record


class ColumnStatistics(Record):
    """Statistics of one source column over all rows of the snapshot, which every table has.

    Attributes:
        name: name in the source
        nulls: number of NULLs
        distinct: number of distinct values without NULL; null if not counted
        distinct_exact: false if `distinct` is an estimate, with a standard error of 2.2 %
        smallest: smallest value; null for text, binary and boolean columns and if there is no value; NaN is no value.
            Of a key column, without `privacy.show_keys`: rounded outward to a power of two if it is a whole number,
            else null
        largest: largest value, likewise
        longest: bytes of the longest value, for text and binary columns
        bytes: bytes of all values together, for text and binary columns
        trues: number of true values, for boolean columns
    """

    name: str
    nulls: int
    distinct: int | None = None
    distinct_exact: bool = True
    smallest: str | None = None
    largest: str | None = None
    longest: int | None = None
    bytes: int | None = None
    trues: int | None = None
