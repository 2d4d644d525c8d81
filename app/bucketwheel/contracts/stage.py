"""The stage: one step of the pipeline, and the services that it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel

from bucketwheel.contracts.catalog import Catalog
from bucketwheel.contracts.engine import Engine
from bucketwheel.contracts.executor import SqlExecutor
from bucketwheel.runs.manifest import BucketOutcome, Manifest
from bucketwheel.settings import DatasetSettings, Settings

if TYPE_CHECKING:
    from bucketwheel.runs.store import RunStore
    from bucketwheel.storage import Storage


# `done` is a bucket or a table of the stage.
ProgressState = Literal["started", "advanced", "done", "finished", "skipped", "warning"]


@dataclass(frozen=True)
class Progress:
    """A step forward: rows and bytes that `stage` has handled since the last report, and what remains known.

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
    """Return a report that puts the run's id into everything."""
    return lambda step: report(replace(step, run=run_id))


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
    runs: RunStore
    engine: Callable[[], Engine]
    catalog: Callable[[], Catalog]
    catalog_class: Callable[[], type[Catalog]]
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
