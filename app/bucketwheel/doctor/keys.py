"""Check the KMS keys of everything that jobs read and write."""

from __future__ import annotations

from bucketwheel.deploy.keys import FoundKeys, mismatches
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.doctor.checks import CheckResult, failed, ok, warning

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
