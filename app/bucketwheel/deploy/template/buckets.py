"""Buckets: created only if the configuration requests it, and never deleted with the stack."""

from __future__ import annotations

from typing import Any

from bucketwheel.deploy.template.deployment import (
    Deployment,
    Resources,
    arn_of,
    bucket_arn,
    joined,
    logical,
    ref,
    sub,
)
from bucketwheel.deploy.template.policy import document
from bucketwheel.errors import ConfigError
from bucketwheel.storage.locations import S3Location

_KEPT = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
_BLOCKED = {
    "BlockPublicAcls": True,
    "BlockPublicPolicy": True,
    "IgnorePublicAcls": True,
    "RestrictPublicBuckets": True,
}


def buckets(deployment: Deployment) -> Resources:
    """Return the buckets for tables and query results with their policies if `deploy.buckets` is `create`.

    Raises:
        ConfigError: the package is in a bucket that the stack is going to create.
    """
    deploy = deployment.settings.deploy
    if deploy.buckets == "adopt":
        return {}
    target, results = deployment.target(), deployment.query_results()
    names = dict.fromkeys((target.bucket, results.bucket))
    if deployment.package().bucket in names:
        raise ConfigError(
            f"deploy.package is {deploy.package!r}, in a bucket that this stack creates, but the stack needs the "
            "package first. Set deploy.artifacts to another bucket, or deploy.buckets to adopt"
        )
    parts: list[Resources] = []
    log_bucket: Any = deploy.access_log_bucket
    if log_bucket is None:
        parts.append(_access_logs(deployment, f"{target.bucket}-access-logs", list(names)))
        log_bucket = ref("AccessLogs")
    for name in names:
        rules = _rules(
            deployment, [location for location in (target,) if location.bucket == name], _results_in(name, results)
        )
        parts.append(_bucket(deployment, logical("Bucket", name), name, rules, log_bucket))
    return joined(parts)


def _results_in(name: str, results: S3Location) -> S3Location | None:
    return results if results.bucket == name else None


def _rules(deployment: Deployment, tables: list[S3Location], results: S3Location | None) -> list[dict[str, Any]]:
    """Return lifecycle rules; none deletes current objects, because only `expire` knows which files tables use."""
    deploy = deployment.settings.deploy
    rules: list[dict[str, Any]] = [
        {
            "Id": "unfinished-uploads",
            "Status": "Enabled",
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": deploy.unfinished_upload_days},
        },
        {
            "Id": "deleted-versions",
            "Status": "Enabled",
            "NoncurrentVersionExpiration": {"NoncurrentDays": deploy.old_version_days},
        },
    ]
    rules += [
        {
            "Id": "old-runs",
            "Status": "Enabled",
            "Prefix": f"{location.prefix}/{dataset}/".lstrip("/"),
            "Transitions": [{"StorageClass": "INTELLIGENT_TIERING", "TransitionInDays": deploy.tier_after_days}],
        }
        for location in tables
        for dataset in deployment.settings.datasets
    ]
    if results:
        rules.append(
            {
                "Id": "query-results",
                "Status": "Enabled",
                "Prefix": f"{results.prefix}/".lstrip("/"),
                "ExpirationInDays": deploy.query_result_days,
            }
        )
    return [rule | {"Id": f"{rule['Id']}-{number}"} for number, rule in enumerate(rules, start=1)]


def _bucket(
    deployment: Deployment, logical_id: str, name: str, rules: list[dict[str, Any]], log_bucket: Any
) -> Resources:
    properties = {
        "BucketName": name,
        "BucketEncryption": {"ServerSideEncryptionConfiguration": [_encryption(deployment)]},
        "PublicAccessBlockConfiguration": _BLOCKED,
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "VersioningConfiguration": {"Status": "Enabled"},
        "LifecycleConfiguration": {"Rules": rules},
        "LoggingConfiguration": {"DestinationBucketName": log_bucket, "LogFilePrefix": f"{name}/"},
        "Tags": deployment.tags(),
    }
    return {
        logical_id: {"Type": "AWS::S3::Bucket", **_KEPT, "Properties": properties},
        f"{logical_id}Policy": _policy(logical_id, []),
    }


def _access_logs(deployment: Deployment, name: str, sources: list[str]) -> Resources:
    """Return the bucket for access logs; S3 delivers them only to buckets with S3-managed encryption."""
    properties = {
        "BucketName": name,
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "PublicAccessBlockConfiguration": _BLOCKED,
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "VersioningConfiguration": {"Status": "Enabled"},
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "Id": "old-logs",
                    "Status": "Enabled",
                    "ExpirationInDays": deployment.settings.monitoring.retention_days,
                    "NoncurrentVersionExpiration": {"NoncurrentDays": deployment.settings.deploy.old_version_days},
                    "AbortIncompleteMultipartUpload": {
                        "DaysAfterInitiation": deployment.settings.deploy.unfinished_upload_days
                    },
                }
            ]
        },
        "Tags": deployment.tags(),
    }
    delivery = {
        "Sid": "Delivery",
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": sub("${AccessLogs.Arn}/*"),
        "Condition": {
            "StringEquals": {"aws:SourceAccount": ref("AWS::AccountId")},
            "ArnLike": {"aws:SourceArn": [bucket_arn(source) for source in sources]},
        },
    }
    return {
        "AccessLogs": {"Type": "AWS::S3::Bucket", **_KEPT, "Properties": properties},
        "AccessLogsPolicy": _policy("AccessLogs", [delivery]),
    }


def _policy(bucket: str, statements: list[dict[str, Any]]) -> dict[str, Any]:
    plain = {
        "Sid": "EncryptedConnectionsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn_of(bucket), sub(f"${{{bucket}.Arn}}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    properties = {"Bucket": ref(bucket), "PolicyDocument": document([plain, *statements])}
    return {"Type": "AWS::S3::BucketPolicy", **_KEPT, "Properties": properties}


def _encryption(deployment: Deployment) -> dict[str, Any]:
    if deployment.key is None:
        return {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    return {
        "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": deployment.key},
        "BucketKeyEnabled": True,
    }
