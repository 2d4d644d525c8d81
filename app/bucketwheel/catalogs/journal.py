"""The record of a publication under way, so that a killed one can be finished or undone.

A catalog that changes one table at a time shows a mix of two runs while it publishes. Before the first table changes,
Bucketwheel writes a JSON file with the definitions before and after; after the last, it deletes the file. A file that
is left belongs to a publication that was interrupted: `settle.py` finishes or undoes it. Each publication has its own
file, so that a command that lost its lease cannot touch the file of its follower.

A catalog that changes all tables in one update needs no record.
"""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from bucketwheel.contracts import CatalogTable, Services, TableChange
from bucketwheel.contracts.catalog import same_definition, same_version
from bucketwheel.errors import BucketwheelError, StorageError
from bucketwheel.runs.record import Record
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Settings
from bucketwheel.settings.layouts import databases
from bucketwheel.storage import join

Command = Literal["run", "rollback", "catalog rebuild"]


class Definition(Record):
    """A table definition; see `contracts.CatalogTable`."""

    name: str
    location: str
    columns: tuple[tuple[str, str], ...]
    bucket_columns: tuple[str, ...]
    bucket_count: int
    sorted: bool
    parameters: Mapping[str, str]
    version: str | None
    native: Mapping[str, Any]

    @classmethod
    def of(cls, table: CatalogTable) -> Definition:
        """Return the definition of a table."""
        # Responses of Glue contain times.
        native = json.loads(json.dumps(dict(table.native), default=str))
        return cls(
            name=table.name,
            location=table.location,
            columns=table.columns,
            bucket_columns=table.bucket_columns,
            bucket_count=table.bucket_count,
            sorted=table.sorted,
            parameters=table.parameters,
            version=table.version,
            native=native,
        )

    def table(self) -> CatalogTable:
        """Return the table; it has no statistics."""
        return CatalogTable(**dict(self))


class ChangedTable(Record):
    """A table that a publication changes: its definitions before, None if there was no such table, and after."""

    before: Definition | None
    after: Definition


class PublicationRecord(Record):
    """A publication under way.

    Attributes:
        publication: its id
        dataset: its dataset
        run_id: the run whose tables it publishes
        catalog: kind and database of the catalog, or of both
        command: the command
        by: user and machine of the command
        at: time at which it began, in UTC
        tables: the tables that it changes
    """

    publication: str
    dataset: str
    run_id: str
    catalog: str
    command: Command
    by: str
    at: datetime
    tables: tuple[ChangedTable, ...]


class Journal:
    """Writes and deletes the record of one publication."""

    def __init__(self, services: Services, run_id: str, command: Command) -> None:
        self._runs = services.runs
        self._draft = PublicationRecord(
            publication="",
            dataset=services.dataset,
            run_id=run_id,
            catalog=catalog_names(services.settings)[-1],
            command=command,
            by=operator(),
            at=services.clock.now(),
            tables=(),
        )
        self._path = ""

    @property
    def open(self) -> bool:
        """Whether the record was written and not deleted: the next command finishes or undoes the publication."""
        return bool(self._path)

    def begin(self, publication: str, changes: Sequence[TableChange]) -> None:
        """Write the record; the caller must hold the lease.

        Raises:
            StorageError: it cannot be written.
        """
        tables = tuple(
            ChangedTable(
                before=None if change.replacing is None else Definition.of(change.replacing),
                after=Definition.of(change.table),
            )
            for change in changes
            if change.table is not None
        )
        record = self._draft.model_copy(update={"publication": publication, "tables": tables})
        self._path = _path(self._runs, record.dataset, publication)
        self._runs.storage.write(self._path, record.model_dump_json().encode())

    def end(self) -> list[str]:
        """Delete the record after all tables show the same run; return a warning if that fails."""
        path, self._path = self._path, ""
        try:
            if path:
                self._runs.storage.delete(path)
        except BucketwheelError as error:
            return [f"the record of this publication was not deleted; the next command deletes it: {error}"]
        return []


def catalog_names(settings: Settings) -> list[str]:
    """Return kind and database of the main catalog, and those of all configured catalogs.

    A record belongs to the catalogs that were configured when it was written; Iceberg layouts may have been added
    since.
    """
    names = [f"{kind} {database}" for kind, database in databases(settings)]
    return [names[0], ", ".join(names)]


def records(runs: RunStore, dataset: str) -> list[PublicationRecord]:
    """Return the records of a dataset, oldest first.

    Raises:
        StorageError: a record cannot be read or is damaged.
    """
    directory = _directory(runs, dataset)
    names = [entry.name for entry in runs.storage.list(directory) if entry.name.endswith(".json")]
    found = [record for name in names if (record := _load(runs, join(directory, name)))]
    return sorted(found, key=lambda record: record.at)


def remove(runs: RunStore, record: PublicationRecord) -> None:
    """Delete a record; the caller must hold the lease."""
    runs.storage.delete(_path(runs, record.dataset, record.publication))


def state_of(change: ChangedTable, current: CatalogTable | None) -> Literal["before", "after", "other"]:
    """Return whether a table shows the definition after the publication, the one before it, or another one."""
    if current is not None and same_definition(current, change.after.table()):
        return "after"
    before = None if change.before is None else change.before.table()
    if same_version(current, before) or (current and before and same_definition(current, before)):
        return "before"
    return "other"


def operator() -> str:
    """Return the user and the machine of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container may run with a user id that has no name.
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _load(runs: RunStore, path: str) -> PublicationRecord | None:
    try:
        return PublicationRecord.model_validate_json(runs.storage.read(path))
    except StorageError as error:
        # The publication ended meanwhile.
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    except ValidationError as error:
        raise StorageError(
            f"{path}: is not the record of a publication, it may be damaged; look at the tables with `bucketwheel "
            "tables`, delete the file, and if the tables show several runs, repair them with `bucketwheel rollback "
            "RUN_ID`"
        ) from error


def _directory(runs: RunStore, dataset: str) -> str:
    return join(runs.metadata_directory(dataset), "publications")


def _path(runs: RunStore, dataset: str, publication: str) -> str:
    return join(_directory(runs, dataset), f"{publication}.json")
