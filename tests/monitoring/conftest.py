from __future__ import annotations

from collections.abc import Iterator

import pytest

from aws_server import CREDENTIALS, served


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with served() as endpoint:
        yield endpoint


@pytest.fixture
def aws_endpoint(moto_endpoint: str, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the endpoint of moto and set credentials for it."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return moto_endpoint
