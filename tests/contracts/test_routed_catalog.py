"""Publishing tables of two kinds together: each goes to its own catalog, and all change or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from bucketwheel.catalogs.definitions import DATASET
from bucketwheel.catalogs.publish import check_owned, publish_all
from bucketwheel.catalogs.routed import RoutedCatalog, member_class, members, routed
from bucketwheel.contracts import Catalog, CatalogTable
from bucketwheel.contracts.catalog import ICEBERG, TABLE_TYPE
from bucketwheel.errors import CatalogError, ForeignTableError
from memory_catalog import AtomicMemory, MemoryCatalog, refusing


class Short(MemoryCatalog):
    longest_name: int | None = 10
    typed = False


class Fence:
    """A fence that is never lost, and counts its checks."""

    def __init__(self) -> None:
        self.asked = 0

    @contextmanager
    def guard(self) -> Iterator[None]:
        self.asked += 1
        yield


def table(name: str, run: str, iceberg: bool) -> CatalogTable:
    kind = {TABLE_TYPE: ICEBERG} if iceberg else {}
    return CatalogTable(
        name=name,
        location=f"/data/{name}/{run}",
        columns=(("id", "string"),),
        parameters={"bucketwheel.run_id": run, DATASET: "people", **kind},
    )


def tables(run: str) -> list[CatalogTable]:
    return [table(f"h{number}", run, False) for number in (1, 2)] + [
        table(f"i{number}", run, True) for number in (1, 2)
    ]


def runs(catalog: Catalog) -> dict[str, str | None]:
    return {each.name: each.run_id for each in catalog.tables()}


def catalog_of(main: type[MemoryCatalog]) -> tuple[RoutedCatalog, MemoryCatalog, MemoryCatalog]:
    """Return a joined catalog that shows run 1, and its two catalogs."""
    hive, iceberg = main(), MemoryCatalog()
    joined = routed(main, MemoryCatalog)(hive, iceberg)
    publish_all(joined, Fence(), tables("run1"), adopt=False)
    hive.puts = iceberg.puts = 0
    return joined, hive, iceberg


def test_each_table_goes_to_the_catalog_of_its_kind() -> None:
    joined, hive, iceberg = catalog_of(MemoryCatalog)
    assert runs(hive) == {"h1": "run1", "h2": "run1"}
    assert runs(iceberg) == {"i1": "run1", "i2": "run1"}
    assert list(runs(joined)) == ["h1", "h2", "i1", "i2"]
    assert members(joined) == [hive, iceberg]


def test_atomic_catalog_keeps_its_one_update_when_joined() -> None:
    joined, _, _ = catalog_of(AtomicMemory)
    fence = Fence()
    publish_all(joined, fence, tables("run2"), adopt=False)
    assert set(runs(joined).values()) == {"run2"}
    # Once at first, for both Hive tables, for each Iceberg table, and before the callback.
    assert fence.asked == 5


@pytest.mark.parametrize("main", [MemoryCatalog, AtomicMemory])
@pytest.mark.parametrize("failing", ["h1", "h2", "i1", "i2"])
def test_failed_update_of_one_kind_restores_both(main: type[MemoryCatalog], failing: str) -> None:
    joined, hive, iceberg = catalog_of(main)
    (hive if failing.startswith("h") else iceberg).before_put = refusing(int(failing[1:]))
    with pytest.raises(CatalogError, match=f"{failing}: access denied"):
        publish_all(joined, Fence(), tables("run2"), adopt=False)
    assert set(runs(joined).values()) == {"run1"}


def test_failed_callback_restores_both_kinds() -> None:
    joined, _, _ = catalog_of(AtomicMemory)

    def fail() -> None:
        raise CatalogError("disk full")

    with pytest.raises(CatalogError, match="disk full"):
        publish_all(joined, Fence(), tables("run2"), adopt=False, then=fail)
    assert set(runs(joined).values()) == {"run1"}


@pytest.mark.parametrize("adopt", [False, True])
@pytest.mark.parametrize(("name", "iceberg"), [("h1", True), ("I1", False)])
def test_table_of_the_other_kind_is_refused(name: str, iceberg: bool, adopt: bool) -> None:
    joined, _, _ = catalog_of(MemoryCatalog)
    with pytest.raises(ForeignTableError, match=f"(?i)table '{name}' exists as an? .* table, but would be published"):
        check_owned(joined, [(name, iceberg)], "people", adopt)
    with pytest.raises(ForeignTableError, match="Give each of these layouts another prefix"):
        publish_all(joined, Fence(), [table(name, "run2", iceberg)], adopt=adopt)
    assert set(runs(joined).values()) == {"run1"}


def test_iceberg_table_listed_by_both_catalogs_is_shown_once() -> None:
    joined, hive, _ = catalog_of(MemoryCatalog)
    # Glue lists Iceberg tables too, but their snapshots hold the parameters of Bucketwheel.
    hive.put(replace(table("i1", "", True), parameters={TABLE_TYPE: "iceberg"}), None)
    assert runs(joined)["i1"] == "run1"
    shown = joined.get("i1")
    assert shown is not None
    assert shown.run_id == "run1"


def test_capabilities_are_those_of_both_classes() -> None:
    joined = routed(Short, MemoryCatalog)
    assert (joined.typed, joined.longest_name, joined.longest_type, joined.shared) == (True, 10, None, True)
    assert [member_class(joined, iceberg) for iceberg in (False, True)] == [Short, MemoryCatalog]
    assert not issubclass(member_class(Short, True), RoutedCatalog)
