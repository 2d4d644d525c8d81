"""Recognize tables of other formats, and snapshots that a job is still writing, by the names of their files.

Their directories also hold files that are not part of the table: earlier versions, deleted rows, unfinished work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from bucketwheel.errors import SnapshotError, StorageError
from bucketwheel.formatting import counted
from bucketwheel.storage import Entry, Storage, join, name_of

# What Spark and Hadoop leave beside the files of each finished job.
SPARK_MARKER = "_SUCCESS"

_NAMES = {"_delta_log": "Delta", ".hoodie": "Hudi", ".hoodie_partition_metadata": "Hudi"}
_ICEBERG = (".metadata.json", ".metadata.json.gz")
# Directories of transactions of Hive, and files of DuckLake, whose metadata are in a database.
_PATTERNS = {
    # Eight digits that are a date are a snapshot, not the number of a transaction beyond ten million.
    re.compile(
        r"(?!base_(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])$)"
        r"(base_\d{7,}|(delete_)?delta_\d{7,}_\d{7,}(_\d{4})?)(_v\d+)?"
    ): "Hive with transactions",
    re.compile(r"ducklake-[0-9a-f-]{36}(-delete)?\.parquet"): "DuckLake",
}
# Directory of the metadata of Paimon, and the names in it.
_PAIMON = ("schema", re.compile(r"schema-\d+"))
# Directory of unfinished work of Hadoop and Spark, which they delete when a job has finished.
_UNFINISHED = "_temporary"
# Log of the files of a Spark stream; files of failed batches are not in it.
_STREAM = "_spark_metadata"
# Databricks records here the files that a job added and removed.
_STARTED, _COMMITTED = re.compile(r"_started_(\d+)"), re.compile(r"_committed_(\d+)")


def is_hidden(part: str) -> bool:
    """Return whether readers ignore a file or directory of this name; `_name=value` is one of a partition column."""
    return part.startswith(".") or (part.startswith("_") and "=" not in part)


def refuse_format(location: str, below: Sequence[str]) -> None:
    """Raise SnapshotError if a path, split at slashes, `below` a location belongs to a table of another format."""
    found = _format(below)
    if found:
        name, metadata = found
        raise SnapshotError(
            f"{location}: is a table of {name} ({metadata}); its directories also hold files of earlier versions and "
            "of deleted rows. Write the version to read as plain Parquet files into a directory of its own, and set "
            "the source to that"
        )


def _format(below: Sequence[str]) -> tuple[str, str] | None:
    """Return the format that a path belongs to and the part of the path that tells it."""
    for number, part in enumerate(below):
        path = "/".join(below[: number + 1])
        if part in _NAMES:
            return _NAMES[part], path
        if is_hidden(part):
            return None
        for pattern, name in _PATTERNS.items():
            if pattern.fullmatch(part):
                return name, path
    if "metadata" in below[:-1] and below[-1].endswith(_ICEBERG):
        return "Iceberg", "/".join(below)
    if any(part == _PAIMON[0] and _PAIMON[1].fullmatch(name) for part, name in pairwise(below)):
        return "Paimon", "/".join(below)
    return None


def refuse_table(storage: Storage, location: str, names: Collection[str]) -> None:
    """Raise SnapshotError if the directory above the snapshots, with these directories, is part of another table."""
    for name in names:
        refuse_format(location, [name])
    for directory in {"metadata", "schema"}.intersection(names):
        for entry in storage.list(join(location, directory)):
            refuse_format(location, [directory, entry.name])


def refuse_table_above(storage: Storage, source: str) -> None:
    """Raise SnapshotError if a source is a directory of partitions or of data in a table of another format.

    Only paths that look like one cost a request.
    """
    path = source.rstrip("/")
    while "=" in name_of(path) and (above := _above(path)):
        path = above
        for name in ("_delta_log", ".hoodie"):
            if _exists(storage, join(path, name)):
                refuse_format(path, [name])
    # The data of an Iceberg table lies in `data/`, beside `metadata/`.
    if name_of(path) == "data" and (above := _above(path)):
        for entry in _entries(storage, join(above, "metadata")):
            refuse_format(above, ["metadata", entry.name])


def _above(path: str) -> str:
    """Return the directory above a path; empty for the root, and for a bucket."""
    above = path.rpartition("/")[0]
    return "" if above.endswith((":", ":/")) else above


def _exists(storage: Storage, location: str) -> bool:
    try:
        return storage.exists(location)
    except StorageError:
        # Access may be limited to the source.
        return False


def _entries(storage: Storage, location: str) -> Sequence[Entry]:
    try:
        return storage.list(location)
    except StorageError:
        return []


def check_finished(
    storage: Storage, location: str, files: Sequence[Entry], hidden: Sequence[Entry], marker: str | None
) -> list[str]:
    """Refuse a snapshot that a job of Spark, Hadoop or Databricks is still writing, or has written over another.

    Return warnings about files that the job may have left.

    Args:
        storage: storage of the location.
        location: the snapshot.
        files: its data files.
        hidden: its hidden files.
        marker: name of the file that marks complete snapshots; the snapshot has it.

    Raises:
        SnapshotError: names the job's files and the fix.
    """
    if marker is None:
        _check_work(location, hidden)
    if any("-tid-" in entry.name for entry in files):
        _check_databricks(storage, location, files, hidden)
    if any(f"/{_STREAM}/" in entry.location.removeprefix(location) for entry in hidden):
        return [
            f"{location}: was written by a Spark stream; files of failed batches, which are not in {_STREAM}, are "
            "read, too. If it has some, let Spark read it and write it again as a batch"
        ]
    return []


def _check_work(location: str, hidden: Sequence[Entry]) -> None:
    markers = {entry.location for entry in hidden if entry.name == SPARK_MARKER}
    for entry in hidden:
        below = entry.location.removeprefix(location).strip("/").split("/")
        if not entry.bytes or _UNFINISHED not in below[:-1]:
            continue
        above = join(location, *below[: below.index(_UNFINISHED)])
        if markers.isdisjoint([join(location, SPARK_MARKER), join(above, SPARK_MARKER)]):
            work = join(above, _UNFINISHED)
            raise SnapshotError(
                f"{location}: a job that writes the snapshot has not finished, because its work is in {work}; wait "
                "until it has finished, or, if it failed, write the snapshot again. If the snapshot is complete, "
                f"delete {work}"
            )


def _check_databricks(storage: Storage, location: str, files: Sequence[Entry], hidden: Sequence[Entry]) -> None:
    started = {found[1] for entry in hidden if (found := _STARTED.fullmatch(entry.name))}
    committed = {found[1]: entry for entry in hidden if (found := _COMMITTED.fullmatch(entry.name))}
    for number in sorted(started.difference(committed)):
        unfinished = [entry.name for entry in files if f"-tid-{number}-" in entry.name]
        if unfinished:
            raise SnapshotError(
                f"{location}: a Databricks job that writes the snapshot has not finished: {unfinished[0]} belongs to "
                f"transaction {number}, which has no file _committed_{number}; wait until it has, or write the "
                "snapshot again"
            )
    names = {entry.name for entry in files}
    for number in sorted(committed):
        removed = names.intersection(_removed(storage, committed[number]))
        if removed:
            raise SnapshotError(
                f"{location}: a Databricks job removed {counted(len(removed), 'file')} such as {min(removed)} "
                f"(_committed_{number}), but they still lie beside the others; delete them with VACUUM, or write the "
                "snapshot into a new directory"
            )


def _removed(storage: Storage, record: Entry) -> Iterator[str]:
    """Yield the names of the files that a transaction of Databricks removed."""
    try:
        content = json.loads(storage.read(record.location))
        yield from (str(name) for name in content.get("removed", ()))
    except (ValueError, AttributeError, TypeError):
        # Another program's file of the same name.
        return
