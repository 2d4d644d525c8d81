"""Dates and timestamps of Spark's legacy calendar, which is Julian before 1582-10-15.

Spark 2, and later versions on request, wrote them. Keys in the footer of a file mark them; see `DataSourceUtils` of
Spark. Other readers, and all files that Bucketwheel writes, have the Gregorian calendar for all times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.kernel.conversion import (
    PER_DAY,
    ConversionError,
    inner_arrays,
    inner_fields,
    integers,
    with_inner,
    with_nulls,
)
from bucketwheel.kernel.schema import parquet_schema
from bucketwheel.kernel.written_types import Conversion, leaf_count

_VERSION = "org.apache.spark.version"
_ZONE = b"org.apache.spark.timeZone"
# The footer key and the first version of Spark that writes Gregorian dates and timestamps, or INT96 timestamps.
_DATES = (b"org.apache.spark.legacyDateTime", b"3.0.0")
_INT96 = (b"org.apache.spark.legacyINT96", b"3.1.0")
# The version as which Spark reads the files of Bucketwheel; any version since 3.1 would do.
_WRITTEN_AS = "3.5.0"
# 1582-10-15 and 1900-01-01 in days since 1970. Before 1900, timestamps of time zones other than UTC differ too.
_FIRST_GREGORIAN = -141_427
_FIRST_ALIKE = -25_567
# The Julian day number of 1970-01-01.
_EPOCH = 2_440_588
_UTC = frozenset(("UTC", "Etc/UTC", "Z", "GMT", "Etc/GMT", "UCT", "Etc/UCT", "Zulu", "Etc/Zulu", "Etc/Universal"))
_SETTINGS = "spark.sql.parquet.datetimeRebaseModeInWrite and int96RebaseModeInWrite set to CORRECTED"
_FIX = f"have the snapshot written with {_SETTINGS}, or remove the column from the mapping"


@lru_cache(maxsize=1024)
def calendar_metadata(schema: bytes) -> dict[str, str]:
    """Return the footer keys by which Spark reads the dates and timestamps of a file as they are.

    Spark 3.5 otherwise refuses dates before 1582-10-15 and timestamps before 1900.

    Args:
        schema: the serialized Arrow schema of the file.
    """
    fields = pa.ipc.read_schema(pa.py_buffer(schema))
    return {_VERSION: _WRITTEN_AS} if any(_has_dates(field.type) for field in fields) else {}


def _has_dates(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dates(kind.storage_type)
    return bool(
        pa.types.is_date(kind)
        or pa.types.is_timestamp(kind)
        or any(_has_dates(field.type) for field in inner_fields(kind))
    )


@dataclass(frozen=True)
class LegacyCalendar:
    """The columns of a file that are in Spark's legacy calendar.

    Attributes:
        columns: for each such column, which of its leaves are.
        zone: time zone of the writer; empty if unknown.
    """

    columns: Mapping[str, Sequence[bool]]
    zone: str

    @property
    def is_utc(self) -> bool:
        """Whether timestamps before 1900 can be converted."""
        return self.zone in _UTC

    def rebase(self, batch: pa.RecordBatch, unknown_is_utc: bool) -> pa.RecordBatch:
        """Return the batch in the Gregorian calendar.

        Args:
            batch: columns as pyarrow reads them.
            unknown_is_utc: whether the time zone of the writer is UTC if it is unknown.

        Raises:
            ConversionError: timestamps before 1900 in a time zone other than UTC, or in an unknown one.
        """
        utc = self.is_utc or (unknown_is_utc and not self.zone)
        arrays = []
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            if name in self.columns:
                try:
                    arrays.append(self._rebased(array, iter(self.columns[name]), utc))
                except ConversionError as error:
                    raise ConversionError(f"column {name!r} {error}") from error
            else:
                arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    def _rebased(self, values: pa.Array, legacy: Iterator[bool], utc: bool) -> pa.Array:
        if pa.types.is_nested(values.type):
            inner = [self._rebased(part, legacy, utc) for part in inner_arrays(values)]
            return with_inner(values, inner_fields(values.type), inner)
        if not next(legacy):
            return values
        numbers = integers(values)
        if pa.types.is_date32(values.type):
            return _with_numbers(gregorian_days(numbers), values)
        date = pa.types.is_date64(values.type)
        per_day = PER_DAY["ms" if date else values.type.unit]
        if not (utc or date) and (numbers < _FIRST_ALIKE * per_day).any():
            raise ConversionError(self._problem())
        days, rest = np.divmod(numbers, per_day)
        return _with_numbers(gregorian_days(days) * per_day + rest, values)

    def _problem(self) -> str:
        if self.zone:
            return (
                f"has timestamps before 1900 in Spark's legacy calendar and the time zone {self.zone}, which cannot "
                f"be converted; {_FIX}"
            )
        return (
            "has timestamps before 1900 in Spark's legacy calendar, in a time zone that the file does not name; if "
            f"it is UTC, set types.legacy_timestamps=utc, otherwise {_FIX}"
        )


def legacy_calendar(metadata: pq.FileMetaData) -> LegacyCalendar | None:
    """Return the columns of a file that are in Spark's legacy calendar, or None if there are none."""
    keys = metadata.metadata or {}
    version = keys.get(_VERSION.encode())
    if version is None:
        return None
    # Spark compares versions as text, too.
    dates, int96 = (version < first or key in keys for key, first in (_DATES, _INT96))
    if not dates and not int96:
        return None
    schema = parquet_schema(metadata)
    leaves = [schema.column(number) for number in range(len(schema))]
    columns: dict[str, tuple[bool, ...]] = {}
    at = 0
    for field in schema.to_arrow_schema():
        count = leaf_count(field.type)
        flags = tuple(_is_legacy(leaf, dates, int96) for leaf in leaves[at : at + count])
        at += count
        if any(flags):
            columns[field.name] = flags
    return LegacyCalendar(columns, keys.get(_ZONE, b"").decode(errors="replace")) if columns else None


def legacy_conversions(metadata: pq.FileMetaData) -> tuple[Conversion, ...]:
    """Return a conversion for each leaf of a file in Spark's legacy calendar."""
    calendar = legacy_calendar(metadata)
    if calendar is None:
        return ()
    return tuple(
        Conversion(name, "dates in Spark's legacy calendar", "dates in the Gregorian calendar")
        for name in calendar.columns
    )


def _is_legacy(leaf: pq.ColumnSchema, dates: bool, int96: bool) -> bool:
    if leaf.physical_type == "INT96":
        return int96
    annotation = leaf.logical_type
    # Timestamps without a time zone are always Gregorian.
    return dates and (annotation.type == "DATE" or (annotation.type == "TIMESTAMP" and _is_instant(annotation)))


def _is_instant(annotation: Any) -> bool:
    return bool(json.loads(annotation.to_json())["isAdjustedToUTC"])


def gregorian_days(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return days since 1970 of the same dates in the Gregorian calendar, from those in the legacy calendar.

    February 29 of a year that has none in the Gregorian calendar becomes March 1, as in Spark.
    """
    old = days < _FIRST_GREGORIAN
    if not old.any():
        return days
    # Richards' algorithm, without its correction for the Gregorian calendar.
    number = 4 * (days[old] + _EPOCH + 1401) + 3
    within_year = 5 * (number % 1461 // 4) + 2
    day = within_year % 153 // 5
    month = (within_year // 153 + 2) % 12
    year = number // 1461 - 4716 + (13 - month) // 12
    firsts = ((year - 1970) * 12 + month).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    gregorian = days.copy()
    gregorian[old] = firsts + day
    return gregorian


def _with_numbers(numbers: npt.NDArray[np.int64], values: pa.Array) -> pa.Array:
    width = np.int32 if values.type.bit_width == 32 else np.int64
    return with_nulls(numbers.astype(width), values).view(values.type)
