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
