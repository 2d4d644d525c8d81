"""Check that the policy of an existing KMS key lets the services and roles of the stack use it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bucketwheel.aws import clients
from bucketwheel.aws.errors import is_denied, wrap_aws_errors
from bucketwheel.deploy.template.deployment import Deployment, filled
from bucketwheel.deploy.template.key import existing_key_statements
from bucketwheel.deploy.template.monitoring import log_groups
from bucketwheel.deploy.template.policy import Statement
from bucketwheel.errors import BucketwheelError, DeployError

_PAGE = "docs/deploy.md#the-policy-of-an-existing-key"
# One action each that a pattern of the needed statements must allow.
_PATTERNS = {
    "kms:GenerateDataKey*": ("kms:GenerateDataKey",),
    "kms:ReEncrypt*": ("kms:ReEncryptFrom", "kms:ReEncryptTo"),
}
_LOG_GROUP = "kms:encryptioncontext:aws:logs:arn"
# Keys that a service does not send, so a condition on them never holds.
_NEVER_SENT = {"kms:calleraccount"}
_NEVER_SENT_BY = {"events.amazonaws.com": {"aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid"}}


@dataclass(frozen=True)
class Users:
    """The users of a key: the account, the role of its jobs, and the ARNs of the log groups of the stack."""

    account: str
    role: str
    groups: tuple[str, ...]


def users(deployment: Deployment, key: str, account: str) -> Users:
    """Return the users of a key in its region."""
    _, partition, _, region, *_ = key.split(":")
    base = f"arn:{partition}:logs:{region}:{account}:log-group:"
    return Users(account, deployment.role, tuple(base + name for name in log_groups(deployment).values()))


def read(deployment: Deployment, key: str) -> dict[str, Any]:
    """Return the policy of a key.

    Raises:
        BucketwheelError: KMS refused the call.
    """
    region = key.split(":")[3]
    settings = deployment.settings.aws.model_copy(update={"region": region})
    with wrap_aws_errors(BucketwheelError, f"key {key}"):
        answer = clients.client("kms", settings).get_key_policy(KeyId=key, PolicyName="default")
    document: dict[str, Any] = json.loads(answer["Policy"])
    return document


def check(deployment: Deployment, account: str, region: str) -> str | None:
    """Check the key of `deploy.kms_key`, if it is an ARN; return a warning if KMS does not show its policy.

    Raises:
        DeployError: the key is in another region, or its policy lacks a statement, which the message contains.
        BucketwheelError: the key does not exist, or KMS failed.
    """
    key = deployment.settings.deploy.kms_key
    if key is None or deployment.makes_key:
        return None
    if (other := key.split(":")[3]) != region:
        raise DeployError(
            f"deploy.kms_key is in {other}, but the stack is in {region}; log groups and topics need a key in their "
            "own region"
        )
    try:
        document = read(deployment, key)
    except BucketwheelError as error:
        if not is_denied(error.__cause__ or error):
            raise
        return (
            f"the policy of key {key} was not checked, because kms:GetKeyPolicy was denied; compare it with {_PAGE}"
        )
    if lacking := missing(document, needed(key, account), users(deployment, key, account)):
        raise DeployError(explanation(key, lacking))
    return None


def explanation(key: str, lacking: Sequence[Statement]) -> str:
    """Return an error with the missing statements, ready to paste."""
    text = json.dumps(list(lacking), indent=2)
    names = ", ".join(statement["Sid"] for statement in lacking)
    return (
        f"the policy of key {key} lacks what the stack needs: {names}; add these statements to its `Statement` list, "
        f"with the KMS console or `aws kms put-key-policy`:\n{text}"
    )


def needed(key: str, account: str) -> list[Statement]:
    """Return the statements that the policy of `deploy.kms_key` needs, with all names filled in."""
    partition, region = key.split(":")[1], key.split(":")[3]
    suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    names = {
        "AWS::Partition": partition,
        "AWS::Region": region,
        "AWS::AccountId": account,
        "AWS::URLSuffix": suffix,
    }
    return [filled(statement, names) for statement in existing_key_statements()]


def missing(document: Mapping[str, Any], wanted: Iterable[Statement], by: Users) -> list[Statement]:
    """Return the wanted statements that the policy does not cover."""
    return [
        statement
        for statement in wanted
        if not all(
            _allows(document, principal, action, by)
            for principal in _principals(statement)
            for action in _concrete(statement["Action"])
        )
    ]


def _principals(statement: Statement) -> list[str]:
    principal = statement["Principal"]
    return _list(principal.get("Service") or principal["AWS"])


def _concrete(actions: Any) -> Iterator[str]:
    for action in _list(actions):
        yield from _PATTERNS.get(action, (action,))


def _allows(document: Mapping[str, Any], principal: str, action: str, by: Users) -> bool:
    fitting = [
        statement
        for statement in _list(document.get("Statement"))
        if any(fnmatchcase(action.lower(), pattern.lower()) for pattern in _list(statement.get("Action")))
        and _names(statement.get("Principal"), principal, by)
    ]
    # A denial under a condition is for others: nobody denies a key to every caller and keeps it.
    if any(statement["Effect"] == "Deny" and not statement.get("Condition") for statement in fitting):
        return False
    return any(
        statement["Effect"] == "Allow" and _holds(statement.get("Condition", {}), principal, by)
        for statement in fitting
    )


def _names(given: Any, principal: str, by: Users) -> bool:
    """Return whether a statement names the principal; for an account, its job role also counts."""
    named = {"*"} & {given} if isinstance(given, str) else set()
    if isinstance(given, Mapping):
        named = {part for kind in ("Service", "AWS") for part in _list(given.get(kind))}
    if named & {principal, "*"}:
        return True
    return principal.endswith(":root") and any(
        part == by.account or part == f"{principal.removesuffix(':root')}:role/{by.role}" for part in named
    )


def _holds(condition: Mapping[str, Any], principal: str, by: Users) -> bool:
    return all(
        _key_holds(operator, key.lower(), _list(values), principal, by)
        for operator, keys in condition.items()
        for key, values in keys.items()
    )


def _key_holds(operator: str, key: str, values: list[Any], principal: str, by: Users) -> bool:
    """Return whether a condition can hold; one that cannot be judged from here counts as held."""
    if operator.endswith("IfExists") or operator.startswith(("Null", "StringNot", "ArnNot")):
        return True
    is_service = not principal.endswith(":root")
    if is_service and key in _NEVER_SENT | _NEVER_SENT_BY.get(principal, set()):
        return False
    if key == _LOG_GROUP:
        return all(any(fnmatchcase(group, pattern) for pattern in values) for group in by.groups)
    if not is_service and key == "kms:calleraccount":
        return by.account in values
    if not is_service and key == "kms:viaservice":
        return any(fnmatchcase("s3", str(value).partition(".")[0]) for value in values)
    return True


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
