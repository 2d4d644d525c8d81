from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stack_account import Account

from aws_server import reset, served
from deploy_support import REGION
from submit_support import Glue


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    with served() as endpoint:
        yield endpoint


@pytest.fixture
def aws_url(moto_server: str, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """AWS as moto knows it, empty."""
    reset(moto_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return moto_server


@pytest.fixture
def glue(aws_url: str, tmp_path: Path) -> Glue:
    return Glue(aws_url, tmp_path / "out")


@pytest.fixture
def account(aws_url: str) -> Account:
    return Account(aws_url)
