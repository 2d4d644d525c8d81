"""The spark engine: scatter, Spark's own shuffle, gather; distribution, spilling and retries are Spark's.

No row ever becomes a row of the JVM: what is shuffled are pieces of many rows. A task that is tried again, or
twice at once, writes the same objects with the same bytes.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import InheritableThread, SparkContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from bucketwheel.contracts import BucketCheck, BucketJob, EngineStatistics
from bucketwheel.engines.bucket_groups import together_by_average
from bucketwheel.engines.spark import shuffle
from bucketwheel.engines.spark.parallelism import task_count
from bucketwheel.engines.spark.session import spark_session
from bucketwheel.engines.spark.status import added, in_short, summarised
from bucketwheel.engines.spark.tasks import (
    Batches,
    Places,
    Tell,
    Told,
    gather_task,
    scatter_task,
    task_number,
    told_failure,
    verify_task,
)
from bucketwheel.errors import EngineError
from bucketwheel.kernel.dictionaries import Codebooks
from bucketwheel.kernel.gather import gather
from bucketwheel.kernel.hashing import bucket_numbers, hash_keys
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import Settings

_POLL_SECONDS = 0.1
_BATCH_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"

_SHUFFLED = from_arrow_schema(shuffle.SCHEMA)
# What is left to collect: nothing. All that tasks find out they tell.
_NOTHING = "nothing boolean"


class SparkEngine:
    """Runs scatter and gather as tasks of Spark; `threads` counts where this process starts Spark itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._statistics = EngineStatistics()

    def statistics(self) -> EngineStatistics:
        """See `contracts.Engine.statistics`."""
        found, self._statistics = self._statistics, EngineStatistics()
        return found

    def bucket(
        self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        """See `contracts.Engine.bucket`."""
        todo = tuple(number for number in range(job.bucket_count) if number not in done)
        if not todo:
            return
        finished: set[int] = set()
        for kind, number, what in self._run(partial(_bucket_frame, job, todo)):
            if kind == "read":
                advance(what, 0)
                continue
            outcome = BucketOutcome.model_validate_json(what)
            finished.add(number)
            advance(outcome.rows, sum(file.bytes for file in outcome.files))
            yield outcome
        for number in todo:
            if number not in finished:
                yield gather(job, number, lambda _: [], Codebooks())

    def verify(
        self, job: BucketJob, outcomes: Sequence[BucketOutcome], advance: Callable[[int, int], None]
    ) -> Iterator[BucketCheck]:
        """See `contracts.Engine.verify`."""
        filled = {outcome.bucket: outcome.model_dump_json() for outcome in outcomes if outcome.rows}
        if not filled:
            return
        for _, _, text in self._run(partial(_verify_frame, job, filled)):
            check = BucketCheck(**json.loads(text))
            advance(check.rows, sum(check.table_bytes.values()))
            yield check

    def _run(self, frame: Callable[[SparkSession, Tell], DataFrame]) -> Iterator[tuple[str, int, Any]]:
        """Run the frame in a job group of its own; yield what its tasks tell, each thing once, as tasks end."""
        session = spark_session(self._settings)
        context = session.sparkContext
        told = context.accumulator([], Told())
        group = f"bucketwheel-{uuid.uuid4().hex}"
        failures: list[Exception] = []

        def work() -> None:
            try:
                context.setJobGroup(group, "bucketwheel", interruptOnCancel=True)
                frame(session, lambda thing: told.add([thing])).collect()
            except Exception as error:  # noqa: BLE001 raised again in the thread that waits
                failures.append(error)

        thread = InheritableThread(target=work, name="spark job", daemon=True)
        thread.start()
        try:
            yield from _once(told, thread)
            if failures:
                raise _explained(failures[0])
        finally:
            _cancel(context, group)
            thread.join()
            self._statistics = added(self._statistics, summarised(context, group))


def _once(told: Any, thread: threading.Thread) -> Iterator[tuple[str, int, Any]]:
    seen: set[tuple[str, int]] = set()
    position = 0
    alive = True
    while alive:
        thread.join(_POLL_SECONDS)
        # In this order: what is told last is told before the thread ends.
        alive = thread.is_alive()
        things = told.value
        while position < len(things):
            kind, number, what = things[position]
            position += 1
            # A task that is tried again tells the same again.
            if (kind, number) not in seen:
                seen.add((kind, number))
                yield kind, number, what


def _cancel(context: SparkContext, group: str) -> None:
    try:
        context.cancelJobGroup(group)
    except (Py4JError, OSError):
        return  # There is no JVM any more, and no job: the error that ended it, or an interrupt, is what counts.


def _explained(error: Exception) -> Exception:
    text = str(error)
    if isinstance(error, Py4JNetworkError | OSError):
        return EngineError(f"spark: the JVM of the driver has ended ({text})")
    return told_failure(text) or EngineError(f"spark: {in_short(text)}")


def _bucket_frame(job: BucketJob, todo: tuple[int, ...], session: SparkSession, tell: Tell) -> DataFrame:
    context = session.sparkContext
    tasks = task_count(context, len(job.slices), _decoded_bytes(job, job.bucket_count))
    partitions = task_count(context, len(todo), _decoded_bytes(job, len(todo)))
    places = Places(_place_keys(partitions), together_by_average(job, todo, partitions))
    if _BATCH_ROWS not in dict(context.getConf().getAll()):
        session.conf.set(_BATCH_ROWS, str(shuffle.BATCH_ROWS))

    def scatter(batches: Batches) -> Iterator[pa.RecordBatch]:
        numbers = [number for batch in batches for number in batch.column(0).to_pylist()]
        yield from scatter_task(job, places, task_number(), numbers, tell)

    def gather_all(batches: Batches) -> Iterator[pa.RecordBatch]:
        yield from gather_task(job, places, batches, tell)

    scattered = session.range(0, len(job.slices), 1, tasks).mapInArrow(scatter, _SHUFFLED)
    arrived = scattered.repartition(partitions, shuffle.PLACE).sortWithinPartitions(*shuffle.ORDER)
    return arrived.mapInArrow(gather_all, _NOTHING)


def _verify_frame(job: BucketJob, outcomes: dict[int, str], session: SparkSession, tell: Tell) -> DataFrame:
    buckets = sorted(outcomes)

    def verify(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from verify_task(job, outcomes, [buckets[place] for place in batch.column(0).to_pylist()], tell)

    tasks = task_count(session.sparkContext, len(buckets), _decoded_bytes(job, len(buckets)))
    return session.range(0, len(buckets), 1, tasks).mapInArrow(verify, _NOTHING)


def _decoded_bytes(job: BucketJob, buckets: int) -> int:
    """Return about what the rows of so many buckets take in memory."""
    return sum(part.rows for part in job.slices) * job.decoded_bytes_per_row * buckets // job.bucket_count


def _place_keys(partitions: int) -> tuple[int, ...]:
    """Return for each partition the smallest number that Spark's hash partitioning sends there."""
    found: dict[int, int] = {}
    block = 16 * partitions
    start = 0
    while len(found) < partitions:
        numbers = pa.array(range(start, start + block), pa.int32())
        places = bucket_numbers(hash_keys([numbers], "spark"), partitions, "spark")
        for number, place in zip(range(start, start + block), places.tolist(), strict=True):
            found.setdefault(place, number)
        start += block
    return tuple(found[place] for place in range(partitions))
