"""Interface of engines, which run the kernel over all slices and buckets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Protocol

from bucketwheel.runs.column_statistics import ColumnStatistics
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import StatisticsLevel, StorageSettings, TypeSettings


@dataclass(frozen=True)
class Slice:
    """Consecutive row groups of one source file; `index` is its position among all slices.

    A file with another `version` than this one is refused; an empty one is not compared. `constants` are columns that
    are not in the file, with their values.
    """

    index: int
    path: str
    row_groups: tuple[int, ...]
    rows: int
    version: str = ""
    constants: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class TableLayout:
    """One table to write: its directory, value columns (source name, new name), and rows per row group.

    `schema` is the serialized Arrow schema of its files, keys first. `decoded_bytes_per_row` are the estimated bytes
    of its value columns; 0 if unknown.
    """

    name: str
    directory: str
    columns: tuple[tuple[str, str], ...]
    row_group_rows: int
    schema: bytes
    decoded_bytes_per_row: float = 0


@dataclass(frozen=True)
class OtherLayout:
    """A further layout of the same rows; its tables differ only in directory and row groups.

    `name` is that of the layout in outcomes.
    """

    name: str
    tables: tuple[TableLayout, ...]
    bucket_count: int
    hash: str
    sort: bool
    max_file_bytes: int


@dataclass(frozen=True)
class BucketJob:
    """The input of scatter, gather and verify; small and picklable, for remote workers.

    A job writes one layout and the `others` in one scan. Buckets are numbered over all layouts: first those of this
    one, then those of each other. `layouts` has a job for each, without others; gather and verify use these.

    `layout` is the name of the layout in outcomes. `keys` holds (source name, new name) pairs. `dictionary_columns`
    names source columns that stay dictionary-encoded in the output, and `dictionary_bytes` is the size of the largest
    dictionary page of each in the source, in total. `scratch` is a directory for unfinished files
    that exists only while the bucket stage runs. `column_statistics` is the level of the statistics that the engine
    collects while it reads. With `show_keys`, outcomes have the smallest and the largest key. `types` has the rules
    for values that a written type cannot hold.
    """

    storage: StorageSettings
    slices: tuple[Slice, ...]
    keys: tuple[tuple[str, str], ...]
    tables: tuple[TableLayout, ...]
    bucket_count: int
    hash: str
    sort: bool
    max_file_bytes: int
    page_bytes: int
    dictionary_columns: frozenset[str]
    decoded_bytes_per_row: int
    scratch: str
    column_statistics: StatisticsLevel = "none"
    show_keys: bool = False
    types: TypeSettings = field(default_factory=TypeSettings)
    layout: str = ""
    others: tuple[OtherLayout, ...] = ()
    dictionary_bytes: int = 0

    @cached_property
    def layouts(self) -> tuple[BucketJob, ...]:
        """A job for each layout alone."""
        alone = replace(self, others=()) if self.others else self
        return (alone, *(_of_layout(alone, other) for other in self.others))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The number of the first bucket of each layout, and at the end the number of all buckets."""
        # In an Iceberg layout of n buckets, bucket n has the rows whose key is NULL.
        counts = (layout.bucket_count + (layout.hash == "iceberg") for layout in self.layouts)
        return tuple(accumulate(counts, initial=0))

    @property
    def buckets(self) -> int:
        """The number of buckets of all layouts."""
        return self.starts[-1]

    def located(self, numbers: Sequence[int]) -> tuple[BucketJob, list[int]]:
        """Return the job of the layout of some buckets, and their numbers in it; all are of one layout."""
        position = bisect_right(self.starts, numbers[0]) - 1
        return self.layouts[position], [number - self.starts[position] for number in numbers]

    def layout_of(self, outcome: BucketOutcome) -> BucketJob:
        """Return the job of the layout of a bucket alone."""
        return self.layouts[self._position(outcome)]

    def number_of(self, outcome: BucketOutcome) -> int:
        """Return the number of a bucket among those of all layouts."""
        return self.starts[self._position(outcome)] + outcome.bucket

    def _position(self, outcome: BucketOutcome) -> int:
        return [layout.layout for layout in self.layouts].index(outcome.layout)


def _of_layout(job: BucketJob, other: OtherLayout) -> BucketJob:
    return replace(
        job,
        layout=other.name,
        tables=other.tables,
        bucket_count=other.bucket_count,
        hash=other.hash,
        sort=other.sort,
        max_file_bytes=other.max_file_bytes,
    )


@dataclass(frozen=True)
class BucketCheck:
    """One bucket as read back: rows and bytes by table, and the order-independent checksum of its keys.

    `bucket` is its number in its layout, and `layout` the name of the layout in outcomes. `data_files` are the
    records of its files in an Iceberg layout, from `runs.data_files.pack`.
    """

    bucket: int
    rows: int
    key_checksum: int
    table_bytes: Mapping[str, int]
    data_files: str = ""
    layout: str = ""


@dataclass(frozen=True)
class ReadKeys:
    """Number of rows whose keys were read, and the order-independent checksum of these keys."""

    rows: int = 0
    checksum: int = 0


@dataclass(frozen=True)
class EngineStatistics:
    """Counters of an engine: bytes spilled to local disks and bytes sent between processes.

    `warnings` lists failures that a retry repaired. `columns` has the statistics that the last call of `bucket`
    collected, by source column; an engine without any leaves it empty, and none are published. `keys` tells which
    keys the last call of `bucket` read, also those of buckets in `done`; None if it read nothing or does not tell.
    `invalid_texts` counts, by source column, the texts that are not UTF-8: keys are kept, bytes of others replaced.
    """

    spilled_bytes: int = 0
    shuffled_bytes: int = 0
    warnings: tuple[str, ...] = ()
    columns: tuple[ColumnStatistics, ...] = ()
    keys: ReadKeys | None = None
    invalid_texts: Mapping[str, int] = field(default_factory=dict)

    def since(self, before: EngineStatistics) -> EngineStatistics:
        """Return the difference from `before`, earlier statistics of the same engine."""
        return EngineStatistics(
            self.spilled_bytes - before.spilled_bytes,
            self.shuffled_bytes - before.shuffled_bytes,
            self.warnings[len(before.warnings) :],
            self.columns,
            self.keys,
            self.invalid_texts,
        )


class Engine(Protocol):
    """Runs the kernel over all slices and buckets."""

    def bucket(
        self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        """Write the buckets that are not in `done`; yield each once its files are complete, in any order.

        The numbers in `done` count the buckets of all layouts, as `BucketJob` does. `advance` is called with
        (rows, bytes) during reading and writing: a row counts once when it is read and once for each layout when it
        is written.

        Raises:
            UnreadableFilesError: a page of the source cannot be read.
            SourceChangedError: a source file was replaced or deleted during the run.
            StorageError: a file cannot be written.
        """
        ...

    def verify(
        self, job: BucketJob, outcomes: Sequence[BucketOutcome], advance: Callable[[int, int], None]
    ) -> Iterator[BucketCheck]:
        """Read back the files of each outcome and yield their counts and checksums.

        Raises:
            VerificationError: a file differs from its outcome; names file, row and bucket.
        """
        ...

    def statistics(self) -> EngineStatistics:
        """Return totals of all work of this engine object."""
        ...
