from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from moto_account import Account

from aws_faults import shorten_pauses
from aws_server import reset, served
from bucketwheel import api
from deploy_support import REGION, archive, checkout, configuration
from emr_support import Emr
from submit_support import Glue

HASHED = b"\x00\x00\x00\x00\x01\x00\x00\x00" + b"x" * 8
TIMED = b"\x00\x00\x00\x00\x00\x00\x00\x00" + b"x" * 8


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    with served() as endpoint:
        yield endpoint


@pytest.fixture
def aws_url(moto_server: str, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the endpoint of an empty moto."""
    reset(moto_server)
    shorten_pauses(monkeypatch)
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


@pytest.fixture
def emr(aws_url: str, tmp_path: Path) -> Emr:
    return Emr(aws_url, tmp_path / "out")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    return archive(tmp_path_factory.mktemp("archive"), source, kept__pyc=HASHED, left__pyc=TIMED)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, source: Path, given: Path) -> api.Package:
    """Build a package once; tests get copies."""
    return api.package(configuration(), tmp_path_factory.mktemp("package") / "package", source, given)


@pytest.fixture
def packed(tmp_path: Path, package: api.Package) -> api.Package:
    """Return a package that the test may change."""
    return replace(package, directory=Path(shutil.copytree(package.directory, tmp_path / "package")))
