"""Check whether Lake Formation decides on the database and the target, and whether the jobs' role has its grants."""

from __future__ import annotations

from typing import Any

from bucketwheel.aws import clients, lake_formation
from bucketwheel.aws.errors import is_denied, wrap_aws_errors
from bucketwheel.aws.lake_formation import EVERYBODY
from bucketwheel.deploy.lake_formation import absent, database_exists
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.doctor.checks import CheckResult, failed, ok, warning
from bucketwheel.errors import BucketwheelError

_ACTIONS = "lakeformation:GetDataLakeSettings, lakeformation:ListResources and lakeformation:ListPermissions"


def look(deployment: Deployment) -> CheckResult:
    """Say what Lake Formation decides, and which of its grants are missing.

    Raises:
        BucketwheelError: Lake Formation failed, or there are no credentials.
    """
    settings = deployment.settings.aws
    client = clients.client("lakeformation", settings)
    try:
        with wrap_aws_errors(BucketwheelError, "Lake Formation"):
            arn = clients.client("sts", settings).get_caller_identity()["Arn"]
            return _look(client, deployment, partition=arn.split(":")[1], account=arn.split(":")[4])
    except BucketwheelError as error:
        if is_denied(error.__cause__ or error):
            return warning(f"unknown: {error}", f"allow {_ACTIONS} to the caller; a data lake administrator sees all")
        raise


def _look(client: Any, deployment: Deployment, partition: str, account: str) -> CheckResult:
    catalog, target = deployment.settings.catalog, deployment.target().arn(partition)
    role = f"arn:{partition}:iam::{account}:role/{deployment.role}"
    exists = database_exists(deployment)
    kinds, seen = [], []
    if _is_governed(client, deployment, exists):
        kinds.append("database")
        seen.append(f"database {catalog.database.lower()}: {EVERYBODY} lacks ALL")
    if location := lake_formation.registered(client, target):
        hybrid = location.get("HybridAccessEnabled", False)
        kinds += [] if hybrid else ["locations"]
        mode = ", in hybrid access mode" if hybrid else ""
        seen.append(f"target: {location['ResourceArn']} is registered{mode}")
    found = f"decides on access: {'; '.join(seen)}" if kinds else "; ".join(["leaves access to IAM", *seen])
    if missing := list(absent(client, deployment, partition)):
        return failed("\n".join([found, *(one.problem for one in missing)]), "\n".join(one.fix for one in missing))
    creation = lake_formation.Grant(("CREATE_DATABASE",), {"Catalog": {}})
    creates = catalog.create_database and not exists
    cannot_create = creates and list(lake_formation.missing(client, role, [creation]))
    if cannot_create:
        found = f"{found}\nrole {deployment.role} lacks CREATE_DATABASE on the catalog"
    if "database" in kinds and not exists:
        # Only a database that exists can have grants.
        settings = f"catalog.create_database=false and catalog.lake_formation={','.join(kinds)}"
        return failed(found, f"create the database, then set {settings}")
    if cannot_create:
        command = lake_formation.grant_command(creation.permissions, creation.resource, role)
        return failed(found, f"create database {catalog.database.lower()}, or run:\n{command}")
    return _result(client, deployment, found, kinds, role, target) if kinds else ok(found)


def _result(client: Any, deployment: Deployment, found: str, kinds: list[str], role: str, target: str) -> CheckResult:
    """Compare the grants of the jobs' role with those that it needs."""
    catalog = deployment.settings.catalog
    kinds = [*kinds, *(["tables"] if "tables" in catalog.lake_formation else [])]
    needed = lake_formation.needed(kinds, catalog.database.lower(), target, deployment.uses_athena())
    unmet = list(lake_formation.missing(client, role, needed))
    if not unmet:
        return ok(f"{found}; role {deployment.role} has the grants")
    lacking = "; ".join(f"{', '.join(grant.permissions)} on {_name(grant.resource)}" for grant in unmet)
    found = f"{found}\nrole {deployment.role} lacks {lacking}"
    if set(kinds) <= {*catalog.lake_formation}:
        return warning(found, "`bucketwheel deploy apply` grants them; run it as a data lake administrator")
    commands = "\n".join(lake_formation.grant_command(grant.permissions, grant.resource, role) for grant in unmet)
    settings = f"catalog.create_database=false, catalog.lake_formation={','.join(kinds)}"
    return failed(found, f"set {settings} and run `bucketwheel deploy apply`, or run:\n{commands}")


def _is_governed(client: Any, deployment: Deployment, exists: bool) -> bool:
    """Return whether Lake Formation, and not only IAM, decides on the database, or would on a new one."""
    if exists:
        resource = {"Database": {"Name": deployment.settings.catalog.database.lower()}}
        return "ALL" not in lake_formation.granted(client, EVERYBODY, resource)
    settings = client.get_data_lake_settings()["DataLakeSettings"]
    return not any(
        "ALL" in entry["Permissions"]
        for entry in settings.get("CreateDatabaseDefaultPermissions", [])
        if entry["Principal"]["DataLakePrincipalIdentifier"] == EVERYBODY
    )


def _name(resource: dict[str, Any]) -> str:
    """Return a resource of Lake Formation in words."""
    if table := resource.get("Table"):
        return f"all tables of {table['DatabaseName']}"
    if database := resource.get("Database"):
        return f"database {database['Name']}"
    return str(resource["DataLocation"]["ResourceArn"])
