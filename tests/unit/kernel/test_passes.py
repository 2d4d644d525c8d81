"""Wide slices are read table by table, and small ones together; files are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.contracts import BucketJob, Slice
from bucketwheel.errors import UnreadableFilesError
from bucketwheel.kernel import gather as gathering
from bucketwheel.kernel import passes, scatter
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.passes import Plan, Widths, wider_job
from bucketwheel.kernel.scatter import Scattered, scatter_slices
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.storage import costs_more_apart
from bucketwheel.storage.ranged import RangedFile, RangedSource
from bucketwheel.testing.engine_jobs import with_target
from bucketwheel.testing.jobs import KEY, MemoryBlocks, digests, make_job, numbered, run_kernel, write_files

TABLES = {f"t{number}": [f"Number{number}", f"Code{number}", f"Text{number}"] for number in range(6)}
# A column of two tables in different passes.
TABLES["shared"] = ["Number0", "Code5"]
CODED = frozenset(f"Code{number}" for number in range(6))
ROWS = 400


def wide(rows: int = ROWS) -> pa.Table:
    random = np.random.default_rng(8)
    columns: dict[str, Any] = {KEY: numbered(rows)}
    for number in range(6):
        columns[f"Number{number}"] = random.integers(0, 10**6, rows)
        columns[f"Code{number}"] = [None if code % 9 == 0 else f"c{code}" for code in random.integers(0, 300, rows)]
        columns[f"Text{number}"] = [f"{number} {value:x}" for value in random.integers(0, 10**9, rows)]
    return pa.table(columns)


@pytest.fixture
def job(tmp_path: Path) -> BucketJob:
    table = wide()
    files = write_files(tmp_path / "source", [table.slice(0, 150), table.slice(150)], 50)
    return make_job(tmp_path / "out", files, TABLES, dictionary_columns=CODED, bucket_count=5, groups_per_slice=2)


def gather_joined(job: BucketJob, max_rows: int, statistics: StatisticsCollector | None = None) -> list[Scattered]:
    """Write the files of a job from joined slices, and return what was scattered."""
    blocks = MemoryBlocks().scan(replace(job, slices=()))
    for parts in Widths.of(job).joined(job.slices, max_rows):
        blocks.parts += scatter_slices(job, parts, max_rows, blocks.dictionaries, (), statistics)
    for bucket in range(job.buckets):
        blocks.gather(job, bucket)
    return blocks.parts


@pytest.mark.parametrize("max_rows", [3, 20, 60, 10_000])
def test_files_do_not_depend_on_passes_or_joined_slices(job: BucketJob, max_rows: int) -> None:
    expected = with_target(job, "expected")
    run_kernel(expected)
    parts = gather_joined(job, max_rows)
    assert digests(job) == digests(expected)
    assert len({part.groups for part in parts}) > 1 or max_rows == 10_000


def test_wide_slice_is_scattered_in_long_batches(job: BucketJob) -> None:
    whole = replace(job, slices=(job.slices[0],))
    parts = MemoryBlocks().scan(whole, 30).parts
    # 30 rows of 19 columns take the memory of 100 rows of one key and two or three columns of a table.
    assert {part.batch.num_rows for part in parts} == {100}
    assert [group for part in parts for group in part.groups] == list(range(8))
    assert max(part.batch.num_columns * part.batch.num_rows for part in parts) <= 30 * 19


def test_small_slices_are_read_as_one(job: BucketJob) -> None:
    parts = gather_joined(job, 10_000)
    assert [(part.index, part.batch.num_rows) for part in parts] == [(0, ROWS)]


def test_statistics_count_each_value_once_in_any_passes(job: BucketJob) -> None:
    results = []
    for max_rows in (10_000, 20):
        dictionaries = UnifiedDictionaries()
        collector = StatisticsCollector.of(replace(job, column_statistics="distinct"))
        for part in job.slices:
            list(scatter.scatter(job, part, max_rows, dictionaries, (), collector))
        collector.finish(dictionaries)
        results.append((collector.result(), collector.read))
    assert results[0] == results[1]
    assert results[0][1].rows == ROWS


def test_pass_has_at_most_the_bytes_of_whole_rows(job: BucketJob) -> None:
    assert Plan.of(Widths.of(job), 100, 100) == Plan((tuple(range(8)),), 100)
    plan = Plan.of(Widths.of(job), 100, 30)
    assert plan.rows == 100
    assert sum(plan.passes, ()) == tuple(range(8))
    # Rows of the widest table that fit: 30 rows of 19 columns are 570 values.
    assert Widths.of(job).rows_by_table(30) == 142
    assert Plan.of(Widths.of(job), 5000, 30).rows == 142
    # One table of most bytes is read alone, and fewer rows of it at a time.
    heavy = replace(
        job,
        tables=tuple(replace(table, decoded_bytes_per_row=60 if table.name == "t2" else 10) for table in job.tables),
    )
    assert Widths.of(heavy).rows_by_table(30) == int(3000 / (60 + 100 / 19))
    assert (3,) in Plan.of(Widths.of(heavy), 5000, 30).passes


def test_job_with_longer_rows_has_longer_rows_in_tables(job: BucketJob) -> None:
    planned = replace(job, tables=tuple(replace(table, decoded_bytes_per_row=10) for table in job.tables))
    wider = wider_job(planned, 262.5)
    assert wider.decoded_bytes_per_row == 263
    assert {table.decoded_bytes_per_row for table in wider.tables} == {26.25}
    assert Widths.of(wider).rows_by_table(30) == int(30 * 263 / (26.25 + 263 / 19))
    assert wider_job(planned, 100) is planned


def test_joined_slices_are_neighbors_and_few_files(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def numbers(parts: Sequence[Slice], max_rows: int) -> list[list[int]]:
        return [[part.index for part in group] for group in Widths.of(job).joined(parts, max_rows)]

    slices = [Slice(number, f"f{number}", (0,), 10) for number in range(9)]
    assert numbers(slices, 40) == [list(range(9))]
    assert numbers([*slices[:2], *slices[4:]], 40) == [[0, 1], [4, 5, 6, 7, 8]]
    monkeypatch.setattr(passes, "_MAX_OPEN", 6)
    # Four slices fit with all columns; six are read table by table.
    assert numbers(slices, 40) == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]
    monkeypatch.setattr(passes, "JOINED_ROWS", 25)
    assert numbers(slices, 40) == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    assert numbers([], 40) == []
    assert numbers([Slice(0, "f", (0,), 10**9)], 40) == [[0]]


def test_pass_with_other_rows_is_refused(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def shorter(self: Any, stream: Any, file: pq.ParquetFile, columns: list[str], rows: int) -> Iterator[Any]:
        calls.append(columns)
        for batch in original(self, stream, file, columns, rows):
            yield batch if len(calls) < 2 else batch.slice(1)

    original = scatter._SliceFile._decoded
    monkeypatch.setattr(scatter._SliceFile, "_decoded", shorter)
    with pytest.raises(UnreadableFilesError, match="columns have different numbers of rows"):
        MemoryBlocks().scan(job, 20)


@pytest.mark.parametrize("sort", [True, False])
def test_large_table_is_ordered_by_column_with_the_same_bytes(
    job: BucketJob, monkeypatch: pytest.MonkeyPatch, sort: bool
) -> None:
    job = replace(job, sort=sort)
    expected = with_target(job, "expected")
    run_kernel(expected)
    monkeypatch.setattr(gathering, "_LARGE_TABLE", 0)
    run_kernel(job)
    assert digests(job) == digests(expected)


def test_alternating_columns_are_fetched_at_once() -> None:
    def read(offset: int, length: int) -> bytes:
        return bytes(length)

    stream = RangedFile(RangedSource(10**7, b"", read))
    chunk = 50_000
    halves = [[(number * chunk, chunk) for number in range(part * 50, part * 50 + 50)] for part in range(2)]
    alternating = [[(number * chunk, chunk) for number in range(part, 100, 2)] for part in range(2)]
    assert not costs_more_apart(stream, lambda: halves)
    assert costs_more_apart(stream, lambda: alternating)
    assert not costs_more_apart(pa.BufferReader(b""), lambda: alternating)
