"""Read table definitions from Iceberg metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.sorting import SortOrder
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import DecimalType, IcebergType, ListType, MapType, StructType

from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import ICEBERG, TABLE_TYPE

# In the summary of each of our snapshots: a `Shown` in JSON.
SUMMARY = "bucketwheel.definition"
# Table property: a `Shown` with the id of its snapshot, if it differs from that in the summary of the snapshot.
PROPERTY = "bucketwheel.shown"
COMMENT = "comment"
SNAPSHOT_DT = "bucketwheel.snapshot_dt"
_HIVE = {
    "boolean": "boolean",
    "int": "int",
    "long": "bigint",
    "float": "float",
    "double": "double",
    "date": "date",
    "time": "bigint",
    "timestamp": "timestamp",
    "timestamptz": "timestamp",
    "string": "string",
    "uuid": "string",
    "binary": "binary",
}


@dataclass(frozen=True)
class Shown:
    """What a snapshot shows and Iceberg's own metadata does not say.

    Attributes:
        location: directory of the run's files
        parameters: parameters of the table
        types: Hive types of columns, where they do not follow from the Iceberg type
        spec: id of the partition spec
        order: id of the sort order
        snapshot: id of the snapshot, in the table property only
        change: makes each change of the table property a change of the table
    """

    location: str
    parameters: Mapping[str, str]
    types: Mapping[str, str]
    spec: int
    order: int
    snapshot: int | None = None
    change: str = ""

    def text(self) -> str:
        """Return the JSON form."""
        return json.dumps({name: value for name, value in asdict(self).items() if value not in (None, "")})


def parse_shown(text: str | None) -> Shown | None:
    """Return what a JSON text describes, or None if it is not one of ours."""
    try:
        shown = Shown(**json.loads(text or ""))
    except (ValueError, TypeError):
        return None
    return shown if isinstance(shown.location, str) and isinstance(shown.parameters, dict) else None


def shown_by(snapshot: Snapshot | None) -> Shown | None:
    """Return what one of our snapshots shows, or None for a snapshot of another program."""
    return parse_shown(snapshot.summary[SUMMARY]) if snapshot and snapshot.summary else None


def current(metadata: TableMetadata) -> Shown | None:
    """Return what the table shows now, or None if another program wrote its current snapshot."""
    changed = parse_shown(metadata.properties.get(PROPERTY))
    if changed and changed.snapshot is not None and changed.snapshot == metadata.current_snapshot_id:
        return changed
    return shown_by(metadata.current_snapshot())


def as_table(name: str, table: Table) -> CatalogTable:
    """Return the definition of a table."""
    metadata = table.metadata
    shown, schema = current(metadata), metadata.schema()
    columns, count = bucketing(metadata.spec(), schema)
    types = shown.types if shown else {}
    return CatalogTable(
        name=name,
        location=shown.location if shown else metadata.location,
        columns=tuple((field.name, types.get(field.name) or hive_type(field.field_type)) for field in schema.fields),
        bucket_columns=columns,
        bucket_count=count,
        sorted=is_sorted(metadata.sort_order(), schema, columns),
        parameters={**(shown.parameters if shown else {}), TABLE_TYPE: ICEBERG},
        version=version(table),
        native=_native(metadata),
    )


def unreadable(name: str) -> CatalogTable:
    """Return the definition of a table whose metadata file is missing or damaged."""
    return CatalogTable(name=name, location="", columns=(), parameters={TABLE_TYPE: ICEBERG})


def version(table: Table) -> str:
    """Return the version of a table: its metadata file, or if the catalog hides it, what changes with each commit."""
    metadata = table.metadata
    return (
        table.metadata_location or f"{metadata.table_uuid}/{metadata.last_updated_ms}/{metadata.current_snapshot_id}"
    )


def _native(metadata: TableMetadata) -> dict[str, Any]:
    return {
        "uuid": str(metadata.table_uuid),
        "location": metadata.location,
        "snapshot": metadata.current_snapshot_id,
        "schema": metadata.current_schema_id,
        "spec": metadata.default_spec_id,
        "order": metadata.default_sort_order_id,
        "comment": metadata.properties.get(COMMENT),
    }


def bucketing(spec: PartitionSpec, schema: Schema) -> tuple[tuple[str, ...], int]:
    """Return the bucketed columns and the number of buckets; none unless the spec is one bucket transform."""
    count = bucket_count(spec)
    name = schema.find_column_name(spec.fields[0].source_id) if count else None
    return ((name,), count) if name else ((), 0)


def bucket_count(spec: PartitionSpec) -> int:
    """Return the number of buckets of a partition spec; 0 unless it is one bucket transform."""
    transforms = [field.transform for field in spec.fields]
    if len(transforms) == 1 and isinstance(transforms[0], BucketTransform):
        return transforms[0].num_buckets
    return 0


def known_bucket_count(spec: PartitionSpec, key: int | None) -> int:
    """Return the number of buckets of a partition spec; 0 without partitions, -1 for other partitions."""
    if spec.is_unpartitioned():
        return 0
    count = bucket_count(spec)
    return count if count and spec.fields[0].source_id == key else -1


def is_sorted(order: SortOrder, schema: Schema, columns: tuple[str, ...]) -> bool:
    """Return whether a sort order begins with the bucketed columns."""
    names = [schema.find_column_name(each.source_id) for each in order.fields]
    identity = all(isinstance(each.transform, IdentityTransform) for each in order.fields)
    return bool(columns) and identity and tuple(names[: len(columns)]) == columns


def hive_type(kind: IcebergType) -> str:
    """Return the Hive type name of an Iceberg type."""
    if isinstance(kind, StructType):
        return f"struct<{','.join(f'{field.name}:{hive_type(field.field_type)}' for field in kind.fields)}>"
    if isinstance(kind, ListType):
        return f"array<{hive_type(kind.element_type)}>"
    if isinstance(kind, MapType):
        return f"map<{hive_type(kind.key_type)},{hive_type(kind.value_type)}>"
    if isinstance(kind, DecimalType):
        return f"decimal({kind.precision},{kind.scale})"
    text = str(kind)
    return "binary" if text.startswith("fixed") else _HIVE.get(text, text)


def odd_types(table: CatalogTable, schema: Schema) -> dict[str, str]:
    """Return the Hive types of columns that do not follow from the Iceberg types."""
    known = {field.name: hive_type(field.field_type) for field in schema.fields}
    return {name: kind for name, kind in table.columns if known.get(name) != kind}
