"""The arrow engine: threads on one machine under a memory budget, without a JVM."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.contracts import BucketCheck, BucketJob, EngineStatistics, ReadKeys, Slice
from bucketwheel.engines.bucket_groups import MAX_GROUP_ROWS, group_buckets
from bucketwheel.engines.memory import WORKING_SHARE, batch_rows, dictionary_budget, gather_bytes, memory_budget
from bucketwheel.engines.slice_groups import group_slices
from bucketwheel.engines.spill import KEYS, SpillBuffer, spill_budget
from bucketwheel.errors import EngineError
from bucketwheel.host import available_threads
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.gather import gather_buckets
from bucketwheel.kernel.passes import Widths, wider_job
from bucketwheel.kernel.scatter import scatter_slices
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.runs.column_statistics import ColumnStatistics
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import Settings
from bucketwheel.storage import is_s3, wrap_os_errors
from bucketwheel.system import system

# Copies of a slice that scatter holds in memory: its compressed pages, its decoded columns and their ordered copy.
_WORKING_COPIES = 2.5
# In smaller batches, the fixed cost per shuffle block becomes noticeable.
_PREFERRED_BATCH_ROWS = 65_536
# Row groups this many times smaller than a batch are small.
_SMALL_GROUPS = 4
# Rows over which the bytes of a row are averaged, so that a few long values do not count as much as many.
_MEASURED_ROWS = 8192
# Minimum bucket groups per thread. Small groups balance the load, and a kill loses at most one group per thread.
_GROUPS_PER_THREAD = 8
# Rows for each file of a bucket below which opening the files and reading their footers takes longer than the keys.
_FEW_ROWS = 4096

T = TypeVar("T")
R = TypeVar("R")


def _has_small_row_groups(part: Slice, max_rows: int) -> bool:
    """Return whether a slice is read by row groups much smaller than `max_rows`, at several times the CPU."""
    return part.rows > max_rows and part.rows * _SMALL_GROUPS < len(part.row_groups) * max_rows


def _waits_for_interpreter(job: BucketJob, outcomes: Sequence[BucketOutcome]) -> bool:
    """Return whether threads that verify these buckets would wait for Python's global lock, not for storage."""
    rows = sum(outcome.rows for outcome in outcomes)
    files = sum(len(outcome.files) for outcome in outcomes)
    return rows < files * _FEW_ROWS and not any(is_s3(table.directory) for table in job.tables)


class _RowBytes:
    """The bytes of a decoded row: an estimate from the footers, or more if rows turn out to be longer.

    Footers do not tell how long the values of a dictionary are, and a dictionary that closes leaves rows with values.
    """

    def __init__(self, estimate: float) -> None:
        self.most = estimate
        self._lock = threading.Lock()
        self._rows, self._size = 0, 0

    def add(self, rows: int, size: int) -> None:
        """Count rows with their bytes."""
        with self._lock:
            self._rows += rows
            self._size += size
            if self._rows >= _MEASURED_ROWS:
                self.most = max(self.most, self._size / self._rows)
                self._rows, self._size = 0, 0


class ArrowEngine:
    """Scatters slices and gathers buckets on `threads` threads; spills to disk beyond `memory` bytes."""

    def __init__(self, settings: Settings) -> None:
        self._threads = available_threads() if settings.threads == "auto" else settings.threads
        self._budget = memory_budget(settings)
        self._spill_budget = spill_budget(settings)
        self._dictionary_budget = dictionary_budget(settings)
        self._spill_directory = settings.storage.spill_directory
        self._spilled = 0
        self._columns: tuple[ColumnStatistics, ...] = ()
        self._keys: ReadKeys | None = None
        self._invalid_texts: Mapping[str, int] = {}

    def statistics(self) -> EngineStatistics:
        """See `contracts.Engine.statistics`."""
        return EngineStatistics(
            self._spilled, columns=self._columns, keys=self._keys, invalid_texts=self._invalid_texts
        )

    def bucket(
        self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        """See `contracts.Engine.bucket`."""
        self._columns, self._keys, self._invalid_texts = (), None, {}
        skip = frozenset(done)
        todo = [number for number in range(job.buckets) if number not in skip]
        if not todo:
            return
        with self._spill_buffer(job) as buffer:
            dictionaries = UnifiedDictionaries(self._dictionary_budget)
            row_bytes = _RowBytes(job.decoded_bytes_per_row)
            with closing(self._scatter(job, skip, buffer, dictionaries, row_bytes)) as scanned:
                for rows in scanned:
                    advance(rows, 0)
            pa.default_memory_pool().release_unused()

            def work(buckets: list[int]) -> list[BucketOutcome]:
                first, last = buckets[0], buckets[-1]
                return gather_buckets(job, buckets, buffer.block_reader(first, last), dictionaries)

            rows_per_bucket = buffer.rows()
            threads, max_rows = self._gather_plan(wider_job(job, row_bytes.most), rows_per_bucket[todo])
            groups = group_buckets(todo, rows_per_bucket, max_rows, job.starts)
            with closing(self._each(work, groups, threads)) as gathered:
                for outcome in chain.from_iterable(gathered):
                    advance(outcome.rows, sum(file.bytes for file in outcome.files))
                    yield outcome

    def verify(
        self, job: BucketJob, outcomes: Sequence[BucketOutcome], advance: Callable[[int, int], None]
    ) -> Iterator[BucketCheck]:
        """See `contracts.Engine.verify`."""
        filled = [outcome for outcome in outcomes if outcome.rows]

        def work(outcome: BucketOutcome) -> BucketCheck:
            return verify_bucket(job, outcome)

        threads = 1 if _waits_for_interpreter(job, filled) else self._threads
        with closing(self._each(work, filled, threads)) as checks:
            for check in checks:
                advance(check.rows, sum(check.table_bytes.values()))
                yield check

    @contextmanager
    def _spill_buffer(self, job: BucketJob) -> Iterator[SpillBuffer]:
        directory = Path(self._spill_directory or tempfile.gettempdir())
        # Fail before the scan, not in the middle of it, if the directory cannot be created.
        with wrap_os_errors(str(directory), "spill to"):
            directory.mkdir(parents=True, exist_ok=True)
        buffer = SpillBuffer(job, self._spill_budget, directory)
        try:
            yield buffer
        finally:
            self._spilled += buffer.spilled_bytes
            buffer.close()

    def _scatter(
        self,
        job: BucketJob,
        skip: frozenset[int],
        buffer: SpillBuffer,
        dictionaries: UnifiedDictionaries,
        row_bytes: _RowBytes,
    ) -> Generator[int, None, None]:
        # Wide rows are read table by table.
        threads = max(
            1, min(self._threads, Widths.of(job).rows_by_table(self._working_rows(job)) // _PREFERRED_BATCH_ROWS)
        )
        total = StatisticsCollector.of(job)

        def work(group: list[Slice]) -> tuple[int, StatisticsCollector]:
            statistics = StatisticsCollector.of(job)
            now = wider_job(job, row_bytes.most)
            max_rows = self._batch_rows(now, threads)
            if any(_has_small_row_groups(part, max_rows) for part in group):
                now, max_rows = job, self._batch_rows(job, threads)
            # Together, the slices may be too large by now.
            fitting: Iterable[list[Slice]] = [group] if now is job else Widths.of(now).joined(group, max_rows)
            rows = size = 0
            for slices in fitting:
                parts = scatter_slices(now, slices, max_rows, dictionaries, skip, statistics)
                for number, scattered in enumerate(parts):
                    size += buffer.add(number, scattered)
                    # Other passes over the slices have more columns of the same rows.
                    rows += len(scattered.batch) if KEYS in scattered.groups else 0
            row_bytes.add(rows, size)
            return sum(part.rows for part in group), statistics

        groups = group_slices(job, threads, self._batch_rows(job, threads))
        with closing(self._each(work, groups, threads)) as parts:
            for rows, statistics in parts:
                total.merge(statistics)
                yield rows
        total.finish(dictionaries)
        self._columns, self._keys, self._invalid_texts = total.result(), total.read, total.invalid_texts

    def _working_rows(self, job: BucketJob) -> int:
        """Return how many rows all threads together hold while they scatter."""
        return int(self._budget * WORKING_SHARE / _WORKING_COPIES / max(job.decoded_bytes_per_row, 1))

    def _batch_rows(self, job: BucketJob, threads: int) -> int:
        """Return how many rows a thread scatters at a time."""
        return batch_rows(self._working_rows(job) // threads, job.decoded_bytes_per_row)

    def _gather_plan(self, job: BucketJob, rows: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Return the number of gather threads that the budget allows and the maximum rows of a bucket group."""
        widths = [len(table.columns) for table in job.tables]
        bytes_per_row = max(gather_bytes(1, job.decoded_bytes_per_row, widths, len(job.keys)), 1)
        working_rows = int(self._budget * WORKING_SHARE / bytes_per_row)
        threads = max(1, min(self._threads, working_rows // max(int(rows.max()), 1)))
        fair_share = int(rows.sum()) // (threads * _GROUPS_PER_THREAD)
        return threads, min(MAX_GROUP_ROWS, fair_share, working_rows // threads)

    def _each(self, work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
        """Yield results as they complete; the first failure, or closing, cancels the calls that have not started.

        The caller must close the generator: threads must not outlive the spill buffer that they use.
        """
        pool = system().pool(threads)
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                yield self._result(future)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _result(self, future: Future[R]) -> R:
        try:
            return future.result()
        except MemoryError as error:
            raise EngineError(
                f"not enough memory ({error}) with memory={self._budget} bytes and threads={self._threads}; lower "
                "memory or threads, or raise buckets.count"
            ) from error
