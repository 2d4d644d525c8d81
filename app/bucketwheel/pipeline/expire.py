"""Delete old runs that no catalog table points to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bucketwheel.contracts import CatalogTable, Progress, Report, Services
from bucketwheel.errors import CatalogError, SelectionError
from bucketwheel.executors.copy_store import (
    CopyStore,
    is_directory_of,
    is_temporary,
    run_ids_in,
    temporary_prefix,
)
from bucketwheel.pipeline.select_run import PUBLISHING
from bucketwheel.pipeline.services import maintained, utc_now
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Settings
from bucketwheel.storage import join


@dataclass(frozen=True)
class Expired:
    """A run whose files were deleted, and how many bytes that freed."""

    dataset: str
    run_id: str
    bytes: int


def expire(
    settings: Settings,
    keep: int,
    datasets: Sequence[str] = (),
    now: Callable[[], datetime] = utc_now,
    report: Report = lambda _: None,
) -> list[Expired]:
    """Delete all runs except the newest `keep` of each dataset and those that a catalog table points to.

    Only runs that wrote all their files count for `keep`. The newest run is always kept, because it may be
    resumed. Runs with an unreadable manifest are kept and reported as warnings. The next call completes an
    interrupted deletion.

    Raises:
        SelectionError: `keep` is less than 1.
        LeaseError: another run holds the dataset.
        CatalogError: the catalog shows none of the published tables; nothing is deleted.
    """
    if keep < 1:
        raise SelectionError(f"--keep {keep}: keep at least 1 run")
    expired = []
    for dataset in datasets or _configured(settings, report):
        with maintained(settings, dataset, report, now) as services:
            for run_id in _expirable(services, keep):
                with services.fence.guard():
                    expired.append(_delete(services, run_id))
    return expired


def _configured(settings: Settings, report: Report) -> list[str]:
    """Return the configured datasets that have runs; report datasets with runs that are not configured."""
    names = RunStore.of(settings).datasets()
    unknown = [name for name in names if name not in settings.datasets]
    if unknown:
        text = f"skipped, not in the configuration: {', '.join(unknown)}"
        report(Progress("", "expire", "warning", message=text))
    return [name for name in names if name in settings.datasets]


def _expirable(services: Services, keep: int) -> list[str]:
    dataset, store = services.dataset, services.runs

    def warn(text: str) -> None:
        services.report(Progress(dataset, "expire", "warning", message=f"kept: {text}"))

    manifests = store.manifests(dataset, warn)
    whole = [manifest.run_id for manifest in manifests if _is_whole(manifest)]
    shown = _shown(services.catalog().tables())
    published = [manifest.run_id for manifest in manifests if any(stage in manifest.stages for stage in PUBLISHING)]
    if published and not shown.intersection(published):
        raise CatalogError(
            f"{dataset}: the catalog has no table of any run, although run {published[-1]} was published; nothing "
            "was deleted. Check catalog.path and catalog.database"
        )
    run_ids = store.ids(dataset)
    unreadable = {*run_ids} - {manifest.run_id for manifest in manifests}
    kept = {*whole[-keep:], *run_ids[-1:], *unreadable, *shown}
    return [run_id for run_id in store.all_run_ids(dataset) if run_id not in kept]


def _is_whole(manifest: Manifest) -> bool:
    return manifest.status == "finished" and "bucket" in manifest.stages


def _shown(tables: Iterable[CatalogTable]) -> set[str]:
    """Return every possible run id in the catalog; tables that an interrupted copy left do not count."""
    counted = [table for table in tables if not is_temporary(table)]
    return {part for table in counted for part in (table.run_id or "", *run_ids_in(table.location))}


def _delete(services: Services, run_id: str) -> Expired:
    """Delete the manifest, then the files, then other metadata, so that a half-deleted run is never visible."""
    dataset, store, freed = services.dataset, services.runs, 0
    places = CopyStore(services.storage, store, dataset, run_id).outside_dataset()
    store.delete_manifest(dataset, run_id)
    for table in services.catalog().tables():
        if is_temporary(table) and table.name.startswith(temporary_prefix(run_id)):
            services.catalog().remove(table)
    for entry in services.storage.list(join(store.target, dataset)):
        if entry.is_directory:
            children = services.storage.list(entry.location)
            places += [
                child.location for child in children if child.is_directory and is_directory_of(child.name, run_id)
            ]
    for place in places:
        freed += sum(file.bytes for file in services.storage.list(place))
        services.storage.delete_directory(place)
    store.clear(dataset, run_id)
    return Expired(dataset, run_id, freed)
