"""Files of an Iceberg layout: types, field ids, and the records of their statistics."""

from __future__ import annotations

import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from all_types import all_types
from bucketwheel.contracts import BucketJob
from bucketwheel.errors import SchemaError, VerificationError
from bucketwheel.kernel.iceberg_types import field_ids, iceberg_file_type
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.runs.data_files import unpack
from bucketwheel.testing.engine_jobs import narrow_source, with_layout, with_target
from bucketwheel.testing.jobs import (
    KEY,
    MemoryBlocks,
    digests,
    files_of,
    make_job,
    numbered,
    read_buckets,
    rows_of,
    run_kernel,
    write_files,
)


def of_iceberg(array: pa.Array) -> bool:
    try:
        iceberg_file_type(array.type, "c")
    except SchemaError:
        return False
    return True


COLUMNS = {name: array for name, array in all_types().items() if of_iceberg(array)}
# pyarrow 17 cannot write NULL in lists of a fixed size.
COLUMNS["list_of_two"] = COLUMNS["list_of_two"].drop_null()


def source(rows: int) -> pa.Table:
    repeated = {
        name: pa.concat_arrays([array] * -(-rows // len(array))).slice(0, rows) for name, array in COLUMNS.items()
    }
    return pa.table({KEY: numbered(rows), **repeated})


def iceberg_job(directory: Path, content: pa.Table, **changes: Any) -> BucketJob:
    files = write_files(directory / "source", [content])
    columns = [name for name in content.column_names if name != KEY]
    return make_job(directory, files, {"t": columns}, hash="iceberg", **changes)


def metrics(directory: Path, column: pa.Array, **changes: Any) -> dict[str, Any]:
    """Return the record of the value column of one file."""
    job = iceberg_job(directory, pa.table({KEY: numbered(len(column)), "c": column}), bucket_count=1, **changes)
    outcome = run_kernel(job)[0]
    rows = unpack([verify_bucket(job, outcome).data_files]).to_pylist()
    assert len(rows) == 1
    lists = {name: rows[0][name] for name in ("ids", "sizes", "values", "nulls", "lower", "upper")}
    return {name: values[-1] for name, values in lists.items()} | {"splits": rows[0]["splits"]}


@pytest.mark.parametrize("coded", [False, True])
def test_iceberg_files_hold_every_row_in_types_of_iceberg(tmp_path: Path, coded: bool) -> None:
    content = source(60)
    job = iceberg_job(tmp_path, content, dictionary_columns=frozenset({"text", "date_64", "int_8"} if coded else ()))
    outcomes = run_kernel(job)
    written = pa.concat_tables(read_buckets(job, "t").values()).sort_by("customer_user_id")
    expected = content.sort_by(KEY)
    assert written.column("customer_user_id").to_pylist() == expected.column(KEY).to_pylist()
    for name in COLUMNS:
        assert written.column(name).to_pylist() == expected.column(name).to_pylist(), name
    assert written.schema.field("int_8").type == pa.int32()
    assert written.schema.field("at_ms").type == pa.timestamp("us")
    assert [verify_bucket(job, outcome).rows for outcome in outcomes] == [outcome.rows for outcome in outcomes]


def test_iceberg_files_carry_the_ids_of_the_planned_schema(tmp_path: Path) -> None:
    job = iceberg_job(tmp_path, source(60))
    run_kernel(job)
    planned = field_ids(pa.ipc.read_schema(pa.py_buffer(job.tables[0].schema)))
    for path in files_of(job, "t"):
        assert field_ids(pq.read_schema(path)) == planned
    paths = pq.read_metadata(files_of(job, "t")[0]).schema
    assert [paths.column(n).path for n in range(len(paths)) if paths.column(n).path.startswith("list.")] == [
        "list.list.element"
    ]


def test_iceberg_decimals_have_the_physical_types_of_the_specification(tmp_path: Path) -> None:
    job = iceberg_job(tmp_path, source(60))
    run_kernel(job)
    schema = pq.read_metadata(files_of(job, "t")[0]).schema
    physical = {schema.column(n).path: schema.column(n).physical_type for n in range(len(schema))}
    names = [physical[f"decimal_{digits}"] for digits in (9, 18, 38)]
    assert names == ["INT32", "INT64", "FIXED_LEN_BYTE_ARRAY"]


def test_verify_rejects_files_with_other_field_ids(tmp_path: Path) -> None:
    job = iceberg_job(tmp_path, pa.table({KEY: numbered(40), "c": pa.array(range(40))}), bucket_count=1)
    outcome = run_kernel(job)[0]
    path = files_of(job, "t")[0]
    content = pq.read_table(path)
    renumbered = content.schema.field("c").with_metadata({b"PARQUET:field_id": b"7"})
    pq.write_table(content.cast(content.schema.set(1, renumbered)), path, compression="snappy", store_schema=False)
    files = [outcome.files[0].model_copy(update={"bytes": path.stat().st_size})]
    with pytest.raises(VerificationError, match="field 'c' has the id 7, expected 2"):
        verify_bucket(job, outcome.model_copy(update={"files": tuple(files)}))


def test_other_layouts_have_no_ids_and_no_records(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [source(60)])
    job = make_job(tmp_path, files, {"t": list(COLUMNS)})
    outcomes = run_kernel(job)
    assert {number for _, number in field_ids(pq.read_schema(files_of(job, "t")[0]))} == {None}
    assert [verify_bucket(job, outcome).data_files for outcome in outcomes] == [""] * len(outcomes)


def beside(directory: Path, content: pa.Table, schemes: tuple[str, ...]) -> BucketJob:
    """Return a job with a layout of 3 or 4 buckets for each hash."""
    files = write_files(directory / "source", [content])
    columns = [name for name in content.column_names if name != KEY]
    job = make_job(directory / "out", files, {"t": columns}, hash=schemes[0])
    for scheme in schemes[1:]:
        job = with_layout(job, scheme, 3, scheme)
    return job


SCHEMES = [("iceberg", "hive_v1", "spark"), ("hive_v2", "iceberg"), ("iceberg", "hive_v2", "iceberg")]


@pytest.mark.parametrize("schemes", SCHEMES[:2])
@pytest.mark.parametrize("key", [pa.int8(), pa.int16(), pa.date32()], ids=str)
def test_layouts_beside_iceberg_have_bytes_of_their_own(
    tmp_path: Path, schemes: tuple[str, ...], key: pa.DataType
) -> None:
    content = narrow_source(pa.int32() if pa.types.is_date(key) else key)
    content = content.set_column(0, KEY, content.column(KEY).cast(key))
    job = beside(tmp_path, content, schemes)
    outcomes = run_kernel(job)
    for layout in job.layouts:
        alone = with_target(layout, f"alone-{layout.layout}")
        assert [outcome for outcome in outcomes if outcome.layout == layout.layout] == run_kernel(alone)
        assert digests(layout) == digests(alone)
        written = pa.concat_tables(read_buckets(layout, "t").values())
        assert sorted(rows_of(written), key=repr) == sorted(rows_of(content), key=repr)
        expected = pa.ipc.read_schema(pa.py_buffer(layout.tables[0].schema))
        assert written.schema.field("int8").type == expected.field("int8").type
    assert [verify_bucket(job, outcome).rows for outcome in outcomes] == [outcome.rows for outcome in outcomes]


@pytest.mark.parametrize("schemes", SCHEMES)
def test_grouped_buckets_of_all_types_have_bytes_of_their_own(tmp_path: Path, schemes: tuple[str, ...]) -> None:
    content = source(60)
    narrow = narrow_source(pa.int8(), content.num_rows).drop_columns([KEY])
    content = pa.table(
        dict(zip(content.column_names + narrow.column_names, content.columns + narrow.columns, strict=True))
    )
    job = beside(tmp_path, content, schemes)
    blocks = MemoryBlocks().scan(job)
    for number, layout in enumerate(job.layouts):
        blocks.gather_group(job, range(job.starts[number], job.starts[number + 1]))
        alone = with_target(layout, f"alone-{number}")
        run_kernel(alone)
        assert digests(layout) == digests(alone)


def pairs(format_: str, low: Any, high: Any) -> tuple[bytes, bytes]:
    return struct.pack(format_, low), struct.pack(format_, high)


LONG = "é" * 15 + "z" + "more"


@pytest.mark.parametrize(
    ("values", "kind", "bounds"),
    [
        ([3, -1, None], pa.int8(), pairs("<i", -1, 3)),
        ([3, -1, None], pa.int64(), pairs("<q", -1, 3)),
        ([3, 1], pa.date32(), pairs("<i", 1, 3)),
        ([3, 1], pa.timestamp("ms"), pairs("<q", 1000, 3000)),
        ([3, 1], pa.time32("s"), pairs("<q", 1_000_000, 3_000_000)),
        ([True, False], pa.bool_(), (b"\0", b"\1")),
        ([0.0, 1.5, float("nan")], pa.float32(), pairs("<f", -0.0, 1.5)),
        ([-1.5, -0.0], pa.float64(), pairs("<d", -1.5, 0.0)),
        ([Decimal("-0.01"), Decimal("1.28")], pa.decimal128(9, 2), (b"\xff", b"\x00\x80")),
        ([Decimal("-0.01"), Decimal("1.28")], pa.decimal128(38, 2), (b"\xff", b"\x00\x80")),
        (["b", "a"], pa.string(), (b"a", b"b")),
        ([LONG], pa.large_string(), (LONG[:16].encode(), ("é" * 15 + "{").encode())),
        (["a\U0010ffff" + "\U0010ffff" * 15 + "x"], pa.string(), (("a" + "\U0010ffff" * 15).encode(), b"b")),
        # The next code point is a surrogate, which no text has.
        (["\ud7ff" * 17], pa.string(), (("\ud7ff" * 16).encode(), ("\ud7ff" * 15 + "\ue000").encode())),
        (["\U0010ffff" * 17], pa.string(), (("\U0010ffff" * 16).encode(), None)),
        ([b"\xff\x01" + b"\xff" * 17], pa.binary(), (b"\xff\x01" + b"\xff" * 14, b"\xff\x02")),
        ([b"\xff" * 17], pa.binary(17), (b"\xff" * 16, None)),
        ([b"ab"], pa.binary(2), (b"ab", b"ab")),
        ([None, None], pa.int32(), (None, None)),
        ([float("nan")], pa.float64(), (None, None)),
        ([[1, 2], None], pa.list_(pa.int32()), (None, None)),
        (["", "x" * 5000], pa.string(), (None, None)),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_bounds_are_those_of_the_iceberg_specification(
    tmp_path: Path, values: list[Any], kind: pa.DataType, bounds: tuple[bytes | None, bytes | None]
) -> None:
    record = metrics(tmp_path, pa.array(values, kind))
    assert (record["lower"], record["upper"]) == bounds


def test_counts_and_bounds_cover_all_row_groups(tmp_path: Path) -> None:
    column = pa.array([None, 5, 9, 2, None, None, 7, 1] * 10, pa.int64())
    record = metrics(tmp_path, column, row_group_rows=9)
    assert (record["values"], record["nulls"]) == (80, 30)
    assert (record["lower"], record["upper"]) == pairs("<q", 1, 9)
    assert len(record["splits"]) == 9
    assert record["splits"] == sorted(record["splits"])
    footer = pq.read_metadata(files_of_only(tmp_path))
    sizes = [footer.row_group(group).column(1).total_compressed_size for group in range(9)]
    assert record["sizes"] == sum(sizes)
    assert record["splits"][0] == 4


def files_of_only(directory: Path) -> Path:
    (path,) = directory.glob("t/*.parquet")
    return path
