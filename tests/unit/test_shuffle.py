"""Pieces on their way between processes, without any process: packed, mixed up, ordered as Spark does, gathered."""

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
from bucketwheel.engines.spark.shuffle import Arrivals, Run, column_groups, pack
from bucketwheel.kernel.dictionaries import Codebooks
from bucketwheel.kernel.gather import gather_buckets
from bucketwheel.kernel.scatter import scatter
from engine_jobs import BUCKETS, CODED, COLUMNS, elsewhere, files_in
from kernel_jobs import KEY, digests, make_job, run_kernel, write_files

PLACES = (11, 5, 7)


@pytest.fixture
def job(tmp_path: Path) -> BucketJob:
    made = make_job(tmp_path / "out", files_in(tmp_path / "source"), COLUMNS, row_group_rows=100, max_file_bytes=9000)
    return replace(made, bucket_count=BUCKETS, dictionary_columns=CODED)


def alone(job: BucketJob) -> tuple[Run, ...]:
    return tuple((bucket,) for bucket in range(job.bucket_count))


def packed(
    job: BucketJob, task: int, numbers: Sequence[int], max_rows: int, runs: Sequence[Run] = ()
) -> list[pa.RecordBatch]:
    books = Codebooks()
    runs = runs or alone(job)
    skip = set(range(job.bucket_count)).difference(*runs)
    slices = (scatter(job, job.slices[number], max_rows, books, skip) for number in numbers)
    places = {run: PLACES[turn % len(PLACES)] for turn, run in enumerate(runs)}
    return list(pack(job, task, slices, books, places, PLACES))


def shuffled(batches: Sequence[pa.RecordBatch], place: int, rows: int) -> list[pa.RecordBatch]:
    """What arrives at one place, in batches of some rows, in the order that Spark is asked for."""
    table = pa.Table.from_batches(batches)
    arrived = table.filter(pc.equal(table["place"], place))
    ordered: pa.Table = arrived.sort_by([(name, "ascending") for name in shuffle.ORDER])
    return list(ordered.to_batches(max_chunksize=rows))


def gathered(job: BucketJob, batches: Sequence[pa.RecordBatch], rows: int = 5, runs: Sequence[Run] = ()) -> list[int]:
    found = []
    for place in PLACES:
        arrivals = Arrivals(job, shuffled(batches, place, rows))
        for first, pieces in arrivals:
            (run,) = (run for run in runs or alone(job) if run[0] == first)
            outcomes = gather_buckets(job, run, pieces, arrivals.codebooks)
            assert all(outcome.rows for outcome in outcomes)
            found += [outcome.bucket for outcome in outcomes]
    return sorted(found)


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("max_rows", [70, 10_000])
def test_files_are_those_of_the_kernel_alone_for_any_tasks(job: BucketJob, tasks: int, max_rows: int) -> None:
    shares = [range(len(job.slices))[start::tasks] for start in range(tasks)]
    batches = [batch for task, share in enumerate(shares) for batch in packed(job, task, share, max_rows)]
    random.Random(4).shuffle(batches)
    expected = elsewhere(job, "expected")
    run_kernel(expected)
    assert gathered(job, batches) == list(range(BUCKETS))
    assert digests(job) == digests(expected)


@pytest.mark.parametrize("runs", [((0, 1, 2), (3, 5), (6,)), ((1, 2, 3, 4, 5, 6),)])
def test_buckets_that_are_gathered_together_travel_together(job: BucketJob, runs: tuple[Run, ...]) -> None:
    halves = [range(len(job.slices))[start::2] for start in range(2)]
    batches = [batch for task, share in enumerate(halves) for batch in packed(job, task, share, 10_000, runs)]
    random.Random(6).shuffle(batches)
    made = sorted(bucket for run in runs for bucket in run)
    expected = elsewhere(job, "expected")
    run_kernel(expected, skip=set(range(BUCKETS)).difference(made))
    assert gathered(job, batches, runs=runs) == made
    assert digests(job) == digests(expected)
    pieces = pa.Table.from_batches(batches).filter(pc.field("run") >= 0)
    assert pieces.num_rows <= len(job.slices) * len(column_groups(job)) * len(runs)


def test_long_pieces_are_cut_and_come_back_in_order(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle, "_PIECE_BYTES", 100)
    batches = packed(job, 0, range(len(job.slices)), 10_000)
    assert sum(batch.num_rows for batch in batches) > 4 * len(job.slices) * BUCKETS * len(column_groups(job))
    expected = elsewhere(job, "expected")
    run_kernel(expected)
    gathered(job, batches)
    assert digests(job) == digests(expected)


@pytest.mark.parametrize("longest", [100, 1000])
def test_no_payload_is_longer_than_it_may_be_and_all_come_back_whole(
    job: BucketJob, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    monkeypatch.setattr(shuffle, "_PIECE_BYTES", longest)
    shares = [range(len(job.slices))[start::3] for start in range(3)]
    batches = [batch for task, share in enumerate(shares) for batch in packed(job, task, share, 10_000)]
    random.Random(5).shuffle(batches)
    # Short as the pieces are, what comes before the rows of a message is longer.
    assert max(len(payload) for payload in pa.Table.from_batches(batches)["payload"].to_pylist()) == longest
    expected = elsewhere(job, "expected")
    run_kernel(expected)
    gathered(job, batches, rows=2)
    assert digests(job) == digests(expected)


def test_a_batch_has_a_bound_whatever_dictionaries_and_rows_there_are(tmp_path: Path) -> None:
    names = [f"Code{number}" for number in range(12)]
    # Two rows as long as a thousand others, and dictionaries that are longer than all pieces of their columns.
    texts = ["x" * 1_500_000 if row in (7, 8) else f"t{row}" for row in range(2000)]
    codes = {name: [f"{name} {row % 500:0400d}" for row in range(2000)] for name in names}
    table = pa.table({KEY: pa.array(range(2000), pa.int32()), "Text": texts, **codes})
    files = write_files(tmp_path / "source", [table.slice(start, 200) for start in range(0, 2000, 200)])
    job = make_job(tmp_path / "out", files, {"texts": ["Text"], "codes": names}, dictionary_columns=frozenset(names))
    batches = [batch for task in range(len(job.slices)) for batch in packed(job, task, [task], 10_000)]
    headers = pa.Table.from_batches(batches).filter(pc.field("run") == -1)
    assert sum(map(len, headers["payload"].to_pylist())) > 20 * 2**20
    for place in PLACES:
        for batch in shuffled(batches, place, shuffle.BATCH_ROWS):
            assert all(len(payload) <= 512 * 2**10 for payload in batch["payload"].to_pylist())
    assert max(batch.nbytes for batch in batches) < 9 * 2**20
    expected = elsewhere(job, "expected")
    run_kernel(expected)
    gathered(job, batches, rows=3)
    assert digests(job) == digests(expected)


def test_a_task_sends_its_dictionaries_once_to_each_place_and_not_with_every_piece(job: BucketJob) -> None:
    table = pa.Table.from_batches(packed(job, 0, range(len(job.slices)), 10_000))
    headers = table.filter(pc.less(table["run"], 0))
    books = headers.filter(pc.less(headers["grp"], 0))
    assert sorted(books["place"].to_pylist()) == sorted(PLACES)
    assert len(set(books["payload"].to_pylist())) == 1
    pieces = table.filter(pc.greater_equal(table["run"], 0))
    assert {b"C281" in payload or b"C100" in payload for payload in pieces["payload"].to_pylist()} == {False}


def test_batches_are_handed_over_as_they_fill(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed(job, 0, [0, 1], 10_000)
    monkeypatch.setattr(shuffle, "_BATCH_BYTES", 4096)
    parts = packed(job, 0, [0, 1], 10_000)
    assert len(whole) == 1
    assert len(parts) > 5
    assert pa.Table.from_batches(parts).combine_chunks() == pa.Table.from_batches(whole).combine_chunks()


def test_pieces_that_are_asked_for_out_of_turn_are_refused(job: BucketJob) -> None:
    arrivals = iter(Arrivals(job, shuffled(packed(job, 0, [0], 10_000), PLACES[0], 100)))
    _, pieces = next(arrivals)
    with pytest.raises(LookupError, match="were asked for"):
        pieces(["Text", "Tags"])
