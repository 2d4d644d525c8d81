"""The test suite that every catalog passes.

A test class inherits `CatalogContract` and defines two fixtures:

* `catalog` returns an empty catalog.
* `add_foreign` returns a function that creates a table of a given name without Bucketwheel, for example by SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bucketwheel.contracts import AtomicCatalog, Catalog, TableChange
from bucketwheel.contracts.catalog import put_all, same_definition
from bucketwheel.errors import ConcurrentPublishError
from bucketwheel.testing.tables import table_at

AddForeign = Callable[[str], None]


class CatalogContract:
    """Tests of the rules in `bucketwheel.contracts.Catalog`."""

    def test_capabilities_are_declared_on_the_class(self, catalog: Catalog) -> None:
        """Capabilities are declared on the class."""
        kind = type(catalog)
        assert isinstance(kind.typed, bool)
        assert isinstance(kind.shared, bool)
        for limit in (kind.longest_name, kind.longest_type):
            assert limit is None or limit > 0

    def test_empty_catalog_has_no_tables(self, catalog: Catalog) -> None:
        """Empty catalog has no tables."""
        assert list(catalog.tables()) == []
        assert catalog.get("anything") is None

    def test_get_returns_the_definition_that_was_put(self, catalog: Catalog, tmp_path: Path) -> None:
        """Get returns the definition that was put."""
        table = table_at(tmp_path, "ext_one")
        put = catalog.put(table, None)
        assert put.version is not None
        assert same_definition(put, table)
        assert table.parameters.items() <= put.parameters.items()
        assert catalog.get("ext_one") == put
        assert put.run_id == "run first"

    def test_table_without_buckets_has_no_buckets(self, catalog: Catalog, tmp_path: Path) -> None:
        """Table without buckets has no buckets."""
        table = replace(table_at(tmp_path, "flat"), bucket_columns=(), bucket_count=0, sorted=False)
        put = catalog.put(table, None)
        assert (put.bucket_columns, put.bucket_count, put.sorted) == ((), 0, False)

    def test_tables_are_listed_by_name(self, catalog: Catalog, tmp_path: Path) -> None:
        """Tables are listed by name."""
        for name in ("b", "c", "a"):
            catalog.put(table_at(tmp_path, name), None)
        assert [table.name for table in catalog.tables()] == ["a", "b", "c"]

    def test_replacing_a_table_changes_location_and_version(self, catalog: Catalog, tmp_path: Path) -> None:
        """Replacing a table changes location and version."""
        first = catalog.put(table_at(tmp_path, "t"), None)
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        assert second.version != first.version
        assert second.location.rstrip("/").endswith("second")
        assert list(catalog.tables()) == [second]

    def test_putting_an_earlier_definition_restores_it(self, catalog: Catalog, tmp_path: Path) -> None:
        """Putting an earlier definition restores it."""
        first = catalog.put(table_at(tmp_path, "t"), None)
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        back = catalog.put(first, second)
        assert same_definition(back, first)
        assert back.version not in (first.version, second.version)
        assert catalog.get("t") == back

    def test_creating_a_table_that_exists_fails(self, catalog: Catalog, tmp_path: Path) -> None:
        """Creating a table that exists fails."""
        first = catalog.put(table_at(tmp_path, "t"), None)
        with pytest.raises(ConcurrentPublishError, match="t"):
            catalog.put(table_at(tmp_path, "t", "second"), None)
        assert catalog.get("t") == first

    def test_replacing_a_changed_table_fails(self, catalog: Catalog, tmp_path: Path) -> None:
        """Replacing a changed table fails."""
        first = catalog.put(table_at(tmp_path, "t"), None)
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        with pytest.raises(ConcurrentPublishError):
            catalog.put(table_at(tmp_path, "t", "third"), first)
        assert catalog.get("t") == second

    def test_replacing_a_removed_table_fails(self, catalog: Catalog, tmp_path: Path) -> None:
        """Replacing a removed table fails."""
        first = catalog.put(table_at(tmp_path, "t"), None)
        catalog.remove(first)
        with pytest.raises(ConcurrentPublishError):
            catalog.put(table_at(tmp_path, "t", "second"), first)
        assert catalog.get("t") is None

    def test_removing_a_table_keeps_its_files(self, catalog: Catalog, tmp_path: Path) -> None:
        """Removing a table keeps its files."""
        table = table_at(tmp_path, "t")
        other = catalog.put(table_at(tmp_path, "other"), None)
        catalog.remove(catalog.put(table, None))
        assert list(catalog.tables()) == [other]
        assert list(Path(table.location).glob("*.parquet"))

    def test_removing_a_changed_table_fails(self, catalog: Catalog, tmp_path: Path) -> None:
        """Removing a changed table fails."""
        first = catalog.put(table_at(tmp_path, "t"), None)
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        with pytest.raises(ConcurrentPublishError):
            catalog.remove(first)
        assert catalog.get("t") == second

    def test_removing_a_removed_table_fails(self, catalog: Catalog, tmp_path: Path) -> None:
        """Removing a removed table fails."""
        first = catalog.put(table_at(tmp_path, "t"), None)
        catalog.remove(first)
        with pytest.raises(ConcurrentPublishError):
            catalog.remove(first)

    def test_names_are_looked_up_without_case(self, catalog: Catalog, tmp_path: Path) -> None:
        """Names match without regard to case."""
        first = catalog.put(table_at(tmp_path, "Mixed_Case"), None)
        assert first.name.lower() == "mixed_case"
        assert catalog.get("mixed_case") == catalog.get("MIXED_CASE") == first
        with pytest.raises(ConcurrentPublishError):
            catalog.put(table_at(tmp_path, "mixed_case", "second"), None)
        assert list(catalog.tables()) == [first]

    def test_put_of_the_same_definition_changes_the_version(self, catalog: Catalog, tmp_path: Path) -> None:
        """Put of the same definition changes the version."""
        table = table_at(tmp_path, "t")
        first = catalog.put(table, None)
        second = catalog.put(table, first)
        assert second.version != first.version
        assert same_definition(second, table)

    def test_parameters_of_the_definition_before_are_gone(self, catalog: Catalog, tmp_path: Path) -> None:
        """Parameters of the definition before are gone."""
        table = table_at(tmp_path, "t")
        first = catalog.put(replace(table, parameters={**table.parameters, "old": "1"}), None)
        assert first.parameters["old"] == "1"
        assert "old" not in catalog.put(table, first).parameters

    def test_several_changes_create_replace_and_remove_tables(self, catalog: Catalog, tmp_path: Path) -> None:
        """Several changes create, replace and remove tables."""
        old, gone = (catalog.put(table_at(tmp_path, name), None) for name in ("old", "gone"))
        new, second = table_at(tmp_path, "new"), table_at(tmp_path, "old", "second")
        changes = [TableChange(new, None), TableChange(second, old), TableChange(None, gone)]
        made = put_all(catalog, changes)
        assert made == [catalog.get("new"), catalog.get("old"), None]
        assert [table.name for table in catalog.tables()] == ["new", "old"]
        assert made[1] is not None
        assert same_definition(made[1], second)
        assert made[1].version != old.version

    @pytest.mark.parametrize("failing", range(3))
    def test_failed_change_stops_those_after_it(self, catalog: Catalog, tmp_path: Path, failing: int) -> None:
        """A failed change stops those after it; `put_all` of a catalog also makes none of those before it."""
        names = ("t1", "t2", "t3")
        first = [catalog.put(table_at(tmp_path, name), None) for name in names]
        changes = [TableChange(table_at(tmp_path, table.name, "second"), table) for table in first]
        changes[failing] = TableChange(table_at(tmp_path, names[failing], "second"), None)
        with pytest.raises(ConcurrentPublishError):
            put_all(catalog, changes)
        changed = 0 if isinstance(catalog, AtomicCatalog) else failing
        runs = [table.run_id for table in catalog.tables()]
        assert runs == ["run second"] * changed + ["run first"] * (3 - changed)

    @pytest.mark.parametrize(
        "name", ["with space", 'quo"te', "it's", "select", "1st", "ünïcode", "dots.in.it", "semi;colon--", "a[b]*?"]
    )
    def test_unusual_names_work(self, catalog: Catalog, tmp_path: Path, name: str) -> None:
        """Unusual names work."""
        first = catalog.put(table_at(tmp_path, name), None)
        second = catalog.put(table_at(tmp_path, name, "second"), first)
        assert catalog.get(name) == second
        catalog.remove(second)
        assert catalog.get(name) is None

    def test_foreign_table_has_no_run_id(self, catalog: Catalog, tmp_path: Path, add_foreign: AddForeign) -> None:
        """Foreign table has no run id."""
        ours = catalog.put(table_at(tmp_path, "ours"), None)
        add_foreign("foreign")
        foreign = catalog.get("foreign")
        assert foreign is not None
        assert foreign.run_id is None
        assert [table.name for table in catalog.tables()] == ["foreign", "ours"]
        assert catalog.get("ours") == ours

    def test_foreign_table_can_be_replaced_and_restored(
        self, catalog: Catalog, tmp_path: Path, add_foreign: AddForeign
    ) -> None:
        """Foreign table can be replaced and restored."""
        add_foreign("mine")
        foreign = catalog.get("mine")
        ours = catalog.put(table_at(tmp_path, "mine"), foreign)
        assert catalog.get("mine") == ours
        assert ours.run_id == "run first"
        assert foreign is not None
        catalog.put(foreign, ours)
        back = catalog.get("mine")
        assert back is not None
        assert same_definition(back, foreign)

    def test_foreign_table_is_looked_up_without_case(
        self, catalog: Catalog, tmp_path: Path, add_foreign: AddForeign
    ) -> None:
        """The name of a foreign table matches without regard to case."""
        add_foreign("Mine")
        foreign = catalog.get("mine")
        assert foreign is not None
        assert foreign.run_id is None
        with pytest.raises(ConcurrentPublishError):
            catalog.put(table_at(tmp_path, "mine"), None)

    def test_concurrent_writers_of_different_tables_all_succeed(self, catalog: Catalog, tmp_path: Path) -> None:
        """Concurrent writers of different tables all succeed."""

        def publish(number: int) -> None:
            name = f"t{number}"
            first = catalog.put(table_at(tmp_path, name), None)
            catalog.put(table_at(tmp_path, name, "second"), first)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(publish, range(6)))
        assert {table.name for table in catalog.tables()} == {f"t{number}" for number in range(6)}
        assert all(table.location.rstrip("/").endswith("second") for table in catalog.tables())

    def test_exactly_one_of_concurrent_writers_succeeds(self, catalog: Catalog, tmp_path: Path) -> None:
        """Exactly one of concurrent writers succeeds."""
        first = catalog.put(table_at(tmp_path, "t"), None)

        def publish(number: int) -> bool:
            try:
                catalog.put(table_at(tmp_path, "t", f"next{number}"), first)
            except ConcurrentPublishError:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(publish, range(4))) == 1
