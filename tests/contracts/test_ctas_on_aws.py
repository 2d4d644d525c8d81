"""Stages register and ctas on moto's Glue, S3 and Athena; `fake_sql` executes the queries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from executor_support import athena_settings, s3_engine

from aws_faults import faulty, refusal
from aws_server import plain_client
from bucketwheel.aws import clients as aws_module
from bucketwheel.contracts import Services
from bucketwheel.errors import CatalogError, ExecutorError
from bucketwheel.executors import copy_tables
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.runs.manifest import Manifest, PublishResult, StageRecord
from bucketwheel.settings import Settings
from bucketwheel.stages.ctas import Ctas
from bucketwheel.stages.register import Register
from bucketwheel.storage import join
from fake_athena import FakeAthena, athena_served
from fake_sql import Plan, TinySql
from runs_support import DATASET, JANUARY, Case


class Fence:
    @contextmanager
    def guard(self) -> Iterator[None]:
        yield


@dataclass
class Uploaded:
    """A verified run with its files on S3."""

    settings: Settings
    services: Services
    manifest: Manifest
    engine: TinySql
    fake: FakeAthena

    def register(self) -> None:
        result = Register().run(self.manifest, self.services)
        record = StageRecord(started="", seconds=0, result=result.model_dump(mode="json"))
        self.manifest = self.manifest.with_stage("register", record)

    def ctas(self) -> PublishResult:
        return Ctas().run(self.manifest, self.services)

    def locations(self) -> dict[str, str]:
        return {table.name: table.location for table in self.services.catalog().tables()}

    def copies(self) -> list[str]:
        entries = self.services.storage.list(join(self.settings.target, DATASET), recursive=True)
        return [entry.location for entry in entries if "/ctas-" in entry.location and not entry.is_directory]


@pytest.fixture
def uploaded(aws: str, tmp_path: Path, no_flush: None) -> Iterator[Uploaded]:
    case = Case(tmp_path)
    case.snapshot(JANUARY)
    manifest = case.run(["discover", "split", "size", "bucket", "verify"]).manifest
    remote = athena_settings(aws, {"attempts": 1})
    settings = remote.model_copy(update={"datasets": case.settings().datasets, "buckets": case.settings().buckets})
    s3 = plain_client("s3", aws)
    for path in case.target.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), settings.target.split("/")[2], f"target/{path.relative_to(case.target)}")
    services = make_services(settings, RunRequest(DATASET), lambda _: None)
    engine = s3_engine(settings)
    with athena_served(FakeAthena(engine, str(settings.athena.output_location))) as fake:
        yield Uploaded(settings, replace(services, fence=Fence()), manifest, engine, fake)


def test_ctas_publishes_copies_and_drops_temporary_tables(uploaded: Uploaded) -> None:
    uploaded.register()
    result = uploaded.ctas()
    assert [copy.bytes_scanned for copy in result.copies] == [2 * 4711] * 2
    assert all(copy.query_id in uploaded.fake.queries for copy in result.copies)
    assert sorted(uploaded.locations()) == ["bucketed_people_1", "bucketed_people_2", "ext_people_1", "ext_people_2"]
    assert {name: location for name, location in uploaded.locations().items() if name.startswith("bucketed_")} == {
        f"bucketed_{copy.table}": copy.location for copy in result.copies
    }
    assert result.warnings == ("copies are not sorted within their buckets; ctas.method=promote keeps the order",)
    texts = [query.text.split(" ")[0] for query in uploaded.fake.queries.values()]
    assert sorted(texts) == ["CREATE"] * 2 + ["DROP"] * 2 + ["SELECT"] * 3


def test_failed_copy_leaves_no_file_and_no_table(uploaded: Uploaded) -> None:
    uploaded.register()
    uploaded.engine.plan("CREATE TABLE", Plan("HIVE_TOO_MANY_OPEN_PARTITIONS", "Exceeded limit"), times=2)
    with pytest.raises(ExecutorError, match="HIVE_TOO_MANY_OPEN_PARTITIONS"):
        uploaded.ctas()
    assert sorted(uploaded.locations()) == ["ext_people_1", "ext_people_2"]
    assert uploaded.copies() == []


def test_throttled_copy_is_retried_in_new_directory(uploaded: Uploaded, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded.register()
    monkeypatch.setattr(copy_tables, "_PAUSE_SECONDS", 0)
    catalog = uploaded.settings.catalog.model_copy(update={"retry_seconds": 0})
    ctas = uploaded.settings.ctas.model_copy(update={"concurrency": 1})
    settings = uploaded.settings.model_copy(update={"catalog": catalog, "ctas": ctas})
    services = make_services(settings, RunRequest(DATASET), lambda _: None)
    uploaded.services = replace(services, fence=Fence())
    with faulty(aws_module.client("athena", settings.aws)) as faults:
        # The second query is the first copy, after the keys of the source.
        faults.plan("StartQueryExecution", None, refusal("TooManyRequestsException"))
        uploaded.ctas()
        # Keys of the source; copy, keys and drop of two tables; the copy that was not started.
        assert faults.calls["StartQueryExecution"] == 1 + 2 * 3 + 1
    assert len(uploaded.locations()) == 4


def test_refused_last_update_rolls_back_the_others(uploaded: Uploaded) -> None:
    uploaded.register()
    before = uploaded.locations()
    with faulty(aws_module.client("glue", uploaded.settings.aws)) as faults:
        # Two temporary tables and the first final one are created; the last one is refused.
        faults.plan("CreateTable", None, None, None, refusal("AccessDeniedException"))
        with pytest.raises(CatalogError, match="CreateTable was denied"):
            uploaded.ctas()
    assert uploaded.locations() == before
    statements = len(uploaded.fake.queries)
    uploaded.ctas()
    assert len(uploaded.fake.queries) == statements
    assert len(uploaded.locations()) == 4
