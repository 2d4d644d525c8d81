"""Measure the tasks of the spark engine without Spark: spark_tasks SHAPE DIRECTORY.

One scatter task is run, and what it sends stands for what the others send, with the keys rotated. Then some
partitions are gathered, from the blocks of all tasks. Prints one JSON object: nanoseconds of CPU for each value, and
rows of a block. What Spark does between the tasks is not measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bucketwheel.contracts import BucketJob
from bucketwheel.engines.bucket_groups import group_buckets_by_average
from bucketwheel.engines.spark import shuffle, tasks
from bucketwheel.testing.jobs import KEY, make_job, numbered, write_files

from .spark_shapes import SPARK_SHAPES, SparkShape

# Every fifth column has numbers, the others have one of some values.
_NUMBERS, _VALUES = 5, 20


def measure(shape: SparkShape, source: Path, target: Path) -> dict[str, list[float]]:
    """Return the figures of a shape, whose snapshot is written to `source` first."""
    job = _job(shape, source, target)
    numbers = tuple(range(shape.partitions))
    groups = group_buckets_by_average(job, range(job.buckets), shape.partitions)
    keys = tasks.PartitionKeys(numbers, groups)
    sent, scattered = _scatter(job, keys, shape)
    rows, gathered = 0, 0.0
    for number in numbers[: shape.gathered]:
        written, seconds = _gather(job, keys, _arrived(sent, number, shape))
        rows += written
        gathered += seconds
    scatter = scattered / (shape.slices_per_task * shape.rows * shape.columns) * 1e9
    gather = gathered / (rows * shape.columns) * 1e9
    # Keys have a block of their own.
    blocks = len(sent.filter(pc.greater_equal(sent["bucket_group"], 0))) / (1 + shape.tables) * shape.tasks
    return {
        "nanoseconds": [scatter + gather],
        "scatter_nanoseconds": [scatter],
        "gather_nanoseconds": [gather],
        "block_rows": [rows / blocks],
    }


def _job(shape: SparkShape, source: Path, target: Path) -> BucketJob:
    """Write the files of one scatter task and return the job of all tasks."""
    random = np.random.default_rng(3)
    names = [f"{'n' if number % _NUMBERS == 0 else 'c'}{number}" for number in range(shape.columns)]
    coded = frozenset(name for name in names if name.startswith("c"))

    def files() -> Iterator[pa.Table]:
        for number in range(shape.slices_per_task):
            values = {name: _values(name in coded, shape.rows, random) for name in names}
            yield pa.table({KEY: numbered(shape.rows, number * shape.rows), **values})

    # Without Arrow's own schema in the file, coded columns are text to readers.
    paths = write_files(source, files(), shape.rows, store_schema=False, use_dictionary=sorted(coded))
    width = -(-shape.columns // shape.tables)
    mapping = {f"t{number}": names[number * width : (number + 1) * width] for number in range(shape.tables)}
    job = make_job(
        target,
        paths,
        mapping,
        row_group_rows=shape.slices * shape.rows,
        bucket_count=shape.buckets,
        dictionary_columns=coded,
        decoded_bytes_per_row=20 + 4 * len(coded) + 8 * (shape.columns - len(coded)),
        column_statistics="basic",
    )
    own = job.slices
    return replace(job, slices=tuple(replace(own[number % len(own)], index=number) for number in range(shape.slices)))


def _values(coded: bool, rows: int, random: Any) -> pa.Array:
    if not coded:
        return pa.array(random.random(rows))
    # Dictionaries of different files have different orders.
    values = pa.array([f"value {number}" for number in random.permutation(_VALUES)])
    return pa.DictionaryArray.from_arrays(random.integers(0, _VALUES, rows, dtype=np.int8), values)


def _scatter(job: BucketJob, keys: tasks.PartitionKeys, shape: SparkShape) -> tuple[pa.Table, float]:
    """Run the first scatter task; return what it sends to the gathered partitions, and its seconds of CPU."""
    wanted = pa.array(keys.keys[: shape.gathered], pa.int32())
    sent: list[pa.RecordBatch] = []
    seconds = 0.0
    batches = tasks.scatter_task(job, keys, 0, range(shape.slices_per_task), lambda _: None)
    while True:
        start = time.process_time()
        batch = next(batches, None)
        seconds += time.process_time() - start
        if batch is None:
            return pa.Table.from_batches(sent), seconds
        # What all partitions get would take gigabytes.
        sent.append(batch.filter(pc.is_in(batch.column(shuffle.PARTITION_KEY), wanted)))


def _arrived(sent: pa.Table, number: int, shape: SparkShape) -> list[pa.RecordBatch]:
    """Return what all tasks send to a partition, in Spark's order."""
    own = sent.filter(pc.equal(sent[shuffle.PARTITION_KEY], number))
    header = pc.less(own["bucket_group"], 0)
    parts = []
    for task in range(shape.tasks):
        # A header has the number of its task in place of a slice.
        step = pc.if_else(header, pa.scalar(task, pa.int32()), pa.scalar(task * shape.slices_per_task, pa.int32()))
        columns = {**dict(zip(own.column_names, own.columns, strict=True)), "slice": pc.add(own["slice"], step)}
        columns["task"] = pa.array(np.full(len(own), task, np.int32))
        columns["payload"] = _with_rotated_keys(own, task)
        parts.append(pa.table(columns, schema=shuffle.SCHEMA))
    ordered = pa.concat_tables(parts).sort_by([(name, "ascending") for name in shuffle.ORDER])
    return list(ordered.to_batches(max_chunksize=shuffle.BATCH_ROWS))


def _with_rotated_keys(own: pa.Table, by: int) -> pa.Array:
    """Return the payloads with the keys of each block rotated by some rows.

    Otherwise equal rows of all tasks would be neighbors in the files, which are encoded faster then.
    """
    payloads = own["payload"].to_pylist()
    rows = list(zip(own["bucket_group"].to_pylist(), own["column_group"].to_pylist(), strict=True))
    schemas = {
        number: payload for (group, number), payload in zip(rows, payloads, strict=True) if group < 0 <= number
    }
    layouts = own["layout"].to_pylist()
    for place, (group, number) in enumerate(rows):
        if group >= 0 and number == 0:
            schema = pa.ipc.read_schema(pa.py_buffer(schemas[layouts[place]]))
            keys = pa.ipc.read_record_batch(pa.py_buffer(payloads[place]), schema)
            rotated = keys.take(pa.array(np.roll(np.arange(len(keys)), by)))
            payloads[place] = rotated.serialize().to_pybytes()
    return pa.array(payloads, pa.binary())


def _gather(job: BucketJob, keys: tasks.PartitionKeys, batches: Sequence[pa.RecordBatch]) -> tuple[int, float]:
    """Write the files of a partition; return its rows and the seconds of CPU."""
    reports: list[tuple[str, int, Any]] = []
    start = time.process_time()
    list(tasks.gather_task(job, keys, batches, reports.append))
    seconds = time.process_time() - start
    return sum(json.loads(outcome)["rows"] for _, _, outcome in reports), seconds


def main() -> None:
    """Print the figures of the shape that the command line names."""
    with tempfile.TemporaryDirectory() as source:
        print(json.dumps(measure(SPARK_SHAPES[sys.argv[1]], Path(source), Path(sys.argv[2]))))


if __name__ == "__main__":
    main()
