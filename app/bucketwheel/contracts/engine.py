"""Interface of engines, which run the kernel over all slices and buckets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bucketwheel.runs.column_statistics import ColumnStatistics
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import StatisticsLevel, StorageSettings


@dataclass(frozen=True)
class Slice:
    """Consecutive row groups of one source file; `index` is its position among all slices.

    A file with another `version` than this one is refused; an empty one is not compared.
    """

    index: int
    path: str
    row_groups: tuple[int, ...]
    rows: int
    version: str = ""


@dataclass(frozen=True)
class TableLayout:
    """One table to write: its directory, value columns (source name, new name), and rows per row group.

    `schema` is the serialized Arrow schema of its files, keys first.
    """

    name: str
    directory: str
    columns: tuple[tuple[str, str], ...]
    row_group_rows: int
    schema: bytes


@dataclass(frozen=True)
class BucketJob:
    """The input of scatter, gather and verify; small and picklable, for remote workers.

    `keys` holds (source name, new name) pairs. `dictionary_columns` names source columns that stay
    dictionary-encoded in the output. `scratch` is a directory for unfinished files that exists only while the
    bucket stage runs. `column_statistics` is the level of the statistics that the engine collects while it reads.
    With `show_keys`, outcomes have the smallest and the largest key.
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


@dataclass(frozen=True)
class BucketCheck:
    """One bucket as read back: rows and bytes by table, and the order-independent checksum of its keys.

    `data_files` are the records of its files in an Iceberg layout, from `runs.data_files.pack`.
    """

    bucket: int
    rows: int
    key_checksum: int
    table_bytes: Mapping[str, int]
    data_files: str = ""


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
    """

    spilled_bytes: int = 0
    shuffled_bytes: int = 0
    warnings: tuple[str, ...] = ()
    columns: tuple[ColumnStatistics, ...] = ()
    keys: ReadKeys | None = None

    def since(self, before: EngineStatistics) -> EngineStatistics:
        """Return the difference from `before`, earlier statistics of the same engine."""
        return EngineStatistics(
            self.spilled_bytes - before.spilled_bytes,
            self.shuffled_bytes - before.shuffled_bytes,
            self.warnings[len(before.warnings) :],
            self.columns,
            self.keys,
        )


class Engine(Protocol):
    """Runs the kernel over all slices and buckets."""

    def bucket(
        self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        """Write the buckets that are not in `done`; yield each once its files are complete, in any order.

        `advance` is called with (rows, bytes) during reading and writing: a row counts once when it is read and
        once when it is written.

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
