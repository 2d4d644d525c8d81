"""Run a state machine of the stack in moto's interpreter, with the jobs that it starts."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import boto3

from deploy_support import ACCOUNT, REGION, rendered, resolved

PREFIX = "etl-omc-flywheel-prod-"


class Machine:
    """A state machine of the stack and the jobs that it starts."""

    def __init__(self, logical_id: str = "StateMachine", **settings: Any) -> None:
        resources = rendered(**{"deploy__retries": 0, **settings})["Resources"]
        for resource in resources.values():
            if resource["Type"] == "AWS::Glue::Job":
                self._glue().create_job(**{**resolved_job(resource["Properties"], resources)})
        client = boto3.client("sns", REGION)
        topic = client.create_topic(Name="bucketwheel-prod-notices")["TopicArn"]
        self.queue = boto3.client("sqs", REGION).create_queue(QueueName="notices")["QueueUrl"]
        client.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:notices")
        self.definition = json.loads(resolved(resources[logical_id]["Properties"]["DefinitionString"], resources))
        hurried = json.dumps(_hurried(self.definition))
        self.arn = self._states().create_state_machine(
            name=resources[logical_id]["Properties"]["StateMachineName"],
            definition=hurried,
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/r",
        )["stateMachineArn"]

    @staticmethod
    def _states() -> Any:
        return boto3.client("stepfunctions", REGION)

    @staticmethod
    def _glue() -> Any:
        return boto3.client("glue", REGION)

    def start(self, given: dict[str, Any]) -> str:
        """Start an execution and return its ARN."""
        return str(self._states().start_execution(stateMachineArn=self.arn, input=json.dumps(given))["executionArn"])

    def run(self, given: dict[str, Any]) -> str:
        """Run an execution to its end and return its description."""
        return str(self.ended(self.start(given))["status"])

    def ended(self, execution: str) -> dict[str, Any]:
        """Wait for the end of an execution and return its description."""
        deadline = time.monotonic() + 60
        while (description := self._states().describe_execution(executionArn=execution))["status"] == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        answer: dict[str, Any] = description
        return answer

    def runs(self) -> dict[str, list[dict[str, str]]]:
        """The arguments of all job runs, by job."""
        names = [job["Name"] for job in self._glue().get_jobs()["Jobs"]]
        job_runs = {name.removeprefix(PREFIX): self._glue().get_job_runs(JobName=name)["JobRuns"] for name in names}
        return {name: [run["Arguments"] for run in runs] for name, runs in job_runs.items() if runs}

    def started(self) -> list[tuple[str, str]]:
        """Job and dataset of each run, in order of start."""
        names = [job["Name"] for job in self._glue().get_jobs()["Jobs"]]
        runs = [run for name in names for run in self._glue().get_job_runs(JobName=name)["JobRuns"]]
        runs.sort(key=lambda run: run["StartedOn"])
        return [(run["JobName"].removeprefix(PREFIX), run["Arguments"]["--dataset"]) for run in runs]

    def notifications(self) -> list[str]:
        client = boto3.client("sqs", REGION)
        messages = client.receive_message(QueueUrl=self.queue).get("Messages", [])
        return [json.loads(message["Body"])["Message"] for message in messages]


def _hurried(value: Any) -> Any:
    """Return the definition with the shortest waits that moto accepts; other tests check the real ones."""
    if isinstance(value, list):
        return [_hurried(part) for part in value]
    if not isinstance(value, dict):
        return value
    shorter = {"IntervalSeconds": 1, "BackoffRate": 1.0} if "IntervalSeconds" in value else {}
    shorter |= {"Seconds": 1} if value.get("Type") == "Wait" else {}
    return {key: shorter.get(key, _hurried(part)) for key, part in value.items()}


def resolved_job(properties: dict[str, Any], resources: dict[str, Any]) -> dict[str, Any]:
    resolved_properties: dict[str, Any] = resolved(properties, resources)
    return resolved_properties


def call_with_small_letters(
    self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: Any, state_credentials: Any
) -> None:
    """Adapt calls of Step Functions, whose parameter names differ between boto3 and state machine definitions."""
    client = boto3.client("stepfunctions", resource_runtime_part.region)
    names = {f"{name[:1].lower()}{name[1:]}": value for name, value in normalised_parameters.items()}
    answer = getattr(client, re.sub("([A-Z])", r"_\1", self.resource.api_action).lower())(**names)
    env.stack.append(json.loads(json.dumps(_capitalised(answer), default=lambda moment: moment.isoformat())))


def _capitalised(value: Any) -> Any:
    if isinstance(value, list):
        return [_capitalised(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {f"{key[:1].upper()}{key[1:]}": _capitalised(part) for key, part in value.items()}


def wait_for_end(
    self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: Any, state_credentials: Any
) -> None:
    """Wait like moto's `.sync`, but do not stop a callback at the end, which such a task does not have."""
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
