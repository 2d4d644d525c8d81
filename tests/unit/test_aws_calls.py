"""The recorder of calls to AWS refuses unknown and deprecated fields, wrong enums and too long lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import aws_calls
from aws_server import CREDENTIALS, REGION
from bucketwheel.aws import clients
from bucketwheel.settings import AwsSettings


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The problems that the calls of a test had."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    clients.renew_session()
    yield aws_calls.problems
    aws_calls.problems.clear()
    clients.renew_session()


@pytest.mark.parametrize(
    ("service", "call", "parameters", "problem"),
    [
        ("glue", "get_table", {"DatabaseName": "d", "Name": "t", "No": "1"}, 'Unknown parameter in input: "No"'),
        ("glue", "get_tables", {"DatabaseName": "d", "MaxResults": 101}, ".MaxResults is 101, at most 100"),
        (
            "glue", "batch_delete_table", {"DatabaseName": "d", "TablesToDelete": ["t"] * 101},
            ".TablesToDelete has 101 items, at most 100",
        ),
        (
            "glue", "start_job_run", {"JobName": "j", "AllocatedCapacity": 3}, ".AllocatedCapacity is deprecated",
        ),
        (
            "glue", "start_job_run", {"JobName": "j", "WorkerType": "G.1X", "ExecutionClass": "CHEAP"},
            ".ExecutionClass is 'CHEAP', not one of FLEX, STANDARD",
        ),
        ("s3", "get_bucket_lifecycle", {"Bucket": "b"}, "GetBucketLifecycle is deprecated"),
    ],
)  # fmt: skip
def test_recorder_reports_call_that_models_refuse(
    wrong: list[str], service: str, call: str, parameters: dict[str, Any], problem: str
) -> None:
    client = clients.make_client(service, REGION, "http://127.0.0.1:9", clients.client_config(1, 1, 1))
    with pytest.raises(Exception, match=r"Parameter validation failed|Could not connect|Connection refused"):
        getattr(client, call)(**parameters)
    assert any(problem in text for text in wrong), wrong


def test_recorder_watches_cached_and_storage_clients(wrong: list[str]) -> None:
    settings = AwsSettings(region=REGION, endpoint_url="http://127.0.0.1:9", attempts=1, connect_seconds=1)
    with pytest.raises(Exception, match="Parameter validation"):
        clients.client("sts", settings).get_caller_identity(Who="me")  # type: ignore[call-arg]
    assert wrong == ['sts GetCallerIdentity: Unknown parameter in input: "Who", must be one of: ']
