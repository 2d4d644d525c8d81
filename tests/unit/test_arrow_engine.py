from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from bucketwheel import host
from bucketwheel.contracts import BucketCheck, BucketJob, EngineStatistics
from bucketwheel.engines import arrow, spill
from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.engines.bucket_groups import group_buckets
from bucketwheel.engines.spill import SpillBuffer
from bucketwheel.errors import EngineError, StorageError
from bucketwheel.host import available_memory, available_threads
from bucketwheel.kernel.gather import gather_buckets
from bucketwheel.kernel.scatter import scatter_slices
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import Settings, StorageSettings
from bucketwheel.testing.engine_jobs import CODED, COLUMNS, bucket, ignore, with_target, write_source
from bucketwheel.testing.jobs import digests, make_job, numbered, write_files
from kernel_jobs import people


@pytest.fixture
def job(tmp_path: Path) -> BucketJob:
    files = write_source(tmp_path / "source")
    return make_job(tmp_path / "out", files, COLUMNS, dictionary_columns=CODED, bucket_count=5)


def engine(spill: Path | None = None, **settings: Any) -> ArrowEngine:
    storage = StorageSettings(spill_directory=str(spill) if spill else None)
    return ArrowEngine(Settings(storage=storage, **settings))


def test_spilling_gives_identical_files(job: BucketJob, tmp_path: Path) -> None:
    roomy, tight = engine(memory=2**30), engine(tmp_path / "spill", memory=1)
    other = with_target(job, "tight")
    assert bucket(roomy, job) == bucket(tight, other)
    assert digests(job) == digests(other)
    assert roomy.statistics().spilled_bytes == 0
    assert tight.statistics().spilled_bytes > 100_000
    assert list((tmp_path / "spill").iterdir()) == []


def test_only_rows_beyond_the_budget_are_spilled(job: BucketJob, tmp_path: Path) -> None:
    all_of_it, part_of_it = engine(memory=1), engine(memory=800_000)
    bucket(all_of_it, job)
    bucket(part_of_it, job)
    assert 0 < part_of_it.statistics().spilled_bytes < all_of_it.statistics().spilled_bytes - 50_000


def test_statistics_are_totals_and_are_not_reset(job: BucketJob) -> None:
    tight = engine(memory=1, threads=1)
    bucket(tight, job)
    once = tight.statistics().spilled_bytes
    bucket(tight, job)
    bucket(tight, job)
    total = tight.statistics()
    assert total == tight.statistics()
    assert total.spilled_bytes == 3 * once
    assert total.since(EngineStatistics(spilled_bytes=once)).spilled_bytes == 2 * once


def test_large_slice_is_read_in_batches_when_memory_is_short(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def watch(*arguments: Any) -> Any:
        asked.append(arguments[2])
        return scatter_slices(*arguments)

    monkeypatch.setattr(arrow, "scatter_slices", watch)
    bucket(engine(memory=1), job)
    bucket(engine(memory=2**30, threads=2), job)
    # Never so few rows that handling them is all there is to do, and no more than the budget bears.
    assert asked[0] == 1024
    assert asked[-1] == pytest.approx(2**30 * 0.4 / 2.5 / job.decoded_bytes_per_row / 2, rel=0.01)


def test_batches_shrink_when_rows_are_longer_than_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dictionaries that outgrow their share close, so that rows have texts in place of codes."""
    parts = [
        people(numbered(1000, first), Token=pa.array([f"{row:0200d}" for row in range(first, first + 1000)]))
        for first in range(0, 20_000, 1000)
    ]
    files = write_files(tmp_path / "source", parts, 1000)
    coded: Any = {"dictionary_columns": frozenset(["Token"]), "decoded_bytes_per_row": 16}
    job = make_job(tmp_path / "out", files, {"t": ["Token"]}, **coded)
    scattered: list[int] = []
    gathered: list[int] = []

    def watch(*arguments: Any) -> Any:
        scattered.append(arguments[2])
        return scatter_slices(*arguments)

    def grouped(*arguments: Any) -> Any:
        gathered.append(arguments[2])
        return group_buckets(*arguments)

    monkeypatch.setattr(arrow, "scatter_slices", watch)
    monkeypatch.setattr(arrow, "group_buckets", grouped)
    bucket(engine(memory=4_000_000, threads=1), job)
    # A key takes 11 bytes, a text 204.
    assert scattered[0] == 4_000_000 * 0.4 / 2.5 / 16
    assert scattered[-1] == pytest.approx(4_000_000 * 0.4 / 2.5 / 215, rel=0.05)
    assert gathered == [pytest.approx(4_000_000 * 0.4 / 4 / 215, rel=0.05)]
    other = with_target(job, "other")
    bucket(engine(memory=2**30), other)
    assert digests(other) == digests(job)


@pytest.mark.parametrize(
    ("row_group_rows", "expected"), [(50, [10_000]), (500, [10_000]), (1000, [1000] * 10), (5000, [2962, 2038] * 2)]
)
def test_slices_of_small_row_groups_keep_their_batches(
    row_group_rows: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later rows are longer than planned, but reading row groups of a few rows one by one takes longer."""
    parts = [
        people(numbered(5000, first), Token=pa.array([f"{row:0200d}" for row in range(first, first + 5000)]))
        for first in range(0, 40_000, 5000)
    ]
    files = write_files(tmp_path / "source", parts, row_group_rows)
    coded: Any = {"dictionary_columns": frozenset(["Token"]), "decoded_bytes_per_row": 16}
    job = make_job(tmp_path / "out", files, {"t": ["Token"]}, groups_per_slice=100, **coded)
    batches: list[list[int]] = []

    def watch(*arguments: Any) -> Any:
        batches.append([])
        for scattered in scatter_slices(*arguments):
            batches[-1].append(len(scattered.batch))
            yield scattered

    monkeypatch.setattr(arrow, "scatter_slices", watch)
    bucket(engine(memory=4_000_000, threads=1), job)
    assert batches[0] == [10_000]
    # The last two files.
    rows = [number for each in batches for number in each]
    assert rows[-len(expected) :] == expected


@pytest.mark.parametrize(("memory", "threads"), [(1, 1), (2**30, 4)])
def test_gather_uses_fewer_threads_when_memory_is_short(job: BucketJob, memory: int, threads: int) -> None:
    busy: set[int] = set()
    most = 0
    lock = threading.Lock()

    def watch(*arguments: Any) -> Any:
        nonlocal most
        with lock:
            busy.add(threading.get_ident())
            most = max(most, len(busy))
        try:
            time.sleep(0.02)
            return gather_buckets(*arguments)
        finally:
            with lock:
                busy.discard(threading.get_ident())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow, "gather_buckets", watch)
        bucket(engine(memory=memory, threads=4), replace(job, bucket_count=8))
    assert most == threads


@pytest.mark.parametrize(("target", "threads"), [("out", 1), ("s3://bucket/out", 3)])
def test_small_files_are_verified_by_one_thread_unless_they_are_on_s3(
    job: BucketJob, monkeypatch: pytest.MonkeyPatch, target: str, threads: int
) -> None:
    outcomes = bucket(engine(), job)
    tables = tuple(replace(table, directory=f"{target}/{table.name}") for table in job.tables)
    seen: set[int] = set()

    def verify(_job: BucketJob, outcome: BucketOutcome) -> BucketCheck:
        seen.add(threading.get_ident())
        time.sleep(0.05)
        return BucketCheck(outcome.bucket, outcome.rows, outcome.key_checksum, {})

    monkeypatch.setattr(arrow, "verify_bucket", verify)
    list(engine(threads=3).verify(replace(job, tables=tables), outcomes, ignore))
    assert len(seen) == threads


def test_spill_directory_is_created_and_empty_after_an_error(job: BucketJob, tmp_path: Path) -> None:
    Path(job.slices[-1].path).write_text("no Parquet", encoding="utf-8")
    spill = tmp_path / "a" / "b"
    with pytest.raises(Exception, match="it does not begin as a Parquet file"):
        bucket(engine(spill, memory=1), job)
    assert list(spill.iterdir()) == []


def test_error_names_spill_directory_it_cannot_create(job: BucketJob, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=rf"{tmp_path / 'file' / 'spill'}: cannot spill to"):
        bucket(engine(tmp_path / "file" / "spill", memory=1), job)


@pytest.mark.parametrize("written", [0, 50])
def test_full_spill_disk_error_names_directory_and_fix(
    job: BucketJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    pwrite, calls = os.pwrite, []

    def fill(*arguments: Any) -> int:
        calls.append(1)
        if len(calls) > written:
            raise OSError(28, "No space left on device")
        return pwrite(*arguments)

    monkeypatch.setattr(os, "pwrite", fill)
    with pytest.raises(StorageError, match=rf"{tmp_path / 'spill'}.*no space left.*spill_directory"):
        bucket(engine(tmp_path / "spill", memory=1), job)
    assert list((tmp_path / "spill").iterdir()) == []
    assert digests(job) == {}


def test_spill_continues_after_short_writes(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite

    def part(descriptor: int, content: memoryview, offset: int) -> int:
        return pwrite(descriptor, content[:1000], offset)

    other = with_target(job, "other")
    bucket(engine(), other)
    monkeypatch.setattr(os, "pwrite", part)
    bucket(engine(memory=1), job)
    assert digests(job) == digests(other)


def test_first_failure_cancels_pending_bucket_groups(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def fail(_job: BucketJob, buckets: list[int], *_: Any) -> None:
        started.append(buckets)
        time.sleep(0.01)
        raise StorageError(f"bucket {buckets[0]} failed")

    monkeypatch.setattr(arrow, "gather_buckets", fail)
    with pytest.raises(StorageError, match=r"bucket \d failed"):
        bucket(engine(threads=2), replace(job, bucket_count=50))
    assert len(started) < 20


def test_closing_the_engine_iterator_ends_all_threads(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """A surviving thread would read an emptied buffer and could write a file that lacks rows."""
    states = []
    closed = threading.Event()
    close = SpillBuffer.close

    def slow(job: BucketJob, buckets: list[int], *rest: Any) -> Any:
        time.sleep(0.05 * bool(buckets[0]))
        states.append(closed.is_set())
        return gather_buckets(job, buckets, *rest)

    def watch(store: SpillBuffer) -> None:
        closed.set()
        close(store)

    monkeypatch.setattr(arrow, "gather_buckets", slow)
    monkeypatch.setattr(SpillBuffer, "close", watch)
    outcomes = engine(threads=2).bucket(job, (), ignore)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert states
    assert not any(states)


@pytest.mark.parametrize("where", ["scatter_slices", "gather_buckets"])
def test_callback_error_ends_threads_before_buffer_closes(
    job: BucketJob, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    running = threading.active_count()
    closed = threading.Event()
    late = []

    def slow(work: Callable[..., Any]) -> Callable[..., Any]:
        def delayed(*arguments: Any) -> Any:
            time.sleep(0.05)
            late.append(closed.is_set())
            return work(*arguments)

        return delayed

    def advance(_rows: int, size: int) -> None:
        if where == "scatter_slices" or size:
            raise RuntimeError("stop")

    def watch(store: SpillBuffer) -> None:
        closed.set()
        close(store)

    close = SpillBuffer.close
    monkeypatch.setattr(SpillBuffer, "close", watch)
    monkeypatch.setattr(arrow, where, slow(scatter_slices if where == "scatter_slices" else gather_buckets))
    with pytest.raises(RuntimeError, match="stop"):
        list(engine(threads=3).bucket(job, (), advance))
    assert late
    assert not any(late)
    assert threading.active_count() == running


def test_unreadable_spilled_block_error_names_directory(
    job: BucketJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(spill._SpillFile, "read", broken)
    with pytest.raises(StorageError, match=rf"{tmp_path / 'spill'}.*cannot read spilled blocks from.*Input/output"):
        bucket(engine(tmp_path / "spill", memory=1), job)


def test_threads_and_memory_default_to_those_of_the_machine() -> None:
    assert 1 <= available_threads() <= (os.cpu_count() or 1)
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_available_memory_respects_container_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    low, none = tmp_path / "low", tmp_path / "none"
    low.write_text("123456\n", encoding="utf-8")
    none.write_text("max\n", encoding="utf-8")
    monkeypatch.setattr(host, "_MEMORY_LIMITS", (str(low), str(none), str(tmp_path / "missing")))
    assert available_memory() == 123456
    monkeypatch.setattr(host, "_MEMORY_LIMITS", (str(none),))
    assert available_memory() == psutil.virtual_memory().total


def test_available_threads_without_cpu_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress(AttributeError):
        monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_threads() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_threads() == 1


def test_out_of_memory_error_names_settings_to_change(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("malloc of size 64 failed")

    monkeypatch.setattr(arrow, "gather_buckets", refuse)
    with pytest.raises(
        EngineError, match=r"not enough memory \(malloc of size 64 failed\) with memory=1048576 bytes"
    ):
        bucket(ArrowEngine(Settings(memory=2**20, threads=1)), job)
