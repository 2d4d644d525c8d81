"""Compare the memory of a Spark task with what its platform leaves to it; docs/spark.md has the formula."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa

from bucketwheel.engines.spark_sizing import gather_memory, scatter_memory
from bucketwheel.formatting import counted, size_text
from bucketwheel.kernel.dictionaries import stays_dictionary
from bucketwheel.kernel.written_types import stored_type
from bucketwheel.runs.cost import dpus, platform_of
from bucketwheel.runs.manifest import DiscoverResult, SliceRecord, SourceColumn, SplitResult, TypeConversion
from bucketwheel.settings import EmrServerlessSettings, GlueJobSettings, Layout, Settings
from bucketwheel.settings.deploy import TASK_CPUS, spark_option

_GB = 2**30
# A DPU of Glue has 4 cores and 16 GB, 32 GB with R (Glue User Guide, "AWS Glue worker types"). Spark runs a task for
# each core. Glue gives the JVM 10 of 16 GB; no document promises that.
_CORES_PER_DPU, _GB_PER_DPU, _JVM_SHARE = 4, 16, 10 / 16
# Types that also exist with twice the memory.
_WITH_R = ("G.1X", "G.2X", "G.4X", "G.8X")
# Largest `buckets.count`.
_MOST_BUCKETS = 100_000
# Bytes of the offset of a text or list, and of the bit that tells NULL.
_OFFSET_BYTES, _NULL_BYTES = 4, 1 / 8
# Values that become text: their bytes in the file, and the characters of their text at most.
_TEXTS = {
    **dict.fromkeys(("UUID", "extension<arrow.uuid>"), (16, 36)),
    "time32[s]": (4, 8),
    "time32[ms]": (4, 12),
    "time64[us]": (8, 15),
    "time64[ns]": (8, 18),
}
_TEXT = "string"
# Each of these becomes a type of twice the bytes.
_DOUBLED = frozenset({"uint32", "uint64", "halffloat"})


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


def decoded_bytes(snapshot: DiscoverResult) -> dict[str, float]:
    """Return the average bytes of a decoded value of each column, in the type that is written."""
    schema, rows = snapshot.schema(), max(snapshot.rows, 1)
    return {column.name: _decoded_bytes(column, schema, rows, snapshot.conversions) for column in snapshot.columns}


def _decoded_bytes(
    column: SourceColumn, schema: pa.Schema, rows: int, conversions: Sequence[TypeConversion]
) -> float:
    kind = schema.field(column.name).type
    least, fixed = _least_bytes(kind)
    if fixed:
        return least
    in_file = column.uncompressed_bytes / rows
    if pa.types.is_nested(_value_type(kind)):
        inside = (part for part in conversions if _is_inside(part, column.name, schema))
        return max(least, in_file * max(map(_growth, inside), default=1.0) + _OFFSET_BYTES)
    own = next((part for part in conversions if _is_of(part, column.name, schema)), None)
    if own is not None and own.stored in _TEXTS:
        # Only texts of the file are read as dictionaries.
        return least + _TEXTS[own.stored][1] * (1 - (column.null_count or 0) / rows)
    return least if stays_dictionary(column, schema) else in_file + _OFFSET_BYTES


def _is_of(conversion: TypeConversion, name: str, schema: pa.Schema) -> bool:
    """Return whether a conversion is that of a column; a field of a struct may have the same path."""
    return conversion.column == name and conversion.written in str(schema.field(name).type)


def _is_inside(conversion: TypeConversion, name: str, schema: pa.Schema) -> bool:
    """Return whether a conversion is that of a part of a nested column; names of other columns may have dots."""
    path, kind = conversion.column, _value_type(schema.field(name).type)
    if not path.startswith(f"{name}."):
        return False
    if not pa.types.is_struct(kind):
        return path not in schema.names and conversion.written in str(kind)
    rest = path.removeprefix(f"{name}.") + "."
    fields = (kind.field(number) for number in range(kind.num_fields))
    return any(rest.startswith(f"{part.name}.") and conversion.written in str(part.type) for part in fields)


def _least_bytes(kind: pa.DataType) -> tuple[float, bool]:
    """Return the bytes of a value if its texts and lists are empty, and whether all values take that many."""
    kind = _value_type(kind)
    try:
        return float(kind.bit_width) / 8 + _NULL_BYTES, True
    except ValueError:
        pass  # Texts, and all nested types.
    listed = pa.types.is_fixed_size_list(kind)
    if not listed and not pa.types.is_struct(kind):
        return _OFFSET_BYTES + _NULL_BYTES, False
    parts = [_least_bytes(kind.field(number).type) for number in range(kind.num_fields)]
    size = sum(part for part, _ in parts) * (kind.list_size if listed else 1)
    return size + _NULL_BYTES, all(fixed for _, fixed in parts)


def _value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that values have without a dictionary and an extension."""
    kind = stored_type(kind)
    return stored_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _growth(conversion: TypeConversion) -> float:
    """Return how many times as many bytes a value takes in memory as in the file."""
    if conversion.stored in _DOUBLED:
        return 2
    if conversion.stored not in _TEXTS or conversion.written != _TEXT:
        return 1
    stored, characters = _TEXTS[conversion.stored]
    return (characters + _OFFSET_BYTES) / stored


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
    columns, every = {column.name: column for column in snapshot.columns}, decoded_bytes(snapshot)
    decoded = {name: every[name] for name in _used(split)}
    keys = sum(decoded[key.source] for key in split.keys)
    widths = {table.name: keys + sum(decoded[part.source] for part in table.columns) for table in split.tables}
    widest = max(widths, key=lambda name: widths[name])
    largest = largest_bucket_rows(snapshot, bucket_count) if rows is None else rows
    dictionaries = _dictionary_bytes(snapshot, decoded)
    gather = gather_memory(largest, keys, widths[widest], dictionaries)
    left = f"{memory.worker} leaves about {size_text(memory.bytes)} to each of its {counted(memory.tasks, 'task')}"
    if gather > memory.bytes:
        fixed = gather_memory(0, 0, 0, dictionaries)
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
    compressed = sum(columns[name].compressed_bytes for name in decoded) / max(snapshot.rows, 1)
    longest = max((part.rows for part in slices), default=0)
    total = sum(decoded.values())
    scatter = scatter_memory(longest * compressed, longest * total, widths[widest] / total, dictionaries)
    if scatter > memory.bytes:
        larger = "".join(f"{way}, or " for way in [" or ".join(_ways(memory, scatter))] if way)
        return (
            f"reading the largest row group ({counted(longest, 'row')}) takes about {size_text(scatter)}, but "
            f"{left}; {larger}write the source with smaller row groups"
        )
    return None


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
