"""The checks of test doubles and requests against botocore's models find mistakes."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

import aws_shapes


def s3() -> Any:
    return boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"WorkGroup": {"Name": "a", "Status": "ENABLED"}}, 'Unknown parameter in WorkGroup: "Status"'),
        ({"WorkGroup": {"State": "ENABLED"}}, 'Missing required parameter in WorkGroup: "Name"'),
        ({"WorkGroup": {"Name": 1}}, "Invalid type for parameter WorkGroup.Name"),
        ({"WorkGroup": {"Name": "a", "State": "OFF"}}, ".WorkGroup.State is 'OFF', not one of ENABLED, DISABLED"),
    ],
)
def test_response_that_aws_never_sends_fails(answer: dict[str, Any], problem: str) -> None:
    with pytest.raises(AssertionError) as failed:
        aws_shapes.response("athena", "GetWorkGroup", answer)
    assert problem in str(failed.value)


def test_request_with_unknown_value_fails_and_is_collected(refused_requests: list[str]) -> None:
    with pytest.raises(AssertionError, match=r"s3 PutObject: \.ServerSideEncryption is 'AES512', not one of"):
        s3().put_object(Bucket="a", Key="b", ServerSideEncryption="AES512")
    assert len(refused_requests) == 1
    refused_requests.clear()


def test_request_with_deprecated_operation_fails(refused_requests: list[str]) -> None:
    with pytest.raises(AssertionError, match="s3 PutBucketLifecycle: PutBucketLifecycle is deprecated"):
        s3().put_bucket_lifecycle(Bucket="a")
    refused_requests.clear()


@pytest.mark.parametrize(
    ("call", "parameters", "problem"),
    [
        ("get_tables", {"DatabaseName": "d", "MaxResults": 101}, ".MaxResults is 101, at most 100"),
        (
            "batch_delete_table", {"DatabaseName": "d", "TablesToDelete": ["t"] * 101},
            ".TablesToDelete has 101 items, at most 100",
        ),
        ("start_job_run", {"JobName": "j", "AllocatedCapacity": 3}, ".AllocatedCapacity is deprecated"),
        ("start_job_run", {"JobName": "j", "ExecutionClass": "CHEAP"}, ".ExecutionClass is 'CHEAP', not one of"),
    ],
)  # fmt: skip
def test_request_beyond_limits_of_glue_fails(
    refused_requests: list[str], call: str, parameters: dict[str, Any], problem: str
) -> None:
    glue: Any = boto3.client("glue", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with pytest.raises(AssertionError) as failed:
        getattr(glue, call)(**parameters)
    assert problem in str(failed.value)
    refused_requests.clear()
