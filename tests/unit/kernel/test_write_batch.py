"""Pages of long values: the writer's batch follows their width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.kernel.write_batch import write_batch_values
from bucketwheel.settings import Settings
from bucketwheel.testing.engine_jobs import bucket, with_target
from bucketwheel.testing.jobs import KEY, digests, files_of, make_job, numbered, read_buckets, run_kernel, write_files
from kernel_jobs import people
from parquet_pages import longest_page, pages

PAGE = 2**18
WHOLE = 10**9


def texts(width: int, rows: int) -> pa.Array:
    """Return different texts of this width."""
    return pa.array([f"{number:08d}".ljust(width, "x") for number in range(rows)])


def batch(column: pa.Array, group_rows: int = WHOLE, page: int = PAGE) -> int:
    return write_batch_values(pa.table({"c": column}), group_rows, page)


@pytest.mark.parametrize(
    ("width", "rows", "expected"),
    [(8, 20_000, 8192), (32, 20_000, 8192), (33, 20_000, 4096), (1000, 2000, 256), (20_000, 500, 8), (300_000, 9, 1)],
)
def test_batch_of_equal_values_fills_at_most_a_page(width: int, rows: int, expected: int) -> None:
    assert batch(texts(width, rows)) == expected
    assert batch(texts(width, rows).cast(pa.large_string())) == expected
    assert batch(texts(width, rows).cast(pa.binary())) == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(range(20_000), pa.int64()), 8192),
        (pa.array([b"x" * 1024] * 10, pa.binary(1024)), 256),
        (pa.array([None] * 10, pa.string()), 8192),
        (pa.nulls(10), 8192),
        (pa.array([], pa.string()), 8192),
        (pa.array([True, None]), 8192),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_batch_of_numbers_and_nulls_is_the_largest(column: pa.Array, expected: int) -> None:
    assert batch(column) == expected


def test_batch_follows_the_widest_column() -> None:
    table = pa.table({"a": texts(10, 400), "b": texts(20_000, 400), "c": range(400)})
    assert write_batch_values(table, WHOLE, PAGE) == 8


@pytest.mark.parametrize(
    "wrap",
    [
        lambda values: pa.ListArray.from_arrays(pa.array(range(0, 401, 4), pa.int32()), values),
        lambda values: pa.FixedSizeListArray.from_arrays(values, 4),
        lambda values: pa.StructArray.from_arrays([values], ["inner"]),
        lambda values: pa.MapArray.from_arrays(
            pa.array(range(0, 401, 4), pa.int32()), pa.array([f"k{number}" for number in range(400)]), values
        ),
        lambda values: pa.ListArray.from_arrays(
            pa.array([0, 100, 400], pa.int32()), pa.StructArray.from_arrays([values], ["inner"])
        ),
    ],
    ids=["list", "fixed list", "struct", "map", "list of struct"],
)
def test_batch_follows_values_inside_nested_columns(wrap: object) -> None:
    nested = wrap(texts(20_000, 400))  # type: ignore[operator]
    assert batch(nested) == 8
    assert batch(nested.slice(0, 0)) == 8192


def test_one_long_value_does_not_shrink_the_batch() -> None:
    values = ["short"] * 10_000
    values[4321] = "x" * 10**6
    assert batch(pa.array(values)) == 8192


def test_values_before_a_slice_do_not_count() -> None:
    column = pa.concat_arrays([texts(20_000, 100), texts(10, 20_000)])
    assert batch(column.slice(100)) == 8192
    nested = pa.ListArray.from_arrays(pa.array([0, 100, len(column)], pa.int32()), column)
    assert (batch(nested), batch(nested.slice(1))) == (16, 8192)


def test_batches_begin_with_row_groups() -> None:
    # 40 values of 10 kB fit a page and a value if no batch has more of them than 26.
    column = pa.concat_arrays([texts(10, 1000), texts(10_000, 40), texts(10, 1000)])
    assert batch(column) < batch(column, group_rows=1020)


def test_few_long_values_among_many_short_ones_keep_batches_worth_a_call() -> None:
    values = ["short"] * 50_000
    for row in range(0, 50_000, 1000):
        # Two of them are next to each other.
        values[row : row + 2] = ["x" * 300_000] * 2
    # On average, a value takes 600 bytes, and 436 values fill a page.
    assert batch(pa.array(values)) == 16


def test_codes_of_dictionaries_are_short() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 5000, pa.int32()), texts(100_000, 2))
    assert batch(column) == 8192


@pytest.mark.parametrize(("width", "rows"), [(20_000, 600), (262_144, 40)])
@pytest.mark.parametrize("scheme", ["hive_v1", "iceberg"])
def test_pages_of_long_values_stay_near_page_bytes(tmp_path: Path, width: int, rows: int, scheme: str) -> None:
    table = people(numbered(rows), Text=texts(width, rows), List=pa.array([[text] for text in texts(width, rows)]))
    files = write_files(tmp_path / "source", [table], rows, use_dictionary=False)
    job = make_job(tmp_path / "out", files, {"t": ["Text", "List", "Number"]}, bucket_count=1, hash=scheme)
    run_kernel(job)
    (path,) = files_of(job, "t")
    for column in ("text", "list.list.element"):
        # Levels take a few bytes, too.
        assert PAGE / 2 < longest_page(path, column) <= max(2 * PAGE, PAGE + width + 100)
    # Statistics of long values would be in the footer, and in the headers of pages.
    assert pq.read_metadata(path).serialized_size < 20_000
    (content,) = read_buckets(job, "t").values()
    assert content.num_rows == rows
    assert sorted(content["text"].to_pylist()) == table["Text"].to_pylist()


def test_files_of_long_values_do_not_depend_on_memory_and_threads(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    widths = np.where(random.random(500) < 0.1, 30_000, 10)
    table = people(numbered(500), Text=pa.array(["x" * width for width in widths.tolist()]))
    files = write_files(tmp_path / "source", [table.slice(0, 300), table.slice(300)], 100, use_dictionary=False)
    job = make_job(tmp_path / "out", files, {"t": ["Text"]}, row_group_rows=70, bucket_count=3)
    run_kernel(job)
    for number, settings in enumerate([{"memory": 1, "threads": 2}, {"memory": 2**30, "threads": 1}]):
        other = with_target(job, f"other-{number}")
        bucket(ArrowEngine(Settings.model_validate(settings)), other)
        assert digests(other) == digests(job)


def test_pages_of_short_values_are_those_of_the_largest_batch(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(numbered(30_000), Text=texts(20, 30_000))], 30_000)
    job = make_job(tmp_path / "out", files, {"t": ["Text", "Number"]}, bucket_count=1, row_group_rows=30_000)
    run_kernel(job)
    (path,) = files_of(job, "t")
    # The batch that passes 256 KiB is the second one, of 24 bytes a value.
    assert pages(path, "text")[0].plain_bytes == pytest.approx(2 * 8192 * 24, abs=100)
    assert KEY


@pytest.mark.slow
def test_values_of_50_mb_are_written_and_read(tmp_path: Path) -> None:
    text = pa.array(["a" * (50 * 10**6), "short", None, "b" * (50 * 10**6)])
    files = write_files(tmp_path / "source", [people(numbered(4), Text=text)], 2, use_dictionary=False)
    job = make_job(tmp_path / "out", files, {"t": ["Text"]}, bucket_count=1, decoded_bytes_per_row=25 * 10**6)
    bucket(ArrowEngine(Settings(memory=2**27, threads=1)), job)
    (content,) = read_buckets(job, "t").values()
    assert sorted(map(len, content["text"].drop_null().to_pylist())) == [5, 50 * 10**6, 50 * 10**6]
    (path,) = files_of(job, "t")
    assert path.stat().st_size < 10**7
    assert pq.read_metadata(path).serialized_size < 10_000
