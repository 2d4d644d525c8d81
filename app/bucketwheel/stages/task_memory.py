"""Compare the memory of a Spark task with what its platform leaves to it; docs/spark.md has the formula."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bucketwheel.engines.spark_sizing import gather_memory, scatter_memory
from bucketwheel.formatting import counted, size_text
from bucketwheel.kernel.dictionaries import stays_dictionary
from bucketwheel.runs.cost import dpus, platform_of
from bucketwheel.runs.manifest import DiscoverResult, SliceRecord, SplitResult
from bucketwheel.settings import EmrServerlessSettings, GlueJobSettings, Layout, Settings
from bucketwheel.settings.deploy import TASK_CPUS, spark_option
from bucketwheel.stages.decoded_bytes import decoded_bytes
from bucketwheel.stages.scan_requests import Held, SourceScan

_GB = 2**30
# A DPU of Glue has 4 cores and 16 GB, 32 GB with R (Glue User Guide, "AWS Glue worker types"). Spark runs a task for
# each core. Glue gives the JVM 10 of 16 GB; no document promises that.
_CORES_PER_DPU, _GB_PER_DPU, _JVM_SHARE = 4, 16, 10 / 16
# Types that also exist with twice the memory.
_WITH_R = ("G.1X", "G.2X", "G.4X", "G.8X")
# Largest `buckets.count`.
_MOST_BUCKETS = 100_000


@dataclass(frozen=True)
class TaskMemory:
    """Memory outside the JVM for each task of a worker.

    `larger` is a setting that gives more, `most` bytes, if there is one. `options` are those of Spark in Glue's
    argument `--conf`, where more of them can be set; None on other platforms.
    """

    bytes: float
    worker: str
    tasks: int
    larger: str | None
    most: float
    options: str | None = None

    def fewer_tasks(self, needed: float) -> str | None:
        """Return a setting with which fewer tasks share the worker, so that each has `needed` bytes."""
        factor = self._share(needed)
        if self.options is None or factor is None:
            return None
        cpus = spark_option(self.options, TASK_CPUS) or 1
        others = [part for part in self.options.split() if part != "--conf" and TASK_CPUS not in part]
        conf = " --conf ".join([*others, f"{TASK_CPUS}={cpus * factor}"])
        return f'set glue.arguments={{"--conf": "{conf}"}}'

    def fitting(self, needed: float) -> int:
        """Return how many tasks fit into the worker at a time if each needs this much memory; 0 if none does."""
        factor = self._share(needed)
        if factor is None or (factor > 1 and self.options is None):
            return 0
        return self.tasks // factor

    def _share(self, needed: float) -> int | None:
        """Return the smallest power of two by which the tasks have to be divided; None if one alone lacks memory."""
        factors = (2**power for power in range(self.tasks.bit_length()))
        return next((factor for factor in factors if self.bytes * factor >= needed), None)


def task_memory(settings: Settings) -> TaskMemory | None:
    """Return the memory of a task on the platform of the jobs; None for a run outside AWS."""
    platform = platform_of(settings)
    if platform == "glue":
        return _on_glue(settings.glue)
    return _on_emr(settings.emr_serverless) if platform else None


def _on_glue(glue: GlueJobSettings) -> TaskMemory:
    units = dpus(glue.worker_type) or 1
    memory = units * _GB_PER_DPU * (2 if glue.worker_type.startswith("R.") else 1)
    options = glue.arguments.get("--conf", "")
    cores = spark_option(options, "spark.executor.cores") or units * _CORES_PER_DPU
    tasks = max(1, cores // (spark_option(options, TASK_CPUS) or 1))
    heap = spark_option(options, "spark.executor.memory")
    larger = glue.worker_type.replace("G.", "R.")

    def left(memory: float) -> float:
        return max(memory - (heap or memory * _JVM_SHARE), 0) * _GB / tasks

    return TaskMemory(
        left(memory),
        f"a worker of type {glue.worker_type} ({memory} GB)",
        tasks,
        f"glue.worker_type={larger}" if glue.worker_type in _WITH_R else None,
        left(2 * memory),
        options,
    )


def _on_emr(emr: EmrServerlessSettings) -> TaskMemory:
    most = EmrServerlessSettings.most_memory_gb(emr.cores)

    def left(memory: int) -> float:
        return (memory - max(memory // 3, 1)) * _GB / emr.cores

    return TaskMemory(
        left(emr.memory_gb),
        f"a worker of {counted(emr.cores, 'core')} and {emr.memory_gb} GB",
        emr.cores,
        f"emr_serverless.memory_gb={most}" if emr.memory_gb < most else None,
        left(most),
    )


def largest_bucket_rows(snapshot: DiscoverResult, bucket_count: int) -> int:
    """Return the expected rows of the largest bucket: the average, and all rows without a key in one of them."""
    missing = 0
    if len(snapshot.keys) == 1:
        missing = next(column.null_count or 0 for column in snapshot.columns if column.name == snapshot.keys[0])
    return round((snapshot.rows - missing) / bucket_count) + missing


def shortage(
    settings: Settings,
    snapshot: DiscoverResult,
    split: SplitResult,
    bucket_count: int,
    slices: Sequence[SliceRecord],
    layout: Layout,
    rows: int | None = None,
) -> str | None:
    """Return a warning if a task needs more memory than its worker leaves to it.

    Args:
        settings: the platform and its workers.
        snapshot: the columns of the source.
        split: the columns of the tables.
        bucket_count: buckets per table.
        slices: units of the scan.
        layout: settings of the layout.
        rows: rows of the largest bucket; None: expected from the footers.
    """
    memory = task_memory(settings)
    if memory is None:
        return None
    every = decoded_bytes(snapshot)
    decoded = {name: every[name] for name in _used(split)}
    keys = sum(decoded[key.source] for key in split.keys)
    widths = {table.name: keys + sum(decoded[part.source] for part in table.columns) for table in split.tables}
    widest = max(widths, key=lambda name: widths[name])
    largest = largest_bucket_rows(snapshot, bucket_count) if rows is None else rows
    dictionaries = _dictionary_bytes(snapshot, decoded)
    gather = gather_memory(largest, keys, widths[widest], dictionaries)
    left = f"{memory.worker} leaves about {size_text(memory.bytes)} to each of its {counted(memory.tasks, 'task')}"
    fixed = gather_memory(0, 0, 0, dictionaries)
    if fixed > memory.bytes:
        ways = _ways(memory, fixed) or ["map fewer columns that have a dictionary"]
        takes = f"Python and the dictionaries of all columns take about {size_text(fixed)}"
        return f"{takes}, but {left}; {' or '.join(ways)}"
    if gather > memory.bytes:
        enough = _buckets(bucket_count * (gather - fixed) / max(memory.bytes - fixed, 1))
        ways = _ways(memory, gather)
        if layout.buckets == "none":
            ways.insert(0, "raise size.max_files and size.files_per_gb")
        elif largest > 2 * snapshot.rows / bucket_count:
            # More buckets do not divide the rows of one key.
            ways.insert(0, "remove rows without a key or with a frequent one")
        elif enough <= _MOST_BUCKETS:
            ways.insert(0, f"set {layout.setting('buckets')}={enough}")
        return (
            f"gathering table {widest} of the largest bucket ({counted(largest, 'row')}) takes about "
            f"{size_text(gather)}, but {left}; {' or '.join(ways) or 'split the wide table'}"
        )
    held = SourceScan.of(snapshot, split).held(snapshot, slices)
    scatter = scatter_memory(held.compressed_bytes, held.decoded_bytes, dictionaries)
    if scatter > memory.bytes:
        ways = _ways(memory, scatter)
        larger = f"{' or '.join(ways)}, or " if ways else ""
        what = "the largest row group" if held.row_groups == 1 else f"{held.row_groups:,} row groups as one"
        return (
            f"reading {what} ({counted(held.rows, 'row')}) takes about {size_text(scatter)}, but {left}; "
            f"{larger}{_source_fix(held)}"
        )
    return None


def _source_fix(held: Held) -> str:
    if held.all_tables:
        return "write the columns of each table next to each other in the source"
    return "write the source with smaller row groups" if held.row_groups == 1 else "map fewer columns"


def _dictionary_bytes(snapshot: DiscoverResult, names: Collection[str]) -> int:
    """Return the bytes of the dictionaries of these columns, as far as they are read as dictionaries."""
    schema = snapshot.schema()
    coded = (part for part in snapshot.columns if part.name in names and stays_dictionary(part, schema))
    return sum(column.dictionary_bytes or 0 for column in coded)


def _ways(memory: TaskMemory, needed: float) -> list[str]:
    """Return the settings that leave a task this much memory."""
    ways = [f"set {memory.larger}"] if memory.larger and memory.most >= needed else []
    fewer = memory.fewer_tasks(needed)
    tasks = counted(memory.fitting(needed), "task")
    return [*ways, f"{fewer} ({tasks} at a time)"] if fewer else ways


def _used(split: SplitResult) -> set[str]:
    return {part.source for table in split.tables for part in table.columns} | {key.source for key in split.keys}


def _buckets(needed: float) -> int:
    """Return the next power of two."""
    return 1 << max(int(-(-needed // 1)) - 1, 0).bit_length()
