"""What this package computes for Iceberg, against PyIceberg."""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    FixedType,
    IcebergType,
    LongType,
    StringType,
    TimestampType,
    UUIDType,
)
from test_iceberg_files import COLUMNS, iceberg_job, source

from bucketwheel.kernel.hashing import key_buckets
from bucketwheel.kernel.iceberg_types import iceberg_schema
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.runs.data_files import unpack
from bucketwheel.testing.jobs import files_of, run_kernel

EPOCH = datetime.datetime(1970, 1, 1)

KINDS: list[tuple[IcebergType, pa.DataType, st.SearchStrategy[Any]]] = [
    (LongType(), pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (StringType(), pa.string(), st.text(max_size=12)),
    (BinaryType(), pa.binary(), st.binary(max_size=12)),
    (FixedType(5), pa.binary(5), st.binary(min_size=5, max_size=5)),
    (DecimalType(20, 3), pa.decimal128(20, 3), st.decimals(-(10**15), 10**15, places=3)),
    (DateType(), pa.date32(), st.dates()),
    (TimestampType(), pa.timestamp("us"), st.datetimes()),
    (UUIDType(), pa.binary(16), st.binary(min_size=16, max_size=16)),
]


def of_pyiceberg(value: Any, kind: IcebergType) -> Any:
    """Return a value as PyIceberg's transforms take it."""
    if isinstance(kind, DateType):
        return (value - EPOCH.date()).days
    if isinstance(kind, TimestampType):
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    return uuid.UUID(bytes=value) if isinstance(kind, UUIDType) else value


@pytest.mark.parametrize(("kind", "arrow", "values"), KINDS, ids=[str(kind) for kind, _, _ in KINDS])
def test_buckets_equal_those_of_pyiceberg(kind: IcebergType, arrow: pa.DataType, values: Any) -> None:
    @given(st.lists(values, max_size=5), st.integers(1, 1000))
    def run(rows: list[Any], count: int) -> None:
        transform = BucketTransform(count).transform(kind)
        expected = [transform(of_pyiceberg(row, kind)) for row in rows]
        assert key_buckets([pa.array(rows, arrow)], "iceberg", count).tolist() == expected

    run()


def test_schema_and_metrics_equal_those_of_pyiceberg(tmp_path: Path) -> None:
    job = iceberg_job(tmp_path, source(200), row_group_rows=13)
    outcome = run_kernel(job)[1]
    (record,) = unpack([verify_bucket(job, outcome).data_files]).to_pylist()
    planned = pa.ipc.read_schema(pa.py_buffer(job.tables[0].schema))
    schema = Schema.model_validate_json(iceberg_schema(planned))
    footer = pq.read_metadata(files_of(job, "t")[1])
    expected = data_file_statistics_from_parquet_metadata(
        footer, compute_statistics_plan(schema, {}), parquet_path_to_id_mapping(schema)
    ).to_serialized_dict()
    ids = record["ids"]
    assert len(ids) > len(COLUMNS)

    def known(name: str) -> dict[int, Any]:
        return {number: value for number, value in zip(ids, record[name], strict=True) if value is not None}

    assert record["splits"] == expected["split_offsets"]
    assert known("sizes") == expected["column_sizes"]
    assert known("values") == expected["value_counts"]
    assert known("nulls") == expected["null_value_counts"]
    # PyIceberg leaves out the bounds of fields of structs, which Iceberg's Java library writes.
    inside = {number for number in ids if "." in str(schema.find_column_name(number))}
    for bound in ("lower", "upper"):
        assert {n: value for n, value in known(bound).items() if n not in inside} == expected[f"{bound}_bounds"]
        assert {schema.find_column_name(n) for n in inside & known(bound).keys()} == {"struct.x", "struct.y"}
