"""The Athena executor: requests, failed queries and the checks of the workgroup."""

from __future__ import annotations

from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from botocore.stub import Stubber
from executor_support import athena_settings, s3_engine

from aws_faults import Faults, refusal
from aws_server import plain_client
from bucketwheel.contracts import TableCopy
from bucketwheel.errors import (
    ConfigError,
    ExecutorBusyError,
    ExecutorDeniedError,
    ExecutorError,
    ExecutorResourcesError,
    StatementError,
    TooManyWritersError,
)
from bucketwheel.executors.athena import AthenaExecutor
from bucketwheel.settings import Settings
from bucketwheel.storage import join
from bucketwheel.testing.executor import publish_source
from fake_athena import FakeAthena, athena_served
from fake_sql import Plan, TinySql


def remaining_files(engine: TinySql, copy: TableCopy) -> list[str]:
    return [entry.name for entry in engine.storage.list(str(copy.location))]


def group(aws: str, name: str, **configuration: Any) -> str:
    plain_client("athena", aws).create_work_group(Name=name, Configuration=configuration)
    return name


def test_query_request_has_all_parameters_and_a_token(
    executor: AthenaExecutor, fake: FakeAthena, copy: TableCopy, settings: Settings
) -> None:
    statement = executor.copy(copy, Event())
    (request,) = [query.request for query in fake.queries.values()]
    assert request["WorkGroup"] == "primary"
    assert request["QueryExecutionContext"] == {"Database": settings.catalog.database, "Catalog": "AwsDataCatalog"}
    assert request["ResultConfiguration"] == {"OutputLocation": settings.athena.output_location}
    assert 32 <= len(request["ClientRequestToken"]) <= 128
    assert statement.query_id in fake.queries
    assert statement.bytes_scanned == 4711


@pytest.mark.parametrize(
    ("plan", "kind"),
    [
        (Plan(message="Query exhausted resources at this scale factor", number=4), ExecutorResourcesError),
        (Plan(message="Query timeout", number=206), ExecutorResourcesError),
        (Plan(message="Rate exceeded", number=1404), ExecutorBusyError),
        (Plan(message="Please reduce your request rate", number=1403), ExecutorBusyError),
        (Plan(message="something inside", number=200, retryable=True), ExecutorBusyError),
        (Plan(message="cannot", number=1501), ExecutorDeniedError),
        (Plan(message="mismatched", number=1006), StatementError),
        # This error type only means a user error; the text determines the class.
        (Plan(message="Access Denied (Service: Amazon S3; Status Code: 403)", number=1003), ExecutorDeniedError),
        (
            Plan("PERMISSION_DENIED", "Insufficient Lake Formation permissions on t", number=1004),
            ExecutorDeniedError,
        ),
        (Plan("HIVE_TOO_MANY_OPEN_PARTITIONS", "Exceeded limit", number=1009), TooManyWritersError),
        (Plan(message="something inside", number=200), ExecutorError),
        (Plan(message=""), ExecutorError),
    ],
)
def test_athena_error_type_determines_error_class(
    executor: AthenaExecutor, engine: TinySql, copy: TableCopy, plan: Plan, kind: type[ExecutorError]
) -> None:
    engine.plan("CREATE TABLE", plan)
    with pytest.raises(ExecutorError, match=rf"Athena query .* \(copy of ext_ibe_01\) failed: {plan.name}") as caught:
        executor.copy(copy, Event())
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("workgroup", "fix"),
    [
        ("copies", r"athena.bytes_limit is 20,000,000 bytes: raise it and run `bucketwheel deploy apply`"),
        ("primary", r"athena.bytes_limit does not apply to this workgroup: raise its limit in the console"),
    ],
)
def test_scan_limit_names_setting_and_limit_of_workgroup(
    fake: FakeAthena, engine: TinySql, copy: TableCopy, settings: Settings, workgroup: str, fix: str
) -> None:
    changed = settings.athena.model_copy(update={"workgroup": workgroup, "bytes_limit": 20_000_000})
    executor = AthenaExecutor(settings.model_copy(update={"athena": changed}))
    group = {"WorkGroup": {"Name": workgroup, "Configuration": {"BytesScannedCutoffPerQuery": 11_000_000}}}
    with Stubber(executor._athena) as stub:
        stub.add_response("get_work_group", group, {"WorkGroup": workgroup})
        executor.check()
    engine.plan("CREATE TABLE", Plan(message="Query cancelled! : Bytes scanned limit was exceeded"))
    with pytest.raises(ExecutorResourcesError, match=fix) as caught:
        executor.copy(copy, Event())
    assert "Bytes scanned limit was exceeded" in str(caught.value)
    assert f"workgroup {workgroup} lets a query scan 11,000,000 bytes" in str(caught.value)


def test_lake_formation_refusal_names_missing_grant(
    executor: AthenaExecutor, engine: TinySql, copy: TableCopy, settings: Settings
) -> None:
    database = settings.catalog.database
    text = f"Insufficient Lake Formation permission({'s'}): Required Describe on {database}"
    engine.plan("CREATE TABLE", Plan("PERMISSION_DENIED", text, number=1004))
    with pytest.raises(ExecutorDeniedError, match="Lake Formation's grant DESCRIBE is missing: aws lakeformation"):
        executor.copy(copy, Event())


def test_failed_copy_deletes_files_of_its_data_manifest(
    executor: AthenaExecutor, engine: TinySql, fake: FakeAthena, copy: TableCopy
) -> None:
    kept = join(str(copy.location), "not_in_the_manifest")
    engine.plan("CREATE TABLE", Plan("HIVE_TOO_MANY_OPEN_PARTITIONS", "Exceeded limit"))
    # Another writer writes this file after the query has started.
    real = fake.execution

    def execution(query_id: str) -> dict[str, Any]:
        engine.storage.write(kept, b"x")
        return real(query_id)

    fake.execution = execution  # type: ignore[method-assign]
    with pytest.raises(TooManyWritersError):
        executor.copy(copy, Event())
    assert [query.manifest for query in fake.queries.values()] != [None]
    assert remaining_files(engine, copy) == ["not_in_the_manifest"]


def test_files_outside_target_in_data_manifest_are_kept(
    executor: AthenaExecutor, engine: TinySql, copy: TableCopy, settings: Settings
) -> None:
    bucket = settings.target.split("/")[2]
    foreign = f"s3://{bucket}/elsewhere/file.parquet"
    engine.storage.write(foreign, b"content")
    engine.plan("CREATE TABLE", Plan(message="no"))
    engine.written = _WithForeignFile(foreign)
    with pytest.raises(ExecutorError):
        executor.copy(copy, Event())
    assert engine.storage.read(foreign) == b"content"
    assert remaining_files(engine, copy) == []


class _WithForeignFile(dict[str, list[str]]):
    def __init__(self, more: str) -> None:
        super().__init__()
        self._more = more

    def __setitem__(self, key: str, value: list[str]) -> None:
        super().__setitem__(key, [*value, self._more])


def test_unreadable_data_manifest_adds_note(
    executor: AthenaExecutor, engine: TinySql, fake: FakeAthena, copy: TableCopy
) -> None:
    engine.plan("CREATE TABLE", Plan(message="no"))
    fake.results = "s3://no-such-bucket-of-ours/x"
    engine.storage = _NoManifests(engine.storage)  # type: ignore[assignment]
    with pytest.raises(ExecutorError, match="failed: no") as caught:
        executor.copy(copy, Event())
    assert "may remain" in "\n".join(caught.value.__notes__)


class _NoManifests:
    """A storage that drops data manifests."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def write(self, location: str, content: bytes) -> None:
        if not location.endswith("-manifest.csv"):
            self._storage.write(location, content)


def test_cancelled_query_is_stopped_and_its_files_deleted(
    settings: Settings, engine: TinySql, fake: FakeAthena, copy: TableCopy
) -> None:
    engine.plan("CREATE TABLE", Plan(hang=True))
    ctas = settings.ctas.model_copy(update={"timeout_seconds": 0.2})
    with pytest.raises(ExecutorResourcesError):
        AthenaExecutor(settings.model_copy(update={"ctas": ctas})).copy(copy, Event())
    assert fake.stopped == list(fake.queries)
    assert remaining_files(engine, copy) == []


def test_interrupt_stops_query(executor: AthenaExecutor, engine: TinySql, fake: FakeAthena, copy: TableCopy) -> None:
    engine.plan("CREATE TABLE", Plan(hang=True))

    class Interrupted(Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.copy(copy, Interrupted())
    assert fake.stopped == list(fake.queries)


def test_check_refuses_missing_or_disabled_workgroup(aws: str, settings: Settings, faults: Faults) -> None:
    faults.plan("GetWorkGroup", refusal("InvalidRequestException", message="WorkGroup nowhere is not found."))
    with pytest.raises(ConfigError, match=r"athena\.workgroup: Athena has no workgroup 'primary'"):
        AthenaExecutor(settings).check()

    def disabled(request: Any) -> Any:
        response = refusal("x", 200)(request)
        response.raw = type(response.raw)(b'{"WorkGroup": {"Name": "primary", "State": "DISABLED"}}')
        return response

    faults.plan("GetWorkGroup", disabled)
    with pytest.raises(ConfigError, match=r"workgroup 'primary' is disabled; enable it"):
        AthenaExecutor(settings).check()


def test_check_refuses_missing_output_location(aws: str) -> None:
    with pytest.raises(
        ConfigError, match=r"athena\.output_location: is not set, and workgroup 'primary' has no output location"
    ):
        AthenaExecutor(athena_settings(aws, output_location=None)).check()
    workgroup = group(
        aws,
        "with-results",
        ResultConfiguration={"OutputLocation": "s3://results/"},
        EnforceWorkGroupConfiguration=False,
    )
    AthenaExecutor(athena_settings(aws, output_location=None, workgroup=workgroup)).check()


def test_check_refuses_enforced_location_outside_target(aws: str) -> None:
    enforced = group(aws, "enforcing", ResultConfiguration={"OutputLocation": "s3://foreign/athena/"})
    with pytest.raises(ConfigError, match=r"enforces its output location s3://foreign/athena/, .*outside.*promote"):
        AthenaExecutor(athena_settings(aws, workgroup=enforced)).check()


def test_enforced_location_below_target_determines_table_location(aws: str) -> None:
    settings = athena_settings(aws)
    location = f"{settings.target}/athena"
    name = group(aws, f"own-{settings.catalog.database}", ResultConfiguration={"OutputLocation": f"{location}/"})
    athena = settings.athena.model_copy(update={"workgroup": name})
    settings = settings.model_copy(update={"athena": athena})
    engine = s3_engine(settings, enforced=location)
    copy = TableCopy(publish_source(engine, settings.target), "tmp_copy", None, "hive_v1")
    with athena_served(FakeAthena(engine, location)) as fake:
        executor = AthenaExecutor(settings)
        executor.check()
        assert executor.chooses_location
        statement = executor.copy(copy, Event())
    (request,) = [query.request for query in fake.queries.values()]
    assert "ResultConfiguration" not in request
    assert "external_location" not in request["QueryString"]
    table = engine.catalog.get("tmp_copy")
    assert table is not None
    assert table.location == f"{location}/tables/{statement.query_id}"


def test_copy_without_buckets_has_no_bucket_properties(
    executor: AthenaExecutor, fake: FakeAthena, copy: TableCopy
) -> None:
    executor.copy(replace(copy, source=replace(copy.source, bucket_columns=(), bucket_count=0)), Event())
    assert {"bucket" in query.text for query in fake.queries.values()} == {False}
