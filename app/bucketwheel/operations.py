"""What is done with runs that exist: list, verify again, roll back, expire."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from bucketwheel import backends
from bucketwheel.assembly import RunRequest, make_services, utc_now
from bucketwheel.contracts import Report, Services
from bucketwheel.errors import SelectionError, VerificationError
from bucketwheel.lease import Lease
from bucketwheel.manifest import BucketResult, Manifest, PublishResult, SplitResult, VerifyResult
from bucketwheel.publish import definitions, publish_all
from bucketwheel.runs import RUN_ID, RunStore
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
    return RunStore(Storage(settings.storage), settings.target)


def verify(settings: Settings, run_id: str, report: Report = lambda _: None) -> VerifyResult:
    """Read the files of a finished run back again; writes nothing.

    Raises:
        VerificationError: a file is not what the manifest says.
        SelectionError: there is no such run, or it has not finished `bucket`.
    """
    manifest = run_store(settings).find(run_id)
    services = make_services(settings, RunRequest(manifest.dataset), report, utc_now)
    result = backends.stage("verify").run(manifest, services)
    return VerifyResult.model_validate(result.model_dump())


def rollback(
    settings: Settings, run_id: str, report: Report = lambda _: None, now: Callable[[], datetime] = utc_now
) -> PublishResult:
    """Point every catalog table that a run published at its files again; all of them or none.

    Raises:
        SelectionError: there is no such run, or it never published.
        VerificationError: files of that run are gone.
        LeaseError: another run holds the dataset.
    """
    manifest = run_store(settings).find(run_id)
    prefixes = {"register": settings.catalog.staged_prefix, "ctas": settings.catalog.final_prefix}
    published = [prefix for stage, prefix in prefixes.items() if stage in manifest.stages]
    if not published:
        raise SelectionError(f"run {run_id} never published a table; finish it with --resume {run_id}")
    with _leased(settings, manifest.dataset, report, now) as services:
        _check_files(manifest, services)
        target = settings.target
        tables = [table for prefix in published for table in definitions(manifest, services.storage, target, prefix)]
        result = publish_all(services.catalog(), services.fence, tables, settings.catalog.adopt)
        if "ctas" in manifest.stages:
            note = join(target, manifest.dataset, "metadata", "snapshot_dt.txt")
            services.storage.write(note, (manifest.snapshot_dt or "").encode())
    return result


def expire(
    settings: Settings, keep: int, datasets: Sequence[str] = (), now: Callable[[], datetime] = utc_now
) -> list[Expired]:
    """Delete runs but the newest `keep` of each dataset and those that a catalog table points to.

    Raises:
        LeaseError: another run holds the dataset.
    """
    if keep < 1:
        raise SelectionError(f"--keep {keep}: keep at least 1 run")
    store = run_store(settings)
    expired = []
    for dataset in datasets or [name for name in store.datasets() if name in settings.datasets]:
        with _leased(settings, dataset, lambda _: None, now) as services:
            shown = {table.run_id for table in services.catalog().tables()}
            manifests = store.manifests(dataset)
            finished = [manifest.run_id for manifest in manifests if manifest.status == "finished"]
            kept = {*finished[-keep:], *shown}
            # An unfinished run newer than all finished ones may still be resumed.
            kept |= {m.run_id for m in manifests[-1:] if m.status != "finished"}
            for manifest in manifests:
                if manifest.run_id not in kept:
                    with services.fence.guard():
                        expired.append(_delete(store, services, manifest))
    return expired


@contextmanager
def _leased(settings: Settings, dataset: str, report: Report, now: Callable[[], datetime]) -> Iterator[Services]:
    services = make_services(settings, RunRequest(dataset), report, now)
    with Lease(run_store(settings).home(dataset), settings.lease.ttl_seconds, now) as lease:
        yield replace(services, fence=lease)


def _check_files(manifest: Manifest, services: Services) -> None:
    store = run_store(services.settings)
    outcomes = manifest.result("bucket", BucketResult).outcomes
    for table in manifest.result("split", SplitResult).tables:
        directory = store.data_directory(manifest.dataset, table.name, manifest.run_id)
        found = {entry.name: entry.bytes for entry in services.storage.list(directory)}
        for file in (file for outcome in outcomes for file in outcome.files if file.table == table.name):
            if found.get(file.name) != file.bytes:
                raise VerificationError(
                    f"{join(directory, file.name)}: is gone or has another size; run {manifest.run_id} cannot be "
                    "published again"
                )


def _delete(store: RunStore, services: Services, manifest: Manifest) -> Expired:
    """Delete the files of one run, then its books."""
    freed = 0
    if not RUN_ID.fullmatch(manifest.run_id):
        raise SelectionError(f"{manifest.run_id!r} is no run id; nothing was deleted")
    for entry in services.storage.list(join(store.target, manifest.dataset)):
        directory = join(entry.location, manifest.run_id)
        if entry.is_directory and services.storage.exists(directory):
            freed += sum(file.bytes for file in services.storage.list(directory))
            services.storage.delete_directory(directory)
    store.forget(manifest)
    return Expired(manifest.dataset, manifest.run_id, freed)
