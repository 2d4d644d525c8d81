"""Compute the tasks, blocks and memory of a run on Spark; docs/spark.md has these formulas with an example.

The spark engine takes its limits from here. Nothing here needs Spark, so that `plan` can use it anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bucketwheel.engines.memory import batch_rows
from bucketwheel.kernel.passes import Plan, RowsT, Widths

# Several tasks per core, so that few cores are idle while the last task finishes.
TASKS_PER_CORE = 4
# Maximum decoded bytes of a task, unless one bucket or slice is larger. Small tasks leave work for executors that
# start late or that a cluster adds for waiting tasks.
TASK_BYTES = 256 * 2**20
# Minimum decoded bytes of a task for each byte that it sends besides its rows: with the first, these bytes cost a few
# percent of a run; with the second, about half, which a small run may spend to use every core.
_BYTES_PER_HEADER_BYTE, _LEAST_BYTES_PER_HEADER_BYTE = 40, 2
# Decoded bytes of a batch in a scatter task. A larger slice is read table by table; its widest table may be larger.
BATCH_BYTES = 128 * 2**20
# Maximum bytes of the values of all dictionaries in a scatter task; others travel as values.
DICTIONARY_BYTES = 64 * 2**20
# Bytes around the values of one dictionary in the header of a task.
_DICTIONARY_OVERHEAD = 100
# Python and its libraries.
PROCESS_BYTES = 110_000_000
# Bytes that a scatter task holds for each byte that it decodes at a time.
_SCATTER_COPIES = 2.5
# Copies of a table while a bucket is gathered: its blocks or its sorted copy, and what the allocator cannot reuse.
_GATHER_COPIES = 2
# Copies of the values of all dictionaries while some are added or sorted.
_DICTIONARY_COPIES = 3
# Bytes of a block around its rows: of its shuffle row and message, and of each column.
_BLOCK_OVERHEAD, _COLUMN_OVERHEAD = 250, 50
# Bytes of the statistics of a column that a scatter task reports.
_STATISTICS_BYTES = 1000
# Bytes that the driver's JVM keeps of each task, and for each partition that a scatter task writes.
_TASK_STATUS, _PARTITION_STATUS = 5000, 1


def header_bytes(partitions: int, coded_columns: int, dictionary_bytes: int) -> int:
    """Return the bytes of the dictionaries that one scatter task sends to all partitions."""
    return partitions * (dictionary_bytes + _DICTIONARY_OVERHEAD * coded_columns)


def tasks_for(cores: int, parts: int, decoded_bytes: int, header: int = 0) -> int:
    """Return the number of tasks for work of `parts` indivisible parts; each also sends `header` bytes."""
    wanted = max(cores * TASKS_PER_CORE, -(-decoded_bytes // TASK_BYTES))
    if header:
        cheap = decoded_bytes // (_BYTES_PER_HEADER_BYTE * header)
        tolerable = decoded_bytes // (_LEAST_BYTES_PER_HEADER_BYTE * header)
        wanted = min(wanted, max(cheap, min(cores, tolerable)))
    return max(1, min(parts, wanted))


def scatter_rows(decoded_bytes_per_row: int) -> int:
    """Return the rows of all columns whose memory a scatter task may take for a batch."""
    return batch_rows(BATCH_BYTES // max(decoded_bytes_per_row, 1), decoded_bytes_per_row)


def scatter_plans(widths: Widths, slices: Sequence[RowsT], tasks: int) -> Iterator[tuple[list[RowsT], Plan]]:
    """Yield the slices that a scatter task reads as one, and the passes over them, of all tasks in turn."""
    max_rows = scatter_rows(widths.total)
    for task in range(tasks):
        # Spark divides a range like this.
        own = slices[len(slices) * task // tasks : len(slices) * (task + 1) // tasks]
        for parts in widths.joined(own, max_rows):
            yield parts, Plan.of(widths, sum(part.rows for part in parts), max_rows)


def scatter_memory(compressed_bytes: float, decoded_bytes: float, dictionary_bytes: float = 0) -> float:
    """Return the memory of a scatter task.

    Args:
        compressed_bytes: most bytes that it holds before it decodes them.
        decoded_bytes: bytes of the slices that it reads as one after decoding.
        dictionary_bytes: bytes of the dictionaries of all columns.
    """
    dictionaries = _DICTIONARY_COPIES * min(dictionary_bytes, DICTIONARY_BYTES)
    return PROCESS_BYTES + compressed_bytes + _SCATTER_COPIES * min(decoded_bytes, BATCH_BYTES) + dictionaries


def gather_memory(rows: int, key_bytes: float, table_bytes: float, dictionary_bytes: float = 0) -> float:
    """Return the memory of gathering a bucket.

    Args:
        rows: rows of the bucket.
        key_bytes: bytes of a row in the keys.
        table_bytes: bytes of a row in the widest table.
        dictionary_bytes: bytes of the dictionaries of all columns, which a task holds until its last bucket.
    """
    return PROCESS_BYTES + rows * (key_bytes + _GATHER_COPIES * table_bytes) + _DICTIONARY_COPIES * dictionary_bytes


@dataclass(frozen=True)
class Work:
    """The work of one run, for one layout.

    Attributes:
        rows: Rows of the snapshot.
        slices: Slices of the scan.
        widths: Decoded bytes of a row of each table to write.
        columns: Columns of all tables, without keys.
        buckets: Buckets of a table.
        coded_columns: Columns that travel as dictionary codes.
        dictionary_bytes: Bytes of one dictionary of each of them.
    """

    rows: int
    slices: int
    widths: Widths
    columns: int
    buckets: int
    coded_columns: int
    dictionary_bytes: int


@dataclass(frozen=True)
class _Slice:
    index: int
    rows: int


@dataclass(frozen=True)
class Sizing:
    """Tasks, blocks and driver memory of a run.

    Attributes:
        partitions: Tasks of the stage that gathers, and of the one that verifies.
        header_bytes: Bytes of dictionaries that one scatter task sends.
        tasks: Scatter tasks.
        slices_per_task: Slices of the largest scatter task.
        rows_at_once: Most rows that a scatter task orders at a time, one or a few tables at a time.
        passes: Passes over them.
        batches: Batches of all tasks, each with rows of all tables.
        blocks: Shuffle blocks.
        rows_per_block: Average rows of a block.
        block_bytes: Bytes of all blocks around their rows, before compression.
        driver_bytes: Memory of the driver for statuses and statistics.
    """

    partitions: int
    header_bytes: int
    tasks: int
    slices_per_task: int
    rows_at_once: int
    passes: int
    batches: int
    blocks: int
    rows_per_block: float
    block_bytes: int
    driver_bytes: int


def scatter_tasks(
    cores: int, slices: int, buckets: int, read: int, written: int, coded_columns: int, dictionary_bytes: int
) -> tuple[int, int, int]:
    """Return the partitions, the bytes of dictionaries that a scatter task sends to them, and the scatter tasks.

    Args:
        cores: cores of the executors.
        slices: slices of the scan.
        buckets: buckets of all layouts.
        read: decoded bytes of all rows.
        written: the same in all layouts.
        coded_columns: columns that travel as dictionary codes.
        dictionary_bytes: bytes of one dictionary of each of them.
    """
    partitions = tasks_for(cores, buckets, written)
    header = header_bytes(partitions, coded_columns, dictionary_bytes)
    return partitions, header, tasks_for(cores, slices, read, header)


def sizing(work: Work, cores: int) -> Sizing:
    """Return the sizes of a run on this many cores, for slices of equal size."""
    decoded, count = work.rows * work.widths.total, max(work.slices, 1)
    partitions, header, tasks = scatter_tasks(
        cores, count, work.buckets, decoded, decoded, work.coded_columns, work.dictionary_bytes
    )
    edges = [work.rows * number // count for number in range(count + 1)]
    slices = [_Slice(number, end - start) for number, (start, end) in enumerate(pairwise(edges))]
    plans = [(sum(part.rows for part in parts), plan) for parts, plan in scatter_plans(work.widths, slices, tasks)]
    largest = max((plan for _, plan in plans), key=lambda plan: plan.rows)
    batches = [rows for total, plan in plans for rows in _batches(total, plan.rows)]
    tables = len(work.widths.tables)
    # Each batch has the keys and all tables.
    groups = sum(min(work.buckets, rows) for rows in batches)
    blocks = groups * (tables + 1)
    return Sizing(
        partitions=partitions,
        header_bytes=header,
        tasks=tasks,
        slices_per_task=-(-count // tasks),
        rows_at_once=largest.rows,
        passes=len(largest.passes),
        batches=len(batches),
        blocks=blocks,
        rows_per_block=work.rows * (tables + 1) / max(blocks, 1),
        block_bytes=blocks * _BLOCK_OVERHEAD + groups * work.columns * _COLUMN_OVERHEAD,
        driver_bytes=tasks * (_TASK_STATUS + partitions * _PARTITION_STATUS) + work.columns * _STATISTICS_BYTES,
    )


def _batches(rows: int, most: int) -> Iterator[int]:
    """Yield the rows of each batch."""
    for start in range(0, rows, max(most, 1)):
        yield min(most, rows - start)
