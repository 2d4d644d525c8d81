"""List runs with their state: whether they still run, their progress, and how many of their tables are live."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bucketwheel import plugins
from bucketwheel.catalogs.live import LiveCount, LiveDataset, count_live, live_dataset, was_published
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import BucketwheelError, StorageError
from bucketwheel.formatting import counted
from bucketwheel.lease import read_holder
from bucketwheel.pipeline.live import check_dataset, known_datasets
from bucketwheel.pipeline.settle import Publication, publications
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.store import BucketCheckpoints, RunStore
from bucketwheel.runs.withdrawals import Withdrawal, withdrawals
from bucketwheel.settings import Settings
from bucketwheel.system import system


@dataclass(frozen=True)
class RunState:
    """A run with its current state: process, progress, live tables, withdrawal.

    Attributes:
        manifest: its manifest
        status: that of the manifest, or interrupted if the process of a running run has died
        buckets: (finished, total) buckets while the run is in stage `bucket`, otherwise None
        live: how many of its tables are live; None if it has none yet or the catalog cannot be read
        withdrawal: the mark that a rollback left on it, if any
        publication: its publication that was interrupted or is under way, in words; empty if there is none
    """

    manifest: Manifest
    status: Literal["running", "failed", "finished", "interrupted"]
    buckets: tuple[int, int] | None = None
    live: LiveCount | None = None
    withdrawal: Withdrawal | None = None
    publication: str = ""

    @property
    def status_text(self) -> str:
        """The status, with the number of finished buckets while there are unfinished ones.

        A withdrawn run is `withdrawn`, or `interrupted, withdrawn` and so on if it has not finished.
        """
        text: str = self.status
        if self.buckets is not None:
            part = "buckets" if self.manifest.size.bucketed else "parts"
            text += f" ({self.buckets[0]:,} of {self.buckets[1]:,} {part})"
        if self.withdrawal is None:
            return text
        return "withdrawn" if text == "finished" else f"{text}, withdrawn"

    @property
    def live_text(self) -> str:
        """Whether the run is live, and its mark; empty if that is unknown or the run has no tables yet."""
        live = "; ".join(filter(None, (self._catalog_text, self.publication)))
        if self.withdrawal is None:
            return live
        mark = f"{self.withdrawal.text}; to allow its data again: bucketwheel unmark {self.withdrawal.run_id}"
        return f"{live}; {mark}" if live else mark

    @property
    def _catalog_text(self) -> str:
        if self.live is None:
            return ""
        if self.live.count:
            noun = "staged table" if self.live.kind == "staged" else "table"
            return f"live: {self.live.count:,} of {counted(self.live.total, noun)}"
        return "was published, no longer live" if was_published(self.manifest) else "not published"


def run_states(
    settings: Settings,
    dataset: str | None = None,
    warn: Callable[[str], None] | None = None,
) -> list[RunState]:
    """Return the state of all runs, oldest first within a dataset.

    `warn` is called with a message for each manifest that cannot be read, and if the catalog cannot be read. Without
    it, the first such manifest raises an error.

    Raises:
        SelectionError: no such dataset.
        StorageError: a manifest cannot be read.
    """
    runs = RunStore.of(settings)
    tables = _catalog_tables(settings, warn)
    names = runs.datasets()
    if dataset is not None:
        check_dataset(dataset, known_datasets(settings, runs, tables or ()), tables or ())
        names = [dataset]
    states: list[RunState] = []
    for name in names:
        manifests = runs.manifests(name, warn)
        live = None if tables is None else live_dataset(tables, name, runs, settings, manifests)
        marks, left = _marks(runs, name, warn), _publications(settings, runs, name, tables, warn)
        if warn is not None:
            for publication in left.values():
                warn(f"{name}: {publication.text}")
        states += [_state(manifest, live, runs, marks, left) for manifest in manifests]
    return states


def run_state(
    settings: Settings,
    run_id: str,
    warn: Callable[[str], None] | None = None,
) -> RunState:
    """Return the state of one run; `warn` is called if the catalog cannot be read.

    Raises:
        SelectionError: no such run.
    """
    runs = RunStore.of(settings)
    manifest = runs.find(run_id)
    tables = _catalog_tables(settings, warn)
    live = None if tables is None else live_dataset(tables, manifest.dataset, runs, settings, [manifest])
    left = _publications(settings, runs, manifest.dataset, tables, warn)
    return _state(manifest, live, runs, _marks(runs, manifest.dataset, warn), left)


def _marks(runs: RunStore, dataset: str, warn: Callable[[str], None] | None) -> dict[str, Withdrawal]:
    """Return the marks of withdrawn runs by run id; none if one cannot be read."""
    try:
        return {mark.run_id: mark for mark in withdrawals(runs, dataset)}
    except StorageError as error:
        if warn is not None:
            warn(f"cannot tell which runs are withdrawn: {error}")
        return {}


def _publications(
    settings: Settings,
    runs: RunStore,
    dataset: str,
    tables: Sequence[CatalogTable] | None,
    warn: Callable[[str], None] | None,
) -> dict[str, Publication]:
    """Return the interrupted publications of a dataset by run id; none if a record cannot be read."""
    try:
        return {each.record.run_id: each for each in publications(settings, runs, dataset, lambda: tables)}
    except StorageError as error:
        if warn is not None:
            warn(f"cannot tell whether a publication was interrupted: {error}")
        return {}


def _catalog_tables(settings: Settings, warn: Callable[[str], None] | None) -> Sequence[CatalogTable] | None:
    """Return the tables of the catalog, or None if it cannot be read, so that the runs can be shown anyway."""
    try:
        return plugins.catalog(settings).tables()
    except BucketwheelError as error:
        if warn is not None:
            warn(f"cannot tell which tables are live, because the catalog cannot be read: {error}")
        return None


def _state(
    manifest: Manifest,
    live: LiveDataset | None,
    runs: RunStore,
    marks: Mapping[str, Withdrawal],
    left: Mapping[str, Publication],
) -> RunState:
    status: Literal["running", "failed", "finished", "interrupted"] = manifest.status
    if status == "running" and not _has_process(manifest, runs):
        # The run may have ended between the reads of manifest and lease.
        manifest = runs.load(manifest.dataset, manifest.run_id)
        status = manifest.status
        if status == "running" and not _has_process(manifest, runs):
            status = "interrupted"
    buckets = None
    if status in ("running", "interrupted") and "size" in manifest.stages and "bucket" not in manifest.stages:
        checkpoints = BucketCheckpoints(runs.storage, runs, manifest.dataset, manifest.run_id)
        buckets = checkpoints.count(), manifest.size.bucket_count
    count = None if live is None else count_live(manifest, live)
    publication = left.get(manifest.run_id)
    text = "" if publication is None else publication.text
    return RunState(manifest, status, buckets, count, marks.get(manifest.run_id), text)


def _has_process(manifest: Manifest, runs: RunStore) -> bool:
    holder = read_holder(runs.metadata_directory(manifest.dataset), runs.storage)
    return holder is not None and holder.may_work_on(manifest.run_id, system().clock.now())
