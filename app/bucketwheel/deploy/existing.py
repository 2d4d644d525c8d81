"""Read existing resources as CloudFormation describes them, so that a stack can import them.

An import changes nothing, and CloudFormation compares the next update with the imported properties only. So these
must be the real ones: a property that is already right here is not changed by the update.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.errors import DeployError
from bucketwheel.settings import AwsSettings

Properties = dict[str, Any]

# Properties of AWS::Glue::Job that GetJob returns, under the same names.
JOB_PROPERTIES = (
    "Name", "Command", "Role", "Connections", "DefaultArguments", "Description", "ExecutionClass",
    "ExecutionProperty", "GlueVersion", "JobMode", "JobRunQueuingEnabled", "LogUri", "MaintenanceWindow",
    "MaxRetries", "NonOverridableArguments", "NotificationProperty", "NumberOfWorkers", "SecurityConfiguration",
    "Timeout", "WorkerType", "MaxCapacity", "AllocatedCapacity",
)  # fmt: skip
# Glue computes these from the workers, and rejects both together.
_CAPACITY = ("MaxCapacity", "AllocatedCapacity")
_CONFIGURATION = (
    "EnforceWorkGroupConfiguration",
    "PublishCloudWatchMetricsEnabled",
    "BytesScannedCutoffPerQuery",
    "RequesterPaysEnabled",
)


class Kind(NamedTuple):
    """A type of resource that can be imported: its identifying property, its name in messages, how to read it."""

    identifier: str
    word: str
    missing: tuple[str, ...]
    read: Callable[[AwsSettings, str], Properties]


def _job(settings: AwsSettings, name: str) -> Properties:
    job: Mapping[str, Any] = clients.client("glue", settings).get_job(JobName=name)["Job"]
    left_out = {*(_CAPACITY if job.get("WorkerType") else _CAPACITY[1:])}
    return {key: job[key] for key in JOB_PROPERTIES if key not in left_out and job.get(key) not in (None, "", {})}


def _role(settings: AwsSettings, name: str) -> Properties:
    """Return a role without its policies: those that the template does not name stay attached."""
    role: Mapping[str, Any] = clients.client("iam", settings).get_role(RoleName=name)["Role"]
    more = {key: role[key] for key in ("Path", "Description", "MaxSessionDuration") if role.get(key)}
    if boundary := role.get("PermissionsBoundary"):
        more["PermissionsBoundary"] = boundary["PermissionsBoundaryArn"]
    return {"RoleName": name, "AssumeRolePolicyDocument": role["AssumeRolePolicyDocument"], **more}


def _workgroup(settings: AwsSettings, name: str) -> Properties:
    group: Mapping[str, Any] = clients.client("athena", settings).get_work_group(WorkGroup=name)["WorkGroup"]
    known: Mapping[str, Any] = group.get("Configuration", {})
    configuration = {key: known[key] for key in _CONFIGURATION if key in known}
    if result := known.get("ResultConfiguration"):
        configuration["ResultConfiguration"] = result
    if engine := known.get("EngineVersion", {}).get("SelectedEngineVersion"):
        configuration["EngineVersion"] = {"SelectedEngineVersion": engine}
    described = {key: group[key] for key in ("Description", "State") if group.get(key)}
    return {"Name": name, **described, **({"WorkGroupConfiguration": configuration} if configuration else {})}


def _bucket(settings: AwsSettings, name: str) -> Properties:
    """Return a bucket by name only: properties that the template does not name stay as they are."""
    clients.client("s3", settings).head_bucket(Bucket=name)
    return {"BucketName": name}


def _bucket_policy(settings: AwsSettings, name: str) -> Properties:
    policy = clients.client("s3", settings).get_bucket_policy(Bucket=name)["Policy"]
    return {"Bucket": name, "PolicyDocument": json.loads(policy)}


def _log_group(settings: AwsSettings, name: str) -> Properties:
    pages = clients.client("logs", settings).get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    for page in pages:
        for group in page["logGroups"]:
            if group["logGroupName"] == name:
                more = {"RetentionInDays": group.get("retentionInDays"), "KmsKeyId": group.get("kmsKeyId")}
                return {"LogGroupName": name, **{key: value for key, value in more.items() if value}}
    raise LookupError(name)


KINDS = {
    "AWS::Glue::Job": Kind("Name", "Glue job", ("EntityNotFoundException",), _job),
    "AWS::IAM::Role": Kind("RoleName", "role", ("NoSuchEntity", "NoSuchEntityException"), _role),
    "AWS::Athena::WorkGroup": Kind("Name", "workgroup", ("InvalidRequestException",), _workgroup),
    "AWS::S3::Bucket": Kind("BucketName", "bucket", ("404", "NoSuchBucket"), _bucket),
    "AWS::S3::BucketPolicy": Kind("Bucket", "bucket policy", ("NoSuchBucketPolicy", "NoSuchBucket"), _bucket_policy),
    "AWS::Logs::LogGroup": Kind("LogGroupName", "log group", (), _log_group),
}


def read(settings: AwsSettings, kind: str, name: str) -> Properties | None:
    """Return the properties of a resource in CloudFormation's form; None if it does not exist.

    Raises:
        DeployError: it exists but cannot be read.
    """
    with wrap_aws_errors(DeployError, f"{KINDS[kind].word} {name}"):
        try:
            return KINDS[kind].read(settings, name)
        except LookupError:
            return None
        except ClientError as error:
            if code_of(error) in KINDS[kind].missing:
                return None
            raise
