"""The watchdogs: state machines that fail if a run is missing or overdue, which no metric shows."""

from __future__ import annotations

from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.statemachine import State, resource
from bucketwheel.formatting import counted

# Time limit of a check, in seconds.
_CHECK_SECONDS = 300


def watch_definition(deployment: Deployment) -> State:
    """Return the state machine that fails if no run has succeeded recently; an alarm watches it.

    A CloudWatch alarm cannot look back further than a week.
    """
    days = deployment.settings.monitoring.watch_days
    newest = "$states.result.Executions[0].StopDate"
    return {
        "Comment": f"Bucketwheel, {deployment.env}: fails unless a run succeeded in the last {counted(days, 'day')}",
        "QueryLanguage": "JSONata",
        "StartAt": "Newest",
        "TimeoutSeconds": _CHECK_SECONDS,
        "States": {
            "Newest": {
                "Type": "Task",
                "Resource": resource("aws-sdk:sfn:listExecutions"),
                "Arguments": {"StateMachineArn": "${StateMachine}", "StatusFilter": "SUCCEEDED", "MaxResults": 1},
                "Output": {
                    "recent": "{% $exists(" + newest + ") and $toMillis(" + newest + ") > $millis() - "
                    f"{days * 86_400_000}" + " %}"
                },
                "Retry": [
                    {
                        "ErrorEquals": ["States.TaskFailed"],
                        "IntervalSeconds": 30,
                        "MaxAttempts": 3,
                        "BackoffRate": 2.0,
                    }
                ],
                "Next": "Recent",
            },
            "Recent": {
                "Type": "Choice",
                "Choices": [{"Condition": "{% $states.input.recent %}", "Next": "Done"}],
                "Default": "Missing",
            },
            "Done": {"Type": "Succeed"},
            "Missing": {
                "Type": "Fail",
                "Error": "NoRun",
                "Cause": f"No run succeeded in the last {counted(days, 'day')}",
            },
        },
    }


def slow_definition(deployment: Deployment, minutes: int) -> State:
    """Return the state machine that starts with each run and fails if the run takes longer than `minutes`.

    A metric cannot do this: CloudWatch has the duration of an execution only after its end.
    """
    return {
        "Comment": f"Bucketwheel, {deployment.env}: fails if a run takes longer than {counted(minutes, 'minute')}",
        "StartAt": "Wait",
        "TimeoutSeconds": 60 * minutes + _CHECK_SECONDS,
        "States": {
            "Wait": {"Type": "Wait", "Seconds": 60 * minutes, "Next": "Look"},
            "Look": {
                "Type": "Task",
                "Resource": resource("aws-sdk:sfn:describeExecution"),
                "Parameters": {"ExecutionArn.$": "$.detail.executionArn"},
                "ResultSelector": {"status.$": "$.Status"},
                "Retry": [
                    {
                        "ErrorEquals": ["States.TaskFailed"],
                        "IntervalSeconds": 30,
                        "MaxAttempts": 3,
                        "BackoffRate": 2.0,
                    }
                ],
                "Next": "Is running",
            },
            "Is running": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.status", "StringEquals": "RUNNING", "Next": "Slow"}],
                "Default": "Done",
            },
            "Done": {"Type": "Succeed"},
            "Slow": {
                "Type": "Fail",
                "Error": "RunSlow",
                "Cause": f"The run still runs after {counted(minutes, 'minute')}",
            },
        },
    }
