"""Check that the trust policy of the jobs' role lets the platform assume it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from bucketwheel.aws import clients
from bucketwheel.aws.errors import wrap_aws_errors
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.doctor.checks import CheckResult, failed, ok, warning
from bucketwheel.doctor.permissions import without_answer
from bucketwheel.errors import BucketwheelError

_ASSUME = {"sts:assumerole", "sts:*", "*"}


def look(deployment: Deployment) -> CheckResult:
    """Read the trust policy of the role.

    Raises:
        BucketwheelError: IAM failed, or there are no credentials.
    """
    role, service = deployment.role, f"{deployment.settings.deploy.platform}.amazonaws.com"
    try:
        with wrap_aws_errors(BucketwheelError, f"role {role}"):
            definition = clients.client("iam", deployment.settings.aws).get_role(RoleName=role)["Role"]
    except BucketwheelError as error:
        return without_answer(error, role)
    policy = cast("Mapping[str, Any]", definition.get("AssumeRolePolicyDocument") or {})
    about = list(_about(policy, service))
    allowed = [statement for statement in about if statement.get("Effect") == "Allow"]
    if len(allowed) < len(about) or not allowed:
        return failed(
            f"role {role} does not let {service} assume it",
            f"have its trust policy allow sts:AssumeRole to {service}; `bucketwheel deploy apply` does that",
        )
    if all(statement.get("Condition") for statement in allowed) and deployment.on_glue:
        return warning(
            f"role {role} lets {service} assume it only under a condition",
            "Glue sends neither account nor job when it assumes a role: remove the condition",
        )
    return ok(f"role {role} can be assumed by {service}")


def _about(document: Mapping[str, Any], service: str) -> Iterator[Mapping[str, Any]]:
    """Yield the statements that say whether this service may assume the role."""
    for statement in _list(document.get("Statement")):
        principal = statement.get("Principal", {})
        services = _list(principal.get("Service")) if isinstance(principal, Mapping) else _list(principal)
        actions = {str(action).lower() for action in _list(statement.get("Action"))}
        if actions & _ASSUME and {service, "*"} & set(services):
            yield statement


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
