"""Publishes the tables of a run: one catalog update each, and back again if one fails."""

from __future__ import annotations

from collections.abc import Sequence

from bucketwheel.contracts import Catalog, CatalogTable, Fence
from bucketwheel.errors import BucketwheelError, ForeignTableError
from bucketwheel.manifest import (
    DiscoverResult,
    Manifest,
    PublishedTable,
    PublishResult,
    SizeResult,
    SplitResult,
    VerifyResult,
)
from bucketwheel.runs import RunStore
from bucketwheel.sql import hive_type
from bucketwheel.storage import Storage

_VERSIONS = {"hive_v1": "1", "hive_v2": "2"}


def definitions(manifest: Manifest, storage: Storage, target: str, prefix: str) -> list[CatalogTable]:
    """Return the catalog tables of a verified run, named `prefix` + table, in the order of the mapping."""
    store = RunStore(storage, target)
    found = manifest.result("discover", DiscoverResult)
    split = manifest.result("split", SplitResult)
    size = manifest.result("size", SizeResult)
    written = {table.name: table for table in manifest.result("verify", VerifyResult).tables}
    schema = found.schema()
    keys = tuple(key.name for key in split.keys)
    tables = []
    for table in split.tables:
        columns = tuple(
            (column.name, hive_type(schema.field(column.source).type, column.source))
            for column in (*split.keys, *table.columns)
        )
        parameters = {
            "classification": "parquet",
            "bucketwheel.run_id": manifest.run_id,
            "bucketwheel.snapshot_dt": found.snapshot_dt,
            "numRows": str(written[table.name].rows),
            "totalSize": str(written[table.name].bytes),
        }
        if size.bucketed:
            parameters |= _bucket_parameters(size.hash)
        tables.append(
            CatalogTable(
                name=f"{prefix}{table.name}",
                location=store.data_directory(manifest.dataset, table.name, manifest.run_id),
                columns=columns,
                bucket_columns=keys if size.bucketed else (),
                bucket_count=size.bucket_count if size.bucketed else 0,
                sorted=size.sort,
                parameters=parameters,
            )
        )
    return tables


def _bucket_parameters(scheme: str) -> dict[str, str]:
    if scheme == "spark":
        return {"bucketing_format": "spark"}
    return {"bucketing_version": _VERSIONS[scheme]}


def publish_all(catalog: Catalog, fence: Fence, tables: Sequence[CatalogTable], adopt: bool) -> PublishResult:
    """Point every table at its new definition; if one fails, those before it go back.

    A table that already is where it should be is left alone.

    Raises:
        ForeignTableError: a table exists that Bucketwheel did not make and `adopt` is off; nothing changes.
        LeaseError: another run took over.
        CatalogError: the catalog refused; the notes say what could not be put back.
    """
    known = {table.name: table for table in catalog.tables()}
    before = {table.name: known.get(table.name) for table in tables}
    for name, found in before.items():
        if found and found.run_id is None and not adopt:
            raise ForeignTableError(
                f"table {name!r} exists in the catalog and was not made by Bucketwheel; rename it, change "
                "catalog.staged_prefix or catalog.final_prefix, or set catalog.adopt=true to replace it"
            )
    changed: list[tuple[CatalogTable, CatalogTable | None]] = []
    try:
        for table in tables:
            found = before[table.name]
            if found is None or not same_definition(found, table):
                with fence.guard():
                    changed.append((catalog.put(table, found), found))
    except BaseException as error:
        _go_back(catalog, fence, changed, error)
        raise
    return PublishResult(
        tables=tuple(
            PublishedTable(
                name=table.name,
                location=table.location,
                previous_location=found.location if (found := before[table.name]) else None,
            )
            for table in tables
        )
    )


def is_current(catalog: Catalog, result: PublishResult) -> bool:
    """Return whether the catalog still shows every table where `result` put it."""
    known = {table.name: table.location for table in catalog.tables()}
    return all(known.get(table.name) == table.location for table in result.tables)


def same_definition(one: CatalogTable, other: CatalogTable) -> bool:
    """Return whether two tables show the same files in the same way; the catalog's version does not count."""
    return (one.location, one.columns, dict(one.parameters)) == (
        other.location,
        other.columns,
        dict(other.parameters),
    )


def _go_back(
    catalog: Catalog,
    fence: Fence,
    changed: Sequence[tuple[CatalogTable, CatalogTable | None]],
    cause: BaseException,
) -> None:
    for now, previous in reversed(changed):
        try:
            with fence.guard():
                if previous is None:
                    catalog.remove(now)
                else:
                    catalog.put(previous, now)
        except BucketwheelError as error:
            cause.add_note(f"table {now.name!r} could not be put back: {error}")
    if changed:
        cause.add_note(f"{len(changed)} tables published before the failure were put back")
