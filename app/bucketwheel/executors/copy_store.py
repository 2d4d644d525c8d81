"""Copies that a SQL engine makes of the tables of a run: their names, where they are, and how they are found again.

A copy is written to `<target>/<dataset>/<table>/ctas-<run_id>-<mark>/` under the name of a temporary table. Each try
has a mark of its own, so a directory is never written twice. The name begins otherwise than that of the run's own
directory, lest a reader that lists by prefix took one for the other. A finished copy is noted beside the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import ConfigError, VerificationError
from bucketwheel.runs.manifest import CopiedTable, Record
from bucketwheel.runs.store import RUN_ID, RunStore, begun_at
from bucketwheel.sql import LONGEST_NAME
from bucketwheel.storage import Storage, join

# What names of tables begin with while they are made.
TEMPORARY = "tmp_bucketwheel_"


class CopyRecord(Record):
    """A finished copy, and the method by which it was made."""

    method: str
    copy_: CopiedTable


class CopyStore:
    """The copies of one run."""

    def __init__(self, storage: Storage, store: RunStore, dataset: str, run_id: str) -> None:
        self._storage = storage
        self._store = store
        self._dataset = dataset
        self._run_id = run_id
        self._directory = join(store.directory(dataset, run_id), "copies")

    def directory(self, table: str, mark: str) -> str:
        """Where a copy is to be written."""
        return join(self._store.target, self._dataset, table, f"ctas-{self._run_id}-{mark}")

    def directories(self, table: str) -> list[str]:
        """Return the directories of all copies of a table, finished or not."""
        found = self._storage.list(join(self._store.target, self._dataset, table))
        return [entry.location for entry in found if entry.name.startswith(f"ctas-{self._run_id}-")]

    def temporary_name(self, table: str, mark: str) -> str:
        """The name of the table while it is made."""
        return f"{temporary_prefix(self._run_id)}{mark}_{table}"[:LONGEST_NAME]

    def note(self, method: str, copy: CopiedTable) -> None:
        """Note a finished copy."""
        text = CopyRecord(method=method, copy_=copy).model_dump_json()
        self._storage.write(join(self._directory, f"{copy.table}.json"), text.encode())

    def noted(self) -> dict[str, CopyRecord]:
        """Return the copies noted, by table; a note that cannot be read does not count."""
        found = {}
        for entry in self._storage.list(self._directory):
            try:
                note = CopyRecord.model_validate_json(self._storage.read(entry.location))
            except ValidationError:
                continue
            found[note.copy_.table] = note
        return found

    def elsewhere(self) -> list[str]:
        """Return the directories of noted copies that an engine put somewhere else below the target."""
        root = f"{self._store.target}/"
        own = f"{join(self._store.target, self._dataset)}/"
        places = [note.copy_.location for note in self.noted().values()]
        return [place for place in places if place.startswith(root) and not place.startswith(own)]


def check_copies(storage: Storage, copies: Sequence[CopiedTable]) -> None:
    """Raise VerificationError where files of a copy are gone or have another size; reads listings only."""
    for copy in copies:
        files, size = listed(storage, copy.location)
        if (files, size) != (copy.files, copy.bytes):
            raise VerificationError(
                f"{copy.location}: holds {files} files of {size} bytes, {copy.files} files of {copy.bytes} bytes "
                "were written; the table cannot be published as it is"
            )


def listed(storage: Storage, location: str) -> tuple[int, int]:
    """Return how many files are in a directory, and their bytes."""
    sizes = [entry.bytes for entry in storage.list(location) if not entry.is_directory]
    return len(sizes), sum(sizes)


def is_directory_of(name: str, run_id: str) -> bool:
    """Return whether a directory of a table belongs to a run: its own, or that of a copy."""
    return name == run_id or name.startswith(f"ctas-{run_id}-")


def temporary_prefix(run_id: str) -> str:
    """Return what the names of all temporary tables of a run begin with."""
    return f"{TEMPORARY}{begun_at(run_id).lower().replace('-', '_')}_"


def is_temporary(table: CatalogTable) -> bool:
    """Return whether a table is one that a broken-off copy left behind."""
    return table.name.startswith(TEMPORARY) and table.run_id is None


def run_ids_in(location: str) -> set[str]:
    """Return whatever may be a run id in a location."""
    return {*location.split("/"), *RUN_ID.findall(location)}


def check_writers(method: str, bucket_count: int, limit: int | None) -> None:
    """Raise ConfigError where a SQL engine does not write that many bucket files in one statement."""
    if limit is not None and bucket_count > limit:
        fewer = 1 << (limit.bit_length() - 1)
        raise ConfigError(
            f"ctas.method is {method}, which writes at most {limit} partitions and buckets in one statement, "
            f"buckets.count gives {bucket_count}; set ctas.method=promote, which moves no data and has no limit, or "
            f"buckets.count={fewer} or less"
        )
