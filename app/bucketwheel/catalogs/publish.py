"""Publish the tables of a run; undo all updates if one fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial

from bucketwheel.catalogs.definitions import DATASET, PUBLICATION, definitions, planned_iceberg_tables
from bucketwheel.catalogs.journal import Journal
from bucketwheel.catalogs.routed import members
from bucketwheel.catalogs.statistics import StatisticsPublication
from bucketwheel.catalogs.updates import Updates
from bucketwheel.contracts import (
    AddressedCatalog,
    Catalog,
    CatalogTable,
    Fence,
    HistoryCatalog,
    Services,
    TableChange,
)
from bucketwheel.contracts.catalog import is_iceberg, same_definition, same_location, table_key
from bucketwheel.errors import BucketwheelError, ConcurrentPublishError, ForeignTableError, VerificationError
from bucketwheel.runs.claims import claim_shown
from bucketwheel.runs.manifest import (
    CopiedTable,
    FileRecord,
    Manifest,
    PublishedTable,
    PublishResult,
)
from bucketwheel.runs.publications import CatalogRecord, catalog_record, record_publication
from bucketwheel.runs.store import RunStore
from bucketwheel.settings.layouts import databases
from bucketwheel.storage import join
from bucketwheel.system import system

# Publications that take longer record again when runs are replaced.
_LONG = timedelta(minutes=1)
_KINDS = {False: "a Hive table", True: "an Iceberg table"}


def check_files(manifest: Manifest, runs: RunStore) -> None:
    """Raise VerificationError if a file of the run is missing or has changed size; read listings only."""
    written: dict[tuple[str, str], list[FileRecord]] = {}
    for outcome in manifest.bucket.outcomes:
        for file in outcome.files:
            written.setdefault((outcome.layout, file.table), []).append(file)
    for (layout, table), files in written.items():
        directory = runs.data_directory(manifest.dataset, table, manifest.run_id, layout)
        sizes = {entry.name: entry.bytes for entry in runs.storage.list(directory)}
        for file in files:
            if sizes.get(file.name) != file.bytes:
                raise VerificationError(
                    f"{join(directory, file.name)}: is missing or has changed size since run {manifest.run_id} "
                    "wrote it, so its tables cannot be published; restore the file, or start a new run"
                )


def publish_run(
    manifest: Manifest,
    services: Services,
    stage: str,
    then: Callable[[], None] = lambda: None,
    copies: Sequence[CopiedTable] = (),
) -> PublishResult:
    """Publish the tables of a verified run that a stage publishes, those of all layouts together; see `publish_all`.

    Raises:
        VerificationError: files of the run are missing or have changed size.
    """
    check_files(manifest, services.runs)
    tables = definitions(manifest, services, stage, copies)

    def end() -> None:
        record_catalog(services, manifest.run_id)
        then()

    return publish_all(
        services.catalog(),
        services.fence,
        tables,
        services.settings.catalog.adopt,
        end,
        partial(begin_publication, services, manifest.run_id),
        Journal(services, manifest.run_id, "run"),
    )


def begin_publication(services: Services, run_id: str, replaced: Collection[str]) -> None:
    """Claim a run, so that `expire` keeps it, and record the catalog, and that `replaced` runs stop being shown now.

    Raises:
        SelectionError: `expire` deletes the run.
    """
    claim_shown(services.runs, services.dataset, run_id, services.clock.now())
    record_catalog(services, run_id)
    record_replaced(services, replaced)


def record_catalog(services: Services, run_id: str) -> None:
    """Record that the configured catalogs show a run.

    Publishing calls it twice: before the first update, and after the last, when the catalog knows its whole address.
    """
    for record in configured_catalogs(services):
        record_publication(services.runs, services.dataset, run_id, record)


def configured_catalogs(services: Services) -> list[CatalogRecord]:
    """Return the records of the configured databases; call `tables` of the catalog first."""
    pairs = zip(databases(services.settings), members(services.catalog()), strict=True)
    return [catalog_record(kind, database, catalog_address(catalog)) for (kind, database), catalog in pairs]


def catalog_address(catalog: Catalog) -> Mapping[str, str]:
    """Return the address of a catalog; nothing if it has none."""
    return catalog.address() if isinstance(catalog, AddressedCatalog) else {}


def record_replaced(services: Services, run_ids: Collection[str]) -> None:
    """Record that these runs are replaced now; `expire` keeps their files for some hours."""
    known = set(services.runs.all_run_ids(services.dataset))
    for run_id in sorted(known.intersection(run_ids)):
        services.runs.record_replaced(services.dataset, run_id, services.clock.now())


def publish_all(
    catalog: Catalog,
    fence: Fence,
    tables: Sequence[CatalogTable],
    adopt: bool,
    then: Callable[[], None] = lambda: None,
    replacing: Callable[[Collection[str]], None] = lambda _: None,
    journal: Journal | None = None,
) -> PublishResult:
    """Point every table at its new definition; if an update fails, undo those before it.

    Tables that are already up to date are skipped; `updates.py` changes the others. `replacing` is called before the
    first update with the ids of the runs that are replaced. `then` is called after the last update; if it fails, all
    updates are undone. `journal` records the changes if they take several updates, until they are done or undone. The
    fence is held from the first catalog read on and is checked again before each update, because some fences cannot
    exclude other writers.

    Raises:
        ForeignTableError: tables exist that Bucketwheel did not create for this dataset, and `adopt` is off;
            nothing changes.
        LeaseError: another run took over; updated tables stay as they are, and a note lists them.
        ConcurrentPublishError: another writer modified a table concurrently.
        CatalogError: a catalog call failed; notes list the tables that could not be restored.
    """
    with fence.guard():
        before = _before(catalog, tables)
        if not adopt:
            _refuse_foreign([(table.name, table.parameters.get(DATASET)) for table in tables], before)
        begun = system().clock.now()
        replacing(_replaced(tables, before))
        statistics, updates = StatisticsPublication(catalog, tables), Updates(catalog, fence)
        try:
            changes = []
            for table, previous in zip(tables, before, strict=True):
                if previous is None or not same_definition(previous, table):
                    changes.append(TableChange(_without_statistics(statistics, fence, table, previous), previous))
            if journal is not None and updates.many(changes):
                with fence.guard():
                    journal.begin(tables[0].parameters.get(PUBLICATION) or system().new_id(), changes)
            updates.make(changes)
            if system().clock.now() - begun > _LONG:
                # This command was suspended: the tables showed the replaced runs for longer than it has recorded.
                with fence.guard():
                    replacing(_replaced(tables, before))
            _check_shown(catalog, tables)
            with fence.guard():
                then()
        except BaseException as error:
            if updates.undo(error):
                statistics.restore(error)
            if journal is not None and updates.all_undone:
                _end_undone(journal, fence, error)
            raise
        warnings = (*(journal.end() if journal is not None else ()), *statistics.publish(tables, fence))
    return PublishResult(
        tables=tuple(
            PublishedTable(
                name=table.name, location=table.location, previous_location=_previous_location(table, previous)
            )
            for table, previous in zip(tables, before, strict=True)
        ),
        warnings=warnings,
    )


def _end_undone(journal: Journal, fence: Fence, cause: BaseException) -> None:
    """Remove the record of an undone publication; without the lease, leave it to the command that has the lease."""
    try:
        with fence.guard():
            notes = journal.end()
    except BucketwheelError:
        return
    for note in notes:
        cause.add_note(note)


def _without_statistics(
    statistics: StatisticsPublication, fence: Fence, table: CatalogTable, previous: CatalogTable | None
) -> CatalogTable:
    """Delete the statistics of a table that is about to change, if the catalog holds any; return its definition."""
    if not statistics.needed:
        return table
    with fence.guard():
        return statistics.withdraw(previous, table)


def _previous_location(table: CatalogTable, previous: CatalogTable | None) -> str | None:
    """Return the location that the update replaces; None if the table is new or already showed this run."""
    if previous is None or previous.run_id == table.run_id:
        return None
    return previous.location


def _replaced(tables: Sequence[CatalogTable], before: Sequence[CatalogTable | None]) -> set[str]:
    """Return the live runs that the update of the tables replaces."""
    pairs = zip(tables, before, strict=True)
    return {
        previous.run_id
        for table, previous in pairs
        if previous and previous.run_id and previous.run_id != table.run_id
    }


def is_current(catalog: Catalog, result: PublishResult) -> bool:
    """Return whether every table in the catalog still has the location recorded in `result`."""
    # Catalogs treat names that differ only in case as equal.
    shown = {(table.name.lower(), table.location.rstrip("/")) for table in catalog.tables()}
    return all((table.name.lower(), table.location.rstrip("/")) in shown for table in result.tables)


def _before(catalog: Catalog, tables: Sequence[CatalogTable]) -> list[CatalogTable | None]:
    """Return what the catalog shows for each table.

    Raises:
        ForeignTableError: it shows a table of the same name and the other kind.
    """
    known = {table_key(table): table for table in catalog.tables()}
    _refuse_other_kind([table_key(table) for table in tables], known)
    return [known.get(table_key(table)) for table in tables]


def check_publishable(
    manifest: Manifest, services: Services, stages: Sequence[str], names: Sequence[tuple[str, bool]]
) -> None:
    """Check that the tables of a run that has no files yet can be published; `names` are those of the `stages`.

    Raises:
        ForeignTableError: see `check_owned`.
        CatalogError: an Iceberg table cannot take the files of the run.
    """
    check_owned(services.catalog(), names, services.dataset, services.settings.catalog.adopt)
    if "ctas" not in stages:
        return
    for catalog in members(services.catalog()):
        if isinstance(catalog, HistoryCatalog):
            for table in planned_iceberg_tables(manifest, services):
                catalog.check_change(table)


def check_owned(catalog: Catalog, names: Sequence[tuple[str, bool]], dataset: str, adopt: bool) -> None:
    """Check that tables of these (name, whether Iceberg) do not exist, or were created for this dataset.

    Raises:
        ForeignTableError: one was not, and `adopt` is off; or one is of the other kind.
    """
    known = {table_key(table): table for table in catalog.tables()}
    keys = [(name.lower(), iceberg) for name, iceberg in names]
    _refuse_other_kind(keys, known)
    if not adopt:
        _refuse_foreign([(name, dataset) for name, _ in names], [known.get(key) for key in keys])


def _refuse_other_kind(keys: Sequence[tuple[str, bool]], known: Mapping[tuple[str, bool], CatalogTable]) -> None:
    """Raise ForeignTableError if an Iceberg table has the name of another table to publish, or vice versa."""
    problems = [
        f"table {table.name!r} exists as {_KINDS[is_iceberg(table)]}, but would be published as {_KINDS[iceberg]}"
        for name, iceberg in keys
        if (table := known.get((name, not iceberg)))
    ]
    if problems:
        raise ForeignTableError(
            f"{'; '.join(problems)}. Give each of these layouts another prefix: its prefix in layouts, or "
            "catalog.final_prefix if the first layout has none there"
        )


def _refuse_foreign(tables: Sequence[tuple[str, str | None]], before: Sequence[CatalogTable | None]) -> None:
    """Raise ForeignTableError if tables exist that are not those of their (name, dataset)."""
    problems = []
    for (name, dataset), existing in zip(tables, before, strict=True):
        owner = existing.parameters.get(DATASET) if existing else None
        if existing and is_iceberg(existing) and not existing.location:
            problems.append(f"the metadata file of Iceberg table {existing.name!r} is missing or damaged")
        elif existing and existing.run_id is None:
            problems.append(f"table {existing.name!r} exists in the catalog and was not created by Bucketwheel")
        elif owner not in (None, dataset):
            problems.append(f"table {name!r} exists in the catalog and belongs to dataset {owner!r}")
    if problems:
        raise ForeignTableError(
            f"{'; '.join(problems)}. Rename it, change the prefix (catalog.staged_prefix, catalog.final_prefix, or "
            "prefix in layouts), or set catalog.adopt=true to replace it"
        )


def _check_shown(catalog: Catalog, tables: Sequence[CatalogTable]) -> None:
    """Raise if a writer that lost its lease overwrote a table that was already correct."""
    for table, current in zip(tables, _before(catalog, tables), strict=True):
        if current is None or not same_location(current.location, table.location):
            raise ConcurrentPublishError(
                f"another writer changed table {table.name!r} while this run published it; check "
                "`bucketwheel runs`, then run again"
            )
