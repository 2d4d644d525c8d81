from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.errors import StorageError
from bucketwheel.testing.jobs import (
    WHOLE,
    MemoryBlocks,
    digests,
    files_of,
    leftovers,
    make_job,
    numbered,
    read_buckets,
    run_kernel,
    write_files,
)
from kernel_jobs import people


def test_files_declare_sort_order_and_key_statistics(tmp_path: Path) -> None:
    keys = pa.array([None, *numbered(500).to_pylist()])
    files = write_files(tmp_path / "source", [people(keys, Code=pa.array(["x", "y", None] * 167))])
    job = make_job(
        tmp_path, files, {"t": ["Number", "Code"]}, row_group_rows=50, dictionary_columns=frozenset(["Code"])
    )
    run_kernel(job)
    paths = files_of(job, "t")
    assert paths
    for path in paths:
        footer = pq.read_metadata(path)
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            (order,) = group.sorting_columns
            # Readers that trust it look for NULL where it says.
            assert (order.column_index, order.descending, order.nulls_first) == (0, False, True)
            key, value, code = group.column(0), group.column(1), group.column(2)
            assert key.statistics.has_min_max
            assert key.has_column_index
            assert key.has_offset_index
            assert not value.is_stats_set
            assert (key.compression, "PLAIN_DICTIONARY" in str(key.encodings)) == ("SNAPPY", False)
            assert (value.has_dictionary_page, code.has_dictionary_page) == (False, True)
            assert group.num_rows <= 50
    unsorted = make_job(tmp_path / "unsorted", files, {"t": ["Number"]}, sort=False)
    run_kernel(unsorted)
    assert not pq.read_metadata(files_of(unsorted, "t")[0]).row_group(0).sorting_columns


def test_nested_dictionary_columns_are_written_as_dictionaries(tmp_path: Path) -> None:
    columns = {
        "Tags": pa.array([["red", "green"], None] * 50),
        "Pairs": pa.array([[("k", "v")], []] * 50, pa.map_(pa.string(), pa.string())),
        "Both": pa.array([{"x": ["u"]}, None] * 50, pa.struct([("x", pa.large_list(pa.string()))])),
        "Plain": pa.array([["red"], None] * 50),
    }
    files = write_files(tmp_path / "source", [people(numbered(100), **columns)])
    coded = frozenset(["Tags", "Pairs", "Both"])
    job = make_job(tmp_path, files, {"t": list(columns)}, dictionary_columns=coded)
    run_kernel(job)
    group = pq.read_metadata(files_of(job, "t")[0]).row_group(0)
    chunks = [group.column(number) for number in range(1, group.num_columns)]
    has_dictionary = {chunk.path_in_schema: chunk.has_dictionary_page for chunk in chunks}
    assert has_dictionary == {
        "tags.list.element": True,
        "pairs.key_value.key": True,
        "pairs.key_value.value": True,
        "both.x.list.element": True,
        "plain.list.element": False,
    }


def wide(rows: int, size: int = 200) -> pa.Table:
    random = np.random.default_rng(5)
    # Text that does not compress, and more of it toward the last keys, so that row groups grow.
    values = [random.bytes(10 + number * size // rows).hex() for number in range(rows)]
    return people(pa.array([f"U{number:06d}" for number in range(rows)]), Value=pa.array(values))


@pytest.mark.parametrize("scheme", ["hive_v1", "spark"])
@pytest.mark.parametrize("limit", [3000, 10_000, 40_000])
def test_large_bucket_is_split_into_numbered_copies(tmp_path: Path, limit: int, scheme: str) -> None:
    files = write_files(tmp_path / "source", [wide(2000)], 500)
    job = make_job(
        tmp_path, files, {"t": ["Value"]}, bucket_count=2, hash=scheme, max_file_bytes=limit, row_group_rows=20
    )
    outcomes = run_kernel(job)
    assert len(outcomes) == 2
    for outcome in outcomes:
        names = [record.name for record in outcome.files]
        assert len(names) > 2
        if scheme == "hive_v1":
            copies = [f"_copy_{number}" if number else "" for number in range(len(names))]
            assert names == [f"{outcome.bucket:06d}_0{copy}.snappy.parquet" for copy in copies]
        for record in outcome.files:
            path = Path(job.tables[0].directory) / record.name
            groups = pq.read_metadata(path).num_row_groups
            assert path.stat().st_size == record.bytes
            assert record.bytes <= limit or groups == 1
        # Not cut into more files than needed either: two neighbours would not fit into one.
        sizes = [record.bytes for record in outcome.files]
        assert all(one + other > limit * 0.9 for one, other in itertools.pairwise(sizes))
        assert sum(record.rows for record in outcome.files) == outcome.rows
    ordered = [key for table in read_buckets(job, "t").values() for key in table["customer_user_id"].to_pylist()]
    assert sorted(ordered) == sorted(f"U{number:06d}" for number in range(2000))


def test_files_are_split_without_rewriting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_files(tmp_path / "source", [people(numbered(40_000), Value=numbered(40_000, 2000))], 9000)
    job = make_job(tmp_path, files, {"t": ["Value"]}, bucket_count=1, max_file_bytes=120_000, row_group_rows=2000)
    opened = []
    writer = pq.ParquetWriter

    def watch(*arguments: Any, **options: Any) -> Any:
        opened.append(1)
        return writer(*arguments, **options)

    monkeypatch.setattr(pq, "ParquetWriter", watch)
    (outcome,) = run_kernel(job)
    assert 2 < len(outcome.files) <= len(opened)
    # Twice only where the footer alone made the difference.
    assert len(opened) < 1.5 * len(outcome.files)


def test_file_over_the_limit_is_never_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each row group is larger than the one before it, so that at some limits one more does not fit as it seemed to.
    random = Random(5)
    growing = [random.randbytes(1 + row // 50).hex() for row in range(6_000)]
    ascending = pa.array([f"U{row:06d}" for row in range(6_000)])
    files = write_files(tmp_path / "source", [people(ascending, Value=growing)], 9000)
    job = make_job(tmp_path, files, {"t": ["Value"]}, bucket_count=1, row_group_rows=500)
    opened, sizes = [], []
    writer, replace_file = pq.ParquetWriter, os.replace

    def watch(*arguments: Any, **options: Any) -> Any:
        opened.append(1)
        return writer(*arguments, **options)

    def moved(source: str, target: str) -> None:
        replace_file(source, target)
        sizes.append(Path(target).stat().st_size)

    monkeypatch.setattr(pq, "ParquetWriter", watch)
    monkeypatch.setattr(os, "replace", moved)
    written = []
    for limit in range(150_000, 180_000, 2_000):
        (outcome,) = run_kernel(replace(job, max_file_bytes=limit))
        written += [record.bytes for record in outcome.files]
    assert len(opened) > len(written)
    assert sizes == written


def test_row_group_over_the_limit_gets_its_own_file(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [wide(100)])
    job = make_job(tmp_path, files, {"t": ["Value"]}, bucket_count=1, max_file_bytes=100, row_group_rows=30)
    (outcome,) = run_kernel(job)
    assert [record.rows for record in outcome.files] == [30, 30, 30, 10]
    assert [pq.read_metadata(path).num_row_groups for path in files_of(job, "t")] == [1, 1, 1, 1]


def test_file_split_does_not_depend_on_slices(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [wide(1000)], 130)
    file_digests = []
    for number, (groups, max_rows) in enumerate([(1, WHOLE), (3, 50), (8, WHOLE)]):
        job = make_job(
            tmp_path / str(number),
            files,
            {"t": ["Value"]},
            groups_per_slice=groups,
            max_file_bytes=9000,
            row_group_rows=20,
        )
        run_kernel(job, max_rows)
        file_digests.append(digests(job))
    assert file_digests[0] == file_digests[1] == file_digests[2]
    assert len(file_digests[0]) > 12


def test_write_names_file_in_place_of_table_directory(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(numbered(50))])
    job = make_job(tmp_path / "out", files, {"t": ["Number"]})
    (tmp_path / "out" / "t").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match=str(tmp_path / "out" / "t" / "000000_0.snappy.parquet")):
        run_kernel(job)
    assert leftovers(job) == []


def test_write_names_invalid_scratch_directory(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(numbered(50))])
    (tmp_path / "file").touch()
    job = make_job(tmp_path / "out", files, {"t": ["Number"]}, scratch=str(tmp_path / "file" / "scratch"))
    with pytest.raises(StorageError, match=r"000000_0\.snappy\.parquet: cannot write"):
        run_kernel(job)
    assert files_of(job, "t") == []


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), PermissionError(13, "no"), RuntimeError("x")]
)
def test_failed_gather_leaves_no_files(tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_files(tmp_path / "source", [people(numbered(50))])
    job = make_job(tmp_path / "out", files, {"t": ["Number"]}, row_group_rows=5)
    blocks = MemoryBlocks().scan(job)
    write, calls = pq.ParquetWriter.write_table, []

    def fail_later(self: Any, *args: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise error
        write(self, *args, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail_later)
    with pytest.raises(StorageError if isinstance(error, OSError) else RuntimeError) as caught:
        blocks.gather(job, 0)
    assert not isinstance(error, OSError) or "out/t/000000_0.snappy.parquet" in str(caught.value)
    assert files_of(job, "t") == []
    assert leftovers(job) == []
