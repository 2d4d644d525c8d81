"""Log groups, the notification topic, event rules and the dashboard."""

from __future__ import annotations

import json
from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, Resources, arn_of, ref, sub
from bucketwheel.deploy.template.policy import document, log_group_names
from bucketwheel.monitoring import metrics
from bucketwheel.monitoring.metrics import Metric

_ERRORS = "ErrorLines"


def logs(deployment: Deployment) -> Resources:
    """Return the log groups; the one for the jobs' output also counts error lines."""
    resources: Resources = {
        logical_id: _log_group(deployment, name) for logical_id, name in log_groups(deployment).items()
    }
    resources["ErrorLines"] = {
        "Type": "AWS::Logs::MetricFilter",
        "Properties": {
            "LogGroupName": ref("OutputLog"),
            "FilterPattern": '{ $.level = "ERROR" }',
            "MetricTransformations": [
                {
                    "MetricNamespace": deployment.settings.monitoring.namespace,
                    "MetricName": error_lines(deployment),
                    "MetricValue": "1",
                    "Unit": "Count",
                }
            ],
        },
    }
    return resources


def log_groups(deployment: Deployment) -> dict[str, str]:
    """Return the names of the log groups, by logical id."""
    names = {f"{name.capitalize()}Log": f"{deployment.log_prefix}/{name}" for name in log_group_names(deployment)}
    # State machines may write to groups with this prefix; other names need a policy that grows with each group.
    names["StatesLog"] = f"/aws/vendedlogs/states/{deployment.stack}"
    if deployment.settings.monitoring.watch_schedule:
        names["WatchLog"] = f"/aws/vendedlogs/states/{deployment.stack}-watch"
    if deployment.settings.monitoring.long_run_minutes:
        names["SlowWatchLog"] = f"/aws/vendedlogs/states/{deployment.stack}-slow"
    return names


def error_lines(deployment: Deployment) -> str:
    """Return the name of the metric for error lines; a log filter cannot set a fixed dimension."""
    return f"{_ERRORS}-{deployment.env}"


def _log_group(deployment: Deployment, name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "LogGroupName": name,
        "RetentionInDays": deployment.settings.monitoring.retention_days,
        "Tags": deployment.tags(),
    }
    if deployment.key is not None:
        properties["KmsKeyId"] = deployment.key
    # The logs outlive the stack, but a failed creation must not leave groups that prevent the next one.
    kept = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}
    return {"Type": "AWS::Logs::LogGroup", **kept, "Properties": properties}


def topic(deployment: Deployment) -> Resources:
    """Return the notification topic, its policy and its subscription."""
    properties: dict[str, Any] = {"TopicName": deployment.topic_name, "Tags": deployment.tags()}
    if deployment.key is not None:
        properties["KmsMasterKeyId"] = deployment.key
    alarms = sub(
        f"arn:${{AWS::Partition}}:cloudwatch:${{AWS::Region}}:${{AWS::AccountId}}:alarm:{deployment.stack}-*"
    )
    statements = [
        {
            "Sid": "Alarms",
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": ref("Notices"),
            "Condition": {"ArnLike": {"aws:SourceArn": alarms}},
        },
        {
            # EventBridge supports no condition in the policy of a topic.
            "Sid": "Events",
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": ref("Notices"),
        },
        {
            "Sid": "EncryptedConnectionsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sns:Publish",
            "Resource": ref("Notices"),
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    ]
    resources: Resources = {
        "Notices": {"Type": "AWS::SNS::Topic", "Properties": properties},
        "NoticesPolicy": {
            "Type": "AWS::SNS::TopicPolicy",
            "Properties": {"Topics": [ref("Notices")], "PolicyDocument": document(statements)},
        },
    }
    if email := deployment.settings.monitoring.email:
        resources["NoticesEmail"] = {
            "Type": "AWS::SNS::Subscription",
            "Properties": {"TopicArn": ref("Notices"), "Protocol": "email", "Endpoint": email},
        }
    return resources


def events(deployment: Deployment) -> Resources:
    """Return the event rules: failed and slow jobs, however started, and the timeout watchdog of each run."""
    resources = _job_events(deployment)
    if deployment.settings.monitoring.long_run_minutes:
        begun = {
            "source": ["aws.states"],
            "detail-type": ["Step Functions Execution Status Change"],
            "detail": {"stateMachineArn": [ref("StateMachine")], "status": ["RUNNING"]},
        }
        watch = {"Arn": ref("SlowWatch"), "Id": "watch", "RoleArn": arn_of("SlowWatchStarterRole")}
        resources["RunBegun"] = _rule(deployment, "run-begun", begun, watch)
    return resources


def _job_events(deployment: Deployment) -> Resources:
    target = {"Arn": ref("Notices"), "Id": "notices"}
    if deployment.on_glue:
        names = [deployment.job_name(name) for name in deployment.jobs()]
        failed = {
            "source": ["aws.glue"],
            "detail-type": ["Glue Job State Change"],
            "detail": {"jobName": names, "state": ["ERROR", "FAILED", "TIMEOUT"]},
        }
        slow = {
            "source": ["aws.glue"],
            "detail-type": ["Glue Job Run Status"],
            "detail": {"jobName": names, "notificationCondition": {"NotifyDelayAfter": [{"exists": True}]}},
        }
        resources = {"JobFailed": _rule(deployment, "job-failed", failed, target)}
        if deployment.settings.monitoring.long_job_minutes:
            resources["JobSlow"] = _rule(deployment, "job-slow", slow, target)
        return resources
    failed = {
        "source": ["aws.emr-serverless"],
        "detail-type": ["EMR Serverless Job Run State Change"],
        # A job that exceeds its timeout looks the same as one that a person cancels.
        "detail": {"applicationId": [ref("Application")], "state": ["FAILED", "CANCELLED"]},
    }
    return {"JobFailed": _rule(deployment, "job-failed", failed, target)}


def _rule(deployment: Deployment, name: str, pattern: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "Name": f"{deployment.stack}-{name}",
        "EventPattern": pattern,
        "State": "ENABLED",
        "Targets": [target],
    }
    return {"Type": "AWS::Events::Rule", "Properties": properties}


def dashboard(deployment: Deployment) -> Resources:
    """Return the dashboard: one graph per metric with one line per dataset, the runs and the latest errors."""
    widgets = [_runs_widget()]
    widgets += [_metric_widget(deployment, metric) for metric in metrics.METRICS]
    widgets.append(_errors_widget(deployment))
    for number, widget in enumerate(widgets):
        widget |= {"x": number % 3 * 8, "y": number // 3 * 6, "width": 8, "height": 6}
    widgets[-1] |= {"x": 0, "y": (len(widgets) + 2) // 3 * 6, "width": 24}
    body = json.dumps({"widgets": widgets}, indent=1)
    properties = {"DashboardName": deployment.stack, "DashboardBody": sub(body)}
    return {"Dashboard": {"Type": "AWS::CloudWatch::Dashboard", "Properties": properties}}


def _widget(title: str, lines: list[list[Any]], statistic: str) -> dict[str, Any]:
    properties = {
        "title": title,
        "region": "${AWS::Region}",
        "view": "timeSeries",
        "period": 86_400,
        "stat": statistic,
        "metrics": lines,
    }
    return {"type": "metric", "properties": properties}


def _metric_widget(deployment: Deployment, metric: Metric) -> dict[str, Any]:
    lines = [
        [deployment.settings.monitoring.namespace, metric.name, *_flat(deployment, dataset)]
        for dataset in deployment.settings.datasets
    ]
    return _widget(metric.help, lines, metric.statistic)


def _runs_widget() -> dict[str, Any]:
    names = ("ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted")
    return _widget("Runs", [["AWS/States", name, "StateMachineArn", "${StateMachine}"] for name in names], "Sum")


def _errors_widget(deployment: Deployment) -> dict[str, Any]:
    query = f"SOURCE '{deployment.output_log_group}' | filter level = 'ERROR' | sort @timestamp desc | limit 20"
    properties = {"title": "Newest errors", "region": "${AWS::Region}", "view": "table", "query": query}
    return {"type": "log", "properties": properties}


def _flat(deployment: Deployment, dataset: str) -> list[str]:
    environment, name = metrics.DIMENSIONS
    return [environment, deployment.env, name, dataset]
