from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from faults.proxy import FaultProxy

from aws_faults import shorten_pauses
from aws_server import served
from bucketwheel.aws import clients
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, s3, s3_client
from s3_support import Bucket


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Endpoint of a moto server, or of the running S3 server that S3_ENDPOINT names."""
    if running := os.environ.get("S3_ENDPOINT"):
        yield running
        return
    with served() as endpoint:
        yield endpoint


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    """Proxy in front of the server; it passes every request on until a test sets a plan."""
    # moto checks the condition of a put and writes in two steps.
    with FaultProxy(s3_endpoint, serialize=True) as running_proxy:
        yield running_proxy


@pytest.fixture(autouse=True)
def s3_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxy: FaultProxy) -> Iterator[None]:
    """Set credentials and endpoint in the environment, as a user does, and shorten the pauses between attempts."""
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
    shorten_pauses(monkeypatch)
    monkeypatch.setattr(s3, "_PAUSE", 0.001)
    close_clients()
    yield
    close_clients()


def close_clients() -> None:
    for client in s3_client._clients.values():
        client.close()
    s3_client._clients.clear()
    clients.session.cache_clear()


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[Bucket]:
    """A new bucket for one test; its client bypasses the proxy."""
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
