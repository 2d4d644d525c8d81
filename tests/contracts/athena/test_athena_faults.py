"""What becomes of faults on the way to Athena, and of what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from executor_support import athena_settings

from aws_faults import Fault, Faults, faulty, lost_answer, refusal, timeout
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


def use_all(executor: AthenaExecutor, engine: TinySql, double: FakeAthena, copy: TableCopy) -> None:
    """Call every operation there is: a copy that is stopped, one that is not, and its keys."""
    executor.check()
    stop = Event()
    stop.set()
    engine.plan("CREATE TABLE", Plan(hang=True))
    with pytest.raises(ExecutorError, match="was cancelled because the run is being stopped") as caught:
        executor.copy(copy, stop)
    assert not getattr(caught.value, "__notes__", [])
    assert set(double.stopped) == set(double.queries)
    executor.copy(copy, Event())
    assert executor.keys("tmp_copy", ["customer_user_id"], Event()).rows
    assert len(double.queries) == 3


def test_a_start_whose_answer_got_lost_does_not_start_a_second_query(
    executor: AthenaExecutor, double: FakeAthena, faults: Faults, copy: TableCopy
) -> None:
    faults.plan("StartQueryExecution", lost_answer)
    executor.copy(copy, Event())
    assert faults.calls["StartQueryExecution"] == 2
    assert len(double.queries) == 1


# botocore gives up after two.
@pytest.mark.parametrize("planned", [[BUSY], [BROKEN], [timeout], [lost_answer], [BUSY] * 5])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_passes_is_waited_for(
    executor: AthenaExecutor,
    engine: TinySql,
    double: FakeAthena,
    faults: Faults,
    copy: TableCopy,
    operation: str,
    planned: list[Fault],
) -> None:
    faults.plan(operation, *planned)
    use_all(executor, engine, double, copy)
    assert faults.calls[operation] > len(planned)


def test_a_query_that_cannot_be_stopped_is_named(
    executor: AthenaExecutor, engine: TinySql, faults: Faults, copy: TableCopy
) -> None:
    engine.plan("CREATE TABLE", Plan(hang=True))
    faults.always("StopQueryExecution", refusal("AccessDeniedException"))
    stop = Event()
    stop.set()
    with pytest.raises(ExecutorError, match="was cancelled") as caught:
        executor.copy(copy, stop)
    assert "may continue: it could not be cancelled" in "\n".join(caught.value.__notes__)


def failing(executor: AthenaExecutor, copy: TableCopy, operation: str) -> BucketwheelError:
    """What a call to Athena ends with that meets this operation."""

    def keys() -> object:
        executor.copy(copy, Event())
        return executor.keys("tmp_copy", ["customer_user_id"], Event())

    actions: dict[str, Callable[[], object]] = {"GetWorkGroup": executor.check, "GetQueryResults": keys}
    with pytest.raises(BucketwheelError) as caught:
        actions.get(operation, lambda: executor.copy(copy, Event()))()
    return caught.value


@pytest.mark.parametrize("operation", OPERATIONS[:4])
def test_what_is_denied_is_named_with_its_action_and_the_workgroup(
    executor: AthenaExecutor, faults: Faults, copy: TableCopy, operation: str
) -> None:
    faults.always(operation, DENIED)
    error = failing(executor, copy, operation)
    assert type(error) is ExecutorDeniedError
    assert f"workgroup primary): {operation} was denied (not authorized to perform this)" in str(error)
    assert "the role needs permission for this action" in str(error)
    # A query that cannot be looked at is stopped, and then looked at once more.
    assert faults.calls[operation] == (2 if operation == "GetQueryExecution" else 1)


@pytest.mark.parametrize("fault", [BUSY, BROKEN])
@pytest.mark.parametrize("operation", OPERATIONS[:4])
def test_throttling_without_end_is_an_engine_that_is_busy(
    aws: str, engine: TinySql, double: FakeAthena, copy: TableCopy, operation: str, fault: Fault
) -> None:
    settings = athena_settings(aws, {"attempts": 1})
    catalog = settings.catalog.model_copy(update={"retry_seconds": 0.3, "database": engine.catalog.database})  # type: ignore[attr-defined]
    settings = settings.model_copy(update={"catalog": catalog})
    with faulty(aws_module.client("athena", settings.aws)) as faults:
        faults.always(operation, fault)
        error = failing(AthenaExecutor(settings), copy, operation)
        assert faults.calls[operation] > 1
    assert type(error) is ExecutorBusyError
    assert f"workgroup primary): {operation} failed: " in str(error)
    assert str(error).endswith("; it is busy; try again later, or lower ctas.concurrency")


def malformed(request: Any) -> Any:
    """Athena's refusal of a statement whose message alone would tell nothing."""
    answer = refusal(INVALID)(request)
    content = {"__type": INVALID, "AthenaErrorCode": "MALFORMED_QUERY", "Message": "no"}
    answer.raw = type(answer.raw)(json.dumps(content).encode())
    return answer


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
def test_what_athena_does_not_begin_tells_its_cause(
    executor: AthenaExecutor, faults: Faults, copy: TableCopy, fault: Fault, kind: type[ExecutorError], text: str
) -> None:
    faults.always("StartQueryExecution", fault)
    error = failing(executor, copy, "StartQueryExecution")
    assert type(error) is kind
    assert "Athena (copy of ext_ibe_01, workgroup primary): " in str(error)
    assert text in str(error)
    assert ("rejects the statement" in str(error)) == (kind is StatementError)
