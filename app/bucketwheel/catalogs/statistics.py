"""Publish statistics of columns, so that no table ever shows those of another run.

Old statistics are deleted before a table changes, and new ones are written after all tables have changed. A run that
is killed in between leaves tables without statistics; the next publication adds them. A failure to write statistics
is a warning, because tables are complete without them. A failure to delete old statistics fails the publication.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bucketwheel.contracts import Catalog, CatalogTable, Fence
from bucketwheel.contracts.catalog import STATISTICS, StatisticsCatalog, same_location
from bucketwheel.errors import BucketwheelError, CatalogError

_Entries = list[dict[str, Any]]


class StatisticsPublication:
    """The statistics of the tables of one publication."""

    def __init__(self, catalog: Catalog, tables: Sequence[CatalogTable]) -> None:
        self._catalog = catalog if isinstance(catalog, StatisticsCatalog) else None
        self._tables = catalog
        self._wanted = any(table.statistics for table in tables)
        self._withdrawn: list[tuple[CatalogTable, _Entries]] = []
        self._empty: set[str] = set()
        self.warnings: list[str] = []

    def withdraw(self, previous: CatalogTable | None, table: CatalogTable) -> None:
        """Delete the statistics of a table that is about to change.

        Raises:
            CatalogError: they cannot be deleted; the table must not change.
        """
        if self._catalog is None:
            return
        if previous is None:
            self._empty.add(table.name.lower())
            return
        ours = STATISTICS in previous.parameters
        if not ours and not self._wanted:
            return
        try:
            entries = self._catalog.column_statistics(previous)
        except CatalogError as error:
            if ours:
                raise
            self._give_up(table, error)
            return
        if entries:
            self._withdrawn.append((previous, entries))
            self._catalog.delete_column_statistics(previous.name, entries)
        self._empty.add(table.name.lower())

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
            if self._catalog is None or table.statistics is None:
                continue
            try:
                with fence.guard():
                    self.warnings += self._publish(self._catalog, table)
            except BucketwheelError as error:
                self._give_up(table, error)
        return tuple(self.warnings)

    def _publish(self, catalog: StatisticsCatalog, table: CatalogTable) -> list[str]:
        wanted = catalog.column_entries(table)
        shown = [] if table.name.lower() in self._empty else catalog.column_statistics(table)
        stale = [entry for entry in shown if not any(catalog.same_column_statistics(entry, new) for new in wanted)]
        missing = [new for new in wanted if not any(catalog.same_column_statistics(entry, new) for entry in shown)]
        if stale:
            catalog.delete_column_statistics(table.name, stale)
        return catalog.put_column_statistics(table.name, missing) if missing else []

    def _give_up(self, table: CatalogTable, reason: BucketwheelError) -> None:
        """Warn once; the other tables would fail for the same reason, each after its retries."""
        self._catalog = None
        self.warnings.append(
            f"no column statistics from table {table.name!r} on: {reason}. The tables are complete without them, but "
            f"query engines plan joins worse. To publish them: bucketwheel rollback {table.run_id}. To do without: "
            "catalog.column_statistics=none"
        )
