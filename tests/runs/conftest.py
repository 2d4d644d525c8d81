from __future__ import annotations

import os
from pathlib import Path

import pytest
from cloud_support import Cloud
from copies_support import Copying

from aws_server import plain_client
from bucketwheel import plugins
from bucketwheel.executors import copy_tables
from bucketwheel.storage import Storage
from fake_executor import FakeExecutor
from fake_sql import TinySql
from memory_catalog import MemoryCatalog
from runs_support import JANUARY, Case, Clock


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A case with the snapshot of January."""
    made = Case(tmp_path)
    made.snapshot(JANUARY)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "books"


@pytest.fixture
def copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copying:
    """A case with the snapshot of January whose final tables are copied."""
    made = Copying(tmp_path, changes={"catalog__kind": "memory", "ctas__method": "fake"})
    made.snapshot(JANUARY)
    made.engine = TinySql(MemoryCatalog(), Storage(made.settings().storage))
    made.executor = FakeExecutor(made.engine)
    monkeypatch.setitem(plugins._BUILT_IN["catalogs"], "memory", "memory_catalog:MemoryCatalog")
    monkeypatch.setitem(plugins._BUILT_IN["executors"], "fake", "fake_executor:FakeExecutor")
    monkeypatch.setattr(plugins, "catalog", lambda _: made.engine.catalog)
    monkeypatch.setattr(plugins, "executor", lambda _: made.executor)
    monkeypatch.setattr(copy_tables, "_PAUSE_SECONDS", 0)
    return made


@pytest.fixture
def cloud(aws: str, tmp_path: Path) -> Cloud:
    bucket = "runs-" + "".join(char for char in tmp_path.name.lower() if char.isalnum())[-40:]
    plain_client("s3", aws).create_bucket(Bucket=bucket)
    made = Cloud(
        tmp_path,
        rows=60,
        changes={
            "target": f"s3://{bucket}/target",
            "catalog__kind": "glue",
            "catalog__path": None,
            "catalog__database": bucket.replace("-", "_"),
            "aws__endpoint_url": aws,
            "aws__region": "us-east-1",
            "aws__attempts": 2,
        },
    )
    made.bucket = bucket
    made.snapshot(JANUARY)
    return made
