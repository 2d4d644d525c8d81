"""Check that a schema can follow the earlier schemas of an Iceberg table."""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    StructType,
)

from bucketwheel.errors import CatalogError

_NESTED = {StructType: "struct", ListType: "list", MapType: "map"}


def known_schemas(metadata: TableMetadata) -> list[Schema]:
    """Return the schemas of a table, the current one last: after a rollback, it is not the newest."""
    return sorted(metadata.schemas, key=lambda each: each.schema_id == metadata.current_schema_id)


def ids_by_name(schemas: Sequence[Schema]) -> dict[str, int]:
    """Return the field id of each column and nested field, by its path with dots; later schemas win."""
    ids: dict[str, int] = {}
    for schema in schemas:
        ids |= {path: field_id for field_id, path in _paths(schema).items()}
    return ids


def changed_columns(earlier: Sequence[Schema], new: Schema) -> dict[str, tuple[str, str, str]]:
    """Return the columns whose type Iceberg cannot change so: the path that differs, its type before and now.

    Such a column can only become another field with the same name. Later schemas win.
    """
    known: dict[str, IcebergType] = {}
    for schema in earlier:
        known |= {path: schema.find_type(field_id) for field_id, path in _paths(schema).items()}
    changed: dict[str, tuple[str, str, str]] = {}
    for field_id, path in _paths(new).items():
        before, now = known.get(path), new.find_type(field_id)
        if before and not _follows(before, now):
            changed.setdefault(_column(path), (path, _word(before), _word(now)))
    return changed


def check_evolution(table: str, earlier: Sequence[Schema], new: Schema) -> None:
    """Check that the fields of a schema keep their ids and types; fields may be added, removed and moved.

    A column whose type Iceberg cannot change may have new ids.

    Raises:
        CatalogError: a field has another id or another type than before.
    """
    known: dict[int, tuple[str, IcebergType]] = {}
    ids, replaced = ids_by_name(earlier), changed_columns(earlier, new)
    for schema in earlier:
        known |= {field_id: (path, schema.find_type(field_id)) for field_id, path in _paths(schema).items()}
    for field_id, path in _paths(new).items():
        before, kind = known.get(field_id), new.find_type(field_id)
        renumbered = ids.get(path, field_id) != field_id
        if (before and before[0] != path) or (renumbered and (before or _column(path) not in replaced)):
            other = f"{before[0]!r}" if before and before[0] != path else f"id {ids[path]}"
            raise CatalogError(
                f"{table}: the files have field id {field_id} for column {path!r}, the Iceberg table has {other}; "
                "the table was created after the run began. Start a new run, which takes the ids of the table"
            )
        if before and not _follows(before[1], kind):
            raise CatalogError(
                f"{table}: column {path!r} has type {kind}, and had {before[1]} in the Iceberg table; Iceberg cannot "
                "change it so. Start a new run, in which the column becomes a new field"
            )


def _paths(schema: Schema) -> dict[int, str]:
    return {field_id: name for field_id in schema.field_ids if (name := schema.find_column_name(field_id))}


def _column(path: str) -> str:
    # No column of a table has a dot in its name; nested fields may.
    return path.partition(".")[0]


def _word(kind: IcebergType) -> str:
    return _NESTED.get(type(kind)) or str(kind)


def _follows(before: IcebergType, now: IcebergType) -> bool:
    """Return whether Iceberg allows the change of a type; the fields of nested types are compared on their own."""
    if before == now or (not before.is_primitive and type(before) is type(now)):
        return True
    if isinstance(before, DecimalType) and isinstance(now, DecimalType):
        return before.scale == now.scale and before.precision <= now.precision
    return (type(before), type(now)) in {(IntegerType, LongType), (FloatType, DoubleType)}
