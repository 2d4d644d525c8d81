"""Delete old runs that no catalog table points to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bucketwheel.catalogs.live import live_dataset, was_published
from bucketwheel.catalogs.routed import members
from bucketwheel.contracts import CatalogTable, HistoryCatalog, Progress, Report, Services
from bucketwheel.errors import CatalogError, ChangedError, SelectionError, StorageError
from bucketwheel.executors.copy_store import (
    CopyStore,
    is_directory_of,
    is_temporary,
    run_ids_in,
    temporary_prefix,
)
from bucketwheel.formatting import counted
from bucketwheel.pipeline.live import unconfigured_texts
from bucketwheel.pipeline.lost_catalogs import check_catalogs
from bucketwheel.pipeline.other_catalogs import OtherCatalogs
from bucketwheel.pipeline.select_run import PUBLISHING
from bucketwheel.pipeline.services import RunRequest, maintained, make_services
from bucketwheel.pipeline.unknown_runs import kept_unknown, unknown_runs
from bucketwheel.runs.claims import StoredClaim, claim_deleting, give_up_deletion, read_claims
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.publications import forget_catalog, publications
from bucketwheel.runs.store import RunStore
from bucketwheel.runs.withdrawals import withdrawals
from bucketwheel.settings import Settings
from bucketwheel.storage import join


@dataclass(frozen=True)
class Expired:
    """A run whose files `expire` deletes, and how many bytes that frees.

    `has_manifest` is False if a deletion of the run was broken off, or if Bucketwheel knows nothing else of the run.
    """

    dataset: str
    run_id: str
    bytes: int
    has_manifest: bool = True


def expire(
    settings: Settings,
    keep: int,
    datasets: Sequence[str] = (),
    report: Report = lambda _: None,
    only: Collection[str] | None = None,
    forget_catalogs: Collection[str] = (),
) -> list[Expired]:
    """Delete all runs except the newest `keep` of each dataset and those that a catalog table points to.

    Only runs that wrote all files of all tables and are not withdrawn count for `keep`. Always kept are the newest
    run (it may be resumed), the last run of every table, and runs that were live in the last
    `expire.min_age_hours`. Runs with an unreadable manifest are kept and reported as warnings. The next call
    completes an interrupted deletion. A run that another command publishes meanwhile is kept. The catalogs are the
    configured one and all others in which the runs were published.

    Args:
        settings: all settings.
        keep: number of runs to keep per dataset.
        datasets: datasets to process; if empty, all configured datasets.
        report: called with warnings, and with a `skipped` for each run that is kept because it was live recently.
        only: delete only these runs, for example the runs that the user confirmed; None deletes all.
        forget_catalogs: ids of catalogs that no longer show any run, from the message of a CatalogError.

    Raises:
        SelectionError: `keep` is less than 1, or no run was published in a catalog of `forget_catalogs`.
        LeaseError: another run holds the dataset.
        CatalogError: a configured catalog has none of the tables that were published in it, or another catalog in
            which a run to delete was published cannot be read; nothing is deleted.
    """
    _check_keep(keep)
    selected = datasets or configured_datasets(settings, report)
    _check_forgotten(settings, selected, forget_catalogs)
    expired = []
    for dataset in selected:
        with maintained(settings, dataset, report) as services:
            _forget(services, forget_catalogs)
            others = OtherCatalogs(services)
            for run_id, claim in _expirable(services, keep, others).items():
                if only is None or run_id in only:
                    with services.fence.guard():
                        expired += _delete_claimed(services, run_id, claim)
            _forget_runs(services, [])
    return expired


def expirable(
    settings: Settings,
    keep: int,
    datasets: Sequence[str] = (),
    report: Report = lambda _: None,
    forget_catalogs: Collection[str] = (),
) -> list[Expired]:
    """Return what `expire` would delete now, without deleting anything and without a lease; raises as `expire`."""
    _check_keep(keep)
    selected = datasets or configured_datasets(settings, report)
    _check_forgotten(settings, selected, forget_catalogs)
    runs = []
    for dataset in selected:
        services = make_services(settings, RunRequest(dataset), report)
        for run_id in _expirable(services, keep, OtherCatalogs(services, forget_catalogs)):
            outside = CopyStore(services.storage, services.runs, dataset, run_id).outside_dataset()
            size = _size(services, [*outside, *_directories(services, run_id)])
            runs.append(Expired(dataset, run_id, size, services.runs.has_manifest(services.dataset, run_id)))
    return runs


def _check_keep(keep: int) -> None:
    if keep < 1:
        raise SelectionError(f"--keep {keep}: keep at least 1 run")


def _check_forgotten(settings: Settings, datasets: Sequence[str], catalog_ids: Collection[str]) -> None:
    if not catalog_ids:
        return
    runs = RunStore.of(settings)
    records = [
        record
        for dataset in datasets
        for run_id in runs.all_run_ids(dataset)
        for record in publications(runs, dataset, run_id)
    ]
    known = {record.id: f"{record.id} ({record.text})" for record in records}
    for catalog_id in catalog_ids:
        if catalog_id not in known:
            listed = "; ".join(sorted(known.values())) or "none"
            raise SelectionError(
                f"--forget-catalog {catalog_id}: no run was published in a catalog with this id; known: {listed}"
            )


def _forget(services: Services, catalog_ids: Collection[str]) -> None:
    dataset, runs = services.dataset, services.runs
    for catalog_id in catalog_ids:
        for run_id in runs.all_run_ids(dataset):
            with services.fence.guard():
                forget_catalog(runs, dataset, run_id, catalog_id)


def configured_datasets(settings: Settings, report: Report) -> list[str]:
    """Return the configured datasets that have runs; report unconfigured datasets that have runs."""
    runs = RunStore.of(settings)
    names = runs.datasets()
    unknown = [name for name in names if name not in settings.datasets]
    if unknown:
        text = f"skipped, not in the configuration: {', '.join(unknown)}"
        report(Progress("", "expire", "warning", message=text))
    # The metadata directory may have been deleted by hand.
    return [name for name in settings.datasets if name in names or runs.storage.list(join(runs.target, name))]


def _expirable(services: Services, keep: int, others: OtherCatalogs) -> dict[str, StoredClaim]:
    """Return the runs to delete, with their claims as they were before the catalogs were read."""
    dataset, store = services.dataset, services.runs
    claims = read_claims(store, dataset, store.all_run_ids(dataset))
    with_manifest = store.ids(dataset)
    deletes = {run_id for run_id, claim in claims.items() if claim.deletes}
    unknown = unknown_runs(services, {*with_manifest, *deletes})
    claims = {**dict.fromkeys(unknown, StoredClaim()), **claims}

    def warn(text: str) -> None:
        services.report(Progress(dataset, "expire", "warning", message=f"kept: {text}"))

    manifests = store.manifests(dataset, warn)
    tables = services.catalog().tables()
    shown = _shown(tables)
    published = [manifest.run_id for manifest in manifests if was_published(manifest)]
    # Their files may be missing, so they do not count as runs to keep.
    deleting = {run_id for run_id, claim in claims.items() if claim.deletes and run_id not in shown}
    manifests = [manifest for manifest in manifests if manifest.run_id not in deleting]
    withdrawn = {mark.run_id for mark in withdrawals(store, dataset)}
    whole = [manifest.run_id for manifest in manifests if _is_whole(manifest) and manifest.run_id not in withdrawn]
    if published and not shown.intersection(manifest.run_id for manifest in manifests):
        raise CatalogError(
            f"{dataset}: the catalog has no table of any run, although run {published[-1]} was published; nothing "
            "was deleted. Check catalog.path and catalog.database, or rebuild the catalog: "
            f"bucketwheel catalog rebuild {dataset}"
        )
    check_catalogs(services, manifests, others.forgotten)
    run_ids = [run_id for run_id in with_manifest if run_id not in deleting]
    unreadable = {*run_ids} - {manifest.run_id for manifest in manifests}
    last = {*_last_of_tables(services, tables, manifests, withdrawn)}
    kept = {*whole[-keep:], *run_ids[-1:], *unreadable, *shown, *last}
    kept |= set(kept_unknown(services, unknown, claims, shown))
    expirable = {run_id: claim for run_id, claim in claims.items() if run_id not in kept}
    expirable = {
        run_id: claim for run_id, claim in expirable.items() if not _is_recent(services, run_id, claim, manifests)
    }
    return _without_shown_elsewhere(services, expirable, others)


def _without_shown_elsewhere(
    services: Services, expirable: Mapping[str, StoredClaim], others: OtherCatalogs
) -> dict[str, StoredClaim]:
    checked = [run_id for run_id, claim in expirable.items() if not _is_half_deleted(services, run_id, claim)]
    showing = others.showing(checked, _shown)
    for run_id, record in showing.items():
        _report_skipped(services, run_id, f"{run_id} is published in {record.text}")
    return {run_id: claim for run_id, claim in expirable.items() if run_id not in showing}


def _is_half_deleted(services: Services, run_id: str, claim: StoredClaim) -> bool:
    """Return whether a deletion of the run was broken off; it had found that no catalog shows the run."""
    return claim.deletes and not services.runs.has_manifest(services.dataset, run_id)


def _is_recent(services: Services, run_id: str, claim: StoredClaim, manifests: Sequence[Manifest]) -> bool:
    """Return whether a run may have been live in the last `expire.min_age_hours`; report the run if so."""
    run = next((manifest for manifest in manifests if manifest.run_id == run_id), None)
    if run is None:
        return False
    ends = []
    if was_published(run):
        # Earlier versions did not record when a run was replaced: it was not live after the last publication.
        ends.append(services.runs.replaced_at(services.dataset, run_id) or max(map(_published_at, manifests)))
    if claim.claim and claim.claim.state == "shown":
        # A command that began to publish the run may have been suspended before it changed the catalog.
        ends.append(claim.claim.at)
    if not ends:
        return False
    until = max(ends)
    hours = services.settings.expire.min_age_hours
    recent = services.clock.now() - until < timedelta(hours=hours)
    if recent:
        what = "was live until" if was_published(run) else "began to be published at"
        text = f"{run_id} {what} {until:%Y-%m-%d %H:%M} UTC; expire.min_age_hours is {hours:g}"
        _report_skipped(services, run_id, text)
    return recent


def _report_skipped(services: Services, run_id: str, why: str) -> None:
    services.report(Progress(services.dataset, "expire", "skipped", message=f"kept: {why}", run=run_id))


def _published_at(manifest: Manifest) -> datetime:
    records = [manifest.stages[stage] for stage in PUBLISHING if stage in manifest.stages]
    first = datetime.min.replace(tzinfo=UTC)
    try:
        ends = [datetime.fromisoformat(record.started) + timedelta(seconds=record.seconds) for record in records]
        return max([first, *ends])
    except (ValueError, TypeError) as error:
        raise StorageError(
            f"run {manifest.run_id}: the start of a publication in its manifest is not a time with a time zone; "
            "restore the manifest"
        ) from error


def _is_whole(manifest: Manifest) -> bool:
    """Return whether a run has written all files of all tables."""
    return _has_files(manifest) and not manifest.tables_filter


def _has_files(manifest: Manifest) -> bool:
    return manifest.status == "finished" and "bucket" in manifest.stages


def _last_of_tables(
    services: Services, tables: Sequence[CatalogTable], manifests: Sequence[Manifest], withdrawn: Collection[str]
) -> Iterable[str]:
    """Return the last run of each table, and warn if the tables come from several snapshots.

    Leave out tables that a later unfiltered run dropped and that are no longer in the catalog.
    """
    dataset = services.dataset
    live = live_dataset(tables, dataset, services.runs, services.settings, manifests)
    if mix := live.mix_text():
        services.report(Progress(dataset, "expire", "warning", message=f"kept every live run: {mix}"))
    for text in unconfigured_texts(live):
        services.report(Progress(dataset, "expire", "warning", message=f"kept every live run: {text}"))
    last: dict[str, str] = {}
    shown = {table.table.lower() for table in live.tables}
    for manifest in manifests:
        if not _has_files(manifest) or manifest.run_id in withdrawn:
            continue
        names = {table.name for table in manifest.split.tables}
        if _is_whole(manifest):
            last = {name: run_id for name, run_id in last.items() if name in names or name.lower() in shown}
        last |= dict.fromkeys(names, manifest.run_id)
    return last.values()


def _shown(tables: Iterable[CatalogTable]) -> set[str]:
    """Return every run id in parameters or locations of catalog tables, except those of interrupted copies."""
    counted = [table for table in tables if not is_temporary(table)]
    return {part for table in counted for part in (table.run_id or "", *run_ids_in(table.location))}


def _delete_claimed(services: Services, run_id: str, before: StoredClaim) -> list[Expired]:
    """Claim a run, then check lease and catalog again and delete the run; return nothing if it is kept.

    From the claim on, the storage refuses commands that publish the run; those that had begun earlier changed the
    claim or took the lease, and may have changed the catalog.
    """
    dataset, store = services.dataset, services.runs
    half_deleted = _is_half_deleted(services, run_id, before)
    try:
        own = claim_deleting(store, dataset, run_id, before, services.clock.now())
    except ChangedError:
        _report_kept(services, run_id, "another command publishes or deletes it")
        return []
    try:
        with services.fence.guard():
            is_shown = run_id in _shown(services.catalog().tables())
            if not half_deleted:
                is_shown = is_shown or bool(OtherCatalogs(services).showing([run_id], _shown))
    except BaseException:
        give_up_deletion(store, dataset, run_id, before, own)
        raise
    if is_shown:
        give_up_deletion(store, dataset, run_id, before, own)
        _report_kept(services, run_id, "another command has published it")
        return []
    return [_delete(services, run_id)]


def _forget_runs(services: Services, run_ids: Collection[str]) -> None:
    """Remove runs from the history of tables that have one, and files of killed updates of these tables."""
    before = services.clock.now() - timedelta(hours=services.settings.expire.min_age_hours)
    for catalog in members(services.catalog()):
        if isinstance(catalog, HistoryCatalog) and (files := catalog.forget(run_ids, before)):
            text = f"deleted {counted(len(files), 'metadata file')} of Iceberg tables that no table needs"
            services.report(Progress(services.dataset, "expire", "skipped", message=text))


def _report_kept(services: Services, run_id: str, why: str) -> None:
    text = f"kept: {run_id}: {why}"
    services.report(Progress(services.dataset, "expire", "warning", message=text, run=run_id))


def _delete(services: Services, run_id: str) -> Expired:
    """Delete the manifest, then the files, then other metadata, so that a half-deleted run is never visible.

    The lease is checked before each directory; the claim, which is deleted last, keeps a broken-off deletion known.
    """
    dataset, store = services.dataset, services.runs
    directories = CopyStore(services.storage, store, dataset, run_id).outside_dataset()
    has_manifest = services.runs.has_manifest(services.dataset, run_id)
    _forget_runs(services, [run_id])
    store.delete_manifest(dataset, run_id)
    for table in services.catalog().tables():
        if is_temporary(table) and table.name.startswith(temporary_prefix(run_id)):
            services.catalog().remove(table)
    directories += _directories(services, run_id)
    freed = _size(services, directories)
    hidden = []
    for directory in directories:
        with services.fence.guard():
            # A query that lists a directory while its files are deleted would return fewer rows.
            hidden.append(services.storage.hide_directory(directory))
    for directory in hidden:
        with services.fence.guard():
            services.storage.delete_directory(directory)
    with services.fence.guard():
        store.clear(dataset, run_id)
    return Expired(dataset, run_id, freed, has_manifest)


def _directories(services: Services, run_id: str) -> list[str]:
    """Return the directories of a run below the directory of its dataset."""
    directories = []
    for entry in services.storage.list(join(services.runs.target, services.dataset)):
        if entry.is_directory:
            children = services.storage.list(entry.location)
            directories += [
                child.location for child in children if child.is_directory and is_directory_of(child.name, run_id)
            ]
    return directories


def _size(services: Services, directories: Sequence[str]) -> int:
    return sum(file.bytes for directory in directories for file in services.storage.list(directory))
