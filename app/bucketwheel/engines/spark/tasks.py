"""What runs in Spark's Python workers: the kernel on the rows that Spark hands over.

Nothing here needs a session. Workers import what tasks name, so all that these name is here: nothing else of the
Spark engine is imported there.
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
from bucketwheel.engines.spark.shuffle import Arrivals, Run, pack
from bucketwheel.errors import BucketwheelError
from bucketwheel.kernel.dictionaries import Codebooks
from bucketwheel.kernel.gather import gather_buckets
from bucketwheel.kernel.scatter import scatter
from bucketwheel.kernel.verify import verify_bucket
from bucketwheel.runs.manifest import BucketOutcome

Batches = Iterable[pa.RecordBatch]
# Reports one finished thing to the driver: its kind, its number, and rows or a JSON text.
Tell = Callable[[tuple[str, int, Any]], None]

# Decoded bytes of a batch that one task works on; a row group may be many times as large.
_BATCH_BYTES = 128 * 2**20
# However wide a row is.
_LEAST_ROWS = 1024
_MARK = "bucketwheel-failure:"


class Told(AccumulatorParam[Any]):
    """A list that tasks add to; the driver sees the entries of each task when the task ends."""

    def zero(self, _value: list[Any]) -> list[Any]:
        """Return what a task begins with."""
        return []

    def addInPlace(self, one: list[Any], other: list[Any]) -> list[Any]:  # noqa: N802 the name is Spark's
        """Return the first with the entries of the other added."""
        one.extend(other)
        return one


def task_number() -> int:
    """Return the number of the task that this worker has; it is the same when the task is tried again."""
    task = TaskContext.get()
    return task.partitionId() if task else 0


@dataclass(frozen=True)
class Places:
    """Which partition a bucket goes to; `keys[i]` is a number that Spark hashes to partition i.

    `runs` has the buckets to make, those together that are gathered together; runs are dealt out in turn, so that
    partitions are of equal size.
    """

    keys: tuple[int, ...]
    runs: tuple[Run, ...]

    def by_run(self) -> dict[Run, int]:
        """Return the place of each run's partition."""
        return {run: self.keys[turn % len(self.keys)] for turn, run in enumerate(self.runs)}


def scatter_task(
    job: BucketJob, places: Places, task: int, slices: Sequence[int], tell: Tell
) -> Iterator[pa.RecordBatch]:
    """Yield the rows that these slices send into the shuffle."""
    codebooks = Codebooks()
    max_rows = max(_LEAST_ROWS, _BATCH_BYTES // job.decoded_bytes_per_row)
    skip = frozenset(range(job.bucket_count)).difference(*places.runs)

    def scattered() -> Iterator[Iterator[Any]]:
        for number in slices:
            yield scatter(job, job.slices[number], max_rows, codebooks, skip)
            tell(("read", number, job.slices[number].rows))

    with _failures_in_words():
        yield from pack(job, task, scattered(), codebooks, places.by_run(), places.keys)


def gather_task(job: BucketJob, places: Places, batches: Batches, tell: Tell) -> Iterator[pa.RecordBatch]:
    """Write the files of the buckets that arrive, and tell their outcomes as JSON; there are no rows left."""
    arrivals = Arrivals(job, batches)
    runs = {run[0]: run for run in places.runs}
    with _failures_in_words():
        for first, pieces in arrivals:
            for outcome in gather_buckets(job, runs[first], pieces, arrivals.codebooks):
                tell(("written", outcome.bucket, outcome.model_dump_json()))
    yield from ()


def verify_task(
    job: BucketJob, outcomes: Mapping[int, str], buckets: Sequence[int], tell: Tell
) -> Iterator[pa.RecordBatch]:
    """Read back the files of these buckets, and tell what they hold as JSON; there are no rows left."""
    with _failures_in_words():
        for bucket in buckets:
            check = verify_bucket(job, BucketOutcome.model_validate_json(outcomes[bucket]))
            tell(("checked", bucket, json.dumps(asdict(check))))
    yield from ()


@contextmanager
def _failures_in_words() -> Iterator[None]:
    """Give errors of ours a text from which the driver can make them again; Spark sends nothing but text."""
    try:
        yield
    except BucketwheelError as error:
        told = json.dumps([type(error).__name__, str(error), getattr(error, "__notes__", [])])
        raise RuntimeError(f"{_MARK}{told}") from error


def told_failure(text: str) -> BucketwheelError | None:
    """Return the error of ours that a worker's failure tells of, or None where it was something else."""
    for line in text.splitlines():
        _, mark, told = line.partition(_MARK)
        if mark:
            name, message, notes = json.loads(told)
            made: BucketwheelError = getattr(errors, name, BucketwheelError)(message)
            for note in notes:
                made.add_note(note)
            return made
    return None
