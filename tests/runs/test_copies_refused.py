"""Tables that a SQL engine cannot copy are refused before any statement."""

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


def test_ctas_refuses_staged_tables_of_another_run(copying: Copying) -> None:
    copying.run(["discover", "split", "size", "bucket", "verify"])
    error = failed(copying, SelectionError, stages=["ctas"])
    assert "publish it first: --stages register,ctas --resume" in str(error)
    assert copying.engine.statements == []


def test_too_many_buckets_are_refused_before_any_statement(copying: Copying) -> None:
    copying.executor.writers = 3
    error = failed(copying, ConfigError)
    assert "at most 3" in str(error)
    assert "ctas.method=promote, which moves no data" in str(error)
    assert "buckets.count=2 or less" in str(error)
    assert copying.engine.statements == []


@pytest.mark.parametrize(("count", "refused"), [(100, False), (101, True), (256, True), ("none", False)])
def test_plan_refuses_more_buckets_than_athena_writes(copying: Copying, count: int | str, refused: bool) -> None:
    settings = copying.settings(catalog__kind="glue", ctas__method="athena", buckets__count=count)
    if not refused:
        assert plan(settings, RunRequest(DATASET)).size.bucketed == (count != "none")
        return
    with pytest.raises(ConfigError, match=rf"athena, .* at most 100 .* is {count}; .*promote.*buckets\.count=64"):
        plan(settings, RunRequest(DATASET))


def test_unsupported_bucket_hash_is_refused(copying: Copying) -> None:
    error = failed(copying, ConfigError, buckets__hash="spark")
    assert "buckets by hive_v1 or hive_v2, but buckets.hash is spark" in str(error)


def test_executor_check_fails_before_bucketing(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: FakeExecutor) -> None:
        raise ConfigError("workgroup is disabled")

    monkeypatch.setattr(FakeExecutor, "check", refuse)
    failed(copying, ConfigError)
    assert list(copying.manifests()[-1].stages) == ["discover"]


def test_copies_with_fewer_properties_give_warning(copying: Copying) -> None:
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
    assert "copies store times in ms and lose the finer digits of people_1_value" in warnings_in(steps)
    assert {copy.sorted for copy in copying.result(manifest.run_id).copies} == {False}
    final = [table for table in copying.engine.catalog.tables() if table.name.startswith("bucketed_")]
    assert {table.sorted for table in final} == {False}


@pytest.mark.parametrize(
    ("kind", "method", "text"),
    [
        ("duckdb", "athena", "Athena copies only tables of Glue"),
        ("memory", "athena", "Athena copies only tables of Glue"),
        ("duckdb", "trino", "no SQL engine can read catalog.kind duckdb"),
    ],
)
def test_executor_without_access_to_catalog_is_refused(copying: Copying, kind: str, method: str, text: str) -> None:
    error = failed(copying, ConfigError, catalog__kind=kind, ctas__method=method)
    assert text in str(error)
    assert copying.manifests() == []
    settings = copying.settings(catalog__kind=kind, ctas__method=method)
    with pytest.raises(ConfigError, match=text):
        plan(settings, RunRequest(DATASET))


@pytest.mark.parametrize("scheme", ["spark", "iceberg"])
def test_copy_of_buckets_that_no_engine_writes_is_refused_by_plan(copying: Copying, scheme: str) -> None:
    settings = copying.settings(catalog__kind="glue", ctas__method="athena", buckets__hash=scheme)
    with pytest.raises(ConfigError, match=rf"buckets by hive_v1, but buckets.hash is {scheme}; set ctas.method"):
        plan(settings, RunRequest(DATASET))


def test_unknown_method_is_refused_with_known_methods(copying: Copying) -> None:
    error = failed(copying, SelectionError, ctas__method="trini")
    assert "no executor is called 'trini'; did you mean 'trino'? known: promote, athena, fake, trino" in str(error)
    assert copying.manifests() == []
