"""The roles of the jobs, of each state machine and of the schedules, each with its own permissions only."""

from __future__ import annotations

from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, Resources, arn_of, ref, sub
from bucketwheel.deploy.template.policy import Statement, allow, document, job_statements
from bucketwheel.deploy.template.statemachine import started_jobs

_JOB_ARN = "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:job/"
_EMR_RULE = (
    "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/StepFunctionsGetEventsForEMRServerlessJobRule"
)


def roles(deployment: Deployment) -> Resources:
    """Return the roles with their policies."""
    service = "glue" if deployment.on_glue else "emr-serverless"
    # Glue sends no source account and EMR Serverless documents none, so a condition on it would deny every job. Both
    # accept only roles of their own account.
    resources = {
        "JobRole": _role(deployment, deployment.role, service, job_statements(deployment), None),
        "StatesRole": _role(
            deployment, f"{deployment.stack}-states", "states", _states_statements(deployment), _own_account()
        ),
    }
    if deployment.settings.monitoring.watch_schedule:
        resources["WatchRole"] = _role(
            deployment, f"{deployment.stack}-watch", "states", _watch_statements(), _own_account()
        )
    if deployment.settings.monitoring.long_run_minutes:
        starts = [allow("Start", ["states:StartExecution"], [ref("SlowWatch")])]
        resources |= {
            "SlowWatchRole": _role(
                deployment, f"{deployment.stack}-slow", "states", _slow_watch_statements(deployment), _own_account()
            ),
            "SlowWatchStarterRole": _role(
                deployment, f"{deployment.stack}-slow-starter", "events", starts, _own_account()
            ),
        }
    if deployment.settings.deploy.schedule or deployment.settings.monitoring.watch_schedule:
        resources["SchedulerRole"] = _role(
            deployment,
            f"{deployment.stack}-scheduler",
            "scheduler",
            _scheduler_statements(deployment),
            _own_account(),
        )
    return resources


def _own_account() -> dict[str, Any]:
    return {"StringEquals": {"aws:SourceAccount": ref("AWS::AccountId")}}


def _role(
    deployment: Deployment, name: str, service: str, statements: list[Statement], condition: Any
) -> dict[str, Any]:
    trust: Statement = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    if condition:
        trust["Condition"] = condition
    properties: dict[str, Any] = {
        "RoleName": name,
        "AssumeRolePolicyDocument": document([trust]),
        "Policies": [{"PolicyName": "bucketwheel", "PolicyDocument": document(statements)}],
        "Tags": deployment.tags(),
    }
    if boundary := deployment.settings.deploy.permissions_boundary:
        properties["PermissionsBoundary"] = boundary
    return {"Type": "AWS::IAM::Role", "Properties": properties}


def _states_statements(deployment: Deployment) -> list[Statement]:
    statements = [allow("Notify", ["sns:Publish"], [ref("Notices")])]
    if deployment.on_glue:
        actions = ("BatchStopJobRun", "GetJobRun", "GetJobRuns", "StartJobRun")
        jobs = [sub(f"{_JOB_ARN}{deployment.job_name(name)}") for name in started_jobs(deployment)]
        statements.append(allow("RunJobs", [f"glue:{action}" for action in actions], jobs))
    else:
        application = sub("${Application.Arn}")
        runs = sub("${Application.Arn}/jobruns/*")
        statements += [
            allow("StartJobs", ["emr-serverless:StartJobRun"], [application]),
            allow("FollowJobs", ["emr-serverless:CancelJobRun", "emr-serverless:GetJobRun"], [runs]),
            allow("PassJobRole", ["iam:PassRole"], [arn_of("JobRole")], {
                "StringEquals": {"iam:PassedToService": "emr-serverless.amazonaws.com"}
            }),
            # Step Functions manages this rule itself, to learn that a job has ended.
            allow("FollowByEvents", ["events:DescribeRule", "events:PutRule", "events:PutTargets"], [sub(_EMR_RULE)]),
        ]  # fmt: skip
    if deployment.key is not None:
        statements.append(allow("UseKey", ["kms:Decrypt", "kms:GenerateDataKey"], [deployment.key]))
    return [*statements, *_observed()]


def _watch_statements() -> list[Statement]:
    return [allow("ListRuns", ["states:ListExecutions"], [ref("StateMachine")]), *_observed()]


def _slow_watch_statements(deployment: Deployment) -> list[Statement]:
    runs = sub(f"arn:${{AWS::Partition}}:states:${{AWS::Region}}:${{AWS::AccountId}}:execution:{deployment.stack}:*")
    return [allow("LookAtRun", ["states:DescribeExecution"], [runs]), *_observed()]


def _observed() -> list[Statement]:
    """Allow a state machine to write its log and traces; these actions have no resource level."""
    delivery = ("CreateLogDelivery", "DeleteLogDelivery", "DescribeLogGroups", "DescribeResourcePolicies",
                "GetLogDelivery", "ListLogDeliveries", "PutResourcePolicy", "UpdateLogDelivery")  # fmt: skip
    tracing = ("GetSamplingRules", "GetSamplingTargets", "PutTelemetryRecords", "PutTraceSegments")
    return [
        allow("DeliverLogs", [f"logs:{action}" for action in delivery], ["*"]),
        allow("Trace", [f"xray:{action}" for action in tracing], ["*"]),
    ]


def _scheduler_statements(deployment: Deployment) -> list[Statement]:
    machines = [ref("StateMachine")] if deployment.settings.deploy.schedule else []
    if deployment.settings.monitoring.watch_schedule:
        machines.append(ref("Watch"))
    return [allow("Start", ["states:StartExecution"], machines)]
