"""The arrow engine: threads on one machine, under a memory budget; no JVM."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import pyarrow as pa

from bucketwheel.contracts import BucketCheck, BucketJob, Slice
from bucketwheel.engines.pieces import PieceStore
from bucketwheel.kernel.dictionaries import DictionaryMerger
from bucketwheel.kernel.gather import gather
from bucketwheel.kernel.scatter import scatter
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.manifest import BucketOutcome
from bucketwheel.settings import Settings

# A decoded slice, its ordered copy and the compressed pages it came from.
_WORKING_COPIES = 2.5
# Below this many rows a piece of one bucket is so short that the cost of handling it shows.
_FEWEST_ROWS = 65_536

T = TypeVar("T")


def available_memory() -> int:
    """Return the bytes this process may use: the smaller of the machine's memory and its container's limit."""
    limits = [psutil.virtual_memory().total]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(name)
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)


class ArrowEngine:
    """Scatters slices and gathers buckets on `threads` threads; spills past `memory` bytes."""

    def __init__(self, settings: Settings) -> None:
        self._threads = len(os.sched_getaffinity(0)) if settings.threads == "auto" else settings.threads
        self._budget = available_memory() // 2 if settings.memory == "auto" else settings.memory
        self._spill_directory = settings.storage.spill_directory
        self._spilled = 0

    def spilled_bytes(self) -> int:
        """Bytes written to local disk because memory did not suffice, so far."""
        return self._spilled

    def bucket(
        self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        """See `contracts.Engine.bucket`."""
        with self._store() as store:
            for rows in self._scatter(job, done, store):
                advance(rows, 0)
            todo = [number for number in range(job.bucket_count) if number not in done]
            merger = threading.local()

            def work(number: int) -> BucketOutcome:
                mine = merger.__dict__.setdefault("merger", DictionaryMerger())
                return gather(job, number, store.pieces(number), mine)

            for outcome in self._each(work, todo, self._threads):
                advance(outcome.rows, sum(file.bytes for file in outcome.files))
                yield outcome

    def verify(
        self, job: BucketJob, outcomes: Sequence[BucketOutcome], advance: Callable[[int, int], None]
    ) -> Iterator[BucketCheck]:
        """See `contracts.Engine.verify`."""
        filled = [outcome for outcome in outcomes if outcome.rows]
        for check in self._each(lambda outcome: verify_bucket(job, outcome), filled, self._threads):
            advance(check.rows, sum(check.table_bytes.values()))
            yield check

    @contextmanager
    def _store(self) -> Iterator[PieceStore]:
        if self._spill_directory:
            Path(self._spill_directory).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bucketwheel-", dir=self._spill_directory) as directory:
            store = PieceStore(self._budget // 2, Path(directory) / "spill")
            try:
                yield store
            finally:
                self._spilled += store.spilled_bytes
                store.close()

    def _scatter(self, job: BucketJob, done: Collection[int], store: PieceStore) -> Iterator[int]:
        working_rows = int(self._budget / 2 / _WORKING_COPIES / max(job.decoded_bytes_per_row, 1))
        threads = max(1, min(self._threads, working_rows // _FEWEST_ROWS))
        max_rows = max(1, working_rows // threads)

        def work(part: Slice) -> int:
            for number, scattered in enumerate(scatter(job, part, max_rows, done)):
                store.add(number, scattered)
            return part.rows

        yield from self._each(work, job.slices, threads)
        pa.default_memory_pool().release_unused()

    def _each(self, work: Callable[[T], object], items: Iterable[T], threads: int) -> Iterator[object]:
        """Yield results as they come; the first failure stops what has not started."""
        pool = ThreadPoolExecutor(threads)
        futures: list[Future[object]] = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
