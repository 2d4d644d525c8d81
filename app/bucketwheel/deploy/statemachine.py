"""The monthly run as a Step Functions state machine: buckets of all datasets side by side, then register, then ctas.

Input, all of it optional::

    {"snapshot_dt": "2025-10-22", "tables_filter": "IBE_01,IBE_04", "datasets": ["infobase_attributes"]}

A job that fails is tried again here and nowhere else; data that was refused is not different the second time, so the
count is low.
"""

from __future__ import annotations

from typing import Any

from bucketwheel.deploy import emr
from bucketwheel.deploy.deployment import TOPIC, Deployment
from bucketwheel.deploy.jobs import SCRIPT

State = dict[str, Any]

# What tasks name; CloudFormation fills them in.
_SUBSTITUTIONS = {
    "topic": "${Notices}",
    "role": "${JobRole.Arn}",
    "application": "${Application}",
}
_OPTIONS = {"--SNAPSHOT_DT": "$.snapshot_dt", "--TABLES_FILTER": "$.tables_filter"}
_TEMPORARY = (
    "EMRServerless.ConflictException",
    "EMRServerless.ThrottlingException",
    "Glue.ConcurrentRunsExceededException",
    "Glue.InternalServiceException",
    "Glue.OperationTimeoutException",
    "Glue.ResourceNumberLimitExceededException",
    "Glue.ThrottlingException",
)
# Minutes that a job may take to get its workers.
_START_MINUTES = 30


def definition(deployment: Deployment) -> State:
    """Return the state machine in Amazon States Language, with CloudFormation's ``${…}`` in its texts."""
    datasets = list(deployment.settings.datasets)
    return {
        "Comment": f"Bucketwheel, {deployment.env}: bucket every dataset, then register, then ctas",
        "StartAt": "Defaults",
        "TimeoutSeconds": 60 * 3 * (_job_minutes(deployment) * (deployment.settings.deploy.retries + 1)),
        "States": {
            "Defaults": {
                "Type": "Pass",
                "Result": {"snapshot_dt": "_NONE_", "tables_filter": "_NONE_", "datasets": datasets},
                "ResultPath": "$.defaults",
                "Next": "Options",
            },
            "Options": {
                "Type": "Pass",
                "Parameters": {"given.$": "States.JsonMerge($.defaults, $$.Execution.Input, false)"},
                "OutputPath": "$.given",
                "Next": "Bucket",
            },
            "Bucket": {
                "Type": "Parallel",
                "Branches": [_branch(deployment, dataset) for dataset in datasets],
                "ResultPath": None,
                "Catch": _caught(),
                "Next": "Register",
            },
            "Register": {**_publish(deployment, "register", datasets[0]), "Next": "Ctas"},
            "Ctas": {**_publish(deployment, "ctas", datasets[0]), "Next": "Done"},
            "Done": {"Type": "Succeed"},
            "Notify": {
                "Type": "Task",
                "Resource": _resource("sns:publish"),
                "Parameters": {
                    "TopicArn": _SUBSTITUTIONS["topic"],
                    "Subject": f"Bucketwheel {deployment.env}: the run failed"[:100],
                    "Message.$": (
                        "States.Format('{}: {}. Execution {}', $.failure.Error, $.failure.Cause, $$.Execution.Id)"
                    ),
                },
                "ResultPath": None,
                "Next": "Failed",
            },
            "Failed": {"Type": "Fail", "Error": "JobFailed", "Cause": "A job failed; its message went to the topic"},
        },
    }


def watch_definition(deployment: Deployment) -> State:
    """Return the state machine that fails where no run has succeeded of late; an alarm watches it.

    CloudWatch itself cannot look back further than a week.
    """
    days = deployment.settings.monitoring.watch_days
    newest = "$states.result.Executions[0].StopDate"
    return {
        "Comment": f"Bucketwheel, {deployment.env}: fails unless a run succeeded in the last {days} days",
        "QueryLanguage": "JSONata",
        "StartAt": "Newest",
        "TimeoutSeconds": 300,
        "States": {
            "Newest": {
                "Type": "Task",
                "Resource": _resource("aws-sdk:sfn:listExecutions"),
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
            "Missing": {"Type": "Fail", "Error": "NoRun", "Cause": f"No run succeeded in the last {days} days"},
        },
    }


def _branch(deployment: Deployment, dataset: str) -> State:
    """Return the branch of one dataset, which does nothing where only others were asked for."""
    look, choice, work, skip = (f"{word} {dataset}" for word in ("Look at", "Is wanted:", "Bucket", "Skip"))
    task = _task(deployment, deployment.job_for(dataset, "bucket"), dataset=dataset)
    return {
        "StartAt": look,
        "States": {
            look: {
                "Type": "Pass",
                "Parameters": {"wanted.$": f"States.ArrayContains($.datasets, '{dataset}')"},
                "ResultPath": "$.look",
                "Next": choice,
            },
            choice: {
                "Type": "Choice",
                "Choices": [{"Variable": "$.look.wanted", "BooleanEquals": True, "Next": work}],
                "Default": skip,
            },
            work: {**task, "End": True},
            skip: {"Type": "Pass", "End": True},
        },
    }


def _publish(deployment: Deployment, stage: str, dataset: str) -> State:
    """Return the state that runs one publishing stage for every dataset, one after the other."""
    name = f"Run {stage}"
    task = _task(deployment, deployment.job_for(dataset, stage), stages=stage)
    return {
        "Type": "Map",
        "ItemsPath": "$.datasets",
        "ItemSelector": {
            "dataset.$": "$$.Map.Item.Value",
            "snapshot_dt.$": "$.snapshot_dt",
            "tables_filter.$": "$.tables_filter",
        },
        "MaxConcurrency": 1,
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "INLINE"},
            "StartAt": name,
            "States": {name: {**task, "End": True}},
        },
        "ResultPath": None,
        "Catch": _caught(),
    }


def _task(deployment: Deployment, name: str, dataset: str | None = None, stages: str = "") -> State:
    """Return the state that runs a job to its end; without a dataset it takes the one in its input."""
    job = deployment.jobs()[name]
    fixed = deployment.arguments(job, dataset=dataset, stages=(stages,) if stages else ())
    taken = dict(_OPTIONS) if dataset else {"--dataset": "$.dataset", **_OPTIONS}
    run = _glue(deployment, name, fixed, taken) if deployment.on_glue else _emr(deployment, name, fixed, taken)
    failed = deployment.settings.deploy.retries
    retries = [_retry(list(_TEMPORARY), 60, 5)]
    retries += [_retry(["States.TaskFailed"], 300, failed)] if failed else []
    return {
        "Type": "Task",
        **run,
        "TimeoutSeconds": 60 * _job_minutes(deployment),
        "Retry": retries,
        "ResultPath": None,
    }


def _glue(deployment: Deployment, name: str, fixed: dict[str, str], taken: dict[str, str]) -> State:
    """Return the call; what the job's own arguments say already is not said again."""
    told = {key: value for key, value in fixed.items() if key in ("--dataset", "--stages")}
    return {
        "Resource": _resource("glue:startJobRun.sync"),
        "Parameters": {
            "JobName": deployment.job_name(name),
            "Arguments": {**told, **{f"{key}.$": path for key, path in taken.items()}},
        },
    }


def _emr(deployment: Deployment, name: str, fixed: dict[str, str], taken: dict[str, str]) -> State:
    fixed = {**fixed, TOPIC: deployment.settings.monitoring.topic_arn or _SUBSTITUTIONS["topic"]}
    listed = ", ".join(
        [*(f"'{word}'" for word in emr.words(fixed)), *(f"'{key}', {path}" for key, path in taken.items())]
    )
    return {
        "Resource": _resource("emr-serverless:startJobRun.sync"),
        "Parameters": {
            "ApplicationId": _SUBSTITUTIONS["application"],
            "ExecutionRoleArn": _SUBSTITUTIONS["role"],
            "Name": deployment.job_name(name),
            "ClientToken.$": "States.UUID()",
            "ExecutionTimeoutMinutes": deployment.settings.emr_serverless.timeout_minutes,
            "JobDriver": {
                "SparkSubmit": {
                    "EntryPoint": f"{deployment.package().uri}/{SCRIPT}",
                    "EntryPointArguments.$": f"States.Array({listed})",
                    "SparkSubmitParameters": emr.spark_parameters(deployment),
                }
            },
            "ConfigurationOverrides": emr.capitalised(emr.monitoring(deployment.output_log_group)),
        },
    }


def _job_minutes(deployment: Deployment) -> int:
    settings = deployment.settings
    minutes = settings.glue.timeout_minutes if deployment.on_glue else settings.emr_serverless.timeout_minutes
    return minutes + _START_MINUTES


def _resource(action: str) -> str:
    return f"arn:${{AWS::Partition}}:states:::{action}"


def _retry(errors: list[str], seconds: int, attempts: int) -> State:
    return {"ErrorEquals": errors, "IntervalSeconds": seconds, "MaxAttempts": attempts, "BackoffRate": 2.0}


def _caught() -> list[State]:
    return [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Notify"}]
