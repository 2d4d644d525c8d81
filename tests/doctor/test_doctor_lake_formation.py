"""`doctor` says whether Lake Formation decides on the database and the target, and which grants are missing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from aws_server import REGION, plain_client
from doctor_support import DATA, DATABASE, ROLE, Diagnose, state

CHECK = "Lake Formation"
PRINCIPAL = {"DataLakePrincipalIdentifier": f"arn:aws:iam::123456789012:role/{ROLE}"}
EVERYBODY = {"DataLakePrincipalIdentifier": "IAM_ALLOWED_PRINCIPALS"}
RESOURCE = {"Database": {"Name": DATABASE}}
LOCATION = f"arn:aws:s3:::{DATA}"
TARGET = f"{LOCATION}/omc_cleanroom_data"


@pytest.fixture
def lake(prod: str) -> Any:
    return plain_client("lakeformation", prod)


@pytest.fixture
def governed(lake: Any) -> Iterator[Any]:
    """Lake Formation decides on the database and on the bucket of the target."""
    lake.revoke_permissions(Principal=EVERYBODY, Resource=RESOURCE, Permissions=["ALL"])
    lake.register_resource(ResourceArn=LOCATION, RoleArn=f"arn:aws:iam::123456789012:role/{ROLE}")
    yield lake
    lake.deregister_resource(ResourceArn=LOCATION)
    lake.grant_permissions(Principal=EVERYBODY, Resource=RESOURCE, Permissions=["ALL"])


def test_account_with_default_settings_is_left_to_iam(diagnose: Diagnose) -> None:
    assert state(diagnose()[CHECK]) == ("ok", "leaves access to IAM")


def test_missing_grants_are_named_with_commands(diagnose: Diagnose, governed: Any) -> None:
    finding = diagnose()[CHECK]
    assert state(finding) == (
        "failed",
        f"decides on access: database {DATABASE}: IAM_ALLOWED_PRINCIPALS lacks ALL; "
        f"target: {LOCATION} is registered\n"
        f"role {ROLE} lacks CREATE_TABLE, DESCRIBE on database {DATABASE}; DATA_LOCATION_ACCESS on {TARGET}",
    )
    first, *commands = finding.todo.splitlines()
    assert "catalog.create_database=false, catalog.lake_formation=database,locations" in first
    for command in commands:
        words = shlex.split(command)
        place = words.index("--resource")
        governed.grant_permissions(
            Principal=dict([words[4].split("=")]), Permissions=words[6:place], Resource=json.loads(words[place + 1])
        )
    # The commands are enough.
    assert diagnose()[CHECK].state == "ok"
    for resource in (RESOURCE, {"DataLocation": {"ResourceArn": TARGET}}):
        permissions = ["CREATE_TABLE", "DESCRIBE"] if resource is RESOURCE else ["DATA_LOCATION_ACCESS"]
        governed.revoke_permissions(Principal=PRINCIPAL, Resource=resource, Permissions=permissions)


def test_grants_that_the_stack_gives_are_a_warning(diagnose: Diagnose, governed: Any) -> None:
    seen = diagnose(catalog__create_database=False, catalog__lake_formation="database,locations")
    finding = seen[CHECK]
    assert finding.state == "warning"
    # The caller of doctor needs no grants.
    assert seen["database"].state == "ok"
    assert finding.todo == "`bucketwheel deploy apply` grants them; run it as a data lake administrator"


def test_database_missing_under_lake_formation_fails(diagnose: Diagnose, lake: Any) -> None:
    lake.put_data_lake_settings(DataLakeSettings={"CreateDatabaseDefaultPermissions": []})
    try:
        finding = diagnose(catalog__database="new_one")[CHECK]
    finally:
        defaults = [{"Principal": EVERYBODY, "Permissions": ["ALL"]}]
        lake.put_data_lake_settings(
            DataLakeSettings=dict.fromkeys(
                ("CreateDatabaseDefaultPermissions", "CreateTableDefaultPermissions"), defaults
            )
        )
    assert finding.state == "failed"
    assert finding.todo == (
        "create the database, then set catalog.create_database=false and catalog.lake_formation=database"
    )


def test_unregistered_target_of_configured_grant_fails(diagnose: Diagnose) -> None:
    finding = diagnose(catalog__create_database=False, catalog__lake_formation="database,locations")[CHECK]
    assert state(finding) == (
        "failed",
        "leaves access to IAM\n"
        f"catalog.lake_formation=locations, but the target {TARGET} is not registered with Lake Formation",
    )
    assert f"register-resource --resource-arn {TARGET} --use-service-linked-role" in finding.todo


@pytest.mark.parametrize("kind", ["database", "tables"])
def test_missing_database_of_configured_grant_fails(diagnose: Diagnose, kind: str) -> None:
    given = {"catalog__create_database": False, "catalog__database": "new_one"}
    finding = diagnose(**given, catalog__lake_formation=kind)[CHECK]
    assert finding.state == "failed"
    assert f"catalog.lake_formation={kind}, but database new_one does not exist" in finding.found
    assert finding.todo == 'create it first: aws glue create-database --database-input \'{"Name": "new_one"}\''


def test_missing_database_needs_creation_grant(diagnose: Diagnose, lake: Any) -> None:
    creation = {"Resource": {"Catalog": {}}, "Permissions": ["CREATE_DATABASE"]}
    assert state(diagnose(catalog__database="new_one")[CHECK]) == ("ok", "leaves access to IAM")
    lake.revoke_permissions(Principal=EVERYBODY, **creation)
    try:
        finding = diagnose(catalog__database="new_one")[CHECK]
        # A database that exists, or that another tool creates, needs no grant.
        assert diagnose()[CHECK].state == "ok"
        assert diagnose(catalog__database="new_one", catalog__create_database=False)[CHECK].state == "ok"
        lake.grant_permissions(Principal=PRINCIPAL, **creation)
        assert diagnose(catalog__database="new_one")[CHECK].state == "ok"
        lake.revoke_permissions(Principal=PRINCIPAL, **creation)
    finally:
        lake.grant_permissions(Principal=EVERYBODY, **creation)
    assert state(finding) == (
        "failed",
        f"leaves access to IAM\nrole {ROLE} lacks CREATE_DATABASE on the catalog",
    )
    first, command = finding.todo.splitlines()
    assert first == "create database new_one, or run:"
    assert command == (
        "aws lakeformation grant-permissions --principal "
        f"DataLakePrincipalIdentifier={PRINCIPAL['DataLakePrincipalIdentifier']} "
        "--permissions CREATE_DATABASE --resource '{\"Catalog\": {}}'"
    )


def test_denied_caller_gets_the_actions_to_allow(diagnose: Diagnose, instead: Callable[[str, Any], None]) -> None:
    client = boto3.client("lakeformation", REGION)
    with Stubber(client) as stub:
        stub.add_client_error("list_permissions", "AccessDeniedException", "no")
        instead("lakeformation", client)
        finding = diagnose()[CHECK]
    assert finding.state == "warning"
    assert "ListPermissions was denied" in finding.found
    assert "allow lakeformation:GetDataLakeSettings" in finding.todo


def test_location_in_hybrid_mode_needs_no_grant(diagnose: Diagnose, instead: Callable[[str, Any], None]) -> None:
    client = boto3.client("lakeformation", REGION)
    entry = {"ResourceArn": LOCATION, "HybridAccessEnabled": True}
    granted = {"Principal": EVERYBODY, "Resource": RESOURCE, "Permissions": ["ALL"]}
    with Stubber(client) as stub:
        stub.add_response("list_permissions", {"PrincipalResourcePermissions": [granted]})
        stub.add_response("list_resources", {"ResourceInfoList": [], "NextToken": "more"}, {})
        stub.add_response("list_resources", {"ResourceInfoList": [entry]}, {"NextToken": "more"})
        instead("lakeformation", client)
        finding = diagnose()[CHECK]
    expected = f"leaves access to IAM; target: {LOCATION} is registered, in hybrid access mode"
    assert state(finding) == ("ok", expected)
