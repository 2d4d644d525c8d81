from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.retries.standard import ExponentialBackoff
from faults.proxy import FaultProxy

from aws_server import served
from bucketwheel.aws import clients
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, s3, s3_client
from s3_support import Bucket


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Where a server is that speaks S3; the tests know no more of it. S3_ENDPOINT names one that runs already."""
    if running := os.environ.get("S3_ENDPOINT"):
        yield running
        return
    with served() as endpoint:
        yield endpoint


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    """A proxy in front of the server that lets everything through until a plan is set."""
    # The stand-in server checks the condition of a put and writes in two steps.
    with FaultProxy(s3_endpoint, serialise=True) as started:
        yield started


@pytest.fixture(autouse=True)
def s3_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxy: FaultProxy) -> Iterator[None]:
    """Credentials and an endpoint as a user sets them, and no time lost between one try and the next."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_S3", proxy.url),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", str(tmp_path / "aws-config")),
        ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials")),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.001)
    monkeypatch.setattr(s3, "_PAUSE", 0.001)
    forget_clients()
    yield
    forget_clients()


def forget_clients() -> None:
    for client in s3_client._clients.values():
        client.close()
    s3_client._clients.clear()
    clients.session.cache_clear()


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[Bucket]:
    """A bucket of this test's own, as the server has it, past the proxy."""
    client: Any = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="other",
        aws_secret_access_key="other",
        config=Config(s3={"addressing_style": "path"}),
    )
    name = f"test-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    yield Bucket(client, name)
    client.close()


@pytest.fixture
def storage() -> Storage:
    return Storage(StorageSettings())
