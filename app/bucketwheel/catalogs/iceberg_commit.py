"""Build the commits that change an Iceberg table.

`replace_files` also writes the manifests and the manifest list of the new snapshot, which have to exist before the
commit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError
from pyiceberg.io import FileIO
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AddSortOrderUpdate,
    RemovePropertiesUpdate,
    RemoveSnapshotRefUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetLocationUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
    update_table_metadata,
)
from pyiceberg.transforms import BucketTransform, IdentityTransform, Transform

from bucketwheel.catalogs.iceberg_schema import check_evolution, known_schemas
from bucketwheel.catalogs.iceberg_snapshot import write_snapshot
from bucketwheel.catalogs.iceberg_tables import (
    COMMENT,
    PROPERTY,
    SNAPSHOT_DT,
    Shown,
    bucketing,
    hive_type,
    is_sorted,
    odd_types,
    shown_by,
)
from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import IcebergDefinition
from bucketwheel.errors import CatalogError
from bucketwheel.system import system


@dataclass
class Change:
    """The updates of a commit, the snapshot that is current after it, and the files that were written for it."""

    updates: list[TableUpdate] = field(default_factory=list)
    snapshot_id: int | None = None
    files: list[str] = field(default_factory=list)


def replace_files(metadata: TableMetadata, table: CatalogTable, io: FileIO, change: Change) -> None:
    """Add the updates after which a table has the files of `table.iceberg` and no others.

    Schema, partition spec and sort order change in the same commit if those of the files differ.

    Raises:
        CatalogError: Iceberg does not allow the change of a column.
        StorageError: the records of the files cannot be read, or a manifest cannot be written.
    """
    definition = table.iceberg
    if definition is None:
        raise CatalogError(
            f"{table.name}: the Iceberg table no longer has a snapshot of run {table.run_id}; publish it again: "
            f"bucketwheel rollback {table.run_id}"
        )
    schema = _schema(metadata, table, definition, change)
    spec = _spec(metadata, definition, schema, change)
    order = _order(metadata, definition, change)
    if metadata.location != definition.location:
        change.updates.append(SetLocationUpdate(location=definition.location))
    shown = Shown(table.location, table.parameters, odd_types(table, schema), spec.spec_id, order.order_id)
    snapshot = write_snapshot(metadata, definition, shown, (schema, spec, order), io, change.files)
    change.updates.append(AddSnapshotUpdate(snapshot=snapshot))
    change.updates += _references(metadata, table, snapshot.snapshot_id)
    change.updates += _properties(metadata, table.parameters.get(COMMENT), None)
    change.snapshot_id = snapshot.snapshot_id


def check_replaceable(metadata: TableMetadata, table: CatalogTable) -> None:
    """Check whether `replace_files` could replace the files of a table; raises as it does, and writes nothing."""
    if table.iceberg is None:
        return
    change = Change()
    schema = _schema(metadata, table, table.iceberg, change)
    _spec(metadata, table.iceberg, schema, change)
    _order(metadata, table.iceberg, change)
    _check_tag(metadata, table)
    update_table_metadata(metadata, tuple(change.updates))


def return_to(metadata: TableMetadata, table: CatalogTable, snapshot: Snapshot) -> Change:
    """Return the commit after which a table shows an earlier snapshot of ours again, as `table` describes it."""
    shown = shown_by(snapshot)
    if shown is None:
        raise ValueError(f"snapshot {snapshot.snapshot_id} is not one of ours")
    schema = metadata.current_schema_id if snapshot.schema_id is None else snapshot.schema_id
    change = Change(_defaults(metadata, schema, shown.spec, shown.order), snapshot.snapshot_id)
    if table.iceberg and metadata.location != table.iceberg.location:
        change.updates.append(SetLocationUpdate(location=table.iceberg.location))
    change.updates += _references(metadata, table, snapshot.snapshot_id)
    again = snapshot.snapshot_id == metadata.current_snapshot_id
    changed = None
    if again or shown.parameters != table.parameters:
        changed = replace(
            shown, parameters=table.parameters, snapshot=snapshot.snapshot_id, change=system().new_id()
        ).text()
    change.updates += _properties(metadata, table.parameters.get(COMMENT), changed)
    return change


def restore(metadata: TableMetadata, table: CatalogTable) -> Change:
    """Return the commit that undoes the adoption of a table of another program; `table.native` describes it.

    Raises:
        CatalogError: the snapshot of that program was removed meanwhile.
    """
    native = table.native
    change = Change(_defaults(metadata, native["schema"], native["spec"], native["order"]), native["snapshot"])
    if metadata.location != native["location"]:
        change.updates.append(SetLocationUpdate(location=native["location"]))
    if native["snapshot"] is None:
        change.updates.append(_update(RemoveSnapshotRefUpdate, ref_name=MAIN_BRANCH))
    elif metadata.snapshot_by_id(native["snapshot"]) is None:
        raise CatalogError(f"{table.name}: cannot restore snapshot {native['snapshot']}, which was removed meanwhile")
    else:
        change.updates.append(_reference(MAIN_BRANCH, native["snapshot"], SnapshotRefType.BRANCH))
    change.updates += _properties(metadata, native["comment"], None)
    return change


def first_of_ours(metadata: TableMetadata, table: CatalogTable) -> Snapshot | None:
    """Return the newest snapshot of ours with the files, columns and buckets of `table`, or None."""
    for snapshot in sorted(metadata.snapshots, key=lambda each: each.sequence_number or 0, reverse=True):
        shown = shown_by(snapshot)
        if shown is None or shown.location.rstrip("/") != table.location.rstrip("/"):
            continue
        if shown.parameters.get("bucketwheel.run_id") == table.run_id and _fits(metadata, snapshot, shown, table):
            return snapshot
    return None


def _fits(metadata: TableMetadata, snapshot: Snapshot, shown: Shown, table: CatalogTable) -> bool:
    schema = metadata.schema_by_id(snapshot.schema_id) if snapshot.schema_id is not None else None
    spec, order = metadata.specs().get(shown.spec), metadata.sort_order_by_id(shown.order)
    if schema is None or spec is None or order is None:
        return False
    names = bucketing(spec, schema)
    columns = tuple((each.name, shown.types.get(each.name) or hive_type(each.field_type)) for each in schema.fields)
    described = (table.columns, (table.bucket_columns, table.bucket_count), table.sorted)
    return (columns, names, is_sorted(order, schema, names[0])) == described


def _schema(metadata: TableMetadata, table: CatalogTable, definition: IcebergDefinition, change: Change) -> Schema:
    try:
        schema = Schema.model_validate_json(definition.schema)
    except ValidationError as error:
        raise CatalogError(f"{table.name}: its Iceberg schema is damaged ({error.errors()[0]['msg']})") from error
    for known in metadata.schemas:
        if known == schema:
            if known.schema_id != metadata.current_schema_id:
                change.updates.append(_update(SetCurrentSchemaUpdate, schema_id=known.schema_id))
            return known
    check_evolution(table.name, known_schemas(metadata), schema)
    number = max((known.schema_id for known in metadata.schemas), default=-1) + 1
    new = Schema(*schema.fields, schema_id=number)
    change.updates += [AddSchemaUpdate(schema=new), _update(SetCurrentSchemaUpdate, schema_id=-1)]
    return new


def _spec(metadata: TableMetadata, definition: IcebergDefinition, schema: Schema, change: Change) -> PartitionSpec:
    wanted: list[tuple[int, Transform[Any, Any]]] = []
    if definition.bucket_count:
        wanted.append((definition.key_id, BucketTransform(definition.bucket_count)))
    for known in metadata.partition_specs:
        if [(each.source_id, each.transform) for each in known.fields] == wanted:
            if known.spec_id != metadata.default_spec_id:
                change.updates.append(_update(SetDefaultSpecUpdate, spec_id=known.spec_id))
            return known
    number = max((known.spec_id for known in metadata.partition_specs), default=-1) + 1
    last = max(metadata.last_partition_id or 0, PARTITION_FIELD_ID_START - 1)
    fields = [
        PartitionField(
            source_id=key, field_id=last + 1, transform=transform, name=_partition_name(schema, definition)
        )
        for key, transform in wanted
    ]
    spec = PartitionSpec(*fields, spec_id=number)
    change.updates += [AddPartitionSpecUpdate(spec=spec), _update(SetDefaultSpecUpdate, spec_id=-1)]
    return spec


def _partition_name(schema: Schema, definition: IcebergDefinition) -> str:
    """Return the name that Iceberg gives the partition field of a changed spec; no column may have it."""
    name = f"{schema.find_column_name(definition.key_id)}_bucket_{definition.bucket_count}"
    taken = {each.name.lower() for each in schema.fields}
    while name.lower() in taken:
        name += "_"
    return name


def _order(metadata: TableMetadata, definition: IcebergDefinition, change: Change) -> SortOrder:
    key = SortField(
        source_id=definition.key_id,
        transform=IdentityTransform(),
        direction=SortDirection.ASC,
        null_order=NullOrder.NULLS_FIRST,
    )
    wanted = [key] if definition.sorted else []
    for known in metadata.sort_orders:
        if list(known.fields) == wanted:
            if known.order_id != metadata.default_sort_order_id:
                change.updates.append(_update(SetDefaultSortOrderUpdate, sort_order_id=known.order_id))
            return known
    # Order 0 is the unsorted one.
    number = max((known.order_id for known in metadata.sort_orders), default=0) + 1 if wanted else 0
    order = SortOrder(*wanted, order_id=number)
    change.updates += [
        _update(AddSortOrderUpdate, sort_order=order),
        _update(SetDefaultSortOrderUpdate, sort_order_id=-1),
    ]
    return order


def _defaults(metadata: TableMetadata, schema: int, spec: int, order: int) -> list[TableUpdate]:
    updates: list[TableUpdate] = []
    if schema != metadata.current_schema_id:
        updates.append(_update(SetCurrentSchemaUpdate, schema_id=schema))
    if spec != metadata.default_spec_id:
        updates.append(_update(SetDefaultSpecUpdate, spec_id=spec))
    if order != metadata.default_sort_order_id:
        updates.append(_update(SetDefaultSortOrderUpdate, sort_order_id=order))
    return updates


def _references(metadata: TableMetadata, table: CatalogTable, snapshot_id: int) -> list[TableUpdate]:
    """Return the updates of the main branch and of the tag of the table's `snapshot_dt`.

    Raises:
        CatalogError: a branch has the name of the tag.
    """
    _check_tag(metadata, table)
    updates = [_reference(MAIN_BRANCH, snapshot_id, SnapshotRefType.BRANCH)]
    if tag := table.parameters.get(SNAPSHOT_DT):
        updates.append(_reference(tag, snapshot_id, SnapshotRefType.TAG))
    return updates


def _check_tag(metadata: TableMetadata, table: CatalogTable) -> None:
    tag = table.parameters.get(SNAPSHOT_DT)
    taken = metadata.refs.get(tag) if tag else None
    if taken and taken.snapshot_ref_type == SnapshotRefType.BRANCH:
        raise CatalogError(
            f"{table.name}: a branch of the Iceberg table is called {tag!r}, as the tag of this snapshot; rename "
            "the branch"
        )


def _update(kind: type[TableUpdate], **values: Any) -> TableUpdate:
    """Return an update; PyIceberg's fields have the names of the specification, with hyphens."""
    return kind.model_validate({name.replace("_", "-"): value for name, value in values.items()})


def _reference(name: str, snapshot_id: int, kind: SnapshotRefType) -> TableUpdate:
    return _update(SetSnapshotRefUpdate, ref_name=name, type=kind, snapshot_id=snapshot_id)


def _properties(metadata: TableMetadata, comment: str | None, shown: str | None) -> list[TableUpdate]:
    wanted = {COMMENT: comment, PROPERTY: shown}
    given = {name: value for name, value in wanted.items() if value is not None}
    gone = [name for name, value in wanted.items() if value is None and name in metadata.properties]
    updates: list[TableUpdate] = [SetPropertiesUpdate(updates=given)] if given else []
    return [*updates, RemovePropertiesUpdate(removals=gone)] if gone else updates
