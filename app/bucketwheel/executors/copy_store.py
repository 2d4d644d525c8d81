"""Name and record the copies that a SQL engine writes of the tables of a run.

The engine writes a copy to `<target>/<dataset>/<table>/ctas-<run_id>-<attempt_id>/` as a temporary table. Each
attempt has its own id, so no directory is written twice. The directory name has its own prefix, so that readers
that list by prefix never mix up a copy and the run. A record of each finished copy is stored beside the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from bucketwheel.catalogs.sql import LONGEST_NAME
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import ConfigError, VerificationError
from bucketwheel.formatting import counted
from bucketwheel.runs.manifest import CopiedTable
from bucketwheel.runs.record import Record
from bucketwheel.runs.run_id import RUN_ID, is_run_id, started_at
from bucketwheel.runs.store import RunStore
from bucketwheel.storage import Storage, join
from bucketwheel.storage.locations import HIDDEN, is_inside

# Prefix of directories of copies.
_COPY = "ctas-"
# Prefix of temporary tables.
TEMPORARY = "tmp_bucketwheel_"


class CopyRecord(Record):
    """A finished copy and its method."""

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

    def directory(self, table: str, attempt_id: str) -> str:
        """Return the directory of a copy."""
        return join(self._store.target, self._dataset, table, f"ctas-{self._run_id}-{attempt_id}")

    def directories(self, table: str) -> list[str]:
        """Return the directories of all copies of a table, finished or not."""
        entries = self._storage.list(join(self._store.target, self._dataset, table))
        return [entry.location for entry in entries if entry.name.startswith(f"ctas-{self._run_id}-")]

    def temporary_name(self, table: str, attempt_id: str) -> str:
        """Return the name of the temporary table."""
        return f"{temporary_prefix(self._run_id)}{attempt_id}_{table}"[:LONGEST_NAME]

    def record(self, method: str, copy: CopiedTable) -> None:
        """Record a finished copy."""
        text = CopyRecord(method=method, copy_=copy).model_dump_json()
        self._storage.write(join(self._directory, f"{copy.table}.json"), text.encode())

    def recorded(self) -> dict[str, CopyRecord]:
        """Return the recorded copies by table, without unreadable records."""
        copies = {}
        for entry in self._storage.list(self._directory):
            try:
                record = CopyRecord.model_validate_json(self._storage.read(entry.location))
            except ValidationError:
                continue
            copies[record.copy_.table] = record
        return copies

    def outside_dataset(self) -> list[str]:
        """Return the directories of copies that an engine wrote below the target but outside the dataset."""
        target, own = self._store.target, join(self._store.target, self._dataset)
        locations = [record.copy_.location for record in self.recorded().values()]
        return [each for each in locations if is_inside(each, target) and not is_inside(each, own)]


def check_copies(storage: Storage, copies: Sequence[CopiedTable]) -> None:
    """Raise VerificationError if files of a copy are missing or changed in size; reads listings only."""
    for copy in copies:
        files, size = count_files(storage, copy.location)
        if (files, size) != (copy.files, copy.bytes):
            raise VerificationError(
                f"{copy.location}: contains {counted(files, 'file')} of {size} bytes, expected "
                f"{counted(copy.files, 'file')} of "
                f"{copy.bytes} bytes; the table cannot be published. Run the stage `ctas` again"
            )


def count_files(storage: Storage, location: str) -> tuple[int, int]:
    """Return the number of files in a directory and their total bytes."""
    sizes = [entry.bytes for entry in storage.list(location) if not entry.is_directory]
    return len(sizes), sum(sizes)


def is_directory_of(name: str, run_id: str) -> bool:
    """Return whether a directory of a table holds files or a copy of a run, also while it is being deleted."""
    name = name.removeprefix(HIDDEN)
    return name == run_id or name.startswith(f"ctas-{run_id}-")


def is_copy(name: str) -> bool:
    """Return whether a directory of a table has the name of a copy."""
    return name.removeprefix(HIDDEN).startswith(_COPY)


def run_id_of_directory(name: str) -> str:
    """Return the run of a directory of a table; an empty string if its name is not Bucketwheel's."""
    run_id = name.removeprefix(HIDDEN)
    if run_id.startswith(_COPY):
        run_id, _, attempt = run_id.removeprefix(_COPY).rpartition("-")
        run_id = run_id if attempt.isalnum() else ""
    return run_id if is_run_id(run_id) else ""


def temporary_prefix(run_id: str) -> str:
    """Return the prefix of all temporary tables of a run."""
    return f"{TEMPORARY}{started_at(run_id).lower().replace('-', '_')}_"


def is_temporary(table: CatalogTable) -> bool:
    """Return whether a table is the remainder of an interrupted copy."""
    return table.name.startswith(TEMPORARY) and table.run_id is None


def run_ids_in(location: str) -> set[str]:
    """Return all possible run ids in a location."""
    return {*location.split("/"), *RUN_ID.findall(location)}


def check_writers(method: str, bucket_count: int, limit: int | None) -> None:
    """Raise ConfigError if a SQL engine cannot write that many bucket files in one statement."""
    if limit is not None and bucket_count > limit:
        fewer = 1 << (limit.bit_length() - 1)
        raise ConfigError(
            f"ctas.method is {method}, which writes at most {limit} partitions and buckets per statement, but "
            f"buckets.count is {bucket_count}; set ctas.method=promote, which moves no data and has no limit, or "
            f"buckets.count={fewer} or less"
        )
