from __future__ import annotations

import os
from pathlib import Path

import pytest
from cloud_support import Cloud
from copies_support import Copying

from aws_faults import shorten_pauses
from aws_server import plain_client
from bucketwheel import plugins
from bucketwheel.executors import copy_tables
from bucketwheel.storage import Storage, durable
from bucketwheel.testing.clock import Clock
from fake_executor import FakeExecutor
from fake_sql import TinySql
from memory_catalog import MemoryCatalog
from runs_support import JANUARY, Case


@pytest.fixture(autouse=True)
def no_disk_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(durable, "sync_file_system", lambda _: True)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A case with the snapshot of January."""
    january = Case(tmp_path)
    january.snapshot(JANUARY)
    return january


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    return tmp_path / "metadata"


@pytest.fixture
def copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copying:
    """A case with the snapshot of January; an executor copies its final tables."""
    copied_case = Copying(tmp_path, changes={"catalog__kind": "memory", "ctas__method": "fake"})
    copied_case.snapshot(JANUARY)
    copied_case.engine = TinySql(MemoryCatalog(), Storage(copied_case.settings().storage))
    copied_case.executor = FakeExecutor(copied_case.engine)
    monkeypatch.setitem(plugins._BUILT_IN["catalogs"], "memory", "memory_catalog:MemoryCatalog")
    monkeypatch.setitem(plugins._BUILT_IN["executors"], "fake", "fake_executor:FakeExecutor")
    monkeypatch.setattr(plugins, "catalog", lambda _: copied_case.engine.catalog)
    monkeypatch.setattr(plugins, "executor", lambda _: copied_case.executor)
    monkeypatch.setattr(copy_tables, "_PAUSE_SECONDS", 0)
    return copied_case


@pytest.fixture
def cloud(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    shorten_pauses(monkeypatch)
    bucket = "runs-" + "".join(char for char in tmp_path.name.lower() if char.isalnum())[-40:]
    plain_client("s3", aws).create_bucket(Bucket=bucket)
    on_aws = Cloud(
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
    on_aws.bucket = bucket
    on_aws.snapshot(JANUARY)
    return on_aws
