"""The Glue catalog: table inputs, and refused configurations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from glue_support import foreign_table, glue_in, glue_settings
from pydantic import ValidationError

from aws_faults import faulty, refusal
from aws_server import plain_client
from bucketwheel.aws import clients
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.catalogs.spark_table import spark_parameters, spark_schema
from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import same_definition
from bucketwheel.errors import BucketwheelError, CatalogError, ConfigError
from bucketwheel.settings import CatalogSettings
from bucketwheel.testing.tables import table_at


def as_aws_has_it(endpoint: str, catalog: GlueCatalog, name: str) -> dict[str, Any]:
    table: dict[str, Any] = plain_client("glue", endpoint).get_table(DatabaseName=catalog.database, Name=name)[
        "Table"
    ]
    return table


def test_put_matches_bucketed_table_of_athena(aws: str, catalog: GlueCatalog) -> None:
    table = CatalogTable(
        name="bucketed_ibe_01",
        location=f"{catalog.target}/ibe_01/run",
        columns=(("customer_user_id", "string"), ("amount", "decimal(10,2)")),
        bucket_columns=("customer_user_id",),
        bucket_count=256,
        sorted=True,
        parameters={
            "classification": "parquet",
            "bucketing_version": "1",
            "bucketwheel.run_id": "r",
            "comment": "Bucketed table created from snapshot_dt=2025-10-22",
        },
    )
    catalog.put(table, None)
    shown = as_aws_has_it(aws, catalog, "bucketed_ibe_01")
    storage = shown["StorageDescriptor"]
    assert shown["TableType"] == "EXTERNAL_TABLE"
    assert shown["Description"] == "Bucketed table created from snapshot_dt=2025-10-22"
    assert shown["Parameters"] == {**table.parameters, "EXTERNAL": "TRUE"}
    assert storage["Location"] == f"{table.location}/"
    assert storage["Columns"] == [
        {"Name": "customer_user_id", "Type": "string"},
        {"Name": "amount", "Type": "decimal(10,2)"},
    ]
    assert (storage["NumberOfBuckets"], storage["BucketColumns"]) == (256, ["customer_user_id"])
    assert storage["SortColumns"] == [{"Column": "customer_user_id", "SortOrder": 1}]
    assert storage["SerdeInfo"]["SerializationLibrary"].endswith("ParquetHiveSerDe")
    assert storage["InputFormat"].endswith("MapredParquetInputFormat")
    assert storage["OutputFormat"].endswith("MapredParquetOutputFormat")


def test_put_names_provider_only_for_spark_buckets(aws: str, catalog: GlueCatalog, tmp_path: Path) -> None:
    hive = replace(table_at(tmp_path, "hive"), parameters={"bucketing_version": "1"})
    spark = replace(table_at(tmp_path, "spark"), parameters={"bucketing_format": "spark"})
    for table in (hive, spark):
        assert replace(catalog.put(table, None), version=None) == table
    assert "spark.sql.sources.provider" not in as_aws_has_it(aws, catalog, "hive")["Parameters"]
    assert as_aws_has_it(aws, catalog, "spark")["Parameters"]["spark.sql.sources.provider"] == "parquet"


def test_published_spark_table_is_read_back_equal(aws: str, catalog: GlueCatalog, tmp_path: Path) -> None:
    # Three parts.
    schema = spark_schema([("id", pa.string()), *((f"ü {number}", pa.int64()) for number in range(150))])
    earlier = replace(table_at(tmp_path, "t"), parameters={"bucketing_format": "spark", "odd": "ü"})
    table = replace(earlier, spark_schema=schema)
    shown = catalog.put(earlier, None)
    assert same_definition(shown, table)
    shown = catalog.put(table, shown)
    assert replace(shown, version=None) == table
    assert catalog.tables() == [shown]
    parameters = as_aws_has_it(aws, catalog, "t")["Parameters"]
    assert spark_parameters(table).items() <= parameters.items()
    assert parameters["spark.sql.sources.schema.numParts"] == "3"
    # Undoing a publication puts the table back with all its parameters.
    other = catalog.put(replace(earlier, location=table_at(tmp_path, "t", "second").location), shown)
    catalog.put(shown, other)
    assert as_aws_has_it(aws, catalog, "t")["Parameters"] == parameters


def test_put_without_buckets_has_no_bucket_columns(aws: str, catalog: GlueCatalog, tmp_path: Path) -> None:
    flat = replace(table_at(tmp_path, "flat"), bucket_columns=(), bucket_count=0, sorted=False)
    catalog.put(flat, None)
    storage = as_aws_has_it(aws, catalog, "flat")["StorageDescriptor"]
    assert (storage["NumberOfBuckets"], storage["BucketColumns"], storage["SortColumns"]) == (-1, [], [])


@pytest.mark.parametrize("kind", ["table", "partitioned", "view"])
def test_restored_foreign_table_has_all_its_glue_fields(
    aws: str, catalog: GlueCatalog, tmp_path: Path, kind: str
) -> None:
    ours = catalog.put(table_at(tmp_path, "other"), None)
    given = foreign_table("mine", kind)
    plain_client("glue", aws).create_table(DatabaseName=catalog.database, TableInput=given)
    foreign = catalog.get("mine")
    ours = catalog.put(table_at(tmp_path, "mine"), foreign)
    assert "Owner" not in as_aws_has_it(aws, catalog, "mine")
    assert foreign is not None
    catalog.put(foreign, ours)
    assert {name: as_aws_has_it(aws, catalog, "mine").get(name) for name in given} == given


def test_put_uses_location_of_changed_definition(catalog: GlueCatalog, tmp_path: Path) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    moved = replace(first, location=table_at(tmp_path, "t", "second").location)
    assert catalog.put(moved, first).location == moved.location


def test_tables_reads_every_page(catalog: GlueCatalog, tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(8)]
    for name in names:
        catalog.put(table_at(tmp_path, name), None)
    assert [table.name for table in catalog.tables()] == names


def test_first_put_creates_database(aws: str, catalog: GlueCatalog, tmp_path: Path) -> None:
    assert list(catalog.tables()) == []
    catalog.put(table_at(tmp_path, "t"), None)
    assert plain_client("glue", aws).get_database(Name=catalog.database)["Database"]["Name"] == catalog.database


def test_put_without_database_names_it(aws: str, tmp_path: Path) -> None:
    catalog = glue_in(aws, str(tmp_path), create_database=False)
    for action in (catalog.tables, lambda: catalog.put(table_at(tmp_path, "t"), None)):
        with pytest.raises(
            CatalogError, match=f"database '{catalog.database}' does not exist.*catalog.create_database=true"
        ):
            action()


def test_put_refuses_location_outside_target(catalog: GlueCatalog, tmp_path: Path) -> None:
    for location in ("s3://elsewhere/t", f"{tmp_path}-more/t"):
        with pytest.raises(CatalogError, match=f"'t': its location {location} is outside the target"):
            catalog.put(replace(table_at(tmp_path, "t"), location=location), None)
    assert list(catalog.tables()) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"database": "our data"}, "catalog.database: 'our data'"),
        ({"staged_prefix": "ext-"}, "catalog.staged_prefix: 'ext-t'"),
        ({"final_prefix": 'x"; drop'}, "catalog.final_prefix"),
    ],
)
def test_names_that_athena_cannot_read_are_refused(aws: str, change: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        glue_in(aws, "s3://bucket/target", **change).check()


def test_local_target_is_refused(aws: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"local path, which Athena cannot read; set target=s3://"):
        glue_in(aws, str(tmp_path)).check()
    glue_in(aws, "s3://bucket/target").check()


def test_check_requires_grants_of_lake_formation(aws: str) -> None:
    catalog = glue_in(aws, "s3://lake/target", create_database=False, lake_formation="database,tables,locations")
    plain_client("glue", aws).create_database(DatabaseInput={"Name": catalog.database})
    with pytest.raises(
        CatalogError, match=r"grants of Lake Formation are missing.*`bucketwheel deploy apply`"
    ) as refused:
        catalog.check()
    assert str(refused.value).count("aws lakeformation grant-permissions") == 3
    lake, caller = plain_client("lakeformation", aws), plain_client("sts", aws).get_caller_identity()["Arn"]
    principal, database = {"DataLakePrincipalIdentifier": caller}, catalog.database

    def grant(resource: dict[str, Any], *permissions: str) -> None:
        lake.grant_permissions(Principal=principal, Resource=resource, Permissions=permissions)

    # A grant covers what is below its location; everybody's grants count, too.
    grant({"DataLocation": {"ResourceArn": "arn:aws:s3:::lake"}}, "DATA_LOCATION_ACCESS")
    principal = {"DataLakePrincipalIdentifier": "IAM_ALLOWED_PRINCIPALS"}
    grant({"Database": {"Name": database}}, "ALL")
    principal = {"DataLakePrincipalIdentifier": caller}
    grant({"Table": {"DatabaseName": database, "TableWildcard": {}}}, "DESCRIBE", "DROP")
    with pytest.raises(CatalogError, match="--permissions ALTER --resource") as refused:
        catalog.check()
    assert "CREATE_TABLE" not in str(refused.value)
    assert "DATA_LOCATION_ACCESS" not in str(refused.value)
    grant({"Table": {"DatabaseName": database, "TableWildcard": {}}}, "ALTER", "DESCRIBE", "DROP")
    catalog.check()


def test_denied_list_of_grants_does_not_fail_the_check(aws: str, caplog: pytest.LogCaptureFixture) -> None:
    catalog = glue_in(aws, "s3://lake/target", create_database=False, lake_formation="database")
    plain_client("glue", aws).create_database(DatabaseInput={"Name": catalog.database})
    with (
        faulty(clients.client("lakeformation", catalog._settings.aws)) as faults,
        caplog.at_level("INFO", "bucketwheel"),
    ):
        faults.always("ListPermissions", refusal("AccessDeniedException"))
        catalog.check()
    assert "the grants of Lake Formation are not checked: ListPermissions was denied" in caplog.text


def test_grants_need_a_database_that_exists() -> None:
    with pytest.raises(ValidationError, match=r"create_database is on; create the database db with `aws glue create"):
        CatalogSettings(kind="glue", database="db", lake_formation="database")  # type: ignore[arg-type]


def test_catalog_without_region_is_refused(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    given = glue_settings(aws, str(tmp_path))
    with pytest.raises(BucketwheelError, match=r"no region is known; set aws\.region"):
        GlueCatalog(given.model_copy(update={"aws": given.aws.model_copy(update={"region": None, "attempts": 3})}))
