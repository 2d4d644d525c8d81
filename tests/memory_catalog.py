"""A catalog in memory that follows the contract and can be made to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from bucketwheel.contracts import CatalogTable, TableChange
from bucketwheel.contracts.catalog import check_same_version, make_change
from bucketwheel.errors import CatalogError


class MemoryCatalog:
    """Tables in a dict; `before_put` and `after_put` see the number of the put (from 1) and its table."""

    typed = True
    longest_name: int | None = None
    longest_type: int | None = None
    shared = True

    def __init__(self) -> None:
        self._tables: dict[str, CatalogTable] = {}
        self._lock = threading.Lock()
        self.puts = 0
        self.changes: list[str] = []
        self.before_put: Callable[[int, CatalogTable], None] = lambda _number, _table: None
        self.after_put: Callable[[int, CatalogTable], None] = lambda _number, _table: None

    def check(self) -> None:
        """Nothing can be wrong with a dict."""

    def get(self, name: str) -> CatalogTable | None:
        return self._tables.get(name.lower())

    def put(self, table: CatalogTable, replacing: CatalogTable | None) -> CatalogTable:
        with self._lock:
            self.puts += 1
            number = self.puts
        self.before_put(number, table)
        with self._lock:
            current = self._tables.get(table.name.lower())
            check_same_version(table.name, current, replacing)
            version = str(int(current.version or 0) + 1) if current else "1"
            kept = replace(table, version=None if table.run_id is None else version)
            self._tables[table.name.lower()] = kept
            self.changes.append(f"put {table.name}")
        self.after_put(number, table)
        return kept

    def remove(self, table: CatalogTable) -> None:
        with self._lock:
            check_same_version(table.name, self._tables.get(table.name.lower()), table)
            del self._tables[table.name.lower()]
            self.changes.append(f"remove {table.name}")

    def tables(self) -> Sequence[CatalogTable]:
        return sorted(self._tables.values(), key=lambda table: table.name)

    def add_foreign(self, name: str) -> None:
        """Put a table there that Bucketwheel did not make."""
        self._tables[name.lower()] = CatalogTable(name=name, location="", columns=())


class AddingCatalog(MemoryCatalog):
    """A catalog that adds parameters of its own, and a slash to locations."""

    def put(self, table: CatalogTable, replacing: CatalogTable | None) -> CatalogTable:
        added = {"owner": "hive", "transient_lastDdlTime": str(1_700_000_000 + self.puts)}
        location = f"{table.location.rstrip('/')}/" if table.location else ""
        return super().put(replace(table, location=location, parameters={**added, **table.parameters}), replacing)


class AtomicMemory(MemoryCatalog):
    """A catalog that changes all tables in one update."""

    def put_all(self, changes: Sequence[TableChange]) -> Sequence[CatalogTable | None]:
        before = dict(self._tables)
        try:
            return [make_change(self, change) for change in changes]
        except CatalogError:
            self._tables = before
            raise


def refusing(number: int) -> Callable[[int, CatalogTable], None]:
    """Return a hook that refuses the put of this number."""

    def refuse(current: int, table: CatalogTable) -> None:
        if current == number:
            raise CatalogError(f"{table.name}: access denied")

    return refuse
