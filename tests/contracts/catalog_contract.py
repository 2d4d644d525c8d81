"""What every catalog promises; a test class per catalog inherits this and brings `catalog` and `add_foreign`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from catalog_tables import table_at

from bucketwheel.contracts import Catalog
from bucketwheel.contracts.catalog import same_definition
from bucketwheel.errors import ConcurrentPublishError

AddForeign = Callable[[str], None]


class CatalogContract:
    """The tests."""

    def test_an_empty_catalog_has_no_table(self, catalog: Catalog) -> None:
        assert list(catalog.tables()) == []
        assert catalog.get("anything") is None

    def test_a_definition_comes_back_as_it_was_put(self, catalog: Catalog, tmp_path: Path) -> None:
        table = table_at(tmp_path, "ext_one")
        put = catalog.put(table, None)
        assert put.version is not None
        assert same_definition(put, table)
        assert table.parameters.items() <= put.parameters.items()
        assert catalog.get("ext_one") == put
        assert put.run_id == "run first"

    def test_a_layout_without_buckets_comes_back_without_buckets(self, catalog: Catalog, tmp_path: Path) -> None:
        table = replace(table_at(tmp_path, "flat"), bucket_columns=(), bucket_count=0, sorted=False)
        put = catalog.put(table, None)
        assert (put.bucket_columns, put.bucket_count, put.sorted) == ((), 0, False)

    def test_tables_are_listed_by_name(self, catalog: Catalog, tmp_path: Path) -> None:
        for name in ("b", "c", "a"):
            catalog.put(table_at(tmp_path, name), None)
        assert [table.name for table in catalog.tables()] == ["a", "b", "c"]

    def test_replacing_a_table_moves_its_location_and_changes_its_version(
        self, catalog: Catalog, tmp_path: Path
    ) -> None:
        first = catalog.put(table_at(tmp_path, "t"), None)
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        assert second.version != first.version
        assert second.location.rstrip("/").endswith("second")
        assert list(catalog.tables()) == [second]

    def test_going_back_to_the_definition_before_is_a_replacement_like_any_other(
        self, catalog: Catalog, tmp_path: Path
    ) -> None:
        first = catalog.put(table_at(tmp_path, "t"), None)
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        back = catalog.put(first, second)
        assert same_definition(back, first)
        assert back.version not in (first.version, second.version)
        assert catalog.get("t") == back

    def test_a_table_that_is_there_when_none_was_expected_is_not_touched(
        self, catalog: Catalog, tmp_path: Path
    ) -> None:
        first = catalog.put(table_at(tmp_path, "t"), None)
        with pytest.raises(ConcurrentPublishError, match="t"):
            catalog.put(table_at(tmp_path, "t", "second"), None)
        assert catalog.get("t") == first

    def test_a_table_that_changed_since_it_was_read_is_not_touched(self, catalog: Catalog, tmp_path: Path) -> None:
        first = catalog.put(table_at(tmp_path, "t"), None)
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        with pytest.raises(ConcurrentPublishError):
            catalog.put(table_at(tmp_path, "t", "third"), first)
        assert catalog.get("t") == second

    def test_a_table_that_is_gone_when_it_was_expected_is_not_made_again(
        self, catalog: Catalog, tmp_path: Path
    ) -> None:
        first = catalog.put(table_at(tmp_path, "t"), None)
        catalog.remove(first)
        with pytest.raises(ConcurrentPublishError):
            catalog.put(table_at(tmp_path, "t", "second"), first)
        assert catalog.get("t") is None

    def test_a_removed_table_is_gone_and_its_files_are_not(self, catalog: Catalog, tmp_path: Path) -> None:
        table = table_at(tmp_path, "t")
        other = catalog.put(table_at(tmp_path, "other"), None)
        catalog.remove(catalog.put(table, None))
        assert list(catalog.tables()) == [other]
        assert list(Path(table.location).glob("*.parquet"))

    def test_a_table_that_changed_since_it_was_read_is_not_removed(self, catalog: Catalog, tmp_path: Path) -> None:
        first = catalog.put(table_at(tmp_path, "t"), None)
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        with pytest.raises(ConcurrentPublishError):
            catalog.remove(first)
        assert catalog.get("t") == second

    def test_a_table_that_is_gone_cannot_be_removed(self, catalog: Catalog, tmp_path: Path) -> None:
        first = catalog.put(table_at(tmp_path, "t"), None)
        catalog.remove(first)
        with pytest.raises(ConcurrentPublishError):
            catalog.remove(first)

    def test_names_are_looked_up_without_case(self, catalog: Catalog, tmp_path: Path) -> None:
        first = catalog.put(table_at(tmp_path, "Mixed_Case"), None)
        assert first.name.lower() == "mixed_case"
        assert catalog.get("mixed_case") == catalog.get("MIXED_CASE") == first
        with pytest.raises(ConcurrentPublishError):
            catalog.put(table_at(tmp_path, "mixed_case", "second"), None)
        assert list(catalog.tables()) == [first]

    def test_put_of_the_same_definition_changes_the_version(self, catalog: Catalog, tmp_path: Path) -> None:
        table = table_at(tmp_path, "t")
        first = catalog.put(table, None)
        second = catalog.put(table, first)
        assert second.version != first.version
        assert same_definition(second, table)

    def test_parameters_of_the_definition_before_are_gone(self, catalog: Catalog, tmp_path: Path) -> None:
        table = table_at(tmp_path, "t")
        first = catalog.put(replace(table, parameters={**table.parameters, "old": "1"}), None)
        assert first.parameters["old"] == "1"
        assert "old" not in catalog.put(table, first).parameters

    @pytest.mark.parametrize(
        "name", ["with space", 'quo"te', "it's", "select", "1st", "ünïcode", "dots.in.it", "semi;colon--", "a[b]*?"]
    )
    def test_odd_names_are_names(self, catalog: Catalog, tmp_path: Path, name: str) -> None:
        first = catalog.put(table_at(tmp_path, name), None)
        second = catalog.put(table_at(tmp_path, name, "second"), first)
        assert catalog.get(name) == second
        catalog.remove(second)
        assert catalog.get(name) is None

    def test_a_table_that_somebody_else_made_has_no_run(
        self, catalog: Catalog, tmp_path: Path, add_foreign: AddForeign
    ) -> None:
        ours = catalog.put(table_at(tmp_path, "ours"), None)
        add_foreign("foreign")
        found = catalog.get("foreign")
        assert found is not None
        assert found.run_id is None
        assert [table.name for table in catalog.tables()] == ["foreign", "ours"]
        assert catalog.get("ours") == ours

    def test_a_table_that_somebody_else_made_is_replaced_and_brought_back(
        self, catalog: Catalog, tmp_path: Path, add_foreign: AddForeign
    ) -> None:
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

    def test_a_table_that_somebody_else_made_is_found_without_case(
        self, catalog: Catalog, tmp_path: Path, add_foreign: AddForeign
    ) -> None:
        add_foreign("Mine")
        found = catalog.get("mine")
        assert found is not None
        assert found.run_id is None
        with pytest.raises(ConcurrentPublishError):
            catalog.put(table_at(tmp_path, "mine"), None)

    def test_many_writers_of_different_tables_lose_no_update(self, catalog: Catalog, tmp_path: Path) -> None:
        def publish(number: int) -> None:
            name = f"t{number}"
            first = catalog.put(table_at(tmp_path, name), None)
            catalog.put(table_at(tmp_path, name, "second"), first)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(publish, range(6)))
        assert {table.name for table in catalog.tables()} == {f"t{number}" for number in range(6)}
        assert all(table.location.rstrip("/").endswith("second") for table in catalog.tables())

    def test_of_many_writers_of_one_table_one_wins(self, catalog: Catalog, tmp_path: Path) -> None:
        first = catalog.put(table_at(tmp_path, "t"), None)

        def publish(number: int) -> bool:
            try:
                catalog.put(table_at(tmp_path, "t", f"next{number}"), first)
            except ConcurrentPublishError:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(publish, range(4))) == 1
