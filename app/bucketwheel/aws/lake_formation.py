"""Lake Formation's permissions, which AWS checks in addition to those of IAM, and the grants that refusals need."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from bucketwheel.aws import clients
from bucketwheel.errors import BucketwheelError
from bucketwheel.settings import AwsSettings

# The group of everybody whom IAM allows; with a grant to it, Lake Formation restricts nothing.
EVERYBODY = "IAM_ALLOWED_PRINCIPALS"
_REFUSED = re.compile(
    r"Insufficient Lake Formation permission(?:\(s\)|s)?"
    r"(?:\s*:\s*Required (?P<permission>[A-Za-z_]+(?: [A-Za-z_]+)*?)(?=\s+on\b|[^\w ]|$))?"
    r"(?:\s+on\s+(?P<resource>[^\s;,)]+))?"
)
_UNKNOWN_ROLE = "arn:aws:iam::ACCOUNT:role/ROLE"
_ASSUMED = re.compile(r"arn:(?P<partition>[\w-]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/.*")


def is_refusal(message: str) -> bool:
    """Return whether AWS refused a call because a grant of Lake Formation is missing."""
    return _REFUSED.search(message) is not None


def missing_grant(message: str, database: str, settings: AwsSettings) -> str:
    """Return the grant that a refusal says is missing, with the command that gives it; empty for other messages."""
    found = _REFUSED.search(message)
    if found is None:
        return ""
    permission = (found["permission"] or "").strip().upper().replace(" ", "_")
    permission, resource = _resource(permission, (found["resource"] or "").rstrip("."), database)
    return f"Lake Formation's grant {permission} is missing: {grant_command(permission, resource, caller(settings))}"


def _resource(permission: str, name: str, database: str) -> tuple[str, dict[str, Any]]:
    """Return the permission and Lake Formation's name of the resource."""
    location = re.sub(r"^s3[an]?://", "arn:aws:s3:::", name)
    if location.startswith("arn:") and ":s3:" in location:
        # The name of this permission is missing in the message.
        return "DATA_LOCATION_ACCESS", data_location(location)
    if permission in ("CREATE_DATABASE", "CREATE_CATALOG"):
        return permission, {"Catalog": {}}
    parent, _, table = name.rpartition(".")
    is_database = permission == "CREATE_TABLE" or name in ("", database)
    if is_database:
        return permission or "DESCRIBE", database_resource(name or database)
    return permission or "DESCRIBE", {"Table": {"DatabaseName": parent or database, "Name": table}}


def database_resource(name: str) -> dict[str, Any]:
    """Return a database as a resource of Lake Formation."""
    return {"Database": {"Name": name}}


def tables_resource(database: str) -> dict[str, Any]:
    """Return all tables of a database as a resource of Lake Formation."""
    return {"Table": {"DatabaseName": database, "TableWildcard": {}}}


def data_location(arn: str) -> dict[str, Any]:
    """Return a location on S3 as a resource of Lake Formation."""
    return {"DataLocation": {"ResourceArn": arn}}


def grant_command(permission: str, resource: dict[str, Any], principal: str) -> str:
    """Return the command of the AWS CLI that gives a grant; a data lake administrator may run it."""
    words = ["aws", "lakeformation", "grant-permissions", "--principal", f"DataLakePrincipalIdentifier={principal}"]
    return shlex.join([*words, "--permissions", permission, "--resource", json.dumps(resource)])


def caller(settings: AwsSettings) -> str:
    """Return the ARN of the calling role or user, or a placeholder if STS does not answer."""
    try:
        arn = str(clients.client("sts", settings).get_caller_identity()["Arn"])
    except (ClientError, BotoCoreError, BucketwheelError):
        return _UNKNOWN_ROLE
    # STS leaves out the path of a role.
    assumed = _ASSUMED.fullmatch(arn)
    return f"arn:{assumed['partition']}:iam::{assumed['account']}:role/{assumed['role']}" if assumed else arn
