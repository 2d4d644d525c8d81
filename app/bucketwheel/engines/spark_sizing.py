"""Compute the tasks, blocks and memory of a run on Spark; docs/spark.md has these formulas with an example.

The spark engine takes its limits from here. Nothing here needs Spark, so that `plan` can use it anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bucketwheel.engines.memory import batch_rows

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
# Bytes around the values of one dictionary in the header of a task.
_DICTIONARY_OVERHEAD = 100
# Python and its libraries.
PROCESS_BYTES = 110_000_000
# Bytes that a scatter task holds for each byte that it decodes at a time.
_SCATTER_COPIES = 2.5
# Copies of a table while a bucket is gathered: its blocks, their union or its sorted copy, and the file.
_GATHER_COPIES = 3
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


def scatter_memory(
    compressed_bytes: float, decoded_bytes: float, widest_share: float, dictionary_bytes: float = 0
) -> float:
    """Return the memory of a scatter task.

    Args:
        compressed_bytes: bytes of its largest slice.
        decoded_bytes: the same after decoding.
        widest_share: share of the widest table in a row; a pass reads at least one table.
        dictionary_bytes: bytes of the dictionaries of all columns.
    """
    at_once = min(decoded_bytes, BATCH_BYTES)
    share = min(1.0, max(BATCH_BYTES / max(decoded_bytes, 1), widest_share))
    dictionaries = _DICTIONARY_COPIES * dictionary_bytes
    return PROCESS_BYTES + share * compressed_bytes + _SCATTER_COPIES * at_once + dictionaries


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
        tables: Tables to write.
        columns: Columns of all tables, without keys.
        buckets: Buckets of a table.
        decoded_bytes_per_row: Decoded bytes of a row.
        coded_columns: Columns that travel as dictionary codes.
        dictionary_bytes: Bytes of one dictionary of each of them.
        widest_share: Share of the widest table in the bytes of a row.
    """

    rows: int
    slices: int
    tables: int
    columns: int
    buckets: int
    decoded_bytes_per_row: int
    coded_columns: int
    dictionary_bytes: int
    widest_share: float


@dataclass(frozen=True)
class Sizing:
    """Tasks, blocks and driver memory of a run.

    Attributes:
        partitions: Tasks of the stage that gathers, and of the one that verifies.
        header_bytes: Bytes of dictionaries that one scatter task sends.
        tasks: Scatter tasks.
        slices_per_task: Slices of the largest scatter task.
        rows_at_once: Rows that a scatter task orders at a time, one or a few tables at a time.
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
    blocks: int
    rows_per_block: float
    block_bytes: int
    driver_bytes: int


def sizing(work: Work, cores: int, joined_rows: int) -> Sizing:
    """Return the sizes of a run on this many cores; slices are joined up to `joined_rows` rows."""
    decoded = work.rows * work.decoded_bytes_per_row
    partitions = tasks_for(cores, work.buckets, decoded)
    header = header_bytes(partitions, work.coded_columns, work.dictionary_bytes)
    tasks = tasks_for(cores, work.slices, decoded, header)
    per_slice = work.rows / max(work.slices, 1)
    per_task = math.ceil(work.slices / tasks)
    width = max(work.decoded_bytes_per_row, 1)
    limit = batch_rows(BATCH_BYTES // width, width) / max(work.widest_share, 1e-9)
    together = max(1, min(per_task, int(min(limit, joined_rows) / max(per_slice, 1))))
    rows_at_once = int(min(per_slice * together, limit))
    batches = math.ceil(work.rows / max(rows_at_once, 1))
    blocks = batches * min(work.buckets, max(rows_at_once, 1)) * (work.tables + 1)
    return Sizing(
        partitions=partitions,
        header_bytes=header,
        tasks=tasks,
        slices_per_task=per_task,
        rows_at_once=rows_at_once,
        blocks=blocks,
        rows_per_block=work.rows * (work.tables + 1) / max(blocks, 1),
        block_bytes=blocks * _BLOCK_OVERHEAD + blocks // (work.tables + 1) * work.columns * _COLUMN_OVERHEAD,
        driver_bytes=tasks * (_TASK_STATUS + partitions * _PARTITION_STATUS) + work.columns * _STATISTICS_BYTES,
    )
