"""Finish or undo publications that were interrupted, and show them.

A killed publication leaves a record (`catalogs/journal.py`). The next command that holds the lease publishes the
remaining tables if the run is complete; otherwise it restores the tables that had changed. It leaves alone each table
that another writer has changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bucketwheel import plugins
from bucketwheel.catalogs.definitions import with_files
from bucketwheel.catalogs.journal import (
    ChangedTable,
    PublicationRecord,
    catalog_names,
    records,
    remove,
    state_of,
)
from bucketwheel.catalogs.live import live_dataset
from bucketwheel.catalogs.live_record import record_shown
from bucketwheel.catalogs.publish import record_catalog, record_replaced
from bucketwheel.catalogs.updates import Updates
from bucketwheel.contracts import CatalogTable, Progress, Services, TableChange
from bucketwheel.contracts.catalog import table_key
from bucketwheel.errors import BucketwheelError, MissingDependencyError, SelectionError, StorageError
from bucketwheel.formatting import counted, listed
from bucketwheel.lease import read_holder
from bucketwheel.runs.claims import claim_shown
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.store import RunStore
from bucketwheel.runs.withdrawals import remove_withdrawal, withdrawals
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage, is_s3
from bucketwheel.system import system

# Maximum number of tables that a message names.
_LISTED = 6


@dataclass(frozen=True)
class Publication:
    """A publication that was interrupted, or that is under way.

    Attributes:
        record: its record
        changed: number of its tables that show the new definition; None if the catalog cannot be read
        running: whether the command that publishes may still run
    """

    record: PublicationRecord
    changed: int | None
    running: bool

    @property
    def found(self) -> str:
        """What happened."""
        state = "is under way" if self.running else "was interrupted"
        total = len(self.record.tables)
        known = f"{self.changed:,} of {counted(total, 'table')}" if self.changed is not None else "some tables"
        return f"publication of run {self.record.run_id} {state}: {known} changed"

    @property
    def command(self) -> str:
        """The command that repairs it."""
        record = self.record
        return {
            "run": f"bucketwheel run {record.dataset} --resume {record.run_id}",
            "rollback": f"bucketwheel rollback {record.run_id}",
            "catalog rebuild": f"bucketwheel catalog rebuild {record.dataset}",
        }[record.command]

    @property
    def text(self) -> str:
        """What happened, and the command that repairs it."""
        return self.found if self.running else f"{self.found}; finish it with: {self.command}"


def publications(
    settings: Settings, runs: RunStore, dataset: str, tables: Callable[[], Sequence[CatalogTable] | None]
) -> list[Publication]:
    """Return the publications of a dataset that were interrupted or are under way.

    `tables` returns all tables of the catalog, or None if it cannot be read; it is called only if there is a record.

    Raises:
        StorageError: a record cannot be read or is damaged.
    """
    left = [record for record in records(runs, dataset) if record.catalog in catalog_names(settings)]
    if not left:
        return []
    holder = read_holder(runs.metadata_directory(dataset), runs.storage)
    running = holder is not None and holder.may_work_on(holder.run_id or "", system().clock.now())
    shown = tables()
    known = None if shown is None else {table_key(table): table for table in shown}
    return [Publication(record, None if known is None else _changed(record, known), running) for record in left]


def _changed(record: PublicationRecord, known: dict[tuple[str, bool], CatalogTable]) -> int:
    shown = ((change, known.get(table_key(change.after.table()))) for change in record.tables)
    return sum(state_of(change, current) == "after" for change, current in shown)


def settle(services: Services) -> None:
    """Finish or undo the interrupted publications of a dataset, and report them; the services must hold the lease.

    Raises:
        LeaseError: another command took over.
        CatalogError: a table cannot be changed; the next command tries again.
        StorageError: a record cannot be read or is damaged.
    """
    for record in records(services.runs, services.dataset):
        if record.catalog not in catalog_names(services.settings):
            continue
        try:
            text = _settle(services, record)
        except MissingDependencyError as error:
            # This command may not need the catalog, and may run elsewhere than the one that publishes.
            text = f"it was not finished, because {error}"
        except BucketwheelError as error:
            error.add_note(
                f"a publication of run {record.run_id}, which began at {record.at:%Y-%m-%d %H:%M:%S} UTC, was "
                "interrupted; every command finishes or undoes it first"
            )
            raise
        message = (
            f"the publication of run {record.run_id} that {record.by} began at {record.at:%Y-%m-%d %H:%M:%S} UTC "
            f"was interrupted: {text}"
        )
        services.report(Progress(services.dataset, "", "warning", message=message, run=record.run_id))


def _settle(services: Services, record: PublicationRecord) -> str:
    """Finish or undo one publication; return what was done."""
    with services.fence.guard():
        known = {table_key(table): table for table in services.catalog().tables()}
        shown = [(change, known.get(table_key(change.after.table()))) for change in record.tables]
        manifest, problem = _finishable(services, record)
        changes = _changes(services, shown, "after" if manifest else "before")
        if manifest is not None:
            changes = [_with_files(services, manifest, change) for change in changes]
        total, own = counted(len(shown), "table"), [each for each in shown if state_of(*each) != "other"]
        text = f"{_count(shown, 'after'):,} of {total} had changed; "
        if problem and (lost := _undo_refused(services, record)):
            remove(services.runs, record)
            return (
                f"{text}it cannot be finished ({problem}) and not be undone ({lost}); look at `bucketwheel tables "
                f"{record.dataset}` and publish another run: bucketwheel rollback RUN_ID"
            )
        record_replaced(services, _stops_showing(changes))
        Updates(services.catalog(), services.fence).make(changes)
        if manifest is None:
            _remove_marks(services, record)
        else:
            record_catalog(services, record.run_id)
        _record(services, record, manifest)
        remove(services.runs, record)
    text += "the others have changed now too" if manifest else f"they show what they showed before, because {problem}"
    others = [change.after.name for change, current in shown if state_of(change, current) == "other"]
    if others and own:
        text += f"; another writer has changed {listed(others, _LISTED)} since"
    elif others:
        text = f"another writer has changed all its tables since: {listed(others, _LISTED)}"
    return text


def _stops_showing(changes: Sequence[TableChange]) -> set[str]:
    """Return the runs that tables show until these changes; `expire` keeps them for some hours from now on."""
    pairs = [
        (change.replacing.run_id, change.table and change.table.run_id) for change in changes if change.replacing
    ]
    return {before for before, after in pairs if before and before != after}


def _count(shown: Sequence[tuple[ChangedTable, CatalogTable | None]], state: str) -> int:
    return sum(state_of(change, current) == state for change, current in shown)


def _changes(
    services: Services,
    shown: Sequence[tuple[ChangedTable, CatalogTable | None]],
    wanted: Literal["before", "after"],
) -> list[TableChange]:
    """Return the changes after which the tables show what they showed before the publication, or what it published.

    On S3, they also give each table that shows that already a new version: the interrupted command may only be
    suspended, and the catalog then refuses what it still has under way.
    """
    changes = []
    for change, current in shown:
        state = state_of(change, current)
        definition = change.after if wanted == "after" else change.before
        if state not in (wanted, "other"):
            changes.append(TableChange(None if definition is None else definition.table(), current))
        elif state == wanted and current is not None and is_s3(services.runs.target):
            changes.append(TableChange(current, current))
    return changes


def _with_files(services: Services, manifest: Manifest, change: TableChange) -> TableChange:
    """Return a change with the records of the files that an Iceberg table needs and a publication does not record."""
    if change.table is None:
        return change
    return replace(change, table=with_files(change.table, manifest, services.runs))


def _finishable(services: Services, record: PublicationRecord) -> tuple[Manifest | None, str]:
    """Return the run of a publication if it may be published, otherwise None and the reason."""
    runs = services.runs
    try:
        manifest = runs.load(record.dataset, record.run_id)
        if "verify" not in manifest.stages:
            return None, "the run is not verified"
        marks = [mark for mark in withdrawals(runs, record.dataset) if mark.run_id == record.run_id]
        if marks and record.command == "run":
            return None, "the run is withdrawn"
        for change in record.tables:
            if not is_complete(runs.storage, change.after.table()):
                return None, f"files in {change.after.location} are missing or have changed"
        claim_shown(runs, record.dataset, record.run_id, services.clock.now())
    except (SelectionError, StorageError) as error:
        return None, str(error)
    return manifest, ""


def is_complete(storage: Storage, table: CatalogTable) -> bool:
    """Return whether the directory of a table has as many files and bytes as its definition says."""
    files = [entry for entry in storage.list(table.location) if not entry.is_directory and entry.name[:1] not in "._"]
    expected = (table.parameters.get("numFiles"), table.parameters.get("totalSize"))
    return (str(len(files)), str(sum(entry.bytes for entry in files))) == expected


def _undo_refused(services: Services, record: PublicationRecord) -> str:
    """Return why the runs before may not be published again, or an empty text; claim them."""
    known = set(services.runs.all_run_ids(record.dataset))
    before = {change.before.table().run_id for change in record.tables if change.before is not None}
    try:
        for run_id in sorted(known.intersection(filter(None, before))):
            claim_shown(services.runs, record.dataset, run_id, services.clock.now())
    except SelectionError as error:
        return str(error)
    return ""


def _remove_marks(services: Services, record: PublicationRecord) -> None:
    """Remove the marks that an undone rollback set on the runs that the tables show again."""
    before = {change.before.table().run_id for change in record.tables if change.before is not None}
    for mark in withdrawals(services.runs, record.dataset):
        if mark.replaced_by == record.run_id and mark.run_id in before:
            remove_withdrawal(services.runs, mark.dataset, mark.run_id)


def _record(services: Services, record: PublicationRecord, manifest: Manifest | None) -> None:
    """Write the record of the final tables for other jobs, if the publication was one of final tables."""
    known = [manifest] if manifest else []
    live = live_dataset(services.catalog().tables(), record.dataset, services.runs, services.settings, known)
    names = {change.after.name.lower() for change in record.tables}
    if any(table.kind == "final" and table.name.lower() in names for table in live.tables):
        record_shown(live, services)


def catalog_tables(settings: Settings) -> Sequence[CatalogTable] | None:
    """Return the tables of the catalog, or None if it cannot be read."""
    try:
        return plugins.catalog(settings).tables()
    except BucketwheelError:
        return None
