"""The monthly execution in moto's interpreter: jobs, their arguments and their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import boto3
import pytest
from moto import mock_aws
from moto.glue.models import FakeJobRun
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_glue import (
    StateTaskServiceGlue,
)
from state_machine import Machine, call_with_small_letters, wait_for_end

from deploy_support import REGION

BOTH = ["infobase_attributes", "addressable_ids"]
_SERVICES = "moto.stepfunctions.parser.asl.component.state.exec.state_task.service"


@pytest.fixture
def states(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(StateTaskServiceGlue, "_eval_integration_pattern", wait_for_end)
    monkeypatch.setattr(StateTaskServiceAwsSdk, "_eval_service_task", call_with_small_letters)
    # Jobs end at once here, and moto would look every half second.
    monkeypatch.setattr(f"{_SERVICES}.state_task_service_callback._DELAY_SECONDS_SYNC_CONDITION_CHECK", 0.05)
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        yield


@pytest.fixture
def machine(states: None) -> Machine:
    return Machine()


def test_execution_runs_stages_of_both_datasets_in_order(machine: Machine) -> None:
    assert machine.run({}) == "SUCCEEDED"
    started = machine.started()
    assert set(started[:2]) == {
        ("infobase-split-and-bucket", "infobase_attributes"),
        ("addressable-bucket", "addressable_ids"),
    }
    assert started[2:] == [
        *(("register-staged-tables", dataset) for dataset in BOTH),
        *(("create-athena-bucketed-tables", dataset) for dataset in BOTH),
    ]
    for runs in machine.runs().values():
        for arguments in runs:
            assert (arguments["--SNAPSHOT_DT"], arguments["--TABLES_FILTER"]) == ("_NONE_", "_NONE_")
            assert arguments["--env"] == "prod"
    assert [run["--stages"] for run in machine.runs()["register-staged-tables"]] == ["register", "register"]
    assert [run["--stages"] for run in machine.runs()["create-athena-bucketed-tables"]] == ["ctas", "ctas"]
    # Every job checks what the later ones need.
    later = {name: {run["--later-stages"] for run in runs} for name, runs in machine.runs().items()}
    assert later == {
        "infobase-split-and-bucket": {"register,ctas"},
        "addressable-bucket": {"register,ctas"},
        "register-staged-tables": {"ctas"},
        "create-athena-bucketed-tables": {"none"},
    }
    assert machine.notifications() == []


def test_execution_input_selects_snapshot_tables_and_datasets(machine: Machine) -> None:
    given = {"snapshot_dt": "2025-10-22", "tables_filter": "IBE_01,IBE_04", "datasets": ["infobase_attributes"]}
    assert machine.run(given) == "SUCCEEDED"
    assert machine.started() == [
        ("infobase-split-and-bucket", "infobase_attributes"),
        ("register-staged-tables", "infobase_attributes"),
        ("create-athena-bucketed-tables", "infobase_attributes"),
    ]
    for (arguments,) in machine.runs().values():
        assert (arguments["--SNAPSHOT_DT"], arguments["--TABLES_FILTER"]) == ("2025-10-22", "IBE_01,IBE_04")


def test_failed_job_ends_run_and_sends_notification(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, lambda run: run.job_name.endswith("register-staged-tables"))
    assert machine.run({}) == "FAILED"
    assert len(machine.runs()["register-staged-tables"]) == 1
    assert "create-athena-bucketed-tables" not in machine.runs()
    (notification,) = machine.notifications()
    # moto does not keep the job's own message of a failure inside a map.
    assert notification.startswith("States.")
    assert "Execution arn:aws:states:" in notification


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[FakeJobRun], bool]) -> None:
    """Make job runs end in state FAILED."""
    advance = FakeJobRun.advance

    def fail(self: FakeJobRun) -> None:
        advance(self)
        if fails(self):
            self.status = "FAILED"

    monkeypatch.setattr(FakeJobRun, "advance", fail)


@pytest.mark.parametrize(("failures", "status", "runs"), [(1, "SUCCEEDED", 2), (2, "SUCCEEDED", 3), (3, "FAILED", 3)])
def test_failed_job_is_retried_as_configured(
    states: None, monkeypatch: pytest.MonkeyPatch, failures: int, status: str, runs: int
) -> None:
    machine = Machine(deploy__retries=2)
    bad: list[str] = []

    def fails(run: FakeJobRun) -> bool:
        if run.job_name.endswith("addressable-bucket") and run.job_run_id not in bad and len(bad) < failures:
            bad.append(run.job_run_id)
        return run.job_run_id in bad

    failing(monkeypatch, fails)
    assert machine.run({}) == status
    job_runs = machine.runs()
    assert len(job_runs["addressable-bucket"]) == runs
    assert len(job_runs["infobase-split-and-bucket"]) == 1
    # moto turns a branch that failed after retries into an error that no `Catch` handles, so notices are not checked.
    assert ("register-staged-tables" in job_runs) is (status == "SUCCEEDED")


def test_dataset_runs_on_jobs_of_its_own(states: None) -> None:
    own = {"dataset": "addressable_ids", "stages": "register"}
    machine = Machine(deploy__jobs={"register-addressable": own})
    assert machine.run({}) == "SUCCEEDED"
    started = [(job, dataset) for job, dataset in machine.started() if job.startswith("register")]
    assert started == [("register-staged-tables", BOTH[0]), ("register-addressable", BOTH[1])]
    (run,) = machine.runs()["register-addressable"]
    assert (run["--dataset"], run["--stages"], run["--SNAPSHOT_DT"]) == (BOTH[1], "register", "_NONE_")


def test_unknown_dataset_fails_execution(states: None) -> None:
    machine = Machine(deploy__jobs={"register-addressable": {"dataset": BOTH[1], "stages": "register"}})
    assert machine.run({"datasets": ["nobody"]}) == "FAILED"
    assert machine.runs() == {}
    assert len(machine.notifications()) == 1


@pytest.mark.parametrize(("slow", "status", "error"), [(False, "SUCCEEDED", None), (True, "FAILED", "RunSlow")])
def test_timeout_watchdog_fails_only_while_run_is_running(
    states: None, monkeypatch: pytest.MonkeyPatch, slow: bool, status: str, error: str | None
) -> None:
    run, watch = Machine(), Machine("SlowWatch")
    if slow:
        # moto ends a run at the first request for its state.
        monkeypatch.setattr(FakeJobRun, "status", property(lambda _: "RUNNING"))
    execution = run.start({})
    if not slow:
        run.ended(execution)
    # As EventBridge has it.
    event = {"detail-type": "Step Functions Execution Status Change", "detail": {"executionArn": execution}}
    ended = watch.ended(watch.start(event))
    assert (ended["status"], ended.get("error")) == (status, error)
    if slow:
        boto3.client("stepfunctions", REGION).stop_execution(executionArn=execution)
