"""Join the catalog of Iceberg tables with that of all other tables, for runs that have layouts of both kinds.

The joined catalog shows the tables of both and sends each table to its own. It offers nothing besides `Catalog`:
code that uses what a catalog may offer in addition asks each of the `members`. So `updates.py` changes the tables of
each catalog as that catalog can, and undoes them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from bucketwheel.contracts import Catalog, CatalogTable, TableChange
from bucketwheel.contracts.catalog import is_iceberg, table_key


class RoutedCatalog:
    """The tables of two catalogs; `routed` returns the class of two given ones.

    Attributes:
        main: the catalog of all tables but Iceberg tables.
        iceberg: the catalog of Iceberg tables.
        classes: the classes of both.
    """

    typed: bool = False
    longest_name: int | None = None
    longest_type: int | None = None
    shared: bool = False
    classes: ClassVar[tuple[type[Catalog], type[Catalog]]]

    def __init__(self, main: Catalog, iceberg: Catalog) -> None:
        self.main = main
        self.iceberg = iceberg

    def check(self) -> None:
        """See `contracts.Catalog.check`."""
        self.main.check()
        self.iceberg.check()

    def get(self, name: str) -> CatalogTable | None:
        """See `contracts.Catalog.get`; of two tables of this name, return the one that is no Iceberg table."""
        table = self.main.get(name)
        # Glue lists Iceberg tables too, without the parameters that Bucketwheel gave them.
        return table if table is not None and not is_iceberg(table) else self.iceberg.get(name) or table

    def put(self, table: CatalogTable, replacing: CatalogTable | None) -> CatalogTable:
        """See `contracts.Catalog.put`."""
        return self.of(table).put(table, replacing)

    def remove(self, table: CatalogTable) -> None:
        """See `contracts.Catalog.remove`."""
        self.of(table).remove(table)

    def tables(self) -> Sequence[CatalogTable]:
        """See `contracts.Catalog.tables`; a table of each kind may have the same name."""
        known = {table_key(table): table for table in (*self.main.tables(), *self.iceberg.tables())}
        return sorted(known.values(), key=lambda table: table.name)

    def of(self, table: CatalogTable) -> Catalog:
        """Return the catalog that holds a table or will hold it."""
        return self.iceberg if is_iceberg(table) else self.main


def routed(main: type[Catalog], iceberg: type[Catalog]) -> type[RoutedCatalog]:
    """Return the class that joins catalogs of two classes; it declares the capabilities of both."""
    both = (main, iceberg)
    capabilities = {
        "typed": main.typed or iceberg.typed,
        "longest_name": _shortest(each.longest_name for each in both),
        "longest_type": _shortest(each.longest_type for each in both),
        "shared": main.shared,
        "classes": both,
    }
    return type("RoutedCatalog", (RoutedCatalog,), capabilities)


def member_class(catalog: type[Catalog], iceberg: bool) -> type[Catalog]:
    """Return the class of the catalog that holds the tables of one kind."""
    if not issubclass(catalog, RoutedCatalog):
        return catalog
    return catalog.classes[1 if iceberg else 0]


def members(catalog: Catalog) -> list[Catalog]:
    """Return the catalogs that a catalog joins, or the catalog itself."""
    return [catalog.main, catalog.iceberg] if isinstance(catalog, RoutedCatalog) else [catalog]


def by_member(catalog: Catalog, changes: Sequence[TableChange]) -> list[tuple[Catalog, Sequence[TableChange]]]:
    """Return the changes of each of the `members`."""
    if not isinstance(catalog, RoutedCatalog):
        return [(catalog, changes)]
    parts: list[tuple[Catalog, Sequence[TableChange]]] = []
    for member in members(catalog):
        own = [each for each in changes if catalog.of(each.definition) is member]
        parts += [(member, own)] if own else []
    return parts


def _shortest(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
