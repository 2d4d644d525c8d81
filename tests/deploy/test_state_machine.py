"""The monthly run as moto's interpreter of state machines runs it: which jobs, with what, in which order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.glue.models import FakeJobRun
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_glue import (
    StateTaskServiceGlue,
)

from deploy_support import ACCOUNT, REGION, rendered, resolved

PREFIX = "etl-omc-flywheel-prod-"
BOTH = ["infobase_attributes", "addressable_ids"]


class Machine:
    """The state machine of the stack with the jobs that it starts."""

    def __init__(self) -> None:
        made = rendered(deploy__retries=0)["Resources"]
        for resource in made.values():
            if resource["Type"] == "AWS::Glue::Job":
                self._glue().create_job(**{**resolved_job(resource["Properties"], made)})
        client = boto3.client("sns", REGION)
        topic = client.create_topic(Name="bucketwheel-prod-notices")["TopicArn"]
        self.queue = boto3.client("sqs", REGION).create_queue(QueueName="notices")["QueueUrl"]
        client.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:notices")
        definition = resolved(made["StateMachine"]["Properties"]["DefinitionString"], made)
        self._arn = self._states().create_state_machine(
            name="m", definition=definition, roleArn=f"arn:aws:iam::{ACCOUNT}:role/r"
        )["stateMachineArn"]

    @staticmethod
    def _states() -> Any:
        return boto3.client("stepfunctions", REGION)

    @staticmethod
    def _glue() -> Any:
        return boto3.client("glue", REGION)

    def run(self, given: dict[str, Any]) -> str:
        """Run it to its end and return how it ended."""
        arn = self._states().start_execution(stateMachineArn=self._arn, input=json.dumps(given))["executionArn"]
        deadline = time.monotonic() + 60
        while (found := self._states().describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return str(found["status"])

    def runs(self) -> dict[str, list[dict[str, str]]]:
        """The arguments of every run of every job that has one."""
        names = [job["Name"] for job in self._glue().get_jobs()["Jobs"]]
        found = {name.removeprefix(PREFIX): self._glue().get_job_runs(JobName=name)["JobRuns"] for name in names}
        return {name: [run["Arguments"] for run in runs] for name, runs in found.items() if runs}

    def started(self) -> list[tuple[str, str]]:
        """Job and dataset of every run, in the order of their start."""
        names = [job["Name"] for job in self._glue().get_jobs()["Jobs"]]
        runs = [run for name in names for run in self._glue().get_job_runs(JobName=name)["JobRuns"]]
        runs.sort(key=lambda run: run["StartedOn"])
        return [(run["JobName"].removeprefix(PREFIX), run["Arguments"]["--dataset"]) for run in runs]

    def notices(self) -> list[str]:
        client = boto3.client("sqs", REGION)
        messages = client.receive_message(QueueUrl=self.queue).get("Messages", [])
        return [json.loads(message["Body"])["Message"] for message in messages]


def resolved_job(properties: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = resolved(properties, made)
    return found


def wait_for_end(
    self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: Any, state_credentials: Any
) -> None:
    """What moto does for `.sync`, but for the end: there it stops a callback that such a task has not."""
    output = env.stack.pop()
    env.stack.append(output)
    resolver = self._build_sync_resolver(
        env=env,
        resource_runtime_part=resource_runtime_part,
        normalised_parameters=normalised_parameters,
        state_credentials=state_credentials,
    )
    waited = {"timeout_seconds": None, "callback_endpoint": None, "heartbeat_endpoint": None}
    env.stack.append(self._eval_sync(env=env, sync_resolver=resolver, **waited))


@pytest.fixture
def machine(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(StateTaskServiceGlue, "_eval_integration_pattern", wait_for_end)
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        yield Machine()


def test_both_datasets_are_bucketed_then_registered_then_finished(machine: Machine) -> None:
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
    assert machine.notices() == []


def test_by_hand_it_takes_a_snapshot_a_filter_and_datasets(machine: Machine) -> None:
    given = {"snapshot_dt": "2025-10-22", "tables_filter": "IBE_01,IBE_04", "datasets": ["infobase_attributes"]}
    assert machine.run(given) == "SUCCEEDED"
    assert machine.started() == [
        ("infobase-split-and-bucket", "infobase_attributes"),
        ("register-staged-tables", "infobase_attributes"),
        ("create-athena-bucketed-tables", "infobase_attributes"),
    ]
    for (arguments,) in machine.runs().values():
        assert (arguments["--SNAPSHOT_DT"], arguments["--TABLES_FILTER"]) == ("2025-10-22", "IBE_01,IBE_04")


def test_a_job_that_fails_ends_the_run_and_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = FakeJobRun.advance

    def fail(self: FakeJobRun) -> None:
        advance(self)
        if self.job_name.endswith("register-staged-tables"):
            self.status = "FAILED"

    monkeypatch.setattr(FakeJobRun, "advance", fail)
    assert machine.run({}) == "FAILED"
    assert len(machine.runs()["register-staged-tables"]) == 1
    assert "create-athena-bucketed-tables" not in machine.runs()
    (notice,) = machine.notices()
    # Of a failure inside a map moto does not keep the job's own message.
    assert notice.startswith("States.")
    assert "Execution arn:aws:states:" in notice
