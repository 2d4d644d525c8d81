"""Record in which catalogs a run was published, one small file per catalog beside the manifest.

Several catalogs can show the runs of one target: other databases, other files of DuckDB, other accounts. `expire`
reads these records to find all of them. Runs of earlier versions have none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from bucketwheel.errors import StorageError
from bucketwheel.runs.record import Record
from bucketwheel.runs.store import RunStore
from bucketwheel.storage import is_s3, join
from bucketwheel.storage.locations import is_below

_ID_DIGITS = 8


class CatalogRecord(Record):
    """A database of a catalog.

    Attributes:
        kind: value of `catalog.kind`
        database: its name, in lower case
        address: what tells it apart from databases of the same name; values are empty if not known
    """

    kind: str
    database: str
    address: dict[str, str]

    @property
    def id(self) -> str:
        """A short id, for the command line."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:_ID_DIGITS]

    @property
    def text(self) -> str:
        """Kind, database and address."""
        return ", ".join(
            [f"catalog {self.kind}", f"database {self.database}", *(f"{k} {v}" for k, v in self.address.items() if v)]
        )

    def matches(self, other: CatalogRecord) -> bool:
        """Return whether both are the same database, as far as their addresses are known."""
        known = [(value, other.address.get(name)) for name, value in self.address.items()]
        same_address = all(one == another for one, another in known if one and another)
        return (self.kind, self.database, same_address) == (other.kind, other.database, True)


def catalog_record(kind: str, database: str, address: Mapping[str, str]) -> CatalogRecord:
    """Return the record of a database."""
    return CatalogRecord(kind=kind, database=database.lower(), address=dict(sorted(address.items())))


def record_publication(runs: RunStore, dataset: str, run_id: str, record: CatalogRecord) -> None:
    """Record that tables of a catalog may show a run from now on; the caller must hold the lease.

    Raises:
        StorageError: the record cannot be written.
    """
    stored = _moved(record, runs.target, _relative)
    path = join(_directory(runs, dataset, run_id), f"{stored.id}.json")
    if runs.storage.exists(path):
        return
    runs.storage.write(path, stored.model_dump_json(indent=1).encode() + b"\n")
    if all(record.address.values()):
        for earlier, incomplete in _stored(runs, dataset, run_id):
            if earlier != path and incomplete.matches(record):
                runs.storage.delete(earlier)


def publications(runs: RunStore, dataset: str, run_id: str) -> list[CatalogRecord]:
    """Return the catalogs in which a run was published.

    Raises:
        StorageError: a record cannot be read or is damaged.
    """
    return [record for _, record in _stored(runs, dataset, run_id)]


def forget_catalog(runs: RunStore, dataset: str, run_id: str, catalog_id: str) -> None:
    """Delete the record of a catalog that no longer shows the run; the caller must hold the lease."""
    for path, record in _stored(runs, dataset, run_id):
        if record.id == catalog_id:
            runs.storage.delete(path)


def _stored(runs: RunStore, dataset: str, run_id: str) -> list[tuple[str, CatalogRecord]]:
    entries = runs.storage.list(_directory(runs, dataset, run_id))
    paths = [entry.location for entry in entries if entry.name.endswith(".json")]
    return [(path, _moved(_read(runs, path), runs.target, _absolute)) for path in paths]


def _read(runs: RunStore, path: str) -> CatalogRecord:
    try:
        return CatalogRecord.model_validate_json(runs.storage.read(path))
    except ValidationError as error:
        raise StorageError(
            f"{path}: is not the record of a catalog, it may be damaged; restore it, or delete it if no other "
            "catalog shows this run"
        ) from error


def _directory(runs: RunStore, dataset: str, run_id: str) -> str:
    return join(runs.directory(dataset, run_id), "catalogs")


def _moved(record: CatalogRecord, target: str, move: Callable[[str, str], str]) -> CatalogRecord:
    """Return the record with another form of its path, if it has one and the target is on disk."""
    path = record.address.get("path")
    if not path or is_s3(target):
        return record
    return record.model_copy(update={"address": {**record.address, "path": move(path, os.path.realpath(target))}})


def _relative(path: str, target: str) -> str:
    """Return a path beside or below the target relative to it, because both may be mounted at another path."""
    return os.path.relpath(path, target) if is_below(path, str(Path(target).parent)) else path


def _absolute(path: str, target: str) -> str:
    return os.path.normpath(Path(target) / path)
