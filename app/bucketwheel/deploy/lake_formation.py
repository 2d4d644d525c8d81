"""Check that the resources exist on which the stack grants permissions of Lake Formation.

CloudFormation fails on a grant for a missing database or an unregistered location after it created other resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bucketwheel.aws import clients, lake_formation
from bucketwheel.aws.errors import code_of, is_denied, wrap_aws_errors
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.errors import BucketwheelError, DeployError


@dataclass(frozen=True)
class Absent:
    """A resource of `catalog.lake_formation` that does not exist, and the fix."""

    problem: str
    fix: str


def check(deployment: Deployment, echo: Callable[[str], None]) -> None:
    """Raise DeployError if a grant of the stack would fail; a caller who may not look gets a warning.

    Raises:
        DeployError: the database is missing, the target is not registered, or AWS failed.
    """
    if deployment.settings.catalog.kind != "glue" or not deployment.settings.catalog.lake_formation:
        return
    settings = deployment.settings.aws
    try:
        with wrap_aws_errors(DeployError, "Lake Formation"):
            partition = clients.client("sts", settings).get_caller_identity()["Arn"].split(":")[1]
            found = list(absent(clients.client("lakeformation", settings), deployment, partition))
    except BucketwheelError as error:
        if not is_denied(error.__cause__ or error):
            raise
        echo(f"warning: the resources of catalog.lake_formation are not checked: {error}")
        return
    if found:
        raise DeployError("\n".join(f"{one.problem}; {one.fix}" for one in found))


def absent(client: Any, deployment: Deployment, partition: str) -> Iterator[Absent]:
    """Yield each resource that the grants of `catalog.lake_formation` need and that does not exist."""
    catalog, target = deployment.settings.catalog, deployment.target().arn(partition)
    of_database = [kind for kind in ("database", "tables") if kind in catalog.lake_formation]
    if of_database and not database_exists(deployment):
        name = catalog.database.lower()
        yield Absent(
            f"catalog.lake_formation={','.join(of_database)}, but database {name} does not exist",
            f'create it first: aws glue create-database --database-input \'{{"Name": "{name}"}}\'',
        )
    if "locations" in catalog.lake_formation and not lake_formation.registered(client, target):
        yield Absent(
            f"catalog.lake_formation=locations, but the target {target} is not registered with Lake Formation",
            "remove locations from the setting, or register it: aws lakeformation register-resource "
            f"--resource-arn {target} --use-service-linked-role",
        )


def database_exists(deployment: Deployment) -> bool:
    """Return whether the database of the catalog exists.

    Raises:
        DeployError: Glue refused the call or failed.
    """
    name = deployment.settings.catalog.database.lower()
    try:
        with wrap_aws_errors(DeployError, f"database {name}"):
            clients.client("glue", deployment.settings.aws).get_database(Name=name)
    except DeployError as error:
        if code_of(error.__cause__ or error) != "EntityNotFoundException":
            raise
        return False
    return True
