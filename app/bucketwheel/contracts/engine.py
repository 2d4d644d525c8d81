"""The engine: runs the kernel over all slices and buckets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import StorageSettings


@dataclass(frozen=True)
class Slice:
    """A run of row groups of one source file; `index` fixes its place among all slices."""

    index: int
    path: str
    row_groups: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class TableLayout:
    """One table to write: where, which value columns (source name, new name), rows in a row group.

    `schema` is what its files are to have, keys first: an Arrow schema, serialised.
    """

    name: str
    directory: str
    columns: tuple[tuple[str, str], ...]
    row_group_rows: int
    schema: bytes


@dataclass(frozen=True)
class BucketJob:
    """All that scatter, gather and verify need to know; small, and picklable for workers elsewhere.

    `keys` holds (source name, new name) pairs. `dictionary_columns` names source columns that are
    dictionary-encoded in the source and will be in the output. `scratch` is a directory for unfinished files
    that is there while the bucket stage runs, and no longer.
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


@dataclass(frozen=True)
class BucketCheck:
    """One bucket as read back: rows and bytes by table, and the order-independent checksum of its keys."""

    bucket: int
    rows: int
    key_checksum: int
    table_bytes: Mapping[str, int]


@dataclass(frozen=True)
class EngineStatistics:
    """What work took: bytes spilled to local disks because memory did not suffice, bytes sent between processes.

    `warnings` tell what went wrong and was made good by trying again.
    """

    spilled_bytes: int = 0
    shuffled_bytes: int = 0
    warnings: tuple[str, ...] = ()

    def since(self, before: EngineStatistics) -> EngineStatistics:
        """Return the work done after `before`, an earlier answer of the same engine."""
        return EngineStatistics(
            self.spilled_bytes - before.spilled_bytes,
            self.shuffled_bytes - before.shuffled_bytes,
            self.warnings[len(before.warnings) :],
        )


class Engine(Protocol):
    """Runs the kernel over all slices and buckets."""

    def bucket(
        self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        """Yield each bucket not in `done` once its files are in place, in any order.

        `advance` is called with (rows, bytes) as the scan and the writing move on: a row counts once when
        read and once when written.

        Raises:
            UnreadableFilesError: a page of the source cannot be read.
            StorageError: a file cannot be written.
        """
        ...

    def verify(
        self, job: BucketJob, outcomes: Sequence[BucketOutcome], advance: Callable[[int, int], None]
    ) -> Iterator[BucketCheck]:
        """Read back the files of each outcome and yield what they hold.

        Raises:
            VerificationError: a file is not what its outcome says, with file, row and bucket.
        """
        ...

    def statistics(self) -> EngineStatistics:
        """Return totals of all work of this engine object; asking changes nothing."""
        ...
