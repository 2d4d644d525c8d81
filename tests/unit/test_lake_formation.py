"""A refusal of Lake Formation names the missing grant and the command that gives it."""

from __future__ import annotations

import json
import shlex
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from bucketwheel.aws import clients, lake_formation
from bucketwheel.settings import AwsSettings

ROLE = "arn:aws:iam::123456789012:role/jobs"
REFUSED = "Insufficient Lake Formation permission"
# As AWS writes it.
PLURAL = "s"
LOCATION = {"DataLocation": {"ResourceArn": "arn:aws:s3:::lake/target/"}}
TABLES = {"Table": {"DatabaseName": "sales", "TableWildcard": {}}}


@pytest.fixture
def as_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_formation, "caller", lambda _: ROLE)


@pytest.mark.usefixtures("as_role")
@pytest.mark.parametrize(
    ("message", "permission", "resource"),
    [
        (f"{REFUSED}({PLURAL}): Required Create Table on sales", "CREATE_TABLE", {"Database": {"Name": "sales"}}),
        (f"{REFUSED}({PLURAL}): Required Describe on sales", "DESCRIBE", {"Database": {"Name": "sales"}}),
        (f"{REFUSED}({PLURAL}) on sales", "DESCRIBE", {"Database": {"Name": "sales"}}),
        (f"{REFUSED}s on t", "DESCRIBE", {"Table": {"DatabaseName": "sales", "Name": "t"}}),
        (f"{REFUSED}({PLURAL}): Required Alter on t.", "ALTER", {"Table": {"DatabaseName": "sales", "Name": "t"}}),
        (f"{REFUSED}({PLURAL}): Required Drop on old.t", "DROP", {"Table": {"DatabaseName": "old", "Name": "t"}}),
        (f"{REFUSED}({PLURAL}): Required Create Database on Catalog", "CREATE_DATABASE", {"Catalog": {}}),
        (f"{REFUSED}({PLURAL}) on s3://lake/target/", "DATA_LOCATION_ACCESS", LOCATION),
        (f"{REFUSED}({PLURAL}) on arn:aws:s3:::lake/target/ (Service: Glue)", "DATA_LOCATION_ACCESS", LOCATION),
        (f"{REFUSED}({PLURAL})", "DESCRIBE", {"Database": {"Name": "sales"}}),
    ],
)
def test_refusal_gives_command_that_grants(message: str, permission: str, resource: dict[str, Any]) -> None:
    check_command(f"GetTables was denied ({message})", permission, resource)


@pytest.mark.usefixtures("as_role")
@pytest.mark.parametrize(
    ("operation", "permission", "resource"),
    [
        ("CreateTable", "CREATE_TABLE", {"Database": {"Name": "sales"}}),
        ("UpdateTable", "ALTER", TABLES),
        ("DeleteTable", "DROP", TABLES),
        ("BatchDeleteTable", "DROP", TABLES),
        ("CreateDatabase", "CREATE_DATABASE", {"Catalog": {}}),
        ("GetTables", "DESCRIBE", {"Database": {"Name": "sales"}}),
    ],
)
def test_refusal_without_permission_uses_that_of_operation(
    operation: str, permission: str, resource: dict[str, Any]
) -> None:
    check_command(f"{operation} was denied ({REFUSED}({PLURAL}) on sales)", permission, resource)


def check_command(message: str, permission: str, resource: dict[str, Any]) -> None:
    """Compare the command in the text about a refusal with the permission and the resource."""
    text = lake_formation.missing_grant(message, "sales", AwsSettings())
    start, _, command = text.partition(": ")
    assert start == f"Lake Formation's grant {permission} is missing"
    words = shlex.split(command)
    assert words[:3] == ["aws", "lakeformation", "grant-permissions"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options["--principal"] == f"DataLakePrincipalIdentifier={ROLE}"
    request = {
        "Principal": {"DataLakePrincipalIdentifier": ROLE},
        "Permissions": [options["--permissions"]],
        "Resource": json.loads(options["--resource"]),
    }
    assert (request["Permissions"], request["Resource"]) == ([permission], resource)
    # botocore's model validates the names of the request and its fields.
    client = boto3.client("lakeformation", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        stub.add_response("grant_permissions", {}, request)
        client.grant_permissions(**request)
    assert permission in client.meta.service_model.shape_for("Permission").enum


@pytest.mark.parametrize("message", ["not authorized to perform: glue:GetTables", "Access denied", ""])
def test_other_refusal_names_no_grant(message: str) -> None:
    assert lake_formation.missing_grant(message, "sales", AwsSettings()) == ""


@pytest.mark.parametrize(
    ("arn", "principal"),
    [
        ("arn:aws:sts::123456789012:assumed-role/jobs/GlueJobRunnerSession", ROLE),
        ("arn:aws-cn:sts::123456789012:assumed-role/jobs/me", "arn:aws-cn:iam::123456789012:role/jobs"),
        ("arn:aws:iam::123456789012:user/ada", "arn:aws:iam::123456789012:user/ada"),
    ],
)
def test_caller_of_session_is_its_role(arn: str, principal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sts:
        def get_caller_identity(self) -> dict[str, str]:
            return {"Arn": arn}

    monkeypatch.setattr(clients, "client", lambda *_: Sts())
    assert lake_formation.caller(AwsSettings()) == principal
