"""The arrow engine: threads on one machine, under a memory budget; no JVM."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bucketwheel.contracts import BucketCheck, BucketJob, EngineStatistics, Slice
from bucketwheel.engines.bucket_groups import TOGETHER_ROWS, together
from bucketwheel.engines.memory import HELD, WORKING, gather_bytes, memory_budget
from bucketwheel.engines.spill import PieceStore
from bucketwheel.errors import EngineError
from bucketwheel.host import available_threads
from bucketwheel.kernel.dictionaries import Codebooks
from bucketwheel.kernel.gather import gather_buckets
from bucketwheel.kernel.scatter import scatter
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import Settings
from bucketwheel.storage import translated

# The compressed pages of a slice, what they decode to, and its ordered copy.
_WORKING_COPIES = 2.5
# Below this many rows a piece of one bucket is so short that the cost of handling it shows.
_FEWEST_ROWS = 65_536
# However small the budget, a batch has this many rows.
_LEAST_BATCH = 1024

# Each thread gets at least so many goes of gathering, and no more than one is lost when a run is killed.
_TURNS = 8

T = TypeVar("T")
R = TypeVar("R")


class ArrowEngine:
    """Scatters slices and gathers buckets on `threads` threads; spills past `memory` bytes."""

    def __init__(self, settings: Settings) -> None:
        self._threads = available_threads() if settings.threads == "auto" else settings.threads
        self._budget = memory_budget(settings)
        self._spill_directory = settings.storage.spill_directory
        self._spilled = 0

    def statistics(self) -> EngineStatistics:
        """See `contracts.Engine.statistics`."""
        spilled, self._spilled = self._spilled, 0
        return EngineStatistics(spilled)

    def bucket(
        self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        """See `contracts.Engine.bucket`."""
        skip = frozenset(done)
        todo = [number for number in range(job.bucket_count) if number not in skip]
        if not todo:
            return
        with self._store(job) as store:
            codebooks = Codebooks()
            with closing(self._scatter(job, skip, store, codebooks)) as scanned:
                for rows in scanned:
                    advance(rows, 0)
            pa.default_memory_pool().release_unused()

            def work(buckets: list[int]) -> list[BucketOutcome]:
                first, last = buckets[0], buckets[-1]
                return gather_buckets(job, buckets, store.pieces(first, last), codebooks)

            in_buckets = store.rows()
            threads, most = self._gather_plan(job, in_buckets[todo])
            with closing(self._each(work, together(todo, in_buckets, most), threads)) as gathered:
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

        with closing(self._each(work, filled, self._threads)) as checks:
            for check in checks:
                advance(check.rows, sum(check.table_bytes.values()))
                yield check

    @contextmanager
    def _store(self, job: BucketJob) -> Iterator[PieceStore]:
        directory = Path(self._spill_directory or tempfile.gettempdir())
        # A directory that cannot be made is better known before the scan than in the middle of it.
        with translated(str(directory), "spill to"):
            directory.mkdir(parents=True, exist_ok=True)
        store = PieceStore(job, int(self._budget * HELD), directory)
        try:
            yield store
        finally:
            self._spilled += store.spilled_bytes
            store.close()

    def _scatter(
        self, job: BucketJob, skip: frozenset[int], store: PieceStore, codebooks: Codebooks
    ) -> Generator[int, None, None]:
        working_rows = int(self._budget * WORKING / _WORKING_COPIES / max(job.decoded_bytes_per_row, 1))
        threads = max(1, min(self._threads, working_rows // _FEWEST_ROWS))
        max_rows = max(_LEAST_BATCH, working_rows // threads)

        def work(part: Slice) -> int:
            for number, scattered in enumerate(scatter(job, part, max_rows, codebooks, skip)):
                store.add(number, scattered)
            return part.rows

        yield from self._each(work, job.slices, threads)

    def _gather_plan(self, job: BucketJob, rows: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Return how many threads the budget allows, and up to how many rows one of them joins buckets."""
        widths = [len(table.columns) for table in job.tables]
        need = max(gather_bytes(1, job.decoded_bytes_per_row, widths, len(job.keys)), 1)
        working_rows = int(self._budget * WORKING / need)
        threads = max(1, min(self._threads, working_rows // max(int(rows.max()), 1)))
        fair = int(rows.sum()) // (threads * _TURNS)
        return threads, min(TOGETHER_ROWS, fair, working_rows // threads)

    def _each(self, work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
        """Yield results as they come; the first failure, or closing, stops what has not started.

        Whoever loops over it has to close it: threads may not outlive the store that they use.
        """
        pool = ThreadPoolExecutor(threads)
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
                f"not enough memory ({error}) with memory={self._budget} bytes and threads={self._threads}; set "
                "lower ones, or a higher buckets.count"
            ) from error
