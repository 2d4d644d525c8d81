"""Convert statistics of columns to Glue's API.

Glue returns 0 for a smallest or largest value that was left out, so a column without one is left out. The number of
distinct values counts NULL as one, as Trino and Hive do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from math import isfinite
from typing import Any

import numpy as np

from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import TableStatistics
from bucketwheel.runs.column_statistics import ColumnStatistics

Entry = dict[str, Any]

_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def entries(table: CatalogTable, statistics: TableStatistics, now: datetime) -> list[Entry]:
    """Return Glue's entries for the columns of a table that have complete statistics, in the order of the table."""
    return list(_entries(table, statistics, now))


def _entries(table: CatalogTable, statistics: TableStatistics, now: datetime) -> Iterator[Entry]:
    for name, kind in table.columns:
        column = statistics.columns.get(name)
        data = _data(kind, column, statistics.rows) if column else None
        if data:
            yield {"ColumnName": name.lower(), "ColumnType": kind, "AnalyzedTime": now, "StatisticsData": data}


def same_entry(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two entries are the same but for the time of analysis."""
    return all(one.get(name) == other.get(name) for name in ("ColumnName", "ColumnType", "StatisticsData"))


def _data(kind: str, column: ColumnStatistics, rows: int) -> dict[str, Any] | None:
    """Return the data of a column, or None if it has no statistics that Glue can hold."""
    nulls = {"NumberOfNulls": column.nulls}
    values = rows - column.nulls
    if kind == "boolean" and column.trues is not None:
        return _named("Boolean", {**nulls, "NumberOfTrues": column.trues, "NumberOfFalses": values - column.trues})
    lengths: dict[str, Any] = {}
    if column.longest is not None and column.bytes is not None:
        lengths = {"MaximumLength": column.longest, "AverageLength": column.bytes / values if values else 0.0}
    if kind == "binary":
        return _named("Binary", {**nulls, **lengths}) if lengths else None
    if column.distinct is None:
        return None
    counts = {**nulls, "NumberOfDistinctValues": column.distinct + (1 if column.nulls else 0)}
    if kind == "string":
        return _named("String", {**counts, **lengths}) if lengths else None
    limits = _limits(kind, column)
    if limits is None:
        return None
    name, smallest, largest = limits
    return _named(name, {**counts, "MinimumValue": smallest, "MaximumValue": largest})


def _named(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"Type": name.upper(), f"{name}ColumnStatisticsData": data}


def _limits(kind: str, column: ColumnStatistics) -> tuple[str, Any, Any] | None:
    """Return the kind of data, the smallest and the largest value."""
    texts = (column.smallest, column.largest)
    if texts[0] is None or texts[1] is None:
        return None
    low, high = texts[0], texts[1]
    if kind in _INTEGERS:
        return "Long", int(low), int(high)
    if kind in ("float", "double"):
        # JSON has no infinity.
        return ("Double", float(low), float(high)) if isfinite(float(low)) and isfinite(float(high)) else None
    if kind.startswith("decimal("):
        scale = int(kind.removesuffix(")").partition(",")[2])
        return "Decimal", _decimal(low, scale), _decimal(high, scale)
    if kind == "timestamp":
        first, last = np.datetime64(low, "s"), np.datetime64(high, "s")
        # The whole second after the last value.
        return "Long", int(first.astype(int)), int(last.astype(int)) + int(np.datetime64(high) > last)
    if kind == "date":
        try:
            return "Date", _date(low), _date(high)
        except OverflowError:
            return None
    return None


def _date(text: str) -> datetime:
    """Return midnight of a date.

    Raises:
        OverflowError: the year is beyond 1 to 9999, which Glue's times cannot hold.
    """
    return _EPOCH + timedelta(days=int(np.datetime64(text, "D").astype(int)))


def _decimal(text: str, scale: int) -> dict[str, Any]:
    unscaled = int(Decimal(text).scaleb(scale, Context(prec=100)))
    # As Java's BigInteger: the fewest bytes of two's complement, the highest first.
    size = (unscaled if unscaled >= 0 else ~unscaled).bit_length() // 8 + 1
    return {"UnscaledValue": unscaled.to_bytes(size, "big", signed=True), "Scale": scale}
