"""Find data of runs that have no metadata: their manifest and claim were deleted by hand, or a late task wrote it.

Only directories and uploads with the names of Bucketwheel count, and only if all files in them have such names too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from bucketwheel.contracts import Progress, Services
from bucketwheel.executors.copy_store import is_copy, run_id_of_directory
from bucketwheel.kernel.layout import is_bucket_file_name
from bucketwheel.runs.claims import StoredClaim
from bucketwheel.runs.run_id import start_time
from bucketwheel.storage import join


@dataclass
class UnknownRun:
    """The data of a run without metadata.

    Attributes:
        run_id: its id
        newest: time of its newest file or upload, or of its start
        foreign: a file that Bucketwheel did not write, or an empty string
    """

    run_id: str
    newest: datetime
    foreign: str = ""


def unknown_runs(services: Services, known: Collection[str]) -> dict[str, UnknownRun]:
    """Return the runs that have data below the dataset and are not `known`, by id; read listings only.

    Raises:
        StorageError: a directory or the uploads cannot be listed.
    """
    unknown: dict[str, UnknownRun] = {}
    storage, dataset = services.storage, join(services.runs.target, services.dataset)

    def add(run_id: str, time: str) -> UnknownRun:
        run = unknown.setdefault(run_id, UnknownRun(run_id, start_time(run_id)))
        run.newest = max(run.newest, _time(time) if time else run.newest)
        return run

    for table in storage.list(dataset):
        for directory in storage.list(table.location) if table.is_directory else ():
            run_id = run_id_of_directory(directory.name) if directory.is_directory else ""
            if not run_id or run_id in known:
                continue
            add(run_id, directory.modified)
            for file in storage.list(directory.location, recursive=True):
                run = add(run_id, file.modified)
                if not is_copy(directory.name) and not is_bucket_file_name(file.name):
                    run.foreign = file.location
    for location, started in storage.uploads(dataset):
        for run_id in {*location.split("/")}:
            if run_id_of_directory(run_id) == run_id != "" and run_id not in known:
                add(run_id, started)
    # A run that began meanwhile wrote its manifest first.
    return {
        run_id: run for run_id, run in unknown.items() if not services.runs.has_manifest(services.dataset, run_id)
    }


def kept_unknown(
    services: Services,
    unknown: Mapping[str, UnknownRun],
    claims: Mapping[str, StoredClaim],
    shown: Collection[str],
) -> Iterator[str]:
    """Yield the unknown runs that `expire` keeps, and report why; those that a catalog shows are not reported.

    Args:
        services: the services of the command.
        unknown: the runs.
        claims: the claims of all runs of the dataset, known or not.
        shown: the runs that the configured catalog shows.
    """
    hours = services.settings.expire.min_age_hours
    # Without any table to compare with, the configuration may lead to another catalog.
    any_shown = not claims.keys().isdisjoint(shown)
    for run_id, run in unknown.items():
        if run_id in shown:
            continue
        until = _last_sign(services, run, claims[run_id])
        if run.foreign:
            _report(services, "warning", run_id, f"{run.foreign} is not a file of Bucketwheel; move it")
        elif services.clock.now() - until < timedelta(hours=hours):
            text = f"its newest file is from {until:%Y-%m-%d %H:%M} UTC; expire.min_age_hours is {hours:g}"
            _report(services, "skipped", run_id, text)
        elif not any_shown:
            text = (
                "the catalog shows no run of this dataset; check catalog.path and catalog.database, or publish a run"
            )
            _report(services, "warning", run_id, text)
        else:
            continue
        yield run_id


def _last_sign(services: Services, run: UnknownRun, claim: StoredClaim) -> datetime:
    """Return the last time at which a run wrote a file or may have been live."""
    replaced = services.runs.replaced_at(services.dataset, run.run_id)
    return max(time for time in (run.newest, replaced, claim.claim and claim.claim.at) if time)


def _report(services: Services, state: Literal["warning", "skipped"], run_id: str, why: str) -> None:
    text = f"kept: {run_id}, which has no manifest: {why}"
    services.report(Progress(services.dataset, "expire", state, message=text, run=run_id))


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
