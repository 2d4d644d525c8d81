from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference_hashing as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketwheel.contracts import BucketJob
from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.kernel import gather
from bucketwheel.settings import Settings
from bucketwheel.testing.jobs import (
    KEY,
    WHOLE,
    MemoryBlocks,
    digests,
    files_of,
    make_job,
    make_slices,
    numbered,
    read_buckets,
    rows_of,
    run_kernel,
    write_files,
)
from kernel_jobs import key_order, overflow_offsets, people

SCHEMES = ("hive_v1", "hive_v2", "spark")

TEXT = st.one_of(st.none(), st.just(""), st.text(max_size=12), st.sampled_from(["U1", "José", "天地", "😁", "U1"]))
KEYS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "boolean": (pa.bool_(), st.booleans()),
    "tinyint": (pa.int8(), st.integers(-(2**7), 2**7 - 1)),
    "smallint": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "int": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "bigint": (pa.int64(), st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))),
    "date": (pa.date32(), st.dates()),
    "string": (pa.string(), TEXT),
}


@dataclass(frozen=True)
class Case:
    """A source of several files, and what to make of it."""

    files: tuple[pa.Table, ...]
    key_types: tuple[str, ...]
    row_group_rows: int
    groups_per_slice: int
    max_rows: int
    changes: dict[str, Any]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"Key {number}" for number in range(len(self.key_types)))

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return [row for table in self.files for row in rows_of(table)]

    def job(self, directory: Path, **changes: Any) -> BucketJob:
        source = directory / "source"
        files = sorted(source.glob("*")) or write_files(source, self.files, self.row_group_rows)
        tables = {"ids": ["Number"], "texts": ["Text", "Code", "Number"]}
        how = {"keys": self.keys, "row_group_rows": 7, "groups_per_slice": self.groups_per_slice}
        return make_job(directory / "out", files, tables, **{**how, **self.changes, **changes})


@st.composite
def cases(draw: st.DrawFn) -> Case:
    types = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=2))
    counter = itertools.count()
    files = []
    for size in draw(st.lists(st.integers(0, 40), min_size=1, max_size=3)):
        columns: dict[str, pa.Array] = {}
        for number, name in enumerate(types):
            kind, values = KEYS[name]
            column = draw(st.lists(st.one_of(st.none(), values), min_size=size, max_size=size))
            columns[f"Key {number}"] = pa.array(column, kind)
        for name in ("Text", "Code"):
            columns[name] = pa.array(draw(st.lists(TEXT, min_size=size, max_size=size)), pa.string())
        columns["Number"] = pa.array(list(itertools.islice(counter, size)), pa.int64())
        files.append(pa.table(columns))
    changes = {
        "hash": draw(st.sampled_from(SCHEMES)),
        "bucket_count": draw(st.sampled_from([1, 2, 3, 7, 10, 300])),
        "sort": draw(st.booleans()),
        "dictionary_columns": frozenset(draw(st.sets(st.sampled_from(["Text", "Code", "Number", "Key 0"])))),
    }
    numbers = (draw(st.integers(1, 20)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 5, WHOLE])))
    return Case(tuple(files), tuple(types), *numbers, changes)


@settings(max_examples=settings().max_examples * 4 // 5)
@given(cases())
def test_every_row_is_written_once_in_stable_key_order(case: Case) -> None:
    expected: dict[int, list[tuple[Any, ...]]] = {}
    width = len(case.key_types)
    for row in case.rows:
        number = reference.row_hash(row[:width], case.key_types, case.changes["hash"])
        bucket = reference.bucket(number, case.changes["bucket_count"], case.changes["hash"])
        expected.setdefault(bucket, []).append(row)
    if case.changes["sort"]:
        expected = {b: sorted(rows, key=lambda row: key_order(row[:width])) for b, rows in expected.items()}
    with tempfile.TemporaryDirectory() as directory:
        job = case.job(Path(directory))
        outcomes = run_kernel(job, case.max_rows)
        rows_by_bucket = {bucket: rows_of(table) for bucket, table in read_buckets(job, "texts").items()}
        ids = {bucket: rows_of(table) for bucket, table in read_buckets(job, "ids").items()}
    # "texts" holds the keys, Text, Code, Number: all columns of the source.
    assert rows_by_bucket == expected
    assert ids == {b: [(*row[:width], row[-1]) for row in rows] for b, rows in expected.items()}
    assert {o.bucket: o.rows for o in outcomes if o.rows} == {b: len(rows) for b, rows in expected.items()}


@settings(max_examples=settings().max_examples // 3)
@given(cases(), st.integers(1, 4), st.sampled_from([1, 3, WHOLE]), st.booleans(), st.booleans())
def test_bytes_do_not_depend_on_slices(
    case: Case, groups_per_slice: int, max_rows: int, large_offsets: bool, large_tables: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        job = case.job(Path(directory))
        outcomes = run_kernel(job, case.max_rows)
        if large_offsets:
            patch.setattr(gather, "_join", overflow_offsets)
        if large_tables:
            patch.setattr(gather, "_LARGE_TABLE", -1)
        other = replace(
            case.job(Path(directory), groups_per_slice=groups_per_slice),
            tables=tuple(replace(t, directory=f"{t.directory}-again") for t in job.tables),
        )
        assert run_kernel(other, max_rows) == outcomes
        assert digests(other) == digests(job)


@settings(max_examples=settings().max_examples // 2)
@given(cases(), st.integers(2, 7), st.sets(st.integers(0, 20)))
def test_bucket_groups_write_identical_files(case: Case, most: int, skip: set[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        job = case.job(Path(directory))
        skip = skip.intersection(range(job.bucket_count))
        outcomes = run_kernel(job, case.max_rows, skip)
        other = replace(job, tables=tuple(replace(t, directory=f"{t.directory}-again") for t in job.tables))
        blocks = MemoryBlocks().scan(other, case.max_rows, skip)
        todo = [bucket for bucket in range(job.bucket_count) if bucket not in skip]
        together = [
            outcome
            for start in range(0, len(todo), most)
            for outcome in blocks.gather_group(other, todo[start : start + most])
        ]
        assert together == outcomes
        assert digests(other) == digests(job)


@settings(max_examples=settings().max_examples // 3)
@given(cases(), st.integers(1, 4), st.sampled_from([1, 20_000, 2**30]))
def test_bytes_do_not_depend_on_threads_and_memory(case: Case, threads: int, memory: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        job = case.job(Path(directory))
        outcomes = run_kernel(job, WHOLE)
        again = tuple(replace(table, directory=f"{table.directory}-again") for table in job.tables)
        other = replace(job, tables=again)
        engine = ArrowEngine(Settings(threads=threads, memory=memory))
        engine_outcomes = sorted(engine.bucket(other, (), lambda *_: None), key=lambda outcome: outcome.bucket)
        assert engine_outcomes == outcomes
        assert digests(other) == digests(job)


@settings(max_examples=settings().max_examples // 3)
@given(cases())
def test_outcome_has_null_duplicate_and_extreme_keys(case: Case) -> None:
    with tempfile.TemporaryDirectory() as directory:
        job = case.job(Path(directory), bucket_count=1)
        (outcome,) = run_kernel(job, case.max_rows)
    keys = [row[: len(case.key_types)] for row in case.rows]
    complete = sorted((key for key in keys if None not in key), key=key_order)
    assert outcome.null_keys == len(keys) - len(complete)
    assert outcome.duplicate_keys == len(complete) - len(set(complete))
    texts = ["|".join(str(value) for value in key) for key in complete]
    assert (outcome.smallest_key, outcome.largest_key) == (None, None)
    with tempfile.TemporaryDirectory() as directory:
        job = replace(case.job(Path(directory), bucket_count=1), show_keys=True)
        (shown,) = run_kernel(job, case.max_rows)
    assert (shown.smallest_key, shown.largest_key) == ((texts[0], texts[-1]) if texts else (None, None))
    assert outcome.files or not case.rows


def test_key_can_also_be_a_value_column(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(numbered(20))])
    job = make_job(tmp_path, files, {"t": [KEY, "Number"]})
    job = replace(job, tables=(replace(job.tables[0], columns=((KEY, "again"), ("Number", "number"))),))
    run_kernel(job)
    tables = read_buckets(job, "t").values()
    assert sum(table.num_rows for table in tables) == 20
    for table in tables:
        assert table.column_names == ["customer_user_id", "again", "number"]
        assert table["customer_user_id"].equals(table["again"])


def test_table_with_only_the_key_is_written(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(numbered(20))])
    job = make_job(tmp_path, files, {"ids": [], "t": ["Number"]})
    run_kernel(job)
    keys = [row[0] for table in read_buckets(job, "ids").values() for row in rows_of(table)]
    assert sorted(keys) == sorted(numbered(20).to_pylist())


def test_empty_bucket_gets_no_file(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(pa.array([0, 4, 8], pa.int32()))])
    job = make_job(tmp_path, files, {"t": ["Number"]})
    outcomes = run_kernel(job)
    assert [outcome.rows for outcome in outcomes] == [3, 0, 0, 0]
    assert [len(outcome.files) for outcome in outcomes] == [1, 0, 0, 0]
    assert (outcomes[1].smallest_key, outcomes[1].key_checksum, outcomes[1].null_keys) == (None, 0, 0)
    assert len(files_of(job, "t")) == 1


@pytest.mark.slow
def test_group_of_more_than_65536_buckets_is_gathered(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(pa.array([2**16 + 1, 1, 2**16 + 1], pa.int32()))])
    job = make_job(tmp_path, files, {"t": ["Number"]}, bucket_count=2**16 + 2)
    outcomes = MemoryBlocks().scan(job).gather_group(job, range(job.bucket_count))
    assert {outcome.bucket: outcome.rows for outcome in outcomes if outcome.rows} == {1: 1, 2**16 + 1: 2}
    assert {bucket: table.num_rows for bucket, table in read_buckets(job, "t").items()} == {1: 1, 2**16 + 1: 2}


def test_empty_slices_and_row_groups_are_accepted(tmp_path: Path) -> None:
    table = people(numbered(10), Code=numbered(10))
    path = tmp_path / "source.parquet"
    with pq.ParquetWriter(path, table.schema) as writer:
        for start, rows in ((0, 0), (0, 7), (7, 0), (7, 3), (10, 0)):
            writer.write_table(table.slice(start, rows))
    for number, groups in enumerate([1, 2, 5]):
        job = make_job(
            tmp_path / str(number), [path], {"t": ["Number", "Code"]}, dictionary_columns=frozenset(["Code"])
        )
        job = replace(job, slices=make_slices([path], groups))
        assert sum(outcome.rows for outcome in run_kernel(job, 2)) == 10


@pytest.mark.parametrize("max_rows", [WHOLE, 5])
def test_scatter_leaves_out_skipped_buckets(tmp_path: Path, max_rows: int) -> None:
    files = write_files(tmp_path / "source", [people(numbered(100))], 30)
    whole = make_job(tmp_path / "whole", files, {"t": ["Number"]})
    some_only = make_job(tmp_path / "some", files, {"t": ["Number"]})
    everything = run_kernel(whole)
    parts = MemoryBlocks().scan(some_only, max_rows, skip=[0, 3]).parts
    assert sum(part.batch.num_rows for part in parts) == everything[1].rows + everything[2].rows
    assert run_kernel(some_only, max_rows, skip=[0, 3]) == everything[1:3]
    kept = {name: digest for name, digest in digests(whole).items() if "/000001" in name or "/000002" in name}
    assert digests(some_only) == kept


def test_scattered_parts_have_at_most_max_rows(tmp_path: Path) -> None:
    files = write_files(tmp_path / "source", [people(numbered(200), Code=numbered(200))], 60)
    job = make_job(tmp_path, files, {"t": ["Code"]}, groups_per_slice=4, dictionary_columns=frozenset(["Code"]))
    parts = MemoryBlocks().scan(job, 25).parts
    assert max(part.batch.num_rows for part in parts) <= 25
    assert sum(part.batch.num_rows for part in parts) == 200
