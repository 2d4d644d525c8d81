"""Write the manifests of an Iceberg snapshot.

PyIceberg's `add_files` refuses tables with a bucket transform, so this module writes manifests from the records of
the run with the classes that PyIceberg's own writers use (docs/adr/0025-iceberg-metadata.md).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Literal

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.sorting import SortOrder
from pyiceberg.typedef import Record

from bucketwheel.catalogs.iceberg_tables import SUMMARY, Shown
from bucketwheel.contracts.catalog import DataFile as WrittenFile
from bucketwheel.contracts.catalog import IcebergDefinition
from bucketwheel.errors import StorageError
from bucketwheel.storage import join
from bucketwheel.system import system

FORMAT: Literal[2] = 2
_CODEC: Literal["deflate"] = "deflate"
_LOG = logging.getLogger("bucketwheel")


def write_snapshot(
    metadata: TableMetadata,
    definition: IcebergDefinition,
    shown: Shown,
    layout: tuple[Schema, PartitionSpec, SortOrder],
    io: FileIO,
    written: list[str],
) -> Snapshot:
    """Write manifests and manifest list of a snapshot, and return it.

    Args:
        metadata: the table before.
        definition: its new files.
        shown: what the snapshot shows.
        layout: schema, partition spec and sort order of the new files.
        io: where to write.
        written: gets the path of each file before it is written.

    Raises:
        StorageError: the records of the files cannot be read, or a file cannot be written.
    """
    schema, spec, order = layout
    files, snapshot_id, mark = (
        [file for file in definition.files() if file.rows],
        metadata.new_snapshot_id(),
        uuid.uuid4(),
    )
    removed = _removed(metadata, snapshot_id, io)
    sequence, parent = metadata.next_sequence_number(), metadata.current_snapshot_id
    groups: list[tuple[PartitionSpec, Schema, list[ManifestEntry]]] = [
        (spec, schema, [_added(file, snapshot_id, spec, order) for file in files]),
        *((metadata.specs()[number], metadata.schema(), entries) for number, entries in removed.items()),
    ]
    manifests: list[ManifestFile] = []
    for number, (each, fields, entries) in enumerate(group for group in groups if group[2]):
        path = _metadata_path(definition, f"{mark}-m{number}.avro", written)
        with write_manifest(FORMAT, each, fields, io.new_output(path), snapshot_id, _CODEC) as writer:
            for entry in entries:
                writer.add_entry(entry)
        manifests.append(writer.to_manifest_file())
    path = _metadata_path(definition, f"snap-{snapshot_id}-0-{mark}.avro", written)
    with write_manifest_list(FORMAT, io.new_output(path), snapshot_id, parent, sequence, _CODEC) as lists:
        lists.add_manifests(manifests)
    now = int(system().clock.now().timestamp() * 1000)
    return Snapshot.model_validate(
        {
            "snapshot-id": snapshot_id,
            "parent-snapshot-id": parent,
            "sequence-number": sequence,
            # Readers expect the log of snapshots in the order of time.
            "timestamp-ms": max(now, metadata.last_updated_ms + 1),
            "manifest-list": path,
            "summary": Summary(
                Operation.OVERWRITE if parent else Operation.APPEND, **_summary(files, removed, shown)
            ),
            "schema-id": schema.schema_id,
        }
    )


def _metadata_path(definition: IcebergDefinition, name: str, written: list[str]) -> str:
    path = join(definition.location, "metadata", name)
    # Recorded first, because a write that failed may have left the file.
    written.append(path)
    return path


def _added(file: WrittenFile, snapshot_id: int, spec: PartitionSpec, order: SortOrder) -> ManifestEntry:
    metrics = file.metrics
    entry = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=file.path,
        file_format=FileFormat.PARQUET,
        partition=Record(file.bucket) if spec.fields else Record(),
        record_count=file.rows,
        file_size_in_bytes=file.bytes,
        column_sizes=dict(metrics.column_sizes),
        value_counts=dict(metrics.value_counts),
        null_value_counts=dict(metrics.null_counts),
        nan_value_counts=dict(metrics.nan_counts),
        lower_bounds=dict(metrics.lower_bounds),
        upper_bounds=dict(metrics.upper_bounds),
        key_metadata=None,
        split_offsets=list(metrics.split_offsets) or None,
        equality_ids=None,
        sort_order_id=order.order_id,
    )
    entry.spec_id = spec.spec_id
    return ManifestEntry.from_args(
        status=ManifestEntryStatus.ADDED,
        snapshot_id=snapshot_id,
        sequence_number=None,
        file_sequence_number=None,
        data_file=entry,
    )


def _removed(metadata: TableMetadata, snapshot_id: int, io: FileIO) -> dict[int, list[ManifestEntry]]:
    """Return an entry for each file that the current snapshot has and the new one removes, by partition spec.

    Readers of changes need them; readers of the table do not. A snapshot whose manifests are lost has none.
    """
    snapshot = metadata.current_snapshot()
    removed: dict[int, list[ManifestEntry]] = {}
    if snapshot is None:
        return removed
    try:
        for manifest in snapshot.manifests(io):
            if manifest.content == ManifestContent.DATA:
                entries = [_deleted(entry, snapshot_id) for entry in manifest.fetch_manifest_entry(io)]
                removed.setdefault(manifest.partition_spec_id, []).extend(entries)
    except (StorageError, OSError, ValueError) as error:
        _LOG.info("the manifests of snapshot %s cannot be read: %s", snapshot.snapshot_id, error)
        return {}
    return removed


def _deleted(entry: ManifestEntry, snapshot_id: int) -> ManifestEntry:
    file = entry.data_file
    # Without statistics, which nobody needs of a removed file.
    bare = DataFile.from_args(
        content=file.content,
        file_path=file.file_path,
        file_format=file.file_format,
        partition=file.partition,
        record_count=file.record_count,
        file_size_in_bytes=file.file_size_in_bytes,
        column_sizes=None,
        value_counts=None,
        null_value_counts=None,
        nan_value_counts=None,
        lower_bounds=None,
        upper_bounds=None,
        key_metadata=None,
        split_offsets=None,
        equality_ids=None,
        sort_order_id=file.sort_order_id,
    )
    bare.spec_id = file.spec_id
    return ManifestEntry.from_args(
        status=ManifestEntryStatus.DELETED,
        snapshot_id=snapshot_id,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=bare,
    )


def _summary(
    files: Sequence[WrittenFile], removed: Mapping[int, Sequence[ManifestEntry]], shown: Shown
) -> dict[str, str]:
    gone = [entry.data_file for entries in removed.values() for entry in entries]
    added = (len(files), sum(file.rows for file in files), sum(file.bytes for file in files))
    deleted = (len(gone), sum(file.record_count for file in gone), sum(file.file_size_in_bytes for file in gone))
    counts = {
        **dict(zip(("added-data-files", "added-records", "added-files-size"), added, strict=True)),
        **dict(zip(("deleted-data-files", "deleted-records", "removed-files-size"), deleted, strict=True)),
    }
    totals = {
        **dict(zip(("total-data-files", "total-records", "total-files-size"), added, strict=True)),
        **dict.fromkeys(("total-delete-files", "total-position-deletes", "total-equality-deletes"), 0),
    }
    ours = {name: value for name, value in shown.parameters.items() if name.startswith("bucketwheel.")}
    return {
        **{name: str(value) for name, value in counts.items() if value},
        **{name: str(value) for name, value in totals.items()},
        **ours,
        SUMMARY: shown.text(),
    }
