"""The seams: what a stage, an engine, a catalog and a SQL executor are to the rest. Read this first.

::

    cli, api  ->  run  ->  Stage  ->  Engine       scatter and gather the data
                                  ->  Catalog      publish tables
                                  ->  SqlExecutor  have a SQL engine copy a table, where that is wanted

`Catalog` and `SqlExecutor` are in `tables.py`. A stage gets the manifest with the results of earlier stages and a
`Services` record; it returns its own result. It never calls another stage. Backends are found by name (see
`backends.py`) and imported when chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel

from bucketwheel.manifest import BucketOutcome, Manifest
from bucketwheel.settings import DatasetSettings, Settings, StorageSettings
from bucketwheel.tables import Catalog, CatalogTable, SqlExecutor, Statement, TableCopy

if TYPE_CHECKING:
    from bucketwheel.storage import Storage

# Defined in tables.py, and as much a seam as what follows.
__all__ = ["Catalog", "CatalogTable", "SqlExecutor", "Statement", "TableCopy"]


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
class Progress:
    """A step forward: rows and bytes that `stage` has handled since the last report, and what remains known.

    An empty `stage` is the run as a whole. `run` is empty until the run has an id.
    """

    dataset: str
    stage: str
    state: str  # started | advanced | done (a bucket or a table of the stage) | finished | skipped | warning
    rows: int = 0
    bytes: int = 0
    total_rows: int = 0
    total_bytes: int = 0
    message: str = ""
    run: str = ""
    table: str = ""
    bucket: int | None = None
    files: int = 0
    seconds: float | None = None


Report = Callable[[Progress], None]


def of_run(report: Report, run_id: str) -> Report:
    """Return a report that puts the run's id into everything."""
    return lambda step: report(replace(step, run=run_id))


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
        """Return what the work took, since last asked."""
        ...


class Fence(Protocol):
    """Proof that this writer still holds the dataset."""

    def guard(self) -> AbstractContextManager[None]:
        """Hold off any take-over while the block runs, where that can be done; blocks may be nested.

        Raises:
            LeaseError: somebody else took the dataset over.
        """
        ...


class Checkpoints(Protocol):
    """Buckets that are finished, kept beside the manifest while the bucket stage runs."""

    def load(self) -> Mapping[int, BucketOutcome]:
        """Return the outcomes saved so far, by bucket number."""
        ...

    def save(self, outcome: BucketOutcome) -> None:
        """Record one finished bucket, atomically."""
        ...

    def clear(self) -> None:
        """Forget them; the manifest has them now."""
        ...


@dataclass(frozen=True)
class Services:
    """What a stage may use; backends are made when first asked for."""

    settings: Settings
    dataset: str
    source: DatasetSettings
    storage: Storage
    engine: Callable[[], Engine]
    catalog: Callable[[], Catalog]
    executor: Callable[[], SqlExecutor]
    fence: Fence
    checkpoints: Checkpoints
    report: Report
    now: Callable[[], datetime]
    snapshot_dt: str | None = None
    tables_filter: tuple[str, ...] = ()


class Observer(Protocol):
    """Is told how a run ended, while the run still holds its dataset."""

    def __call__(self, manifest: Manifest, error: BaseException | None, services: Services) -> None:
        """Do what is to be done at the end of a run; `error` is what it failed with. Raises nothing."""
        ...


class Stage(Protocol):
    """One step of the pipeline.

    `requires` names the stages whose results it reads; `name` is its key in the manifest.
    """

    name: str
    requires: tuple[str, ...]

    def run(self, manifest: Manifest, services: Services) -> BaseModel:
        """Do the work and return the result that the manifest keeps."""
        ...
