"""Shuffle blocks without Spark: written, shuffled, sorted as Spark sorts them, and gather_all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bucketwheel.contracts import BucketJob
from bucketwheel.engines.spark import shuffle
from bucketwheel.engines.spark.shuffle import BucketGroup, ShuffleReader, write_shuffle
from bucketwheel.engines.spark_sizing import header_bytes
from bucketwheel.kernel import gather
from bucketwheel.kernel.dictionaries import UnifiedDictionaries, UnifiedDictionary
from bucketwheel.kernel.gather import gather_buckets
from bucketwheel.kernel.passes import column_groups
from bucketwheel.kernel.scatter import scatter
from bucketwheel.testing.engine_jobs import BUCKETS, CODED, COLUMNS, with_target, write_source
from bucketwheel.testing.jobs import KEY, digests, make_job, make_slices, run_kernel, write_files

PARTITION_KEYS = (11, 5, 7)


@pytest.fixture
def job(tmp_path: Path) -> BucketJob:
    written = make_job(
        tmp_path / "out", write_source(tmp_path / "source"), COLUMNS, row_group_rows=100, max_file_bytes=9000
    )
    return replace(written, bucket_count=BUCKETS, dictionary_columns=CODED)


def single_buckets(job: BucketJob) -> tuple[BucketGroup, ...]:
    return tuple((bucket,) for bucket in range(job.bucket_count))


def write_blocks(
    job: BucketJob,
    task: int,
    numbers: Sequence[int],
    max_rows: int,
    groups: Sequence[BucketGroup] = (),
    limit: int | None = None,
) -> list[pa.RecordBatch]:
    dictionaries = UnifiedDictionaries(limit)
    groups = groups or single_buckets(job)
    skip = set(range(job.bucket_count)).difference(*groups)
    slices = (scatter(job, job.slices[number], max_rows, dictionaries, skip) for number in numbers)
    keys = {group: PARTITION_KEYS[turn % len(PARTITION_KEYS)] for turn, group in enumerate(groups)}
    return list(write_shuffle(job, task, slices, dictionaries, keys, PARTITION_KEYS))


def shuffled(batches: Sequence[pa.RecordBatch], key: int, rows: int) -> list[pa.RecordBatch]:
    """What arrives at one key, in batches of some rows, in the order that Spark is asked for."""
    table = pa.Table.from_batches(batches)
    arrived = table.filter(pc.equal(table["partition_key"], key))
    ordered: pa.Table = arrived.sort_by([(name, "ascending") for name in shuffle.ORDER])
    return list(ordered.to_batches(max_chunksize=rows))


def gather_all(
    job: BucketJob, batches: Sequence[pa.RecordBatch], rows: int = 5, groups: Sequence[BucketGroup] = ()
) -> list[int]:
    written = []
    for key in PARTITION_KEYS:
        reader = ShuffleReader(job, shuffled(batches, key, rows))
        for first, blocks in reader:
            (group,) = (group for group in groups or single_buckets(job) if group[0] == first)
            outcomes = gather_buckets(job, group, blocks, reader.dictionaries)
            assert all(outcome.rows for outcome in outcomes)
            written += [outcome.bucket for outcome in outcomes]
    return sorted(written)


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("max_rows", [70, 10_000])
def test_shuffled_files_equal_kernel_files_for_any_tasks(job: BucketJob, tasks: int, max_rows: int) -> None:
    shares = [range(len(job.slices))[start::tasks] for start in range(tasks)]
    batches = [batch for task, share in enumerate(shares) for batch in write_blocks(job, task, share, max_rows)]
    random.Random(4).shuffle(batches)
    expected = with_target(job, "expected")
    run_kernel(expected)
    assert gather_all(job, batches) == list(range(BUCKETS))
    assert digests(job) == digests(expected)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("limits", [(None,), (None, 0), (None, 4000, 0), (4000, 0)])
def test_files_do_not_depend_on_tasks_that_send_values(
    job: BucketJob, limits: Sequence[int | None], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = [range(len(job.slices))[start :: len(limits)] for start in range(len(limits))]
    batches = [
        batch
        for task, (share, limit) in enumerate(zip(shares, limits, strict=True))
        for batch in write_blocks(job, task, share, 10_000, limit=limit)
    ]
    random.Random(3).shuffle(batches)
    expected = with_target(job, "expected")
    run_kernel(expected)
    if large:
        # Join and order columns one by one, and copy two or three blocks at a time.
        monkeypatch.setattr(gather, "_LARGE_TABLE", -1)
        monkeypatch.setattr(gather, "_DETACHED_BYTES", 2000)
    assert gather_all(job, batches) == list(range(BUCKETS))
    assert digests(job) == digests(expected)


@pytest.mark.parametrize("groups", [((0, 1, 2), (3, 5), (6,)), ((1, 2, 3, 4, 5, 6),)])
def test_bucket_groups_are_shuffled_as_one(job: BucketJob, groups: tuple[BucketGroup, ...]) -> None:
    halves = [range(len(job.slices))[start::2] for start in range(2)]
    batches = [batch for task, share in enumerate(halves) for batch in write_blocks(job, task, share, 10_000, groups)]
    random.Random(6).shuffle(batches)
    written = sorted(bucket for group in groups for bucket in group)
    expected = with_target(job, "expected")
    run_kernel(expected, skip=set(range(BUCKETS)).difference(written))
    assert gather_all(job, batches, groups=groups) == written
    assert digests(job) == digests(expected)
    blocks = pa.Table.from_batches(batches).filter(pc.field("bucket_group") >= 0)
    assert blocks.num_rows <= len(job.slices) * len(column_groups(job)) * len(groups)


def test_long_blocks_are_split_and_read_in_order(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "_MAX_PAYLOAD_BYTES", 100)
    batches = write_blocks(job, 0, range(len(job.slices)), 10_000)
    assert sum(batch.num_rows for batch in batches) > 4 * len(job.slices) * BUCKETS * len(column_groups(job))
    expected = with_target(job, "expected")
    run_kernel(expected)
    gather_all(job, batches)
    assert digests(job) == digests(expected)


@pytest.mark.parametrize("longest", [100, 1000])
def test_payloads_are_bounded_and_rejoined(job: BucketJob, monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    monkeypatch.setattr(shuffle, "_MAX_PAYLOAD_BYTES", longest)
    shares = [range(len(job.slices))[start::3] for start in range(3)]
    batches = [batch for task, share in enumerate(shares) for batch in write_blocks(job, task, share, 10_000)]
    random.Random(5).shuffle(batches)
    # Short as the blocks are, what comes before the rows of a message is longer.
    assert max(len(payload) for payload in pa.Table.from_batches(batches)["payload"].to_pylist()) == longest
    expected = with_target(job, "expected")
    run_kernel(expected)
    gather_all(job, batches, rows=2)
    assert digests(job) == digests(expected)


@pytest.mark.slow
def test_batch_bytes_are_bounded_for_any_dictionaries_and_rows(tmp_path: Path) -> None:
    names = [f"Code{number}" for number in range(12)]
    # Two rows as long as a thousand others, and dictionaries that are longer than all blocks of their columns.
    texts = ["x" * 1_500_000 if row in (7, 8) else f"t{row}" for row in range(2000)]
    codes = {name: [f"{name} {row % 500:0400d}" for row in range(2000)] for name in names}
    table = pa.table({KEY: pa.array(range(2000), pa.int32()), "Text": texts, **codes})
    files = write_files(tmp_path / "source", [table.slice(start, 200) for start in range(0, 2000, 200)])
    job = make_job(tmp_path / "out", files, {"texts": ["Text"], "codes": names}, dictionary_columns=frozenset(names))
    batches = [batch for task in range(len(job.slices)) for batch in write_blocks(job, task, [task], 10_000)]
    headers = pa.Table.from_batches(batches).filter(pc.field("bucket_group") == -1)
    assert sum(map(len, headers["payload"].to_pylist())) > 20 * 2**20
    for key in PARTITION_KEYS:
        for batch in shuffled(batches, key, shuffle.BATCH_ROWS):
            assert all(len(payload) <= 512 * 2**10 for payload in batch["payload"].to_pylist())
    assert max(batch.nbytes for batch in batches) < 9 * 2**20
    expected = with_target(job, "expected")
    run_kernel(expected)
    gather_all(job, batches, rows=3)
    assert digests(job) == digests(expected)


def test_task_sends_dictionaries_once_per_partition(job: BucketJob) -> None:
    table = pa.Table.from_batches(write_blocks(job, 0, range(len(job.slices)), 10_000))
    headers = table.filter(pc.less(table["bucket_group"], 0))
    dictionaries = headers.filter(pc.less(headers["column_group"], 0))
    assert sorted(dictionaries["partition_key"].to_pylist()) == sorted(PARTITION_KEYS)
    assert len(set(dictionaries["payload"].to_pylist())) == 1
    blocks = table.filter(pc.greater_equal(table["bucket_group"], 0))
    assert {b"C281" in payload or b"C100" in payload for payload in blocks["payload"].to_pylist()} == {False}


def test_known_dictionaries_are_translated_once(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replace(job, slices=make_slices([Path(job.slices[0].path)], 10))
    batches = [batch for task in range(4) for batch in write_blocks(whole, task, [0], 10_000)]
    translated = []
    translation = UnifiedDictionary.translation

    def counted(self: UnifiedDictionary, values: pa.Array) -> object:
        translated.append(len(values))
        return translation(self, values)

    monkeypatch.setattr(UnifiedDictionary, "translation", counted)
    reader = iter(ShuffleReader(job, shuffled(batches, PARTITION_KEYS[0], 100)))
    next(reader)
    assert len(translated) == len(CODED)


def test_estimated_dictionary_bytes_are_close_to_those_sent(job: BucketJob) -> None:
    batches = pa.Table.from_batches(write_blocks(job, 0, range(len(job.slices)), 10_000))
    headers = batches.filter(pc.field("bucket_group") < 0).filter(pc.field("column_group") < 0)
    sent = sum(map(len, headers["payload"].to_pylist()))
    values = sum(len(f"C{code}") for code in range(281)) + 4 * 281
    estimated = header_bytes(len(PARTITION_KEYS), len(CODED), values)
    assert sent / 2 < estimated < sent * 2


def test_batches_are_yielded_when_full(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_blocks(job, 0, [0, 1], 10_000)
    monkeypatch.setattr(shuffle, "_BATCH_BYTES", 4096)
    parts = write_blocks(job, 0, [0, 1], 10_000)
    assert len(whole) == 1
    assert len(parts) > 5
    assert pa.Table.from_batches(parts).combine_chunks() == pa.Table.from_batches(whole).combine_chunks()


def test_shuffle_reader_rejects_reads_out_of_order(job: BucketJob) -> None:
    reader = iter(ShuffleReader(job, shuffled(write_blocks(job, 0, [0], 10_000), PARTITION_KEYS[0], 100)))
    _, blocks = next(reader)
    with pytest.raises(LookupError, match="expected blocks of"):
        blocks(["Text", "Tags"])
