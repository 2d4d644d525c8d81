"""The state machines and their schedules."""

from __future__ import annotations

import json
from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, Resources, arn_of, ref, sub
from bucketwheel.deploy.template.statemachine import State, definition
from bucketwheel.deploy.template.watchdogs import slow_definition, watch_definition


def machines(deployment: Deployment) -> Resources:
    """Return the state machines."""
    resources = {
        "StateMachine": _machine(deployment, deployment.stack, definition(deployment), "StatesRole", "StatesLog")
    }
    if deployment.settings.monitoring.watch_schedule:
        resources["Watch"] = _machine(
            deployment, f"{deployment.stack}-watch", watch_definition(deployment), "WatchRole", "WatchLog"
        )
    if minutes := deployment.settings.monitoring.long_run_minutes:
        slow = slow_definition(deployment, minutes)
        resources["SlowWatch"] = _machine(
            deployment, f"{deployment.stack}-slow", slow, "SlowWatchRole", "SlowWatchLog"
        )
    return resources


def schedules(deployment: Deployment) -> Resources:
    """Return the schedules that are set."""
    deploy, monitoring = deployment.settings.deploy, deployment.settings.monitoring
    resources: Resources = {}
    if deploy.schedule:
        resources["Schedule"] = _schedule(deployment, deployment.stack, deploy.schedule, "StateMachine")
    if monitoring.watch_schedule:
        resources["WatchSchedule"] = _schedule(
            deployment, f"{deployment.stack}-watch", monitoring.watch_schedule, "Watch"
        )
    return resources


def _machine(deployment: Deployment, name: str, states: State, role: str, log: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "StateMachineName": name,
        "StateMachineType": "STANDARD",
        "DefinitionString": sub(json.dumps(states, indent=1)),
        "RoleArn": arn_of(role),
        "LoggingConfiguration": {
            "Level": "ERROR",
            "IncludeExecutionData": True,
            "Destinations": [{"CloudWatchLogsLogGroup": {"LogGroupArn": arn_of(log)}}],
        },
        "TracingConfiguration": {"Enabled": True},
        "Tags": deployment.tags(),
    }
    return {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}


def _schedule(deployment: Deployment, name: str, expression: str, machine: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "Name": name,
        "Description": f"Starts {name}",
        "ScheduleExpression": expression,
        "ScheduleExpressionTimezone": deployment.settings.deploy.time_zone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Target": {
            "Arn": ref(machine),
            "RoleArn": arn_of("SchedulerRole"),
            "Input": "{}",
            "RetryPolicy": {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 5},
        },
    }
    return {"Type": "AWS::Scheduler::Schedule", "Properties": properties}
