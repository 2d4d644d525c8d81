"""Responses of AWS that break off but have status 200."""

from __future__ import annotations

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from aws_faults import broken_off, faulty
from bucketwheel.aws import clients
from bucketwheel.errors import StorageError
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, s3_client

CASES = {
    ("sts", "GetCallerIdentity"): b"<GetCallerIdentityResponse><GetCaller",
    ("glue", "GetDatabases"): b'{"DatabaseList": [{"Name": "a',
    ("athena", "ListWorkGroups"): b"<html>busy</html>",
}
METHODS = {
    "GetCallerIdentity": "get_caller_identity",
    "GetDatabases": "get_databases",
    "ListWorkGroups": "list_work_groups",
}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.mark.parametrize(("service", "operation"), CASES)
def test_response_that_breaks_off_is_an_aws_error(service: str, operation: str) -> None:
    client = clients.make_client(service, "us-east-1", None, Config(retries={"total_max_attempts": 1}))
    with faulty(client) as faults:
        faults.always(operation, broken_off(CASES[service, operation]))
        with pytest.raises(BotoCoreError, match=rf"{operation}: the response is damaged \(not (XML|JSON)"):
            getattr(client, METHODS[operation])()
        assert faults.calls[operation] == 1


def test_broken_off_listing_names_location() -> None:
    settings = StorageSettings(region="us-east-1", attempts=1)
    with faulty(s3_client._client(settings)) as faults:
        # Recent versions of botocore treat this response of S3 as a server error.
        faults.always("ListObjectsV2", broken_off(b"<ListBucketResult><Contents><Key>a/b</Key>"))
        with pytest.raises(StorageError, match=r"s3://bucket/.*: ListObjectsV2"):
            Storage(settings).list("s3://bucket/a")
