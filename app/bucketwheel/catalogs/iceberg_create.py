"""Create Iceberg tables, and state what has to hold for a commit."""

from __future__ import annotations

import uuid

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.table import StagedTable, Table
from pyiceberg.table.metadata import TableMetadata, TableMetadataV1, TableMetadataV2
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import (
    AssertCreate,
    AssertCurrentSchemaId,
    AssertDefaultSortOrderId,
    AssertDefaultSpecId,
    AssertRefSnapshotId,
    AssertTableUUID,
    AssignUUIDUpdate,
    TableRequirement,
    UpgradeFormatVersionUpdate,
    ValidatableTableRequirement,
    update_table_metadata,
)

from bucketwheel.catalogs.iceberg_commit import Change, replace_files
from bucketwheel.catalogs.iceberg_snapshot import FORMAT
from bucketwheel.contracts import CatalogTable


class _Unchanged(ValidatableTableRequirement):
    """The table must be the one that was read, to the last property; the catalog's own requirements allow more."""

    type: str = "unchanged"
    expected: TableMetadata

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]
        """Raise CommitFailedException if the table has changed."""
        if base_metadata != self.expected:
            raise CommitFailedException("Requirement failed: the table has changed")


def requirements(base: Table, kind: str) -> tuple[TableRequirement, ...]:
    """Return what has to hold for a commit to `base`: nobody else has changed or created the table."""
    if isinstance(base, StagedTable):
        return (AssertCreate(),)
    metadata = base.metadata
    if kind != "rest":
        # PyIceberg compares the metadata itself there, and then replaces the address of this metadata only.
        return (_Unchanged(expected=metadata),)  # type: ignore[return-value]
    main = AssertRefSnapshotId.model_validate({"ref": MAIN_BRANCH, "snapshot-id": metadata.current_snapshot_id})
    return (
        AssertTableUUID(uuid=metadata.table_uuid),
        main,
        AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
        AssertDefaultSpecId.model_validate({"default-spec-id": metadata.default_spec_id}),
        AssertDefaultSortOrderId.model_validate({"default-sort-order-id": metadata.default_sort_order_id}),
    )


def create(table: CatalogTable, io: FileIO, change: Change) -> None:
    """Add the updates of the commit that creates a table with its first snapshot; raises as `replace_files`."""
    change.updates += [
        AssignUUIDUpdate(uuid=uuid.uuid4()),
        UpgradeFormatVersionUpdate.model_validate({"format-version": FORMAT}),
    ]
    nothing = TableMetadataV2.model_construct(format_version=FORMAT, last_column_id=0, location="")
    replace_files(nothing, table, io, change)


def staged(identifier: tuple[str, ...], change: Change, io: FileIO, catalog: Catalog) -> StagedTable:
    """Return the table that a commit creates."""
    # The metadata that PyIceberg's own catalogs begin with.
    nothing = TableMetadataV1.model_construct(last_column_id=-1, schema=Schema())
    metadata = update_table_metadata(nothing, tuple(change.updates), enforce_validation=True)
    return StagedTable(identifier=identifier, metadata=metadata, metadata_location="", io=io, catalog=catalog)
