"""Dates and timestamps of Spark's legacy calendar become those that Spark shows; written files are never legacy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.errors import SchemaError
from bucketwheel.kernel.calendars import gregorian_days, legacy_calendar
from bucketwheel.kernel.footers import FooterParser, FooterSummary
from bucketwheel.kernel.written_types import Conversion
from bucketwheel.settings import TypeSettings
from bucketwheel.testing.jobs import files_of, make_job, numbered, read_buckets, run_kernel, write_files
from kernel_jobs import people

# Of Spark's `RebaseDateTime`: from each day on, the legacy calendar differs by so many days.
SPARK_DAYS = [
    *(-719164, -682945, -646420, -609895, -536845, -500320, -463795),
    *(-390745, -354220, -317695, -244645, -208120, -171595, -141427),
]
SPARK_DIFFERENCES = [2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8, -9, -10, 0]
EPOCH = date(1970, 1, 1)
SECONDS = 86_400
OLD = {"org.apache.spark.version": "2.4.8"}
LEGACY = {"org.apache.spark.version": "3.5.4", "org.apache.spark.legacyDateTime": ""}
LEGACY_INT96 = {"org.apache.spark.version": "3.5.4", "org.apache.spark.legacyINT96": ""}
IN_UTC = {"org.apache.spark.timeZone": "Etc/UTC"}
IN_NEW_YORK = {"org.apache.spark.timeZone": "America/New_York"}


def julian(day: date) -> int:
    """Return the number that a date before 1582 has in the legacy calendar."""
    # A date has the number of the Gregorian date that is so many days later.
    number = (day - EPOCH).days
    for first, difference in zip(SPARK_DAYS, SPARK_DIFFERENCES, strict=True):
        if number - difference >= first:
            found = number - difference
    return found


def instants(*moments: datetime | None, legacy: bool) -> pa.Array:
    """Return timestamps in microseconds, numbered as in one of the calendars."""
    numbers: list[int | None] = []
    for moment in moments:
        if moment is None:
            numbers.append(None)
            continue
        days = julian(moment.date()) if legacy else (moment.date() - EPOCH).days
        rest = moment - datetime.combine(moment.date(), datetime.min.time())
        numbers.append(days * SECONDS * 10**6 + rest // timedelta(microseconds=1))
    return pa.array(numbers, pa.int64()).view(pa.timestamp("us", "UTC"))


def days(*values: int | None) -> pa.Array:
    return pa.array(values, pa.int32()).view(pa.date32())


def write(
    directory: Path, columns: Mapping[str, pa.Array], metadata: Mapping[str, str], **options: Any
) -> list[Path]:
    count = len(next(iter(columns.values())))
    table = people(numbered(count), **columns).replace_schema_metadata(dict(metadata))
    return list(write_files(directory, [table], 2, **options))


def published(
    directory: Path, columns: Mapping[str, pa.Array], metadata: Mapping[str, str], utc: bool = False, **options: Any
) -> dict[str, list[Any]]:
    """Return the columns as the kernel writes them, in the order of the source."""
    files = write(directory / "in", columns, metadata, **options)
    job = make_job(directory, files, {"t": ["Number", *columns]}, bucket_count=1)
    run_kernel(replace(job, types=TypeSettings(legacy_timestamps="utc" if utc else "error")))
    (table,) = read_buckets(job, "t").values()
    rows = table.sort_by("number").to_pydict()
    return {name: rows[name.lower()] for name in columns}


def test_days_are_those_of_spark() -> None:
    everything = np.arange(SPARK_DAYS[0], 20_000)
    differences = np.array(SPARK_DIFFERENCES)[np.searchsorted(SPARK_DAYS, everything, side="right") - 1]
    assert (gregorian_days(everything) == everything + differences).all()
    # December 31 of the year 0.
    assert gregorian_days(np.array([SPARK_DAYS[0] - 1])).tolist() == [SPARK_DAYS[0] + 1]


DATES = [date(1, 1, 1), date(1000, 3, 1), None, date(1582, 10, 4), date(1582, 10, 15), date(2020, 2, 29)]
LEGACY_DAYS = days(*[None if day is None else julian(day) for day in DATES])


@pytest.mark.parametrize("metadata", [OLD, LEGACY, LEGACY | IN_NEW_YORK])
def test_dates_of_legacy_calendar_stay_the_same_dates(tmp_path: Path, metadata: dict[str, str]) -> None:
    lists = pa.ListArray.from_arrays(pa.array(range(len(DATES) + 1)), LEGACY_DAYS)
    structs = pa.StructArray.from_arrays([pa.array(range(len(DATES))), LEGACY_DAYS, lists], ["n", "day", "l"])
    columns = {"Day": LEGACY_DAYS, "Days": lists, "Struct": structs}
    assert published(tmp_path, columns, metadata) == {
        "Day": DATES,
        "Days": [[day] for day in DATES],
        "Struct": [{"n": n, "day": day, "l": [day]} for n, day in enumerate(DATES)],
    }


@pytest.mark.parametrize("metadata", [{}, {"org.apache.spark.version": "3.0.0"}, LEGACY_INT96])
def test_dates_of_other_files_keep_their_number(tmp_path: Path, metadata: dict[str, str]) -> None:
    (found,) = published(tmp_path, {"Day": days(-200_000, 0)}, metadata).values()
    assert [(day - EPOCH).days for day in found] == [-200_000, 0]


TIMES = [datetime(1500, 1, 1, 12, 34, 56, 789_012), None, datetime(1582, 10, 15), datetime(1899, 12, 31, 23, 59, 59)]
RECENT = [datetime(1900, 1, 1), None, datetime(2020, 1, 1)]


@pytest.mark.parametrize(("metadata", "utc"), [(LEGACY | IN_UTC, False), (LEGACY, True), (OLD, True)])
def test_instants_of_utc_stay_the_same(tmp_path: Path, metadata: dict[str, str], utc: bool) -> None:
    columns = {"At": instants(*TIMES, legacy=True)}
    assert published(tmp_path, columns, metadata, utc)["At"] == [t and t.replace(tzinfo=UTC) for t in TIMES]


@pytest.mark.parametrize(
    ("metadata", "utc", "problem"),
    [
        (
            OLD,
            False,
            r"that the file does not name; if it is UTC, set types\.legacy_timestamps=utc, otherwise have the",
        ),
        (LEGACY | IN_NEW_YORK, True, "the time zone America/New_York, which cannot be converted; have the snapshot"),
    ],
)
def test_instants_before_1900_of_other_zones_are_refused(
    tmp_path: Path, metadata: dict[str, str], utc: bool, problem: str
) -> None:
    with pytest.raises(
        SchemaError, match=f"'At' has timestamps before 1900 in Spark's legacy calendar.*{problem}"
    ) as error:
        published(tmp_path, {"At": instants(*TIMES, legacy=True)}, metadata, utc)
    assert str(tmp_path / "in") in str(error.value)


def test_instants_since_1900_do_not_depend_on_the_zone(tmp_path: Path) -> None:
    columns = {"At": instants(*RECENT, legacy=False)}
    assert published(tmp_path, columns, LEGACY | IN_NEW_YORK)["At"] == [t and t.replace(tzinfo=UTC) for t in RECENT]


def test_local_timestamps_are_never_legacy(tmp_path: Path) -> None:
    values = pa.array(TIMES, pa.timestamp("us"))
    assert published(tmp_path, {"At": values}, LEGACY)["At"] == TIMES


@pytest.mark.parametrize("metadata", [LEGACY_INT96, {"org.apache.spark.version": "3.0.3"}])
def test_int96_has_a_key_of_its_own(tmp_path: Path, metadata: dict[str, str]) -> None:
    values = pa.array([datetime(1850, 1, 1), datetime(1950, 1, 1)], pa.timestamp("us"))
    options = {"use_deprecated_int96_timestamps": True}
    with pytest.raises(SchemaError, match="'At' has timestamps before 1900"):
        published(tmp_path / "a", {"At": values}, metadata, **options)
    assert published(tmp_path / "b", {"At": values}, metadata, utc=True, **options)["At"] == values.to_pylist()
    assert published(tmp_path / "c", {"At": values}, LEGACY, **options)["At"] == values.to_pylist()


def test_footer_lists_columns_of_legacy_calendar(tmp_path: Path) -> None:
    (path,) = write(tmp_path, {"Day": days(0), "At": instants(RECENT[0], legacy=False)}, LEGACY)
    summary = FooterParser().parse(path.read_bytes(), path.stat().st_size)
    assert isinstance(summary, FooterSummary)
    texts = ("dates in Spark's legacy calendar", "dates in the Gregorian calendar")
    assert summary.conversions == (Conversion("Day", *texts), Conversion("At", *texts))


@pytest.mark.parametrize(
    ("kind", "marked"),
    [
        (pa.date32(), True),
        (pa.list_(pa.timestamp("us")), True),
        (pa.struct([("x", pa.map_(pa.string(), pa.date32()))]), True),
        (pa.string(), False),
        (pa.list_(pa.int64()), False),
    ],
    ids=str,
)
def test_files_with_dates_tell_spark_their_calendar(tmp_path: Path, kind: pa.DataType, marked: bool) -> None:
    files = write_files(tmp_path / "in", [people(numbered(2), Value=pa.nulls(2, kind))])
    job = make_job(tmp_path, files, {"t": ["Value"]}, bucket_count=1)
    run_kernel(job)
    (path,) = files_of(job, "t")
    written = pq.read_metadata(path)
    assert (written.metadata or {}) == ({b"org.apache.spark.version": b"3.5.0"} if marked else {})
    assert legacy_calendar(written) is None
