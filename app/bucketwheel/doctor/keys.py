"""Check the KMS keys of everything that jobs read and write, and the policy of the key of the stack."""

from __future__ import annotations

from collections.abc import Iterator

from bucketwheel.aws import clients
from bucketwheel.aws.errors import is_denied, wrap_aws_errors
from bucketwheel.deploy import key_policy
from bucketwheel.deploy.keys import FoundKeys, mismatches
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.doctor.checks import CheckResult, failed, of_error, ok, warning
from bucketwheel.errors import BucketwheelError, DeployError

_CALLS = (
    "s3:GetEncryptionConfiguration, kms:DescribeKey, glue:GetDataCatalogEncryptionSettings, athena:GetWorkGroup and "
    "sns:GetTopicAttributes"
)


def look(deployment: Deployment, found: FoundKeys) -> CheckResult:
    """Report the customer keys that were found, and those that no job can use."""
    if others := list(mismatches(deployment, found)):
        return failed("\n".join(others), "set it to the key in use, then `bucketwheel deploy apply`")
    if broken := [use for use in found.uses if not use.usable]:
        return failed(
            "\n".join(f"key {use.arn} of {use.thing} is {use.state}" for use in broken),
            "enable the key, or cancel its deletion: `aws kms enable-key` or `aws kms cancel-key-deletion`",
        )
    if closed := list(_closed(deployment, found)):
        return of_error(DeployError("\n".join(closed)))
    things: dict[str, list[str]] = {}
    for use in found.uses:
        things.setdefault(use.arn, []).append(use.thing)
    lines = [f"{arn}: {', '.join(used)}" for arn, used in things.items()]
    if found.unknown:
        settings = "\n".join(dict.fromkeys(text.partition("; ")[2] for text in found.unknown))
        return warning(
            "\n".join([*lines, *(text.partition("; ")[0] for text in found.unknown)]),
            f"{settings}; or allow {_CALLS} to the caller",
        )
    return ok("\n".join(lines) or "no customer keys: AWS manages the keys of buckets and catalog")


def _closed(deployment: Deployment, found: FoundKeys) -> Iterator[str]:
    """Yield an error for each key whose policy lets no role of this account use it."""
    for key in dict.fromkeys(use.arn for use in found.uses):
        account = _account(deployment)
        try:
            document = key_policy.read(deployment, key)
        except BucketwheelError as error:
            if is_denied(error.__cause__ or error):
                continue
            raise
        own = key_policy.needed(key, account)[:1]
        if key_policy.missing(document, own, key_policy.users(deployment, key, account)):
            yield key_policy.explanation(key, own)


def look_at_policy(deployment: Deployment) -> CheckResult:
    """Check that the policy of `deploy.kms_key` lets services and roles use it."""
    key = str(deployment.settings.deploy.kms_key)
    region = deployment.settings.aws.region or clients.session().region_name or key.split(":")[3]
    unchecked = key_policy.check(deployment, _account(deployment), region)
    if unchecked:
        description, _, todo = unchecked.partition("; ")
        return warning(description, todo)
    return ok(f"{key} can be used by CloudWatch, CloudWatch Logs, EventBridge and the roles of the account")


def _account(deployment: Deployment) -> str:
    with wrap_aws_errors(BucketwheelError, "credentials"):
        return clients.client("sts", deployment.settings.aws).get_caller_identity()["Account"]
