"""What is done with runs that exist: list, verify again, roll back, expire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from bucketwheel import backends
from bucketwheel.assembly import RunRequest, make_services, utc_now
from bucketwheel.contracts import CatalogTable, Progress, Report, Services
from bucketwheel.copies import CopyBooks, check_copies, is_directory_of, is_temporary, run_ids_in, temporary_prefix
from bucketwheel.errors import CatalogError, SelectionError
from bucketwheel.lease import Lease
from bucketwheel.manifest import BucketResult, Manifest, PublishResult, VerifyResult
from bucketwheel.publish import DATASET, check_files, definitions, publish_all
from bucketwheel.run import prefixes
from bucketwheel.runs import RunStore
from bucketwheel.selection import PUBLISHING
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage, join


@dataclass(frozen=True)
class Expired:
    """A run whose files were deleted, and how many bytes that freed."""

    dataset: str
    run_id: str
    bytes: int


def run_store(settings: Settings) -> RunStore:
    """Return the runs below the target."""
    return RunStore(Storage.of(settings), settings.target)


def verify(settings: Settings, run_id: str, report: Report = lambda _: None) -> VerifyResult:
    """Read the files of a finished run back again; writes nothing.

    Raises:
        VerificationError: a file is not what the manifest says.
        SelectionError: there is no such run, or it has not finished `bucket`.
    """
    manifest = run_store(settings).find(run_id)
    # What is published now says nothing about the files.
    quality = settings.quality.model_copy(update={"drift": "off", "max_rows_changed_percent": None})
    settings = settings.model_copy(update={"quality": quality})
    services = make_services(settings, RunRequest(manifest.dataset), report, utc_now)
    rows, started = manifest.result("bucket", BucketResult).rows, services.now()
    report(Progress(manifest.dataset, "verify", "started", total_rows=rows))
    result = VerifyResult.model_validate(backends.stage("verify").run(manifest, services).model_dump())
    for warning in result.warnings:
        report(Progress(manifest.dataset, "verify", "warning", message=warning))
    seconds = (services.now() - started).total_seconds()
    report(Progress(manifest.dataset, "verify", "finished", message=f"{seconds:.1f} s"))
    return result


def rollback(
    settings: Settings, run_id: str, report: Report = lambda _: None, now: Callable[[], datetime] = utc_now
) -> PublishResult:
    """Point every catalog table that a run published at its files again; all of them or none.

    Tables that only another run has stay where they are; `report` gets a warning that names them.

    Raises:
        SelectionError: there is no such run, or it never published.
        VerificationError: files of that run are gone.
        LeaseError: another run holds the dataset.
        CatalogError: see `publish.publish_all`.
    """
    manifest = run_store(settings).find(run_id)
    published = [stage for stage in PUBLISHING if stage in manifest.stages]
    if not published:
        raise SelectionError(f"run {run_id} never published a table; finish it with --resume {run_id}")
    with _leased(settings, manifest.dataset, report, now) as services:
        check_files(manifest, services.storage, settings.target)
        store, catalog = run_store(settings), services.catalog()
        tables = []
        for stage in published:
            copies = manifest.result(stage, PublishResult).copies
            check_copies(services.storage, copies)
            prefix = prefixes(settings.catalog)[stage]
            tables += definitions(manifest, services.storage, settings, prefix, copies)

        def note() -> None:
            if "ctas" in published:
                store.note_published(manifest)

        result = publish_all(catalog, services.fence, tables, settings.catalog.adopt, note)
        left = sorted(table.name for table in _others(catalog.tables(), manifest))
    if left:
        text = f"not part of {run_id} and left where they are: {', '.join(left)}"
        report(Progress(manifest.dataset, "rollback", "warning", message=text))
    return result


def expire(
    settings: Settings,
    keep: int,
    datasets: Sequence[str] = (),
    now: Callable[[], datetime] = utc_now,
    report: Report = lambda _: None,
) -> list[Expired]:
    """Delete runs but the newest `keep` of each dataset and those that a catalog table points to.

    Only runs that wrote their files to the end count for `keep`; the newest run of all is kept in any case, as
    it may be resumed. A run whose manifest cannot be read is kept and reported as a warning. A deletion
    that was broken off is finished by the next one.

    Raises:
        SelectionError: `keep` is less than 1.
        LeaseError: another run holds the dataset.
        CatalogError: the catalog shows nothing of what was published; nothing is deleted.
    """
    if keep < 1:
        raise SelectionError(f"--keep {keep}: keep at least 1 run")
    expired = []
    for dataset in datasets or _configured(settings, report):
        with _leased(settings, dataset, report, now) as services:
            for run_id in _expirable(settings, services, keep):
                with services.fence.guard():
                    expired.append(_delete(run_store(settings), services, run_id))
    return expired


def _configured(settings: Settings, report: Report) -> list[str]:
    """Return the configured datasets that have runs; those that have runs and are not are reported."""
    found = run_store(settings).datasets()
    unknown = [name for name in found if name not in settings.datasets]
    if unknown:
        text = f"left alone, as no dataset of the configuration has the name: {', '.join(unknown)}"
        report(Progress("", "expire", "warning", message=text))
    return [name for name in found if name in settings.datasets]


def _expirable(settings: Settings, services: Services, keep: int) -> list[str]:
    dataset, store = services.dataset, run_store(settings)

    def warn(text: str) -> None:
        services.report(Progress(dataset, "expire", "warning", message=f"kept: {text}"))

    manifests = store.manifests(dataset, warn)
    whole = [manifest.run_id for manifest in manifests if _is_whole(manifest)]
    shown = _shown(services.catalog().tables())
    published = [manifest.run_id for manifest in manifests if any(stage in manifest.stages for stage in PUBLISHING)]
    if published and not shown.intersection(published):
        raise CatalogError(
            f"{dataset}: the catalog shows no table of its runs, though {published[-1]} was published; nothing was "
            "deleted. Check that catalog.path and catalog.database name the right one"
        )
    begun = store.ids(dataset)
    unreadable = {*begun} - {manifest.run_id for manifest in manifests}
    kept = {*whole[-keep:], *begun[-1:], *unreadable, *shown}
    return [run_id for run_id in store.traces(dataset) if run_id not in kept]


def _is_whole(manifest: Manifest) -> bool:
    return manifest.status == "finished" and "bucket" in manifest.stages


def _shown(tables: Iterable[CatalogTable]) -> set[str]:
    """Return whatever may be a run id in what the catalog shows; what a broken-off copy left does not count."""
    counted = [table for table in tables if not is_temporary(table)]
    return {part for table in counted for part in (table.run_id or "", *run_ids_in(table.location))}


def _others(tables: Iterable[CatalogTable], manifest: Manifest) -> list[CatalogTable]:
    """Return the tables that another run of the same dataset published."""
    return [
        table
        for table in tables
        if table.parameters.get(DATASET) == manifest.dataset and table.run_id != manifest.run_id
    ]


@contextmanager
def _leased(settings: Settings, dataset: str, report: Report, now: Callable[[], datetime]) -> Iterator[Services]:
    services = make_services(settings, RunRequest(dataset), report, now)
    home = run_store(settings).home(dataset)
    with Lease(home, settings.lease.ttl_seconds, now, storage=services.storage) as lease:
        run_store(settings).sweep(dataset)
        yield replace(services, fence=lease)


def _delete(store: RunStore, services: Services, run_id: str) -> Expired:
    """Delete the manifest, the files, then what is left of the books: at no moment is it half a run."""
    dataset, freed = services.dataset, 0
    places = CopyBooks(services.storage, store, dataset, run_id).elsewhere()
    store.forget(dataset, run_id)
    for table in services.catalog().tables():
        if is_temporary(table) and table.name.startswith(temporary_prefix(run_id)):
            services.catalog().remove(table)
    for entry in services.storage.list(join(store.target, dataset)):
        if entry.is_directory:
            found = services.storage.list(entry.location)
            places += [
                child.location for child in found if child.is_directory and is_directory_of(child.name, run_id)
            ]
    for place in places:
        freed += sum(file.bytes for file in services.storage.list(place))
        services.storage.delete_directory(place)
    store.clear(dataset, run_id)
    return Expired(dataset, run_id, freed)
