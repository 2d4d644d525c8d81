"""Publishes the tables of a run: one catalog update each, and back again if one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bucketwheel.catalogs.hive_types import hive_type
from bucketwheel.contracts import Catalog, CatalogTable, Fence, Services
from bucketwheel.contracts.catalog import same_definition, same_location, same_version
from bucketwheel.errors import ConcurrentPublishError, ForeignTableError, VerificationError
from bucketwheel.runs.manifest import (
    CopiedTable,
    Manifest,
    PublishedTable,
    PublishResult,
)
from bucketwheel.runs.store import RunStore
from bucketwheel.storage import join

DATASET = "bucketwheel.dataset"
_VERSIONS = {"hive_v1": "1", "hive_v2": "2"}

_Change = tuple[CatalogTable, CatalogTable | None]


def definitions(
    manifest: Manifest, services: Services, prefix: str, copies: Sequence[CopiedTable] = ()
) -> list[CatalogTable]:
    """Return the catalog tables of a verified run, named `prefix` + table, in the order of the mapping.

    Those of which a SQL engine made a copy show the copy.

    Raises:
        SchemaError: the catalog has no name for a column's type; a run for another catalog may have had.
    """
    made = {copy.table: copy for copy in copies}
    found = manifest.discover
    split = manifest.split
    size = manifest.size
    written = {table.name: table for table in manifest.verify.tables}
    schema = found.schema()
    keys = tuple(key.name for key in split.keys)
    exact = services.catalog_class().typed
    tables = []
    for table in split.tables:
        columns = tuple(
            (column.name, hive_type(schema.field(column.source).type, column.source, exact))
            for column in (*split.keys, *table.columns)
        )
        parameters = {
            "classification": "parquet",
            # Where Athena, Trino and Hive keep the comment of a table; the jobs before this one wrote the same text.
            "comment": f"Bucketed table created from snapshot_dt={found.snapshot_dt}",
            "bucketwheel.run_id": manifest.run_id,
            "bucketwheel.snapshot_dt": found.snapshot_dt,
            DATASET: manifest.dataset,
            "numRows": str(written[table.name].rows),
            "totalSize": str(written[table.name].bytes),
        }
        if size.bucketed:
            parameters |= _bucket_parameters(size.hash)
        defined = CatalogTable(
            name=f"{prefix}{table.name}",
            location=services.runs.data_directory(manifest.dataset, table.name, manifest.run_id),
            columns=columns,
            bucket_columns=keys if size.bucketed else (),
            bucket_count=size.bucket_count if size.bucketed else 0,
            sorted=size.sort and size.bucketed,
            parameters=parameters,
        )
        tables.append(_copied(defined, made[table.name]) if table.name in made else defined)
    return tables


def _copied(table: CatalogTable, copy: CopiedTable) -> CatalogTable:
    parameters = {**table.parameters, "totalSize": str(copy.bytes)}
    return replace(table, location=copy.location, sorted=copy.sorted, parameters=parameters)


def _bucket_parameters(scheme: str) -> dict[str, str]:
    if scheme == "spark":
        return {"bucketing_format": "spark"}
    return {"bucketing_version": _VERSIONS[scheme]}


def check_files(manifest: Manifest, runs: RunStore) -> None:
    """Raise VerificationError where a file of the run is gone or has another size; reads listings only."""
    outcomes = manifest.bucket.outcomes
    for table in manifest.split.tables:
        directory = runs.data_directory(manifest.dataset, table.name, manifest.run_id)
        found = {entry.name: entry.bytes for entry in runs.storage.list(directory)}
        for file in (file for outcome in outcomes for file in outcome.files if file.table == table.name):
            if found.get(file.name) != file.bytes:
                raise VerificationError(
                    f"{join(directory, file.name)}: is gone or has another size than when run {manifest.run_id} "
                    "wrote it; its tables cannot be published as they are"
                )


def publish_run(
    manifest: Manifest,
    services: Services,
    prefix: str,
    then: Callable[[], None] = lambda: None,
    copies: Sequence[CopiedTable] = (),
) -> PublishResult:
    """Publish the tables of a verified run under names that begin with `prefix`; see `publish_all`.

    Raises:
        VerificationError: files of the run are gone.
    """
    check_files(manifest, services.runs)
    tables = definitions(manifest, services, prefix, copies)
    return publish_all(services.catalog(), services.fence, tables, services.settings.catalog.adopt, then)


def publish_all(
    catalog: Catalog,
    fence: Fence,
    tables: Sequence[CatalogTable],
    adopt: bool,
    then: Callable[[], None] = lambda: None,
) -> PublishResult:
    """Point every table at its new definition; if one fails, those before it go back.

    A table that already is where it should be is left alone. `then` is called when all of them are; where
    it fails they go back too. The fence is held from the first look at the catalog on, and asked again
    before each update, for fences that cannot really hold others off.

    Raises:
        ForeignTableError: tables exist that Bucketwheel did not make for this dataset, and `adopt` is off;
            nothing changes.
        LeaseError: another run took over.
        ConcurrentPublishError: somebody else changed a table meanwhile.
        CatalogError: the catalog refused; the notes say what could not be put back.
    """
    with fence.guard():
        before = _before(catalog, tables)
        if not adopt:
            _refuse_foreign(tables, before)
        changed: list[_Change] = []
        try:
            for table, found in zip(tables, before, strict=True):
                if found is None or not same_definition(found, table):
                    with fence.guard():
                        changed.append(_put(catalog, table, found))
            _check_shown(catalog, tables)
            with fence.guard():
                then()
        except BaseException as error:
            _go_back(catalog, changed, error)
            raise
    return PublishResult(
        tables=tuple(
            PublishedTable(
                name=table.name, location=table.location, previous_location=found.location if found else None
            )
            for table, found in zip(tables, before, strict=True)
        )
    )


def is_current(catalog: Catalog, result: PublishResult) -> bool:
    """Return whether the catalog still shows every table where `result` put it."""
    known = _by_name(catalog)
    shown = ((known.get(table.name.lower()), table.location) for table in result.tables)
    return all(found is not None and same_location(found.location, location) for found, location in shown)


def _by_name(catalog: Catalog) -> dict[str, CatalogTable]:
    # Catalogs take names that differ only in case for the same.
    return {table.name.lower(): table for table in catalog.tables()}


def _before(catalog: Catalog, tables: Sequence[CatalogTable]) -> list[CatalogTable | None]:
    known = _by_name(catalog)
    return [known.get(table.name.lower()) for table in tables]


def _refuse_foreign(tables: Sequence[CatalogTable], before: Sequence[CatalogTable | None]) -> None:
    problems = []
    for table, found in zip(tables, before, strict=True):
        owner = found.parameters.get(DATASET) if found else None
        if found and found.run_id is None:
            problems.append(f"table {found.name!r} exists in the catalog and was not made by Bucketwheel")
        elif owner not in (None, table.parameters.get(DATASET)):
            problems.append(f"table {table.name!r} exists in the catalog and belongs to dataset {owner!r}")
    if problems:
        raise ForeignTableError(
            f"{'; '.join(problems)}. Rename it, change catalog.staged_prefix or catalog.final_prefix, or set "
            "catalog.adopt=true to replace it"
        )


def _put(catalog: Catalog, table: CatalogTable, found: CatalogTable | None) -> _Change:
    try:
        return catalog.put(table, found), found
    except ConcurrentPublishError:
        raise
    except BaseException as error:
        # The catalog may have done it all the same: a lost answer, an interrupt just after.
        shown = _shown_after(catalog, table, error)
        if shown and not same_version(shown, found):
            _go_back(catalog, [(shown, found)], error)
        raise


def _shown_after(catalog: Catalog, table: CatalogTable, cause: BaseException) -> CatalogTable | None:
    try:
        shown = catalog.get(table.name)
    except Exception as error:  # noqa: BLE001 whatever a broken catalog raises, the cause is what counts
        cause.add_note(f"whether table {table.name!r} was changed is not known: {error}")
        return None
    return shown if shown and same_definition(shown, table) else None


def _check_shown(catalog: Catalog, tables: Sequence[CatalogTable]) -> None:
    """Raise where a writer that lost its lease put a table back after it was found to be right."""
    for table, found in zip(tables, _before(catalog, tables), strict=True):
        if found is None or not same_location(found.location, table.location):
            raise ConcurrentPublishError(
                f"table {table.name!r} was changed by somebody else while it was published; look at "
                "`bucketwheel runs`, then run again"
            )


def _go_back(catalog: Catalog, changed: Sequence[_Change], cause: BaseException) -> None:
    """Undo updates, last first.

    This needs no lease: each update is made only where the table still is as this writer left it.
    """
    done = 0
    for now, previous in reversed(changed):
        try:
            if previous is None:
                catalog.remove(now)
            else:
                catalog.put(previous, now)
            done += 1
        except Exception as error:  # noqa: BLE001 the other tables have to go back all the same
            cause.add_note(f"table {now.name!r} could not be put back: {error}")
    if done:
        text = "1 table" if done == 1 else f"{done} tables"
        cause.add_note(f"{text} published before the failure: put back")
