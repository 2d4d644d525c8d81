"""Iceberg tables in the Glue Data Catalog and on S3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from glue_support import foreign_table
from iceberg_support import run_of, settings_in

from aws_server import plain_client
from bucketwheel.catalogs.iceberg import IcebergCatalog
from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import DataFile, FileMetrics
from bucketwheel.errors import ConcurrentPublishError, ConfigError, ForeignTableError

BUCKET, DATABASE = "iceberg-in-glue", "iceberg_db"
TARGET = f"s3://{BUCKET}/out"
COLUMNS: Any = {"id": ("string", ["a"]), "age": ("int", [1])}


@pytest.fixture
def catalog(aws: str) -> IcebergCatalog:
    plain_client("s3", aws).create_bucket(Bucket=BUCKET)
    glue = plain_client("glue", aws)
    for database in glue.get_databases()["DatabaseList"]:
        if database["Name"] == DATABASE:
            glue.delete_database(Name=DATABASE)
    return IcebergCatalog(_settings(aws))


def _settings(aws: str, target: str = TARGET) -> Any:
    access = {"endpoint_url": aws, "region": "us-east-1"}
    return settings_in(target, access, catalog="glue", namespace=DATABASE.upper())


def on_s3(directory: Path, run: str, columns: Any = COLUMNS) -> CatalogTable:
    """Return the table of a run whose files are on S3."""
    table, location = run_of(directory, "T", run, columns), f"{TARGET}/people/t"
    assert table.iceberg is not None
    file = DataFile(f"{location}/{run}/000000_0.snappy.parquet", 100, 1, 0, FileMetrics())
    definition = replace(table.iceberg, location=location, files=lambda: [file])
    return replace(table, location=f"{location}/{run}", iceberg=definition)


def in_glue(aws: str, name: str = "t") -> Mapping[str, Any]:
    table: Mapping[str, Any] = plain_client("glue", aws).get_table(DatabaseName=DATABASE, Name=name)["Table"]
    return table


def test_months_rollback_and_expiry_in_glue(aws: str, catalog: IcebergCatalog, tmp_path: Path) -> None:
    assert list(catalog.tables()) == []
    first = catalog.put(on_s3(tmp_path, "run1"), None)
    shown = in_glue(aws)
    assert (shown["Parameters"]["table_type"], shown["Parameters"]["metadata_location"]) == ("ICEBERG", first.version)
    assert shown["StorageDescriptor"]["Location"] == f"{TARGET}/people/t"
    second = catalog.put(on_s3(tmp_path, "run2"), first)
    # Glue's own check of versions refuses the writer that read the table before.
    with pytest.raises(ConcurrentPublishError):
        catalog.put(on_s3(tmp_path, "run3"), first)
    assert catalog.put(replace(first, native={}), second).run_id == "run1"
    deleted = catalog.forget(["run2"], datetime.now(UTC) + timedelta(days=1))
    assert {path.rpartition(".")[2] for path in deleted} == {"avro"}
    (table,) = catalog.tables()
    assert (table.run_id, catalog.get("T")) == ("run1", table)
    catalog.remove(table)
    assert catalog.get("t") is None


def test_commit_that_glue_refuses_is_a_conflict(
    aws: str, catalog: IcebergCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalog.put(on_s3(tmp_path, "run1"), None)
    client: Any = catalog._catalog
    update = client._update_glue_table

    def interfere(*arguments: Any, **named: Any) -> None:
        monkeypatch.undo()
        glue = plain_client("glue", aws)
        parameters = in_glue(aws)["Parameters"]
        glue.update_table(DatabaseName=DATABASE, TableInput={"Name": "t", "Parameters": {**parameters, "x": "1"}})
        update(*arguments, **named)

    monkeypatch.setattr(client, "_update_glue_table", interfere)
    with pytest.raises(ConcurrentPublishError):
        catalog.put(on_s3(tmp_path, "run2"), first)
    now = catalog.get("t")
    assert now is not None
    assert now.run_id == "run1"


@pytest.mark.parametrize("missing", ["", "Parameters"])
def test_hive_table_of_the_name_is_refused(aws: str, catalog: IcebergCatalog, tmp_path: Path, missing: str) -> None:
    glue = plain_client("glue", aws)
    glue.create_database(DatabaseInput={"Name": DATABASE})
    glue.create_table(
        DatabaseName=DATABASE,
        TableInput={name: value for name, value in foreign_table("t").items() if name != missing},
    )
    assert list(catalog.tables()) == []
    with pytest.raises(ForeignTableError, match="table 't' of database iceberg_db exists in Glue and is not"):
        catalog.put(on_s3(tmp_path, "run1"), None)


def test_local_target_is_refused(aws: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a local path, which readers of Glue cannot read"):
        IcebergCatalog(_settings(aws, str(tmp_path))).check()
