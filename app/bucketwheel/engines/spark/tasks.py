"""The tasks that run in Spark's Python workers: they call the kernel on the rows that Spark passes.

No task needs a session. Workers import the module of each task function, so this module contains all of them and
keeps the rest of the Spark engine out of the workers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from pyspark import AccumulatorParam, TaskContext

from bucketwheel import errors
from bucketwheel.contracts import BucketJob
from bucketwheel.engines.spark.shuffle import BucketGroup, ShuffleReader, write_shuffle
from bucketwheel.engines.spark_sizing import DICTIONARY_BYTES, scatter_rows
from bucketwheel.errors import BucketwheelError
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.gather import gather_buckets
from bucketwheel.kernel.passes import Widths
from bucketwheel.kernel.scatter import scatter_slices
from bucketwheel.kernel.statistics import StatisticsCollector
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.runs.manifest import BucketOutcome

Batches = Iterable[pa.RecordBatch]
# Sends one task result to the driver: its kind, the number of its slice, bucket or task, and rows, a JSON text or
# statistics.
Report = Callable[[tuple[str, int, Any]], None]

_MARK = "bucketwheel-failure:"


class TaskReports(AccumulatorParam[Any]):
    """A list of task results; Spark sends the results of a task to the driver when the task ends."""

    def zero(self, _value: list[Any]) -> list[Any]:
        """Return the empty list that each task starts with."""
        return []

    def addInPlace(self, one: list[Any], other: list[Any]) -> list[Any]:  # noqa: N802 the name is Spark's
        """Append the entries of `other` to `one` and return it."""
        one.extend(other)
        return one


def task_number() -> int:
    """Return the number of the current task, which is the same for every attempt."""
    task = TaskContext.get()
    return task.partitionId() if task else 0


@dataclass(frozen=True)
class PartitionKeys:
    """Assigns bucket groups to partitions; Spark hashes the number `keys[i]` to partition i.

    `groups` contains all buckets to write. Partitions receive groups in turn, so that they are of equal size.
    """

    keys: tuple[int, ...]
    groups: tuple[BucketGroup, ...]

    def by_group(self) -> dict[BucketGroup, int]:
        """Return the partition key of each bucket group."""
        return {group: self.keys[number % len(self.keys)] for number, group in enumerate(self.groups)}


def scatter_task(
    job: BucketJob, partitions: PartitionKeys, task: int, slices: Sequence[int], report: Report
) -> Iterator[pa.RecordBatch]:
    """Yield the shuffle rows of these slices."""
    dictionaries = UnifiedDictionaries(DICTIONARY_BYTES)
    statistics = StatisticsCollector.of(job)
    max_rows = scatter_rows(job.decoded_bytes_per_row)
    skip = frozenset(range(job.buckets)).difference(*partitions.groups)

    def scattered() -> Iterator[Iterator[Any]]:
        for parts in Widths.of(job).joined([job.slices[number] for number in slices], max_rows):
            yield scatter_slices(job, parts, max_rows, dictionaries, skip, statistics)
            for part in parts:
                report(("read", part.index, part.rows))

    with _encode_errors():
        yield from write_shuffle(job, task, scattered(), dictionaries, partitions.by_group(), partitions.keys)
    statistics.finish(dictionaries)
    report(("statistics", task, statistics))


def gather_task(
    job: BucketJob, partitions: PartitionKeys, batches: Batches, report: Report
) -> Iterator[pa.RecordBatch]:
    """Write the files of the buckets that arrive and report their outcomes as JSON; yield no rows."""
    reader = ShuffleReader(job, batches)
    groups = {group[0]: group for group in partitions.groups}
    with _encode_errors():
        for first, read_blocks in reader:
            for outcome in gather_buckets(job, groups[first], read_blocks, reader.dictionaries):
                report(("written", job.number_of(outcome), outcome.model_dump_json()))
    yield from ()


def verify_task(
    job: BucketJob, outcomes: Mapping[int, str], buckets: Sequence[int], report: Report
) -> Iterator[pa.RecordBatch]:
    """Verify the files of these buckets and report the checks as JSON; yield no rows."""
    with _encode_errors():
        for number in buckets:
            check = verify_bucket(job, BucketOutcome.model_validate_json(outcomes[number]))
            report(("checked", number, json.dumps(asdict(check))))
    yield from ()


@contextmanager
def _encode_errors() -> Iterator[None]:
    """Encode errors of Bucketwheel in the text of the exception, which is all that Spark sends to the driver."""
    try:
        yield
    except BucketwheelError as error:
        encoded = json.dumps([type(error).__name__, str(error), getattr(error, "__notes__", [])])
        raise RuntimeError(f"{_MARK}{encoded}") from error


def decode_error(text: str) -> BucketwheelError | None:
    """Return the Bucketwheel error that the text of a worker's failure encodes, or None if there is none."""
    for line in text.splitlines():
        _, mark, encoded = line.partition(_MARK)
        if mark:
            name, message, notes = json.loads(encoded)
            decoded: BucketwheelError = getattr(errors, name, BucketwheelError)(message)
            for note in notes:
                decoded.add_note(note)
            return decoded
    return None
