"""Whether the role of the jobs may do what they do, by IAM's own simulation of its policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bucketwheel.aws import clients
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.policy import READ_PACKAGE, Statement, job_statements
from bucketwheel.doctor.checks import Seen, failed, ok, warning
from bucketwheel.errors import BucketwheelError, ConfigError

# What IAM knows a call by that it refuses to answer.
_REFUSED = {"AccessDenied", "AccessDeniedException"}
# What a pattern of a policy is tried with.
_SOMETHING = "bucketwheel-doctor"
_MOST_SHOWN = 6


def applies(deployment: Deployment) -> bool:
    """Return whether jobs of this configuration can run on AWS at all."""
    try:
        _ = deployment.target(), deployment.sources(), deployment.mappings()
    except ConfigError:
        return False
    return True


def look(deployment: Deployment) -> Seen:
    """Ask IAM about every action that the policy of the jobs has.

    Raises:
        BucketwheelError: IAM failed, or there are no credentials.
    """
    settings = deployment.settings.aws
    iam, role = clients.client("iam", settings), deployment.role
    try:
        with clients.translated(BucketwheelError, f"role {role}"):
            arn = iam.get_role(RoleName=role)["Role"]["Arn"]
            denied, asked = _denied(iam, arn, deployment)
    except BucketwheelError as error:
        return unasked(error, role)
    if denied:
        lines = [f"{', '.join(actions)} on {resource}" for resource, actions in denied.items()]
        more = [f"and more on {len(lines) - _MOST_SHOWN} other resources"] if len(lines) > _MOST_SHOWN else []
        return failed(
            "\n".join([f"role {role} may not:", *lines[:_MOST_SHOWN], *more]),
            "`bucketwheel deploy apply` gives it what it needs; look at its boundary and the policies of the account",
        )
    return ok(f"role {role}: {asked} actions simulated, all allowed")


def unasked(error: BucketwheelError, role: str) -> Seen:
    """Return what is seen of a role where IAM gave no answer about it.

    Raises:
        BucketwheelError: IAM failed, or there are no credentials.
    """
    code = clients.code_of(error.__cause__ or error)
    if code == "NoSuchEntity":
        return warning(f"there is no role {role}", "`bucketwheel deploy apply` makes it")
    if code in _REFUSED or "NotImplemented" in f"{code} {error}":
        return warning(
            f"not known, IAM may not be asked: {error}",
            "allow iam:GetRole and iam:SimulatePrincipalPolicy to whoever runs this",
        )
    raise error


def _denied(iam: Any, arn: str, deployment: Deployment) -> tuple[dict[str, list[str]], int]:
    """Return the actions that the role may not do, by resource, and how many actions were asked about."""
    partition, account = arn.split(":")[1], arn.split(":")[4]
    names = {"AWS::Partition": partition, "AWS::Region": _region(deployment), "AWS::AccountId": account}
    found: dict[str, list[str]] = {}
    asked: set[str] = set()
    for statement in _statements(deployment):
        resources = list(_resources(statement, names))
        if not resources:
            continue
        actions = statement["Action"]
        asked.update(actions)
        pages = iam.get_paginator("simulate_principal_policy").paginate(
            PolicySourceArn=arn,
            ActionNames=actions,
            ResourceArns=resources,
            ContextEntries=_context(statement, names),
        )
        for page in pages:
            for result in page["EvaluationResults"]:
                if result["EvalDecision"] != "allowed":
                    found.setdefault(result["EvalResourceName"], []).append(result["EvalActionName"])
    return found, len(asked)


def _region(deployment: Deployment) -> str:
    """Return the region that names of resources have; IAM itself has none."""
    return str(deployment.settings.aws.region or clients.session().region_name or "us-east-1")


def _statements(deployment: Deployment) -> Iterator[Statement]:
    """Yield the statements of the role; without a package, all but the one about it."""
    deploy = deployment.settings.deploy
    if deploy.package:
        yield from job_statements(deployment)
        return
    assumed = deploy.model_copy(update={"package": deployment.target().uri})
    settings = deployment.settings.model_copy(update={"deploy": assumed})
    for statement in job_statements(Deployment(settings, deployment.env)):
        if statement["Sid"] != READ_PACKAGE:
            yield statement


def _resources(statement: Statement, names: Mapping[str, str]) -> Iterator[str]:
    """Yield names that the statement is about; those that only the template knows, such as its key, are left out."""
    given = statement["Resource"]
    for resource in given if isinstance(given, list) else [given]:
        text = _text(resource, names)
        if text is not None:
            yield text if text == "*" else text.replace("*", _SOMETHING)


def _text(value: Any, names: Mapping[str, str]) -> str | None:
    if isinstance(value, str):
        return value
    text = value.get("Fn::Sub")
    if text is None:
        return None
    for name, filled in names.items():
        text = text.replace(f"${{{name}}}", filled)
    return str(text)


def _context(statement: Statement, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what a call would bring along for the conditions of a statement to hold."""
    entries = []
    for wanted in statement.get("Condition", {}).values():
        for key, patterns in wanted.items():
            first = patterns[0] if isinstance(patterns, list) else patterns
            value = str(_text(first, names)).replace("*", _SOMETHING)
            entries.append({"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"})
    return entries
