"""Trino, Spark 3.5, Spark 4.1 and DuckDB read the same values of all types that Bucketwheel converts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from .key_tables import KEY
from .lake import Lake, LakeProject
from .maven import NotInstalledError
from .spark_reader import VERSIONS, ask, query

NAME = "converted"
# Neither exists in every calendar and time zone.
OLD, LATER = datetime(1500, 1, 1, 12, 34, 56, 789_012), datetime(2024, 2, 29, 23, 59, 59, 999_999)
UUIDS = [uuid.UUID(int=n) for n in (0, 2**128 - 1)]
# A field that Hive names in another way.
FIELDS = ["größe_1", "UpperCase"]


def extension(name: str, values: pa.Array) -> pa.Array:
    """Return values of one of Arrow's own extension types, or plain ones if pyarrow lacks it."""
    return pa.ExtensionArray.from_storage(getattr(pa, name)(), values) if hasattr(pa, name) else values


def source() -> pa.Table:
    """Return two rows of values, and a row of NULLs."""
    flat = {
        "device": extension("uuid", pa.array([*(value.bytes for value in UUIDS), None], pa.binary(16))),
        "document": extension("json_", pa.array(['{"a": 1}', "[]", None])),
        "nanos": pa.array([datetime(1700, 1, 1), LATER, None], pa.timestamp("ns")),
        "opens": pa.array([1, 86_399_999_000, None], pa.time64("us")),
        "unsigned_32": pa.array([2**32 - 1, 0, None], pa.uint32()),
        "unsigned_64": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "half": pa.array([np.float16(1.5), np.float16(-2), None], pa.float16()),
        "day": pa.array([OLD.date(), date(1, 1, 1), None], pa.date32()),
        "local": pa.array([OLD, LATER, None], pa.timestamp("us")),
        "instant": pa.array([OLD.replace(tzinfo=UTC), LATER.replace(tzinfo=UTC), None], pa.timestamp("us", "UTC")),
    }
    lists = {f"{name}s": pa.ListArray.from_arrays(pa.array([0, 1, 3, 3]), column) for name, column in flat.items()}
    structs = pa.StructArray.from_arrays([flat["device"], flat["day"]], FIELDS)
    return pa.table({KEY: ["a", "b", "c"], **flat, **lists, "struct": structs})


def expected() -> list[tuple[Any, ...]]:
    """Return the rows as all readers show them: instants in UTC."""
    flat = {
        "device": [*map(str, UUIDS), None],
        "document": ['{"a": 1}', "[]", None],
        "nanos": [datetime(1700, 1, 1), LATER, None],
        "opens": ["00:00:00.000001", "23:59:59.999", None],
        "unsigned_32": [2**32 - 1, 0, None],
        "unsigned_64": [Decimal(2**64 - 1), Decimal(0), None],
        "half": [1.5, -2.0, None],
        "day": [OLD.date(), date(1, 1, 1), None],
        "local": [OLD, LATER, None],
        "instant": [OLD, LATER, None],
    }
    lists = [[values[:1], values[1:], []] for values in flat.values()]
    structs = list(zip(flat["device"], flat["day"], strict=True))
    return list(zip(["a", "b", "c"], *flat.values(), *lists, structs, strict=True))


@pytest.fixture(scope="module")
def project(lake: Lake) -> LakeProject:
    return lake.publish(NAME, source(), [KEY], buckets={"count": 2})


@pytest.fixture(scope="module")
def files(project: LakeProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the files of the table."""
    directory = tmp_path_factory.mktemp("files")
    for number, path in enumerate(project.data(NAME)):
        (directory / f"{number}.parquet").write_bytes(project.lake.get(path))
    return directory


def naive(value: Any) -> Any:
    """Return a value without time zone, with structs as tuples."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, dict):
        return tuple(map(naive, value.values()))
    if isinstance(value, list):
        return list(map(naive, value))
    return tuple(map(naive, value)) if isinstance(value, tuple) else value


def test_trino_reads_converted_types(project: LakeProject) -> None:
    text = f"SELECT {', '.join(source().column_names)} FROM {project.table(NAME)} ORDER BY {KEY}"
    rows = project.ask(text, hive__timestamp_precision="MICROSECONDS").rows
    assert [tuple(map(naive, row)) for row in rows] == expected()


def test_trino_lists_the_columns_of_the_database(project: LakeProject) -> None:
    columns = f"SELECT count(*) FROM hive.information_schema.columns WHERE table_schema = '{project.name}'"
    # The staged and the final table.
    assert project.ask(columns).rows == [[2 * source().num_columns]]


def test_duckdb_reads_converted_types(files: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute(f"SELECT * FROM '{files}/*.parquet' ORDER BY {KEY}").fetchall()
    assert [tuple(map(naive, row)) for row in rows] == expected()


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_spark_reads_converted_types(
    files: Path, version: str, tmp_path: Path, cannot: Callable[[str], NoReturn]
) -> None:
    question = {"rows": query(f"SELECT * FROM parquet.`{files}` ORDER BY {KEY}")}
    try:
        answers = ask(version, tmp_path, tmp_path / "iceberg.db", question)
    except NotInstalledError as missing:
        cannot(str(missing))
    rows = answers["rows"]["rows"]
    assert isinstance(rows, list), rows
    assert [tuple(map(naive, row)) for row in rows] == expected()
