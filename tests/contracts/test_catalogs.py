from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from catalog_tables import DATABASE, catalog_in, execute, quoted
from glue_support import foreign_table, glue_in
from iceberg_support import FillingCatalog, connected, settings_in

from aws_server import plain_client
from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.catalogs.routed import RoutedCatalog, routed
from bucketwheel.testing.catalog import AddForeign, CatalogContract
from memory_catalog import AddingCatalog, MemoryCatalog


class TestMemoryCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self) -> MemoryCatalog:
        return MemoryCatalog()

    @pytest.fixture
    def add_foreign(self, catalog: MemoryCatalog) -> AddForeign:
        return catalog.add_foreign


class TestAddingCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self) -> AddingCatalog:
        return AddingCatalog()

    @pytest.fixture
    def add_foreign(self, catalog: AddingCatalog) -> AddForeign:
        return catalog.add_foreign


class TestRoutedCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self) -> RoutedCatalog:
        return routed(MemoryCatalog, AddingCatalog)(MemoryCatalog(), AddingCatalog())

    @pytest.fixture
    def add_foreign(self, catalog: RoutedCatalog) -> AddForeign:
        assert isinstance(catalog.main, MemoryCatalog)
        return catalog.main.add_foreign


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


class TestGlueCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, aws: str, tmp_path: Path) -> GlueCatalog:
        return glue_in(aws, str(tmp_path))

    @pytest.fixture(params=["table", "partitioned", "view"])
    def add_foreign(self, request: pytest.FixtureRequest, aws: str, catalog: GlueCatalog) -> AddForeign:
        def add(name: str) -> None:
            catalog.tables()
            glue = plain_client("glue", aws)
            known = {database["Name"] for database in glue.get_databases()["DatabaseList"]}
            if catalog.database not in known:
                glue.create_database(DatabaseInput={"Name": catalog.database})
            glue.create_table(DatabaseName=catalog.database, TableInput=foreign_table(name, request.param))

        return add


class TestIcebergCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> FillingCatalog:
        return FillingCatalog(settings_in(tmp_path))

    @pytest.fixture(params=["empty", "filled"])
    def add_foreign(self, request: pytest.FixtureRequest, tmp_path: Path, catalog: FillingCatalog) -> AddForeign:
        def add(name: str) -> None:
            with connected(tmp_path) as client:
                client.create_namespace_if_not_exists("db")
                table = client.create_table(("db", name), schema=pa.schema([("answer", pa.int64())]))
                if request.param == "filled":
                    table.append(pa.table({"answer": [42]}))

        return add
