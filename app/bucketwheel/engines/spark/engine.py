"""The spark engine: scatter, Spark's shuffle, gather; Spark distributes, spills and retries.

Rows never become JVM rows: the shuffle moves blocks of many rows. A retried or speculative task writes the same
objects with the same bytes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import InheritableThread, SparkContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from bucketwheel.contracts import BucketCheck, BucketJob, EngineStatistics
from bucketwheel.engines.bucket_groups import group_buckets_by_average
from bucketwheel.engines.spark import shuffle
from bucketwheel.engines.spark.parallelism import task_count
from bucketwheel.engines.spark.session import spark_session
from bucketwheel.engines.spark.status import add, summarize, summarize_error
from bucketwheel.engines.spark.tasks import (
    Batches,
    PartitionKeys,
    Report,
    TaskReports,
    decode_error,
    gather_task,
    scatter_task,
    task_number,
    verify_task,
)
from bucketwheel.engines.spark_sizing import header_bytes
from bucketwheel.errors import EngineError
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.gather import gather
from bucketwheel.kernel.hashing import key_buckets
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import Settings
from bucketwheel.system import system

_POLL_SECONDS = 0.1
_BATCH_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"

_SHUFFLE_SCHEMA = from_arrow_schema(shuffle.SCHEMA)
# The frames have no rows: tasks send their results through an accumulator.
_NO_ROWS = "nothing boolean"


class SparkEngine:
    """Runs scatter and gather as Spark tasks; `threads` applies only when this process starts Spark itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._statistics = EngineStatistics()

    def statistics(self) -> EngineStatistics:
        """See `contracts.Engine.statistics`."""
        return self._statistics

    def bucket(
        self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        """See `contracts.Engine.bucket`."""
        self._statistics = replace(self._statistics, columns=(), keys=None, invalid_texts={})
        todo = tuple(number for number in range(job.buckets) if number not in done)
        if not todo:
            return
        finished: set[int] = set()
        collected = StatisticsCollector.of(job)
        for kind, number, value in self._run(partial(_bucket_frame, job, todo)):
            if kind == "read":
                advance(value, 0)
                continue
            if kind == "statistics":
                collected.merge(value)
                continue
            outcome = BucketOutcome.model_validate_json(value)
            finished.add(number)
            advance(outcome.rows, sum(file.bytes for file in outcome.files))
            yield outcome
        self._statistics = replace(
            self._statistics,
            columns=collected.result(),
            keys=collected.read,
            invalid_texts=collected.invalid_texts,
        )
        for number in todo:
            if number not in finished:
                yield gather(job, number, lambda _: [], UnifiedDictionaries())

    def verify(
        self, job: BucketJob, outcomes: Sequence[BucketOutcome], advance: Callable[[int, int], None]
    ) -> Iterator[BucketCheck]:
        """See `contracts.Engine.verify`."""
        filled = {job.number_of(outcome): outcome.model_dump_json() for outcome in outcomes if outcome.rows}
        if not filled:
            return
        for _, _, text in self._run(partial(_verify_frame, job, filled)):
            check = BucketCheck(**json.loads(text))
            advance(check.rows, sum(check.table_bytes.values()))
            yield check

    def _run(self, frame: Callable[[SparkSession, Report], DataFrame]) -> Iterator[tuple[str, int, Any]]:
        """Run the frame in its own job group; yield each task result once, as tasks end."""
        session = spark_session(self._settings)
        context = session.sparkContext
        results = context.accumulator([], TaskReports())
        group = f"bucketwheel-{system().new_id()}"
        failures: list[Exception] = []

        def work() -> None:
            try:
                context.setJobGroup(group, "bucketwheel", interruptOnCancel=True)
                frame(session, lambda result: results.add([result])).collect()
            except Exception as error:  # noqa: BLE001 raised again in the waiting thread
                failures.append(error)

        thread = InheritableThread(target=work, name="spark job", daemon=True)
        thread.start()
        try:
            yield from _distinct_results(results, thread)
            if failures:
                raise _engine_error(failures[0])
        finally:
            _cancel(context, group)
            thread.join()
            self._statistics = add(self._statistics, summarize(context, group))


def _distinct_results(results: Any, thread: threading.Thread) -> Iterator[tuple[str, int, Any]]:
    seen: set[tuple[str, int]] = set()
    position = 0
    alive = True
    while alive:
        thread.join(_POLL_SECONDS)
        # Check the thread first: it ends after the last result has arrived.
        alive = thread.is_alive()
        arrived = results.value
        while position < len(arrived):
            kind, number, value = arrived[position]
            # The accumulator keeps its list; statistics of many tasks and columns take gigabytes.
            arrived[position] = None
            position += 1
            # A retried task reports the same results again.
            if (kind, number) not in seen:
                seen.add((kind, number))
                yield kind, number, value


def _cancel(context: SparkContext, group: str) -> None:
    try:
        context.cancelJobGroup(group)
    except (Py4JError, OSError):
        return  # The JVM has ended, and its jobs with it. The caller raises the error or interrupt that ended it.


def _engine_error(error: Exception) -> Exception:
    text = str(error)
    if isinstance(error, Py4JNetworkError | OSError):
        return EngineError(f"spark: the JVM of the driver has ended ({text})")
    return decode_error(text) or EngineError(f"spark: {summarize_error(text)}")


def _bucket_frame(job: BucketJob, todo: tuple[int, ...], session: SparkSession, report: Report) -> DataFrame:
    context = session.sparkContext
    partitions = task_count(context, len(todo), _decoded_bytes(job, len(todo)))
    read = _decoded_bytes(job, job.buckets) // len(job.layouts)
    header = header_bytes(partitions, len(job.dictionary_columns), job.dictionary_bytes)
    tasks = task_count(context, len(job.slices), read, header)
    keys = PartitionKeys(_partition_keys(partitions), group_buckets_by_average(job, todo, partitions))
    if _BATCH_ROWS not in dict(context.getConf().getAll()):
        session.conf.set(_BATCH_ROWS, str(shuffle.BATCH_ROWS))

    def scatter(batches: Batches) -> Iterator[pa.RecordBatch]:
        numbers = [number for batch in batches for number in batch.column(0).to_pylist()]
        yield from scatter_task(job, keys, task_number(), numbers, report)

    def gather_all(batches: Batches) -> Iterator[pa.RecordBatch]:
        yield from gather_task(job, keys, batches, report)

    scattered = session.range(0, len(job.slices), 1, tasks).mapInArrow(scatter, _SHUFFLE_SCHEMA)
    shuffled = scattered.repartition(partitions, shuffle.PARTITION_KEY).sortWithinPartitions(*shuffle.ORDER)
    return shuffled.mapInArrow(gather_all, _NO_ROWS)


def _verify_frame(job: BucketJob, outcomes: dict[int, str], session: SparkSession, report: Report) -> DataFrame:
    buckets = sorted(outcomes)

    def verify(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from verify_task(
                job, outcomes, [buckets[position] for position in batch.column(0).to_pylist()], report
            )

    tasks = task_count(session.sparkContext, len(buckets), _decoded_bytes(job, len(buckets)))
    return session.range(0, len(buckets), 1, tasks).mapInArrow(verify, _NO_ROWS)


def _decoded_bytes(job: BucketJob, buckets: int) -> int:
    """Return the estimated decoded bytes of `buckets` average buckets; every layout has all rows."""
    rows = sum(part.rows for part in job.slices) * len(job.layouts)
    return rows * job.decoded_bytes_per_row * buckets // job.buckets


def _partition_keys(partitions: int) -> tuple[int, ...]:
    """Return, for each partition, the smallest number that Spark's hash partitioning sends there."""
    keys: dict[int, int] = {}
    block = 16 * partitions
    start = 0
    while len(keys) < partitions:
        numbers = pa.array(range(start, start + block), pa.int32())
        targets = key_buckets([numbers], "spark", partitions)
        for number, target in zip(range(start, start + block), targets.tolist(), strict=True):
            keys.setdefault(target, number)
        start += block
    return tuple(keys[target] for target in range(partitions))
