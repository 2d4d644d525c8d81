"""The KMS key of the stack, and the statements that services need in the policy of any key that the stack uses."""

from __future__ import annotations

from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, Resources, sub
from bucketwheel.deploy.template.policy import Statement, document

_KEPT = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
_LOG_GROUPS = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:"


def key(deployment: Deployment) -> Resources:
    """Return the KMS key if `deploy.kms_key` is `create`."""
    if not deployment.makes_key:
        return {}
    properties = {
        "Description": f"Data and logs of {deployment.stack}",
        "EnableKeyRotation": True,
        "KeyPolicy": document([_own(["kms:*"]), *service_statements()]),
        "Tags": deployment.tags(),
    }
    return {"Key": {"Type": "AWS::KMS::Key", **_KEPT, "Properties": properties}}


def existing_key_statements() -> list[Statement]:
    """Return the statements that the policy of an existing key needs.

    The first one lets the policies of roles in this account grant the use of the key. S3, SNS and Athena use it with
    the permissions of their caller, so they need no statement.
    """
    return [_own(["kms:Decrypt", "kms:GenerateDataKey"]), *service_statements()]


def service_statements() -> list[Statement]:
    """Return the statements for services that use the key by themselves."""
    use = ["kms:Decrypt", "kms:GenerateDataKey*"]
    return [
        {
            # Without a condition: EventBridge sends no source account or ARN for encrypted topics, and AWS documents
            # neither for alarms. The policy of the topic limits who publishes.
            "Sid": "Notices",
            "Effect": "Allow",
            "Principal": {"Service": ["cloudwatch.amazonaws.com", "events.amazonaws.com"]},
            "Action": use,
            "Resource": "*",
        },
        {
            "Sid": "Logs",
            "Effect": "Allow",
            "Principal": {"Service": sub("logs.${AWS::Region}.${AWS::URLSuffix}")},
            "Action": [*use, "kms:Encrypt", "kms:ReEncrypt*"],
            "Resource": "*",
            "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": sub(f"{_LOG_GROUPS}*")}},
        },
    ]


def _own(actions: list[str]) -> dict[str, Any]:
    return {
        "Sid": "Own",
        "Effect": "Allow",
        "Principal": {"AWS": sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")},
        "Action": actions if len(actions) > 1 else actions[0],
        "Resource": "*",
    }
