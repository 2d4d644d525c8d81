"""Statistics of columns in the form of Glue's API, for every Hive type."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from bucketwheel.catalogs.glue_statistics import entries, same_entry
from bucketwheel.contracts import CatalogTable, TableStatistics
from bucketwheel.runs.column_statistics import ColumnStatistics

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 10
NUMBER = ColumnStatistics(name="C", nulls=2, distinct=5, smallest="-3", largest="200")
TEXT = ColumnStatistics(name="C", nulls=2, distinct=5, longest=9, bytes=24)
COUNTS = {"NumberOfNulls": 2, "NumberOfDistinctValues": 6}


def data_of(kind: str, column: ColumnStatistics) -> dict[str, Any] | None:
    """Return the data for the column `C` of a type, which fits Glue's model."""
    table = CatalogTable("t", "s3://b/t", (("C", kind), ("other", "int")))
    found = entries(table, TableStatistics(ROWS, {"C": column}), NOW)
    if not found:
        return None
    (entry,) = found
    glue = boto3.client("glue", region_name="us-east-1")
    shape = glue.meta.service_model.shape_for("ColumnStatistics")
    assert not ParamValidator().validate(entry, shape).has_errors()
    assert (entry["ColumnName"], entry["ColumnType"], entry["AnalyzedTime"]) == ("c", kind, NOW)
    data: dict[str, Any] = dict(entry["StatisticsData"])
    (values,) = (values for name, values in data.items() if name == f"{data['Type'].title()}ColumnStatisticsData")
    assert len(data) == 2
    return {"Type": data["Type"], **values}


@pytest.mark.parametrize("kind", ["tinyint", "smallint", "int", "bigint"])
def test_integers_become_long_with_null_as_a_value(kind: str) -> None:
    assert data_of(kind, NUMBER) == {"Type": "LONG", **COUNTS, "MinimumValue": -3, "MaximumValue": 200}
    complete = NUMBER.model_copy(update={"nulls": 0})
    assert (data_of(kind, complete) or {})["NumberOfDistinctValues"] == 5


@pytest.mark.parametrize("kind", ["float", "double"])
def test_floats_have_limits_and_counts(kind: str) -> None:
    column = NUMBER.model_copy(update={"smallest": "-0.5", "largest": "1e+300"})
    assert data_of(kind, column) == {"Type": "DOUBLE", **COUNTS, "MinimumValue": -0.5, "MaximumValue": 1e300}


@pytest.mark.parametrize(
    ("text", "unscaled"),
    [
        ("0.00", b"\x00"),
        ("1.27", b"\x7f"),
        ("1.28", b"\x00\x80"),
        ("-1.28", b"\x80"),
        ("-1.29", b"\xff\x7f"),
        ("9" * 36 + ".99", (10**38 - 1).to_bytes(16, "big")),
    ],
)
def test_decimals_become_unscaled_bytes(text: str, unscaled: bytes) -> None:
    data = data_of("decimal(38,2)", NUMBER.model_copy(update={"smallest": text, "largest": text})) or {}
    assert data["Type"] == "DECIMAL"
    assert data["MinimumValue"] == data["MaximumValue"] == {"UnscaledValue": unscaled, "Scale": 2}


def test_dates_become_midnight_of_the_day() -> None:
    column = NUMBER.model_copy(update={"smallest": "1899-12-31", "largest": "9999-12-31"})
    expected = {
        "MinimumValue": datetime(1899, 12, 31, tzinfo=UTC),
        "MaximumValue": datetime(9999, 12, 31, tzinfo=UTC),
    }
    assert data_of("date", column) == {"Type": "DATE", **COUNTS, **expected}
    assert data_of("date", column.model_copy(update={"largest": "10000-01-01"})) is None
    assert data_of("date", column.model_copy(update={"smallest": "-1-01-01"})) is None


def test_timestamps_become_seconds_around_the_values() -> None:
    column = NUMBER.model_copy(
        update={"smallest": "1969-12-31T23:59:58.500000", "largest": "2026-01-01T00:00:00.000001"}
    )
    limits = {"MinimumValue": -2, "MaximumValue": 1767225601}
    assert data_of("timestamp", column) == {"Type": "LONG", **COUNTS, **limits}
    whole = column.model_copy(update={"largest": "2026-01-01T00:00:00.000000"})
    assert (data_of("timestamp", whole) or {})["MaximumValue"] == 1767225600


def test_text_and_binary_become_lengths() -> None:
    lengths = {"MaximumLength": 9, "AverageLength": 3.0}
    assert data_of("string", TEXT) == {"Type": "STRING", **COUNTS, **lengths}
    assert data_of("binary", TEXT) == {"Type": "BINARY", "NumberOfNulls": 2, **lengths}
    nothing = ColumnStatistics(name="C", nulls=ROWS, distinct=0, longest=0, bytes=0)
    assert (data_of("string", nothing) or {})["AverageLength"] == 0


def test_booleans_become_counts() -> None:
    column = ColumnStatistics(name="C", nulls=2, trues=3)
    expected = {"Type": "BOOLEAN", "NumberOfNulls": 2, "NumberOfTrues": 3, "NumberOfFalses": 5}
    assert data_of("boolean", column) == expected


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bigint", {"distinct": None}),
        ("string", {"distinct": None}),
        ("bigint", {"smallest": None, "largest": None}),
        ("double", {"smallest": "-inf"}),
        ("double", {"largest": "inf"}),
        ("array<int>", {}),
    ],
)
def test_incomplete_statistics_are_left_out(kind: str, changes: dict[str, Any]) -> None:
    assert data_of(kind, NUMBER.model_copy(update=changes)) is None


def test_entries_with_another_time_are_the_same() -> None:
    table = CatalogTable("t", "s3://b/t", (("C", "int"),))
    (first,) = entries(table, TableStatistics(ROWS, {"C": NUMBER}), NOW)
    (later,) = entries(table, TableStatistics(ROWS, {"C": NUMBER}), datetime.now(UTC))
    (other,) = entries(replace(table, columns=(("C", "bigint"),)), TableStatistics(ROWS, {"C": NUMBER}), NOW)
    assert same_entry(first, later)
    assert not same_entry(first, other)
