from __future__ import annotations

from pathlib import Path

import pytest
from catalog_contract import AddForeign, CatalogContract
from catalog_tables import DATABASE, catalog_in, execute, quoted
from memory_catalog import MemoryCatalog

from bucketwheel.catalogs.duckdb import DuckdbCatalog


class TestMemoryCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self) -> MemoryCatalog:
        return MemoryCatalog()

    @pytest.fixture
    def add_foreign(self, catalog: MemoryCatalog) -> AddForeign:
        return catalog.add_foreign


class TestDuckdbCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> DuckdbCatalog:
        return catalog_in(tmp_path / "catalog.duckdb")

    @pytest.fixture(params=["TABLE", "VIEW"])
    def add_foreign(self, request: pytest.FixtureRequest, tmp_path: Path) -> AddForeign:
        def add(name: str) -> None:
            execute(
                tmp_path / "catalog.duckdb",
                f"CREATE SCHEMA IF NOT EXISTS {quoted(DATABASE)}",
                f"CREATE {request.param} {quoted(DATABASE)}.{quoted(name)} AS SELECT 42 AS answer",
            )

        return add
