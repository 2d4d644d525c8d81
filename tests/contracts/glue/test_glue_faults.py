"""Faults of calls to Glue, and concurrent writers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.exceptions import ReadTimeoutError
from glue_support import glue_settings

from aws_faults import Fault, Faults, faulty, lost_response, refusal, timeout
from aws_server import plain_client
from bucketwheel.aws import clients as aws_module
from bucketwheel.catalogs import glue
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import CatalogError, ConcurrentPublishError
from bucketwheel.testing.tables import table_at

BUSY = refusal("ThrottlingException", message="Rate exceeded")
BROKEN = refusal("InternalServiceException", 500)
DENIED = refusal("AccessDeniedException", message="not authorized to perform this")


# The calls of a table that is made in a new database, changed, listed, removed and listed again.
CALLS = {"GetTables": 2, "GetTable": 5, "CreateTable": 2, "CreateDatabase": 1, "UpdateTable": 1, "DeleteTable": 1}


# botocore gives up after two.
@pytest.mark.parametrize(
    "planned", [[BUSY], [BROKEN], [timeout], [refusal("OperationTimeoutException")], [lost_response], [BUSY] * 5]
)
@pytest.mark.parametrize("operation", CALLS)
def test_temporary_faults_are_retried(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path, operation: str, planned: list[Fault]
) -> None:
    faults.plan(operation, *planned)
    first = catalog.put(table_at(tmp_path, "t"), None)
    second = catalog.put(table_at(tmp_path, "t", "second"), first)
    assert list(catalog.tables()) == [second]
    catalog.remove(second)
    assert list(catalog.tables()) == []
    assert faults.calls[operation] == CALLS[operation] + len(planned)


def test_persistent_throttling_fails_after_time_limit(aws: str, tmp_path: Path) -> None:
    settings = glue_settings(aws, str(tmp_path), {"attempts": 1}, retry_seconds=0.3)
    with faulty(aws_module.client("glue", settings.aws)) as faults:
        faults.always("GetTables", BUSY)
        with pytest.raises(CatalogError, match=r"GetTables failed: ThrottlingException: Rate exceeded"):
            GlueCatalog(settings).tables()
        assert faults.calls["GetTables"] > 1


@pytest.mark.parametrize("operation", ["GetTables", "GetTable", "CreateTable", "UpdateTable", "DeleteTable"])
def test_denied_call_names_action_and_table(
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


def test_denied_creation_of_database_names_action(catalog: GlueCatalog, faults: Faults, tmp_path: Path) -> None:
    faults.always("CreateDatabase", DENIED)
    with pytest.raises(
        CatalogError, match=f"^database {catalog.database}: CreateDatabase was denied .*the role needs permission"
    ):
        catalog.put(table_at(tmp_path, "t"), None)
    assert faults.calls["CreateDatabase"] == 1
    assert list(catalog.tables()) == []


@pytest.mark.parametrize("operation", ["GetTables", "CreateTable", "CreateDatabase"])
def test_lake_formation_refusal_names_grant_and_command(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path, operation: str
) -> None:
    permission = {"GetTables": "Describe", "CreateTable": "Create Table", "CreateDatabase": "Create Database"}[
        operation
    ]
    wanted = permission.upper().replace(" ", "_")
    text = f"Insufficient Lake Formation permission({'s'}): Required {permission} on {catalog.database}"
    faults.always(operation, refusal("AccessDeniedException", message=text))
    with pytest.raises(CatalogError, match=rf"{operation} was denied \(Insufficient Lake Formation") as caught:
        catalog.tables() if operation == "GetTables" else catalog.put(table_at(tmp_path, "t"), None)
    message = str(caught.value)
    assert f"Lake Formation's grant {wanted} is missing: aws lakeformation grant-permissions --principal" in message
    assert "the role needs permission" not in message
    resource = "Catalog" if operation == "CreateDatabase" else "Database"
    assert f'--permissions {wanted} --resource \'{{"{resource}"' in message


def test_unusable_key_of_catalog_is_named_by_check(aws: str) -> None:
    settings = glue_settings(aws, "s3://bucket/target", {"attempts": 3})
    with faulty(aws_module.client("glue", settings.aws)) as faults:
        faults.always("GetTables", refusal("GlueEncryptionException", message="The key is not accessible."))
        with pytest.raises(
            CatalogError, match=r"not accessible; the catalog is encrypted .* kms:Decrypt .*catalog.kms_key"
        ):
            GlueCatalog(settings).check()


def test_put_accepts_database_created_concurrently(
    aws: str, catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    def rival(_: object) -> None:
        given = {"Name": catalog.database, "Description": "theirs"}
        plain_client("glue", aws).create_database(DatabaseInput=given)

    faults.plan("CreateDatabase", rival)
    table = catalog.put(table_at(tmp_path, "t"), None)
    assert list(catalog.tables()) == [table]
    database = plain_client("glue", aws).get_database(Name=catalog.database)["Database"]
    assert database["Description"] == "theirs"


def test_creation_with_lost_response_succeeds(catalog: GlueCatalog, faults: Faults, tmp_path: Path) -> None:
    catalog.put(table_at(tmp_path, "other"), None)
    faults.plan("CreateTable", lost_response)
    table = catalog.put(table_at(tmp_path, "t"), None)
    assert faults.calls["CreateTable"] == 4
    assert catalog.get("t") == table


def test_update_with_lost_response_succeeds(catalog: GlueCatalog, faults: Faults, tmp_path: Path) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    faults.plan("UpdateTable", lost_response)
    second = catalog.put(table_at(tmp_path, "t", "second"), first)
    assert faults.calls["UpdateTable"] == 2
    assert catalog.get("t") == second
    assert second.version != first.version


def test_deletion_with_lost_response_succeeds(catalog: GlueCatalog, faults: Faults, tmp_path: Path) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    faults.plan("DeleteTable", lost_response)
    catalog.remove(first)
    assert catalog.get("t") is None


def test_put_of_changed_table_sends_no_update(catalog: GlueCatalog, faults: Faults, tmp_path: Path) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    catalog.put(table_at(tmp_path, "t", "second"), first)
    before = faults.calls["UpdateTable"]
    with pytest.raises(
        ConcurrentPublishError, match=r"t: the catalog has version 1 at .*second.* expected version 0"
    ):
        catalog.put(table_at(tmp_path, "t", "third"), first)
    assert faults.calls["UpdateTable"] == before


def test_update_loses_to_concurrent_writer(catalog: GlueCatalog, faults: Faults, tmp_path: Path) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    theirs: list[CatalogTable] = []

    def rival(_: object) -> None:
        theirs.append(catalog.put(table_at(tmp_path, "t", "theirs"), first))

    faults.plan("UpdateTable", rival, None)
    with pytest.raises(ConcurrentPublishError, match=r"theirs.*another process published it") as caught:
        catalog.put(table_at(tmp_path, "t", "ours"), first)
    assert caught.value.exit_code == 4
    assert catalog.get("t") == theirs[0]


def test_creation_loses_to_concurrent_writer(catalog: GlueCatalog, faults: Faults, tmp_path: Path) -> None:
    catalog.put(table_at(tmp_path, "other"), None)

    def rival(_: object) -> None:
        catalog.put(table_at(tmp_path, "t", "theirs"), None)

    faults.plan("CreateTable", rival)
    with pytest.raises(ConcurrentPublishError, match=r"theirs.*expected no such table"):
        catalog.put(table_at(tmp_path, "t", "ours"), None)


CONFLICT = refusal("ConcurrentModificationException")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glue, "_CONFLICT_PAUSES", (0, 0))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", ["ConcurrentModificationException", "ResourceNotReadyException"])
@pytest.mark.parametrize("operation", ["CreateDatabase", "CreateTable", "UpdateTable", "DeleteTable"])
def test_conflict_without_change_is_retried(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path, operation: str, code: str
) -> None:
    faults.plan(operation, refusal(code), refusal(code))
    first = catalog.put(table_at(tmp_path, "t"), None)
    second = catalog.put(table_at(tmp_path, "t", "second"), first)
    assert catalog.get("t") == second
    catalog.remove(second)
    assert catalog.get("t") is None


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("operation", ["CreateTable", "UpdateTable"])
def test_lasting_conflict_says_that_table_is_unchanged(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path, operation: str
) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    faults.always(operation, CONFLICT)
    change = {
        "CreateTable": (table_at(tmp_path, "u"), None),
        "UpdateTable": (table_at(tmp_path, "t", "second"), first),
    }
    before = faults.calls.get(operation, 0)
    with pytest.raises(ConcurrentPublishError, match=r"refused every attempt .* nobody changed this table"):
        catalog.put(*change[operation])
    assert faults.calls[operation] == before + 3


@pytest.mark.usefixtures("impatient")
def test_lasting_conflict_of_deletion_is_reported(catalog: GlueCatalog, faults: Faults, tmp_path: Path) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)
    faults.always("DeleteTable", CONFLICT)
    with pytest.raises(CatalogError, match="DeleteTable failed: ConcurrentModificationException"):
        catalog.remove(first)
    assert catalog.get("t") == first


@pytest.mark.usefixtures("impatient")
def test_deletion_after_conflict_spares_table_of_other_writer(
    catalog: GlueCatalog, faults: Faults, tmp_path: Path
) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)

    def rival(request: object) -> object:
        catalog.put(table_at(tmp_path, "t", "theirs"), first)
        return CONFLICT(request)

    faults.plan("DeleteTable", rival)
    with pytest.raises(ConcurrentPublishError, match="theirs"):
        catalog.remove(first)
    assert faults.calls["DeleteTable"] == 1


@pytest.mark.usefixtures("impatient")
def test_conflict_after_lost_success_is_success(catalog: GlueCatalog, faults: Faults, tmp_path: Path) -> None:
    first = catalog.put(table_at(tmp_path, "t"), None)

    def answered_by_conflict(request: object) -> object:
        with suppress(ReadTimeoutError):
            lost_response(request)
        return CONFLICT(request)

    faults.plan("CreateTable", answered_by_conflict)
    created = catalog.put(table_at(tmp_path, "u"), None)
    assert catalog.get("u") == created
    faults.plan("UpdateTable", answered_by_conflict)
    second = catalog.put(table_at(tmp_path, "t", "second"), first)
    assert catalog.get("t") == second
    faults.plan("DeleteTable", answered_by_conflict)
    catalog.remove(second)
    assert catalog.get("t") is None


def test_unreachable_service_raises_catalog_error(catalog: GlueCatalog, faults: Faults) -> None:
    faults.always("GetTables", timeout)
    with pytest.raises(CatalogError, match="Connect timeout"):
        catalog.tables()
