"""Check that the jobs' role has every permission that jobs need, by IAM's policy simulation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, is_denied, wrap_aws_errors
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.policy import READ_PACKAGE, Statement, job_statements
from bucketwheel.doctor.checks import CheckResult, failed, ok, warning
from bucketwheel.errors import BucketwheelError, ConfigError
from bucketwheel.formatting import counted

if TYPE_CHECKING:
    from mypy_boto3_iam.type_defs import EvaluationResultTypeDef, ResourceSpecificResultTypeDef

# Replaces `*` in a policy's patterns.
_SAMPLE = "bucketwheel-doctor"
_MAX_SHOWN = 6
_BY_POLICY, _BY_BOUNDARY, _BY_ORGANIZATION = (
    "denied by a policy",
    "outside the permissions boundary",
    "denied by a policy of the organization",
)
_GRANT = "`bucketwheel deploy apply` grants them; check its permissions boundary and the account policies, too"


class _Denial(NamedTuple):
    """A denied action; `reason` is empty if no policy grants it."""

    action: str
    resource: str
    reason: str


def applies(deployment: Deployment) -> bool:
    """Return whether jobs of this configuration can run on AWS at all."""
    try:
        _ = deployment.target(), deployment.sources(), deployment.mappings()
    except ConfigError:
        return False
    return True


def look(deployment: Deployment) -> CheckResult:
    """Simulate every action of the jobs' policy.

    Raises:
        BucketwheelError: IAM failed, or there are no credentials.
    """
    settings = deployment.settings.aws
    iam, role = clients.client("iam", settings), deployment.role
    try:
        with wrap_aws_errors(BucketwheelError, f"role {role}"):
            arn = iam.get_role(RoleName=role)["Role"]["Arn"]
            denied, simulated = _denied(iam, arn, deployment)
    except BucketwheelError as error:
        return without_answer(error, role)
    if denied:
        return _failed(role, denied)
    return ok(f"role {role}: {counted(simulated, 'action')} simulated, all allowed")


def _failed(role: str, denied: Sequence[_Denial]) -> CheckResult:
    actions: dict[tuple[str, str], list[str]] = {}
    for denial in denied:
        actions.setdefault((denial.resource, denial.reason), []).append(denial.action)
    lines = [
        f"{', '.join(dict.fromkeys(names))} on {resource}{f' ({reason})' if reason else ''}"
        for (resource, reason), names in actions.items()
    ]
    more = [f"and more on {counted(len(lines) - _MAX_SHOWN, 'other resource')}"] if len(lines) > _MAX_SHOWN else []
    reasons = sorted({denial.reason for denial in denied} - {""})
    advice = [_GRANT] if any(not denial.reason for denial in denied) else []
    advice += [f"{reason}: change that policy, because a grant does not override it" for reason in reasons]
    return failed("\n".join([f"role {role} lacks permissions:", *lines[:_MAX_SHOWN], *more]), "\n".join(advice))


def without_answer(error: BucketwheelError, role: str) -> CheckResult:
    """Return the result of a check that IAM did not answer.

    Raises:
        BucketwheelError: IAM failed, or there are no credentials.
    """
    code = code_of(error.__cause__ or error)
    if code == "NoSuchEntity":
        return warning(f"role {role} does not exist", "`bucketwheel deploy apply` creates it")
    if is_denied(error.__cause__ or error) or "NotImplemented" in f"{code} {error}":
        return warning(
            f"unknown, because IAM refused to answer: {error}",
            "allow iam:GetRole and iam:SimulatePrincipalPolicy to the caller",
        )
    raise error


def _denied(iam: Any, arn: str, deployment: Deployment) -> tuple[list[_Denial], int]:
    """Return the denied actions, and the number of simulated actions."""
    partition, account = arn.split(":")[1], arn.split(":")[4]
    names = {"AWS::Partition": partition, "AWS::Region": _region(deployment), "AWS::AccountId": account}
    denied: list[_Denial] = []
    simulated: set[str] = set()
    for statement in _statements(deployment):
        resources = list(_resources(statement, names))
        if not resources:
            continue
        actions = statement["Action"]
        simulated.update(actions)
        pages = iam.get_paginator("simulate_principal_policy").paginate(
            PolicySourceArn=arn,
            ActionNames=actions,
            ResourceArns=resources,
            ContextEntries=_context(statement, names),
        )
        for page in pages:
            for result in page["EvaluationResults"]:
                denied += _denials(result, resources)
    return denied, len(simulated)


def _denials(result: EvaluationResultTypeDef, resources: Sequence[str]) -> Iterator[_Denial]:
    """Yield each resource on which the action is denied.

    IAM returns one result per action with the decision for all resources together, and the name of their type instead
    of a resource; the decisions per resource are below it, unless the only resource is `*`.
    """
    action, details = result["EvalActionName"], result.get("ResourceSpecificResults") or ()
    for detail in details:
        if detail["EvalResourceDecision"] != "allowed":
            reason = _reason(detail["EvalResourceDecision"], detail, result)
            yield _Denial(action, detail["EvalResourceName"], reason)
    if not details and result["EvalDecision"] != "allowed":
        yield _Denial(action, ", ".join(resources), _reason(result["EvalDecision"], result, result))


def _reason(
    decision: str, detail: ResourceSpecificResultTypeDef | EvaluationResultTypeDef, result: EvaluationResultTypeDef
) -> str:
    if not result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations", True):
        return _BY_ORGANIZATION
    if not detail.get("PermissionsBoundaryDecisionDetail", {}).get("AllowedByPermissionsBoundary", True):
        return _BY_BOUNDARY
    return _BY_POLICY if decision == "explicitDeny" else ""


def _region(deployment: Deployment) -> str:
    """Return the region for the names of resources; IAM itself has none."""
    return str(deployment.settings.aws.region or clients.session().region_name or "us-east-1")


def _statements(deployment: Deployment) -> Iterator[Statement]:
    """Yield the statements of the role's policy; without `deploy.package`, all but the one for it."""
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
    """Yield the resources of the statement, without those that only the stack knows, such as its key."""
    resources = statement["Resource"]
    for resource in resources if isinstance(resources, list) else [resources]:
        text = _text(resource, names)
        if text is not None:
            yield text if text == "*" else text.replace("*", _SAMPLE)


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
    """Return the context with which the conditions of a statement hold."""
    entries = []
    for operator, wanted in statement.get("Condition", {}).items():
        kind = "boolean" if operator == "Bool" else "string"
        for key, patterns in wanted.items():
            first = patterns[0] if isinstance(patterns, list) else patterns
            # Our only `Null` wants the key to be there, with any value.
            value = str(_text(first, names)).replace("*", _SAMPLE)
            entries.append({"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": kind})
    return entries
