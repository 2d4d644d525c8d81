"""Interface of stages, the steps of the pipeline, and the services that they use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel

from bucketwheel.contracts.catalog import Catalog
from bucketwheel.contracts.engine import Engine
from bucketwheel.contracts.executor import SqlExecutor
from bucketwheel.runs.manifest import BucketOutcome, Manifest
from bucketwheel.settings import DatasetSettings, Settings
from bucketwheel.system import Clock

if TYPE_CHECKING:
    from bucketwheel.runs.store import RunStore
    from bucketwheel.storage import Storage


# `done`: one bucket or table of the stage is finished.
ProgressState = Literal["started", "advanced", "done", "finished", "skipped", "warning"]


@dataclass(frozen=True)
class Progress:
    """A progress report: rows and bytes that `stage` has processed since the last report.

    An empty `stage` is the run as a whole. `run` is empty until the run has an id.
    """

    dataset: str
    stage: str
    state: ProgressState
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
    """Return a report that adds the run id to every step."""
    return lambda step: report(replace(step, run=run_id))


class Fence(Protocol):
    """Proof that this process still holds the lease of the dataset."""

    def guard(self) -> AbstractContextManager[None]:
        """Prevent a take-over while the block runs, if the storage can; blocks may be nested.

        Raises:
            LeaseError: another process has taken over the dataset.
        """
        ...


class Checkpoints(Protocol):
    """Finished buckets, saved next to the manifest while the bucket stage runs."""

    def load(self) -> Sequence[BucketOutcome]:
        """Return the outcomes saved so far."""
        ...

    def save(self, outcome: BucketOutcome) -> None:
        """Record one finished bucket, atomically."""
        ...

    def clear(self) -> None:
        """Delete them; the manifest has the outcomes now."""
        ...


@dataclass(frozen=True)
class Services:
    """The services of a stage; backends are created on first use."""

    settings: Settings
    dataset: str
    source: DatasetSettings
    storage: Storage
    runs: RunStore
    engine: Callable[[], Engine]
    catalog: Callable[[], Catalog]
    catalog_class: Callable[[], type[Catalog]]
    executor: Callable[[], SqlExecutor]
    fence: Fence
    checkpoints: Checkpoints
    report: Report
    clock: Clock
    snapshot_dt: str | None = None
    tables_filter: tuple[str, ...] = ()


class Observer(Protocol):
    """Observes the end of a run while the run still holds its lease."""

    def __call__(self, manifest: Manifest, error: BaseException | None, services: Services) -> None:
        """Handle the end of a run; `error` is the failure, if any. Must not raise."""
        ...


class Stage(Protocol):
    """One step of the pipeline.

    `requires` names the stages whose results it reads; `name` is its key in the manifest.
    """

    name: str
    requires: tuple[str, ...]

    def run(self, manifest: Manifest, services: Services) -> BaseModel:
        """Run the stage and return its result for the manifest."""
        ...
