"""Remove the snapshots of deleted runs from Iceberg tables, and metadata files that nothing needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime

from pyiceberg.catalog import Catalog
from pyiceberg.io import FileIO
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import RemoveSnapshotRefUpdate, RemoveSnapshotsUpdate, TableUpdate

from bucketwheel.catalogs.iceberg_create import requirements
from bucketwheel.catalogs.iceberg_errors import DAMAGED
from bucketwheel.catalogs.iceberg_tables import shown_by
from bucketwheel.storage import Entry, Storage, join

# Only files with these names are deleted: other programs may keep files of their own there.
_MANIFESTS = (".avro",)
_METADATA = (".metadata.json", ".metadata.json.gz")


def remove_snapshots(catalog: Catalog, table: Table, run_ids: Collection[str], kind: str) -> bool:
    """Remove the snapshots of these runs and the tags and branches that name them; return whether there were any.

    The current snapshot stays, whatever its run.
    """
    metadata = table.metadata
    gone = [each.snapshot_id for each in metadata.snapshots if _run_of(each) in run_ids]
    gone = [snapshot_id for snapshot_id in gone if snapshot_id != metadata.current_snapshot_id]
    if not gone:
        return False
    updates: list[TableUpdate] = [
        RemoveSnapshotRefUpdate.model_validate({"ref-name": name})
        for name, reference in metadata.refs.items()
        if reference.snapshot_id in gone
    ]
    updates.append(RemoveSnapshotsUpdate.model_validate({"snapshot-ids": gone}))
    catalog.commit_table(table, requirements(table, kind), tuple(updates))
    return True


def _run_of(snapshot: Snapshot) -> str | None:
    shown = shown_by(snapshot)
    return shown.parameters.get("bucketwheel.run_id") if shown else None


def delete_unreferenced(storage: Storage, io: FileIO, table: Table, before: datetime) -> list[str]:
    """Delete metadata files older than `before` that the table does not need; return their paths.

    These are files of removed snapshots, of commits that were killed or lost against another writer, and metadata
    that is no longer in the log of the table. What another table in the same directory needs stays.

    Raises:
        StorageError: a manifest list cannot be read, so that nothing is known about its manifests.
    """
    directory = join(table.metadata.location, "metadata")
    # A REST catalog may hide which metadata file is the current one.
    ends = _MANIFESTS + _METADATA if table.metadata_location else _MANIFESTS
    files = [entry for entry in storage.list(directory) if not entry.is_directory]
    old = [entry for entry in files if entry.name.endswith(ends) and datetime.fromisoformat(entry.modified) < before]
    if not old:
        return []
    # By name, which is unique: catalogs write the scheme of a location in their own way, such as file:/ or s3a://.
    needed = {path.rpartition("/")[2] for path in _needed(table.metadata, table.metadata_location, io)}
    unknown = [entry for entry in files if entry.name.endswith(_METADATA) and entry.name not in needed]
    needed |= _of_other_tables(unknown, str(table.metadata.table_uuid), io)
    deleted = [entry.location for entry in old if entry.name not in needed]
    for location in deleted:
        storage.delete(location)
    return deleted


def _of_other_tables(files: Sequence[Entry], uuid: str, io: FileIO) -> set[str]:
    """Return the names of all files that belong to other tables than that of this id, from their metadata files.

    A layout with a new prefix, a new namespace or a new catalog makes a new table in the directory of the old one.
    """
    needed: set[str] = set()
    for file in files:
        try:
            metadata = FromInputFile.table_metadata(io.new_input(file.location))
        except (*DAMAGED, ValueError):
            continue
        if str(metadata.table_uuid) == uuid:
            continue
        needed |= {file.name, *(snapshot.manifest_list.rpartition("/")[2] for snapshot in metadata.snapshots)}
        for snapshot in metadata.snapshots:
            # Snapshots of runs that are deleted may have lost their manifests.
            with suppress(*DAMAGED, ValueError):
                needed |= {manifest.manifest_path.rpartition("/")[2] for manifest in snapshot.manifests(io)}
    return needed


def _needed(metadata: TableMetadata, location: str, io: FileIO) -> set[str]:
    needed = {location, *(entry.metadata_file for entry in metadata.metadata_log)}
    for snapshot in metadata.snapshots:
        needed |= {snapshot.manifest_list, *(manifest.manifest_path for manifest in snapshot.manifests(io))}
    needed |= {each.statistics_path for each in (*metadata.statistics, *metadata.partition_statistics)}
    return {path for path in needed if path}
