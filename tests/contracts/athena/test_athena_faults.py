"""Faults between the Athena executor and Athena, and refusals of Athena."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from executor_support import athena_settings

from aws_faults import Fault, Faults, faulty, lost_response, refusal, timeout
from bucketwheel.aws import clients as aws_module
from bucketwheel.contracts import TableCopy
from bucketwheel.errors import BucketwheelError, ExecutorBusyError, ExecutorDeniedError, ExecutorError, StatementError
from bucketwheel.executors.athena import AthenaExecutor
from fake_athena import FakeAthena
from fake_sql import Plan, TinySql

BUSY = refusal("TooManyRequestsException", message="Rate exceeded")
BROKEN = refusal("InternalServerException", 500)
DENIED = refusal("AccessDeniedException", message="not authorized to perform this")
INVALID = "InvalidRequestException"
OPERATIONS = ["StartQueryExecution", "GetQueryExecution", "GetQueryResults", "GetWorkGroup", "StopQueryExecution"]


def use_all(executor: AthenaExecutor, engine: TinySql, fake: FakeAthena, copy: TableCopy) -> None:
    """Call every operation: check, a stopped copy, a finished copy and its keys."""
    executor.check()
    stop = Event()
    stop.set()
    engine.plan("CREATE TABLE", Plan(hang=True))
    with pytest.raises(ExecutorError, match="was cancelled because the run is being stopped") as caught:
        executor.copy(copy, stop)
    assert not getattr(caught.value, "__notes__", [])
    assert set(fake.stopped) == set(fake.queries)
    executor.copy(copy, Event())
    assert executor.keys("tmp_copy", ["customer_user_id"], Event()).rows
    assert len(fake.queries) == 3


def test_start_with_lost_response_starts_one_query(
    executor: AthenaExecutor, fake: FakeAthena, faults: Faults, copy: TableCopy
) -> None:
    faults.plan("StartQueryExecution", lost_response)
    executor.copy(copy, Event())
    assert faults.calls["StartQueryExecution"] == 2
    assert len(fake.queries) == 1


# botocore gives up after two attempts.
@pytest.mark.parametrize("planned", [[BUSY], [BROKEN], [timeout], [lost_response], [BUSY] * 5])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_temporary_faults_are_retried(
    executor: AthenaExecutor,
    engine: TinySql,
    fake: FakeAthena,
    faults: Faults,
    copy: TableCopy,
    operation: str,
    planned: list[Fault],
) -> None:
    faults.plan(operation, *planned)
    use_all(executor, engine, fake, copy)
    assert faults.calls[operation] > len(planned)


def test_query_that_cannot_be_stopped_is_named(
    executor: AthenaExecutor, engine: TinySql, faults: Faults, copy: TableCopy
) -> None:
    engine.plan("CREATE TABLE", Plan(hang=True))
    faults.always("StopQueryExecution", refusal("AccessDeniedException"))
    stop = Event()
    stop.set()
    with pytest.raises(ExecutorError, match="was cancelled") as caught:
        executor.copy(copy, stop)
    assert "may continue: it could not be cancelled" in "\n".join(caught.value.__notes__)


def error_of(executor: AthenaExecutor, copy: TableCopy, operation: str) -> BucketwheelError:
    """Return the error of an executor call that uses this operation."""

    def keys() -> object:
        executor.copy(copy, Event())
        return executor.keys("tmp_copy", ["customer_user_id"], Event())

    actions: dict[str, Callable[[], object]] = {"GetWorkGroup": executor.check, "GetQueryResults": keys}
    with pytest.raises(BucketwheelError) as caught:
        actions.get(operation, lambda: executor.copy(copy, Event()))()
    return caught.value


@pytest.mark.parametrize("operation", OPERATIONS[:4])
def test_denied_call_names_action_and_workgroup(
    executor: AthenaExecutor, faults: Faults, copy: TableCopy, operation: str
) -> None:
    faults.always(operation, DENIED)
    error = error_of(executor, copy, operation)
    assert type(error) is ExecutorDeniedError
    assert f"workgroup primary): {operation} was denied (not authorized to perform this)" in str(error)
    assert "the role needs permission for this action" in str(error)
    # After the status request fails, the executor stops the query and requests its status once more.
    assert faults.calls[operation] == (2 if operation == "GetQueryExecution" else 1)


@pytest.mark.parametrize("fault", [BUSY, BROKEN])
@pytest.mark.parametrize("operation", OPERATIONS[:4])
def test_persistent_throttling_raises_busy_error(
    aws: str, engine: TinySql, fake: FakeAthena, copy: TableCopy, operation: str, fault: Fault
) -> None:
    settings = athena_settings(aws, {"attempts": 1})
    catalog = settings.catalog.model_copy(update={"retry_seconds": 0.3, "database": engine.catalog.database})  # type: ignore[attr-defined]
    settings = settings.model_copy(update={"catalog": catalog})
    with faulty(aws_module.client("athena", settings.aws)) as faults:
        faults.always(operation, fault)
        error = error_of(AthenaExecutor(settings), copy, operation)
        assert faults.calls[operation] > 1
    assert type(error) is ExecutorBusyError
    assert f"workgroup primary): {operation} failed: " in str(error)
    assert str(error).endswith("; the engine is busy; try again later, or lower ctas.concurrency")


def malformed(request: Any) -> Any:
    """Refuse a statement with an error code of Athena and a meaningless message."""
    response = refusal(INVALID)(request)
    content = {"__type": INVALID, "AthenaErrorCode": "MALFORMED_QUERY", "Message": "no"}
    response.raw = type(response.raw)(json.dumps(content).encode())
    return response


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (malformed, StatementError, "no"),
        (
            refusal(INVALID, message="line 1:8: mismatched input 'TABEL'"),
            StatementError,
            "line 1:8: mismatched input",
        ),
        (refusal(INVALID, message="Queries of this type are not supported"), StatementError, "Queries of this type"),
        (refusal(INVALID, message="Unable to verify/create output bucket x"), ExecutorError, "Unable to verify"),
        (timeout, ExecutorError, "Connect timeout"),
    ],
)
def test_refused_start_determines_error_class(
    executor: AthenaExecutor, faults: Faults, copy: TableCopy, fault: Fault, kind: type[ExecutorError], text: str
) -> None:
    faults.always("StartQueryExecution", fault)
    error = error_of(executor, copy, "StartQueryExecution")
    assert type(error) is kind
    assert "Athena (copy of ext_ibe_01, workgroup primary): " in str(error)
    assert text in str(error)
    assert ("rejects the statement" in str(error)) == (kind is StatementError)
