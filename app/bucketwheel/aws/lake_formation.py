"""Lake Formation's permissions, which AWS checks in addition to those of IAM, and the grants that refusals need."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
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
# What the operation in a refusal needs, if the refusal does not name a permission.
_OPERATION = re.compile(r"\b(CreateTable|UpdateTable|DeleteTable|BatchDeleteTable|CreateDatabase)\b")
_OF_OPERATION = {
    "CreateTable": "CREATE_TABLE",
    "UpdateTable": "ALTER",
    "DeleteTable": "DROP",
    "BatchDeleteTable": "DROP",
    "CreateDatabase": "CREATE_DATABASE",
}
_ALL = "ALL"
_UNKNOWN_ROLE = "arn:aws:iam::ACCOUNT:role/ROLE"
_ASSUMED = re.compile(r"arn:(?P<partition>[\w-]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/.*")


@dataclass(frozen=True)
class Grant:
    """Permissions on one resource of Lake Formation."""

    permissions: tuple[str, ...]
    resource: dict[str, Any]


def needed(grants: Collection[str], database: str, location: str, reads: bool) -> list[Grant]:
    """Return what publishing needs.

    Args:
        grants: kinds of resources, as in `catalog.lake_formation`.
        database: name of the database.
        location: ARN of the target.
        reads: whether a SQL engine reads the tables with the permissions of the job.
    """
    tables = ("ALTER", "DESCRIBE", "DROP", *(["SELECT"] if reads else []))
    every = {
        "database": Grant(("CREATE_TABLE", "DESCRIBE"), {"Database": {"Name": database}}),
        "tables": Grant(tables, {"Table": {"DatabaseName": database, "TableWildcard": {}}}),
        "locations": Grant(("DATA_LOCATION_ACCESS",), data_location(location)),
    }
    return [grant for kind, grant in every.items() if kind in grants]


def missing(client: Any, principal: str, grants: Sequence[Grant]) -> Iterator[Grant]:
    """Yield the permissions that neither the principal nor everybody has.

    Raises:
        ClientError: Lake Formation refused to list permissions.
    """
    for grant in grants:
        have: set[str] = set()
        for name, resource in itertools.product((principal, EVERYBODY), _covering(grant.resource)):
            have |= granted(client, name, resource)
            if _ALL in have or have.issuperset(grant.permissions):
                break
        else:
            yield Grant(tuple(name for name in grant.permissions if name not in have), grant.resource)


def _covering(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a resource, and if it is a location, those above it: a grant covers everything below it."""
    yield resource
    if arn := resource.get("DataLocation", {}).get("ResourceArn"):
        while "/" in arn:
            arn = arn.rpartition("/")[0]
            yield data_location(arn)


def granted(client: Any, principal: str, resource: dict[str, Any]) -> set[str]:
    """Return the permissions of a principal on a resource."""
    request = {"Principal": {"DataLakePrincipalIdentifier": principal}, "Resource": resource}
    have: set[str] = set()
    while True:
        answer = client.list_permissions(**request)
        for entry in answer["PrincipalResourcePermissions"]:
            have.update(entry["Permissions"])
        if not answer.get("NextToken"):
            return have
        request["NextToken"] = answer["NextToken"]


def registered(client: Any, location: str) -> dict[str, Any] | None:
    """Return the registration that covers the ARN of a location on S3, or None."""
    request: dict[str, Any] = {}
    while True:
        answer = client.list_resources(**request)
        for entry in answer["ResourceInfoList"]:
            if f"{location}/".startswith(f"{entry['ResourceArn'].rstrip('/')}/"):
                return dict(entry)
        if not answer.get("NextToken"):
            return None
        request["NextToken"] = answer["NextToken"]


def missing_grant(message: str, database: str, settings: AwsSettings) -> str:
    """Return the grant that a refusal says is missing, with the command that gives it; empty for other messages."""
    found = _REFUSED.search(message)
    if found is None:
        return ""
    operation = _OPERATION.search(message)
    default = _OF_OPERATION[operation[1]] if operation else "DESCRIBE"
    permission = (found["permission"] or default).strip().upper().replace(" ", "_")
    permission, resource = _resource(permission, (found["resource"] or "").rstrip("."), database)
    return (
        f"Lake Formation's grant {permission} is missing: {grant_command([permission], resource, caller(settings))}"
    )


def _resource(permission: str, name: str, database: str) -> tuple[str, dict[str, Any]]:
    """Return the permission and Lake Formation's name of the resource."""
    location = re.sub(r"^s3[an]?://", "arn:aws:s3:::", name)
    if location.startswith("arn:") and ":s3:" in location:
        # The name of this permission is missing in the message.
        return "DATA_LOCATION_ACCESS", data_location(location)
    if permission in ("CREATE_DATABASE", "CREATE_CATALOG"):
        return permission, {"Catalog": {}}
    parent, _, table = name.rpartition(".")
    if permission == "CREATE_TABLE" or (permission == "DESCRIBE" and name in ("", database)):
        return permission, {"Database": {"Name": name or database}}
    if name in ("", database):
        # The refusal names only the database of the table.
        return permission, {"Table": {"DatabaseName": database, "TableWildcard": {}}}
    return permission, {"Table": {"DatabaseName": parent or database, "Name": table}}


def data_location(arn: str) -> dict[str, Any]:
    """Return a location on S3 as a resource of Lake Formation."""
    return {"DataLocation": {"ResourceArn": arn}}


def grant_command(permissions: Sequence[str], resource: dict[str, Any], principal: str) -> str:
    """Return the command of the AWS CLI that gives a grant; a data lake administrator may run it."""
    words = ["aws", "lakeformation", "grant-permissions", "--principal", f"DataLakePrincipalIdentifier={principal}"]
    return shlex.join([*words, "--permissions", *permissions, "--resource", json.dumps(resource)])


def caller(settings: AwsSettings) -> str:
    """Return the ARN of the calling role or user, or a placeholder if STS does not answer."""
    try:
        arn = str(clients.client("sts", settings).get_caller_identity()["Arn"])
    except (ClientError, BotoCoreError, BucketwheelError):
        return _UNKNOWN_ROLE
    # STS leaves out the path of a role.
    assumed = _ASSUMED.fullmatch(arn)
    return f"arn:{assumed['partition']}:iam::{assumed['account']}:role/{assumed['role']}" if assumed else arn
