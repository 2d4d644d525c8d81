"""The monthly run as a Step Functions state machine: bucket all datasets in parallel, then register, then ctas.

Input, all fields optional::

    {"snapshot_dt": "2025-10-22", "tables_filter": "person,finance", "datasets": ["people"]}

Only the state machine retries failed jobs. Refused data stays refused, so the number of retries is low.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bucketwheel.deploy.template import emr
from bucketwheel.deploy.template.deployment import TOPIC, Deployment
from bucketwheel.packaging.archive import SCRIPT

State = dict[str, Any]

# Resources that tasks refer to; CloudFormation substitutes them.
_SUBSTITUTIONS = {
    "topic": "${Notices}",
    "role": "${JobRole.Arn}",
    "application": "${Application}",
}
_PUBLISHING = ("register", "ctas")
_LATER = "--later-stages"
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
# Minutes for a job to get its workers.
_START_MINUTES = 30
# Seconds before the first retry of a throttled start, which double each time, and the number of attempts.
_REFUSED_SECONDS, _REFUSED_ATTEMPTS = 60, 5
# The same for a failed job, which is retried `deploy.retries` times.
_FAILED_SECONDS = 300


def definition(deployment: Deployment) -> State:
    """Return the state machine in Amazon States Language, with CloudFormation's ``${…}`` in its strings."""
    datasets = list(deployment.settings.datasets)
    return {
        "Comment": f"Bucketwheel, {deployment.env}: bucket every dataset, then register, then ctas",
        "StartAt": "Defaults",
        "TimeoutSeconds": longest_seconds(deployment),
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
            "Register": {**_publish(deployment, "register"), "Next": "Ctas"},
            "Ctas": {**_publish(deployment, "ctas"), "Next": "Done"},
            "Done": {"Type": "Succeed"},
            "Notify": {
                "Type": "Task",
                "Resource": resource("sns:publish"),
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


def _branch(deployment: Deployment, dataset: str) -> State:
    """Return the branch of one dataset, which does nothing if the input names only others."""
    look, choice, work, skip = (f"{word} {dataset}" for word in ("Look at", "Is wanted:", "Bucket", "Skip"))
    job = deployment.job_for(dataset, "bucket")
    later = [stage for stage in _PUBLISHING if stage not in deployment.jobs()[job].stages]
    task = _task(deployment, job, later, dataset=dataset)
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


def _publish(deployment: Deployment, stage: str) -> State:
    """Return the state that runs one publishing stage for every dataset in turn."""
    datasets = list(deployment.settings.datasets)
    jobs = {dataset: deployment.job_for(dataset, stage) for dataset in datasets}
    later = _PUBLISHING[_PUBLISHING.index(stage) + 1 :]
    if all(deployment.jobs()[name].dataset is None for name in jobs.values()) and len(set(jobs.values())) == 1:
        start = f"Run {stage}"
        states = {start: {**_task(deployment, jobs[datasets[0]], later, stages=stage), "End": True}}
    else:
        start = f"Job for {stage}"
        # No choice matches an unknown dataset, which fails the execution.
        choices = [
            {"Variable": "$.dataset", "StringEquals": dataset, "Next": f"Run {stage} of {dataset}"}
            for dataset in datasets
        ]
        states = {start: {"Type": "Choice", "Choices": choices}} | {
            f"Run {stage} of {dataset}": {
                **_task(deployment, name, later, dataset=dataset, stages=stage),
                "End": True,
            }
            for dataset, name in jobs.items()
        }
    return {
        "Type": "Map",
        "ItemsPath": "$.datasets",
        "ItemSelector": {
            "dataset.$": "$$.Map.Item.Value",
            "snapshot_dt.$": "$.snapshot_dt",
            "tables_filter.$": "$.tables_filter",
        },
        "MaxConcurrency": 1,
        "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": start, "States": states},
        "ResultPath": None,
        "Catch": _caught(),
    }


def _task(
    deployment: Deployment, name: str, later: Sequence[str], dataset: str | None = None, stages: str = ""
) -> State:
    """Return the state that runs a job to its end; without `dataset` it uses the one in its input.

    The job checks what the `later` stages need before it writes data.
    """
    job = deployment.jobs()[name]
    fixed = deployment.arguments(job, dataset=dataset, stages=(stages,) if stages else ())
    fixed |= {_LATER: ",".join(later) or "none"}
    taken = dict(_OPTIONS) if dataset else {"--dataset": "$.dataset", **_OPTIONS}
    run = _glue(deployment, name, fixed, taken) if deployment.on_glue else _emr(deployment, name, fixed, taken)
    failed = deployment.settings.deploy.retries
    retries = [_retry(list(_TEMPORARY), _REFUSED_SECONDS, _REFUSED_ATTEMPTS)]
    retries += [_retry(["States.TaskFailed"], _FAILED_SECONDS, failed)] if failed else []
    return {
        "Type": "Task",
        **run,
        "TimeoutSeconds": 60 * _job_minutes(deployment),
        "Retry": retries,
        "ResultPath": None,
    }


def _glue(deployment: Deployment, name: str, fixed: dict[str, str], taken: dict[str, str]) -> State:
    """Return the call, with only those arguments that differ from the job's own defaults."""
    explicit = {key: value for key, value in fixed.items() if key in ("--dataset", "--stages", _LATER)}
    return {
        "Resource": resource("glue:startJobRun.sync"),
        "Parameters": {
            "JobName": deployment.job_name(name),
            "Arguments": {**explicit, **{f"{key}.$": path for key, path in taken.items()}},
        },
    }


def _emr(deployment: Deployment, name: str, fixed: dict[str, str], taken: dict[str, str]) -> State:
    fixed = {**fixed, TOPIC: deployment.settings.monitoring.topic_arn or _SUBSTITUTIONS["topic"]}
    listed = ", ".join(
        [*(f"'{word}'" for word in emr.words(fixed)), *(f"'{key}', {path}" for key, path in taken.items())]
    )
    return {
        "Resource": resource("emr-serverless:startJobRun.sync"),
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


def started_jobs(deployment: Deployment) -> list[str]:
    """Return the jobs of `deploy.jobs` that a run starts."""
    jobs = [
        deployment.job_for(dataset, stage)
        for stage in ("bucket", "register", "ctas")
        for dataset in deployment.settings.datasets
    ]
    return list(dict.fromkeys(jobs))


def longest_seconds(deployment: Deployment) -> int:
    """Return the longest possible run, in seconds: the timeout of every attempt and every wait between attempts.

    The state machine buckets the datasets in parallel; register and ctas process them in sequence.
    """
    retries = deployment.settings.deploy.retries
    # Each wait is twice the previous one: 1 + 2 + 4 … times the first.
    waits = _REFUSED_SECONDS * ((1 << _REFUSED_ATTEMPTS) - 1) + _FAILED_SECONDS * ((1 << retries) - 1)
    steps = 1 + 2 * len(deployment.settings.datasets)
    return steps * (60 * _job_minutes(deployment) * (retries + 1) + waits)


def resource(action: str) -> str:
    """Return the ARN of an action for a task of Step Functions."""
    return f"arn:${{AWS::Partition}}:states:::{action}"


def _retry(errors: list[str], seconds: int, attempts: int) -> State:
    return {"ErrorEquals": errors, "IntervalSeconds": seconds, "MaxAttempts": attempts, "BackoffRate": 2.0}


def _caught() -> list[State]:
    return [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Notify"}]
