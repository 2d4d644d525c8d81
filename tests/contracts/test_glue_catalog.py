"""What Glue is told, what becomes of faults on the way, and what is refused beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalog_tables import table_at
from glue_support import foreign_table, glue_in, glue_settings

from aws_faults import Fault, Faults, faulty, lost_answer, refusal, timeout
from aws_server import plain_client
from bucketwheel import aws as aws_module
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import BucketwheelError, CatalogError, ConcurrentPublishError, ConfigError

BUSY = refusal("ThrottlingException", message="Rate exceeded")
BROKEN = refusal("InternalServiceException", 500)
DENIED = refusal("AccessDeniedException", message="not authorized to perform glue:UpdateTable")


@pytest.fixture
def settings(aws: str, tmp_path: Path) -> Any:
    return glue_settings(aws, str(tmp_path), {"attempts": 2}, retry_seconds=5)


@pytest.fixture
def catalog(settings: Any) -> GlueCatalog:
    return GlueCatalog(settings)


@pytest.fixture
def faults(settings: Any) -> Iterator[Faults]:
    with faulty(aws_module.client("glue", settings.aws)) as planned:
        yield planned


def as_aws_has_it(endpoint: str, catalog: GlueCatalog, name: str) -> dict[str, Any]:
    table: dict[str, Any] = plain_client("glue", endpoint).get_table(DatabaseName=catalog.database, Name=name)[
        "Table"
    ]
    return table


def test_a_table_is_what_athena_makes_of_a_bucketed_parquet_table(aws: str, catalog: GlueCatalog) -> None:
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


def test_only_tables_in_sparks_buckets_name_a_provider(aws: str, catalog: GlueCatalog, tmp_path: Path) -> None:
    hive = replace(table_at(tmp_path, "hive"), parameters={"bucketing_version": "1"})
    spark = replace(table_at(tmp_path, "spark"), parameters={"bucketing_format": "spark"})
    for table in (hive, spark):
        assert replace(catalog.put(table, None), version=None) == table
    assert "spark.sql.sources.provider" not in as_aws_has_it(aws, catalog, "hive")["Parameters"]
    assert as_aws_has_it(aws, catalog, "spark")["Parameters"]["spark.sql.sources.provider"] == "parquet"


def test_a_layout_without_buckets_says_so(aws: str, catalog: GlueCatalog, tmp_path: Path) -> None:
    flat = replace(table_at(tmp_path, "flat"), bucket_columns=(), bucket_count=0, sorted=False)
    catalog.put(flat, None)
    storage = as_aws_has_it(aws, catalog, "flat")["StorageDescriptor"]
    assert (storage["NumberOfBuckets"], storage["BucketColumns"], storage["SortColumns"]) == (-1, [], [])


@pytest.mark.parametrize("kind", ["table", "partitioned", "view"])
def test_all_that_glue_knew_of_a_foreign_table_comes_back(
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


def test_a_definition_that_was_changed_since_it_was_read_is_put_as_it_says(
    catalog: GlueCatalog, tmp_path: Path
) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    moved = replace(first, location=table_at(tmp_path, "t", "second").location)
    assert catalog.put(moved, first).location == moved.location


def test_lists_are_read_to_their_last_page(catalog: GlueCatalog, tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(8)]
    for name in names:
        catalog.put(table_at(tmp_path, name), None)
    assert [table.name for table in catalog.tables()] == names


def test_the_database_is_made_when_the_first_table_is(aws: str, catalog: GlueCatalog, tmp_path: Path) -> None:
    assert list(catalog.tables()) == []
    catalog.put(table_at(tmp_path, "t"), None)
    assert plain_client("glue", aws).get_database(Name=catalog.database)["Database"]["Name"] == catalog.database


def test_a_missing_database_is_named_where_none_is_to_be_made(aws: str, tmp_path: Path) -> None:
    catalog = glue_in(aws, str(tmp_path), create_database=False)
    for action in (catalog.tables, lambda: catalog.put(table_at(tmp_path, "t"), None)):
        with pytest.raises(CatalogError, match=f"no database '{catalog.database}'.*catalog.create_database=true"):
            action()


def test_a_location_outside_of_the_target_is_refused(catalog: GlueCatalog, tmp_path: Path) -> None:
    for location in ("s3://elsewhere/t", f"{tmp_path}-more/t"):
        with pytest.raises(CatalogError, match=f"'t': its location {location} is outside of the target"):
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
def test_names_that_athena_cannot_read_are_refused_beforehand(aws: str, change: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        glue_in(aws, "s3://bucket/target", **change).check()


def test_a_local_target_is_refused_beforehand(aws: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"local path, which Athena cannot read; set target=s3://"):
        glue_in(aws, str(tmp_path)).check()
    glue_in(aws, "s3://bucket/target").check()


@pytest.mark.parametrize("fault", [BUSY, BROKEN, timeout, refusal("OperationTimeoutException")])
@pytest.mark.parametrize("operation", ["GetTables", "GetTable", "CreateTable", "UpdateTable"])
def test_what_passes_is_waited_for(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path, operation: str, fault: Fault
) -> None:
    faults.plan(operation, fault)
    first = catalog.put(table_at(tmp_path, "t"), None)
    second = catalog.put(table_at(tmp_path, "t", "second"), first)
    assert list(catalog.tables()) == [second]


def test_throttling_that_goes_on_longer_than_the_attempts_of_botocore_is_waited_for_too(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    faults.plan("CreateTable", *[BUSY] * 5)
    catalog.put(table_at(tmp_path, "t"), None)
    # The first database is missing; every other call is one attempt more.
    assert faults.calls["CreateTable"] == 7


def test_throttling_without_end_is_an_error_when_the_time_is_over(aws: str, tmp_path: Path) -> None:
    settings = glue_settings(aws, str(tmp_path), {"attempts": 1}, retry_seconds=0.3)
    with faulty(aws_module.client("glue", settings.aws)) as faults:
        faults.always("GetTables", BUSY)
        with pytest.raises(CatalogError, match=r"GetTables failed: ThrottlingException: Rate exceeded"):
            GlueCatalog(settings).tables()
        assert faults.calls["GetTables"] > 1


@pytest.mark.parametrize("operation", ["GetTables", "GetTable", "CreateTable", "UpdateTable", "DeleteTable"])
def test_what_is_denied_is_named_with_action_and_table(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path, operation: str
) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    new = table_at(tmp_path, "new" if operation == "CreateTable" else "t", "second")
    faults.always(operation, DENIED)
    before = faults.calls.get(operation, 0)
    thing = f"database {catalog.database}" if operation == "GetTables" else f"table {catalog.database}.{new.name}"
    actions: dict[str, Callable[[], object]] = {
        "GetTables": catalog.tables,
        "DeleteTable": lambda: catalog.remove(first),
        "CreateTable": lambda: catalog.put(new, None),
    }
    with pytest.raises(CatalogError, match=f"{thing}: {operation} was denied .*the role needs permission"):
        actions.get(operation, lambda: catalog.put(new, first))()
    assert faults.calls[operation] == before + 1


def test_a_creation_that_succeeded_though_its_answer_got_lost_is_a_success(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    catalog.put(table_at(tmp_path, "other"), None)
    faults.plan("CreateTable", lost_answer)
    made = catalog.put(table_at(tmp_path, "t"), None)
    assert faults.calls["CreateTable"] == 4
    assert catalog.get("t") == made


def test_an_update_that_succeeded_though_its_answer_got_lost_is_a_success(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    faults.plan("UpdateTable", lost_answer)
    second = catalog.put(table_at(tmp_path, "t", "second"), first)
    assert faults.calls["UpdateTable"] == 2
    assert catalog.get("t") == second
    assert second.version != first.version


def test_a_deletion_that_succeeded_though_its_answer_got_lost_is_a_success(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    faults.plan("DeleteTable", lost_answer)
    catalog.remove(first)
    assert catalog.get("t") is None


def test_a_table_that_changed_since_it_was_read_is_not_even_tried(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    catalog.put(table_at(tmp_path, "t", "second"), first)
    before = faults.calls["UpdateTable"]
    with pytest.raises(
        ConcurrentPublishError, match=r"t: the catalog has version 1 at .*second.* expected version 0"
    ):
        catalog.put(table_at(tmp_path, "t", "third"), first)
    assert faults.calls["UpdateTable"] == before


def test_a_writer_that_comes_between_the_look_and_the_update_wins(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    theirs: list[CatalogTable] = []

    def rival(_: Any) -> None:
        theirs.append(catalog.put(table_at(tmp_path, "t", "theirs"), first))

    faults.plan("UpdateTable", rival, None)
    with pytest.raises(ConcurrentPublishError, match=r"theirs.*somebody else published it") as caught:
        catalog.put(table_at(tmp_path, "t", "ours"), first)
    assert caught.value.exit_code == 4
    assert catalog.get("t") == theirs[0]


def test_a_writer_that_comes_between_the_look_and_the_creation_wins(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    catalog.put(table_at(tmp_path, "other"), None)

    def rival(_: Any) -> None:
        catalog.put(table_at(tmp_path, "t", "theirs"), None)

    faults.plan("CreateTable", rival)
    with pytest.raises(ConcurrentPublishError, match=r"theirs.*expected no such table"):
        catalog.put(table_at(tmp_path, "t", "ours"), None)


def test_a_conflict_in_which_nothing_was_changed_is_tried_again(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    conflict = refusal("ConcurrentModificationException")
    faults.plan("UpdateTable", conflict, conflict)
    second = catalog.put(table_at(tmp_path, "t", "second"), first)
    assert catalog.get("t") == second
    faults.always("UpdateTable", conflict)
    with pytest.raises(ConcurrentPublishError):
        catalog.put(table_at(tmp_path, "t", "third"), second)


def test_a_catalog_that_does_not_answer_is_an_error_of_the_tree(catalog: GlueCatalog, faults: Faults) -> None:
    faults.always("GetTables", timeout)
    with pytest.raises(CatalogError, match="Connect timeout"):
        catalog.tables()


def test_without_a_region_there_is_no_catalog(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    given = glue_settings(aws, str(tmp_path))
    with pytest.raises(BucketwheelError, match=r"no region is known; set aws\.region"):
        GlueCatalog(given.model_copy(update={"aws": given.aws.model_copy(update={"region": None, "attempts": 3})}))
