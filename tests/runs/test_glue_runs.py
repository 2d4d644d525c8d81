"""Whole runs on S3 and Glue, both served by moto: publish, copy, roll back and expire during reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cloud_support import Cloud

from aws_server import plain_client
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.errors import CatalogError, ConfigError, ForeignTableError
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.runs.manifest import PublishResult
from bucketwheel.storage import Storage
from fake_athena import FakeAthena, athena_served
from fake_sql import TinySql
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH

ROUNDS = 8


@pytest.fixture
def athena(cloud: Cloud) -> Iterator[FakeAthena]:
    results = f"s3://{cloud.bucket}/results"
    cloud.changes |= {"athena__output_location": f"{results}/", "ctas__method": "athena", "ctas__poll_seconds": 0.05}
    settings = cloud.settings()
    engine = TinySql(GlueCatalog(settings), Storage.of(settings))
    with athena_served(FakeAthena(engine, results)) as fake:
        yield fake


def published(manifest: Any) -> PublishResult:
    result: PublishResult = manifest.ctas
    return result


def test_publish_rollback_and_expire_never_break_reader(cloud: Cloud) -> None:
    first = cloud.run().manifest.run_id
    cloud.snapshot(FEBRUARY)
    second = cloud.run().manifest.run_id
    stop = threading.Event()
    seen: list[str] = []

    def read() -> None:
        while not stop.is_set():
            for name in ("ext_people_1", "bucketed_people_2"):
                marks = cloud.marks(name)
                assert len(marks) == 1
                seen.extend(marks)

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for turn in range(ROUNDS):
            rollback(cloud.settings(), first if turn % 2 == 0 else second, force=True)
            if turn % 4 == 3:
                expire(cloud.settings(), keep=2)
            if reader.done():
                break
        stop.set()
        reader.result()
    assert {JANUARY, FEBRUARY} == set(seen)
    cloud.snapshot(MARCH)
    cloud.run()
    assert [run.run_id for run in expire(cloud.settings(), keep=2)] == [first]
    assert cloud.marks("bucketed_people_1") == {MARCH}
    assert {first in place for place in cloud.tables_shown().values()} == {False}


def test_athena_copies_are_published_rolled_back_and_expired(cloud: Cloud, athena: FakeAthena) -> None:
    first = cloud.run().manifest
    places = [copy.location for copy in published(first).copies]
    assert sorted(place for name, place in cloud.tables_shown().items() if name.startswith("bucketed_")) == places
    assert cloud.marks("bucketed_people_1") == {JANUARY}
    cloud.snapshot(FEBRUARY)
    cloud.run()
    rollback(cloud.settings(), first.run_id)
    assert cloud.marks("bucketed_people_1") == {JANUARY}
    queries = len(athena.queries)
    cloud.run(force=True)
    assert len(athena.queries) == queries
    assert [run.run_id for run in expire(cloud.settings(), keep=1)] == [first.run_id]
    storage = Storage.of(cloud.settings())
    assert [storage.list(place) for place in places] == [[], []]
    assert cloud.marks("bucketed_people_1") == {FEBRUARY}


def test_unpublishable_settings_are_refused_before_bucketing(cloud: Cloud) -> None:
    for changes, kind, text in (
        (
            {"catalog__create_database": False},
            CatalogError,
            "does not exist .* catalog.create_database=true",
        ),
        ({"catalog__database": "our data"}, ConfigError, "'our data' is not a name that Athena can read"),
        ({"target": str(cloud.root / "out")}, ConfigError, "is a local path, which Athena cannot read"),
        ({"ctas__method": "athena"}, ConfigError, r"athena\.output_location: is not set"),
    ):
        with pytest.raises(kind, match=text):
            cloud.run(**changes)
    assert [list(manifest.stages) for manifest in cloud.manifests()] == [["discover"]] * 3


def test_foreign_table_is_refused_until_adopted(cloud: Cloud, aws: str) -> None:
    glue, database = plain_client("glue", aws), cloud.settings().catalog.database
    glue.create_database(DatabaseInput={"Name": database})
    glue.create_table(DatabaseName=database, TableInput={"Name": "ext_people_2", "Owner": "another team"})
    with pytest.raises(ForeignTableError, match=r"'ext_people_2' exists .* not created by Bucketwheel.*adopt=true"):
        cloud.run()
    assert list(cloud.tables_shown()) == ["ext_people_2"]
    cloud.run(resume="last", catalog__adopt=True)
    assert cloud.marks("ext_people_2") == {JANUARY}


def test_expire_leaves_other_dataset_in_same_database(cloud: Cloud, tmp_path: Path) -> None:
    cloud.run()
    other = Cloud(tmp_path, rows=60, dataset="firms", changes=cloud.changes)
    other.snapshot(JANUARY)
    other.run()
    cloud.snapshot(FEBRUARY)
    cloud.run()
    both = {**cloud.settings().model_dump()["datasets"], **other.settings().model_dump()["datasets"]}
    assert [run.dataset for run in expire(cloud.settings(datasets=both), keep=1)] == [DATASET]
    assert other.marks("ext_firms_1") == {JANUARY}
