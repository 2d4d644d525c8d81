"""Publish statistics of columns, so that no table ever shows those of another run.

Old statistics are deleted before a table changes, and new ones are written after all tables have changed. A run that
is killed in between leaves tables without statistics; the next publication adds them. A failure to write statistics
is a warning, because tables are complete without them. A failure to delete old statistics fails the publication.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bucketwheel.catalogs.routed import members
from bucketwheel.contracts import Catalog, CatalogTable, Fence
from bucketwheel.contracts.catalog import STATISTICS, StatisticsCatalog, is_iceberg, same_location
from bucketwheel.errors import BucketwheelError, CatalogError

_Entries = list[dict[str, Any]]


class StatisticsPublication:
    """The statistics of the tables of one publication."""

    def __init__(self, catalog: Catalog, tables: Sequence[CatalogTable]) -> None:
        self._catalog = next((each for each in members(catalog) if isinstance(each, StatisticsCatalog)), None)
        self._tables = catalog
        self._wanted = any(table.statistics for table in tables)
        self._withdrawn: list[tuple[CatalogTable, _Entries]] = []
        self._empty: set[str] = set()
        self._warnings: list[str] = []
        self._stopped = False

    @property
    def needed(self) -> bool:
        """Whether the catalog holds statistics, so that those of changing tables have to be deleted."""
        return self._catalog is not None

    def withdraw(self, previous: CatalogTable | None, table: CatalogTable) -> CatalogTable:
        """Delete the statistics of a table that is about to change, and return its new definition.

        The definition keeps the mark of tables with statistics only if the catalog lets them be read: the next
        publication fails if it cannot read the statistics of a marked table.

        Raises:
            CatalogError: the statistics cannot be deleted; the table must not change.
        """
        if self._catalog is None or is_iceberg(table):
            # The files of an Iceberg table hold its statistics.
            return table
        marked = previous is not None and STATISTICS in previous.parameters
        if not marked and (self._stopped or not self._wanted):
            return _unmarked(table)
        try:
            entries = self._catalog.column_statistics(previous or table)
        except CatalogError as error:
            if marked:
                raise
            self._stop(table, error)
            return _unmarked(table)
        if previous and entries:
            self._withdrawn.append((previous, entries))
            self._catalog.delete_column_statistics(previous.name, entries)
        self._empty.add(table.name.lower())
        return table

    def restore(self, cause: BaseException) -> None:
        """Write back the statistics of tables that show their previous files again; add failures as notes."""
        if self._catalog is None:
            return
        for previous, entries in self._withdrawn:
            try:
                shown = self._tables.get(previous.name)
                if shown and same_location(shown.location, previous.location):
                    for problem in self._catalog.put_column_statistics(previous.name, entries):
                        cause.add_note(problem)
            except Exception as error:  # noqa: BLE001 the first error says why publishing failed
                cause.add_note(
                    f"table {previous.name!r} has no column statistics until its next publication: {error}"
                )

    def publish(self, tables: Sequence[CatalogTable], fence: Fence) -> tuple[str, ...]:
        """Write the statistics of all tables, which are complete; return warnings."""
        for table in tables:
            if self._catalog is None or self._stopped or table.statistics is None:
                continue
            try:
                with fence.guard():
                    self._warnings += self._publish(self._catalog, table)
            except BucketwheelError as error:
                self._stop(table, error)
        return tuple(self._warnings)

    def _publish(self, catalog: StatisticsCatalog, table: CatalogTable) -> list[str]:
        wanted = catalog.column_entries(table)
        shown = [] if table.name.lower() in self._empty else catalog.column_statistics(table)
        stale = [entry for entry in shown if not any(catalog.same_column_statistics(entry, new) for new in wanted)]
        missing = [new for new in wanted if not any(catalog.same_column_statistics(entry, new) for entry in shown)]
        if stale:
            catalog.delete_column_statistics(table.name, stale)
        return catalog.put_column_statistics(table.name, missing) if missing else []

    def _stop(self, table: CatalogTable, reason: BucketwheelError) -> None:
        """Warn once; the other tables would fail for the same reason, each after its retries."""
        self._stopped = True
        self._warnings.append(
            f"no column statistics from table {table.name!r} on: {reason}. The tables are complete without them, but "
            f"query engines plan joins worse. To publish them: bucketwheel rollback {table.run_id}. To do without: "
            "catalog.column_statistics=none"
        )


def _unmarked(table: CatalogTable) -> CatalogTable:
    parameters = {name: value for name, value in table.parameters.items() if name != STATISTICS}
    return replace(table, parameters=parameters)
