"""Small slices that are read as a group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.contracts import BucketJob
from bucketwheel.engines import arrow, slice_groups
from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.engines.slice_groups import group_slices
from bucketwheel.errors import SchemaError, UnreadableFilesError
from bucketwheel.kernel import normalize, passes, scatter
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.scatter import scatter_slices
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.settings import Settings
from bucketwheel.settings.types import TypeSettings
from bucketwheel.testing.engine_jobs import with_target
from bucketwheel.testing.jobs import KEY, MemoryBlocks, digests, make_job, numbered, run_kernel, write_files

FILES, ROWS = 5, 40


def columns(start: int) -> pa.Table:
    numbers = range(start, start + ROWS)
    # No two files have the same dictionary.
    codes = [None if number % 7 == 0 else f"code {number % (5 + start // ROWS)}" for number in numbers]
    lists = [[f"item {number % 3}"] * (number % 3) for number in numbers]
    return pa.table(
        {KEY: numbered(ROWS, start), "Code": codes, "List": lists, "Number": pa.array(numbers, pa.int32())}
    )


@pytest.fixture
def job(tmp_path: Path) -> BucketJob:
    """Five files of 40 rows."""
    files = write_files(tmp_path / "source", [columns(file * ROWS) for file in range(FILES)])
    tables = {"codes": ["Code", "List"], "numbers": ["Number"]}
    return make_job(tmp_path / "out", files, tables, dictionary_columns=frozenset({"Code"}))


@pytest.mark.parametrize(
    ("threads", "max_rows", "fewest", "rows"),
    [
        (1, 10**6, 8_192, [200]),
        (1, 100, 8_192, [80, 80, 40]),
        (1, 10, 8_192, [40] * 5),
        (1, 10**6, 80, [80, 80, 40]),
        (5, 10**6, 1, [40] * 5),
    ],
)
def test_groups_have_all_slices_in_order_and_at_most_max_rows(
    threads: int, max_rows: int, fewest: int, rows: list[int], job: BucketJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slice_groups, "_FEWEST_ROWS", fewest)
    groups = group_slices(job, threads, max_rows)
    assert [part for group in groups for part in group] == list(job.slices)
    assert [sum(part.rows for part in group) for group in groups] == rows


def test_groups_have_at_most_the_rows_of_joined_slices(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_groups, "JOINED_ROWS", 80)
    assert [len(group) for group in group_slices(job, 1, 10**6)] == [2, 2, 1]


def test_wide_rows_make_smaller_groups(job: BucketJob) -> None:
    assert len(group_slices(replace(job, decoded_bytes_per_row=2**20), 1, 10**6)) == FILES


def scatter_groups(job: BucketJob, max_rows: int = 10**6) -> tuple[MemoryBlocks, StatisticsCollector]:
    blocks, statistics = MemoryBlocks().scan(replace(job, slices=())), StatisticsCollector.of(job)
    for group in group_slices(job, 1, max_rows):
        blocks.parts += scatter_slices(job, group, max_rows, blocks.dictionaries, (), statistics)
    return blocks, statistics


def assert_same_files(job: BucketJob, max_rows: int = 10**6) -> list[int]:
    """Compare the files of grouped slices with those of single slices; return the rows of each batch."""
    run_kernel(job)
    other = with_target(job, "grouped")
    blocks, _ = scatter_groups(other, max_rows)
    for bucket in range(other.buckets):
        blocks.gather(other, bucket)
    assert digests(other) == digests(job)
    return [part.batch.num_rows for part in blocks.parts]


@pytest.mark.parametrize(("max_rows", "rows"), [(10**6, [200]), (100, [80, 80, 40])])
def test_grouped_slices_give_the_same_files(job: BucketJob, max_rows: int, rows: list[int]) -> None:
    assert assert_same_files(job, max_rows) == rows


def test_grouped_slices_count_every_value_once(job: BucketJob) -> None:
    job = replace(job, column_statistics="distinct")
    (apart, one), (blocks, other) = (StatisticsCollector.of(job), MemoryBlocks()), scatter_groups(job)
    for part in job.slices:
        list(scatter_slices(job, [part], 10**6, one.dictionaries, (), apart))
    apart.finish(one.dictionaries)
    other.finish(blocks.dictionaries)
    assert apart.result() == other.result()
    assert apart.read == other.read


@pytest.mark.parametrize("coded", [frozenset({"Code"}), frozenset()])
def test_grouped_slices_of_other_types_give_the_same_files(job: BucketJob, coded: frozenset[str]) -> None:
    kinds = (pa.large_string(), pa.string(), pa.dictionary(pa.int32(), pa.string()))
    for number, part in enumerate(job.slices):
        table = pq.read_table(part.path)
        table = table.set_column(1, "Code", table["Code"].cast(kinds[number % 3]))
        pq.write_table(table, part.path, use_dictionary=number % 2 == 0)
    assert assert_same_files(replace(job, dictionary_columns=coded)) == [200]


def test_damaged_file_among_others_is_named(job: BucketJob) -> None:
    path = Path(job.slices[2].path)
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(UnreadableFilesError, match=f"{path.name}: row group 0, column '{KEY}' cannot be read"):
        scatter_groups(job)


@pytest.mark.parametrize("limit", [1, None])
def test_values_of_long_dictionaries_are_decoded_in_parts(
    limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few long texts: one column is to be shuffled as codes but closes, the other has an Arrow dictionary."""
    texts = [f"{number}" * 1000 for number in range(3)]
    kind = pa.dictionary(pa.int32(), pa.string())

    def long(start: int) -> pa.Table:
        own = [texts[number % 3] if number % 5 else None for number in range(start, start + ROWS)]
        others = pa.array([own[0] or "", *own[1:]], kind)
        return columns(start).set_column(1, "Code", pa.array(own)).append_column("Category", others)

    files = write_files(tmp_path / "source", [long(file * ROWS) for file in range(FILES)])
    tables = {"t": ["Code", "List", "Number", "Category"]}
    job = make_job(tmp_path / "out", files, tables, dictionary_columns=frozenset({"Code"}))
    run_kernel(job)
    for module, name in ((normalize, "DECODED_BYTES"), (passes, "DECODED_BYTES"), (scatter, "_MOST_JOINED")):
        monkeypatch.setattr(module, name, 20_000)
    other = with_target(job, "grouped")
    blocks = MemoryBlocks().scan(replace(job, slices=()))
    blocks.dictionaries = UnifiedDictionaries(limit)
    blocks.parts += scatter_slices(other, other.slices, 10**6, blocks.dictionaries)
    for bucket in range(other.buckets):
        blocks.gather(other, bucket)
    assert digests(other) == digests(job)
    # Of 330 kB. One part can have 20 kB of either column, and a row more.
    assert max(part.batch.nbytes for part in blocks.parts) < 50_000
    assert len(blocks.parts) < 40


def test_error_of_arrow_in_joined_rows_names_first_and_last_file(
    job: BucketJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise pa.ArrowInvalid("offset overflow\nwhile concatenating.")

    monkeypatch.setattr(UnifiedDictionaries, "encode", fail)
    first, last = (job.slices[number].path for number in (0, -1))
    with pytest.raises(UnreadableFilesError) as caught:
        scatter_groups(job)
    assert str(caught.value).startswith(f"{first} to {last}: the rows cannot be joined: offset overflow while conc")
    assert "; write them again as one file, or select the previous snapshot" in str(caught.value)


def test_lack_of_memory_in_joined_rows_is_no_fault_of_files(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(UnifiedDictionaries, "encode", fail)
    with pytest.raises(MemoryError):
        scatter_groups(job)


def spoil_text(job: BucketJob) -> Path:
    """Replace code 1 in the third file by bytes that are not UTF-8."""
    path = Path(job.slices[2].path)
    table = pq.read_table(path)
    codes = [code and code.encode().replace(b"code 1", b"code\xff1") for code in table["Code"].to_pylist()]
    text = pa.array(codes, pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(table.set_column(1, "Code", text), path)
    return path


def test_text_that_is_not_utf8_is_found_in_its_file(job: BucketJob) -> None:
    path = spoil_text(job)
    with pytest.raises(SchemaError, match=f"{path.name}: row group 0, column 'Code'"):
        scatter_groups(job)


def test_replaced_texts_are_counted_once(job: BucketJob) -> None:
    spoil_text(job)
    _, statistics = scatter_groups(replace(job, types=TypeSettings(invalid_text="replace")))
    changed = sum(text == "code 1" for text in columns(2 * ROWS)["Code"].to_pylist())
    assert dict(statistics.invalid_texts) == {"Code": changed}


def test_engine_reads_small_files_in_groups(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []

    def watch(*arguments: Any) -> Any:
        groups.append(len(arguments[1]))
        return scatter_slices(*arguments)

    monkeypatch.setattr(arrow, "scatter_slices", watch)
    outcomes = list(ArrowEngine(Settings(threads=2)).bucket(job, (), lambda _rows, _bytes: None))
    assert groups == [FILES]
    assert sum(outcome.rows for outcome in outcomes) == FILES * ROWS
