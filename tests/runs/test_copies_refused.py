"""What a SQL engine cannot copy is refused before it is asked."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from copies_support import Copying, failed

from bucketwheel.errors import ConfigError, SelectionError
from bucketwheel.pipeline.plan import plan
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.runs.manifest import Manifest
from fake_executor import FakeExecutor
from runs_support import DATASET, JANUARY, reports, warnings_in


def test_staged_tables_that_show_another_run_are_not_copied(copying: Copying) -> None:
    copying.run(["discover", "split", "size", "bucket", "verify"])
    error = failed(copying, SelectionError, stages=["ctas"])
    assert "publish it first: --stages register,ctas --resume" in str(error)
    assert copying.engine.statements == []


def test_more_buckets_than_the_engine_writes_are_refused_before_a_statement(copying: Copying) -> None:
    copying.executor.writers = 3
    error = failed(copying, ConfigError)
    assert "at most 3" in str(error)
    assert "ctas.method=promote, which moves no data" in str(error)
    assert "buckets.count=2 or less" in str(error)
    assert copying.engine.statements == []


@pytest.mark.parametrize(("count", "refused"), [(100, False), (101, True), (256, True), ("none", False)])
def test_athenas_limit_is_known_when_planning(copying: Copying, count: int | str, refused: bool) -> None:
    settings = copying.settings(catalog__kind="glue", ctas__method="athena", buckets__count=count)
    if not refused:
        assert plan(settings, RunRequest(DATASET)).size.bucketed == (count != "none")
        return
    with pytest.raises(ConfigError, match=rf"athena, .* at most 100 .* gives {count}; .*promote.*buckets\.count=64"):
        plan(settings, RunRequest(DATASET))


def test_a_hash_that_the_engine_cannot_write_is_refused(copying: Copying) -> None:
    error = failed(copying, ConfigError, buckets__hash="spark")
    assert "writes buckets by hive_v1 or hive_v2, buckets.hash is spark" in str(error)


def test_what_is_wrong_with_the_engine_is_said_before_the_heavy_work(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: FakeExecutor) -> None:
        raise ConfigError("workgroup is disabled")

    monkeypatch.setattr(FakeExecutor, "check", refuse)
    failed(copying, ConfigError)
    assert list(copying.manifests()[-1].stages) == ["discover"]


def test_copies_that_are_less_than_promoted_files_are_warned_of(copying: Copying) -> None:
    copying.executor.sorts = False
    copying.executor.timestamp_unit = "ms"
    directory = copying.mapping.parent / f"snapshot_dt={JANUARY}"
    for path in directory.iterdir():
        read = pq.read_table(path)
        fine = pa.array([1] * read.num_rows, pa.timestamp("us"))
        pq.write_table(read.set_column(1, read.column_names[1], fine), path)
    steps, report = reports()
    manifest: Manifest = copying.run(report=report).manifest
    assert "copies are not sorted within their buckets" in warnings_in(steps)
    assert "copies keep times to the ms, finer digits of people_1_value are lost" in warnings_in(steps)
    assert {copy.sorted for copy in copying.result(manifest.run_id).copies} == {False}
    final = [table for table in copying.engine.catalog.tables() if table.name.startswith("bucketed_")]
    assert {table.sorted for table in final} == {False}


@pytest.mark.parametrize(
    ("kind", "method", "text"),
    [
        ("duckdb", "athena", "Athena copies tables of Glue"),
        ("memory", "athena", "Athena copies tables of Glue"),
        ("duckdb", "trino", "catalog.kind duckdb, which no SQL engine shares"),
    ],
)
def test_an_engine_that_cannot_see_the_catalog_is_refused_as_configuration(
    copying: Copying, kind: str, method: str, text: str
) -> None:
    error = failed(copying, ConfigError, catalog__kind=kind, ctas__method=method)
    assert text in str(error)
    assert copying.manifests() == []
    settings = copying.settings(catalog__kind=kind, ctas__method=method)
    with pytest.raises(ConfigError, match=text):
        plan(settings, RunRequest(DATASET))


def test_an_unknown_method_is_refused_with_those_there_are(copying: Copying) -> None:
    error = failed(copying, SelectionError, ctas__method="trini")
    assert "no executor is called 'trini'; did you mean 'trino'? known: promote, athena, fake, trino" in str(error)
    assert copying.manifests() == []
