"""Alarms: a run that failed, takes long or never came, errors, and data that is not as it should be."""

from __future__ import annotations

from typing import Any

from bucketwheel import metrics
from bucketwheel.deploy.deployment import Deployment, Resources, logical, ref
from bucketwheel.deploy.monitoring import error_lines
from bucketwheel.metrics import Metric

_DAY = 86_400


def alarms(deployment: Deployment) -> Resources:
    """Return every alarm whose limit is set."""
    monitoring = deployment.settings.monitoring
    made: Resources = {}
    for name in ("Failed", "TimedOut", "Aborted"):
        made[f"AlarmRun{name}"] = _of_machine(
            deployment, f"run-{name.lower()}", "StateMachine", f"Executions{name}", 1, "A run did not end well"
        )
    made["AlarmRunSlow"] = _of_machine(
        deployment,
        "run-slow",
        "StateMachine",
        "ExecutionTime",
        monitoring.long_run_minutes * 60_000,
        f"A run took more than {monitoring.long_run_minutes} minutes",
    )
    if monitoring.watch_schedule:
        for name in ("Failed", "TimedOut"):
            made[f"AlarmNoRun{name}"] = _of_machine(
                deployment,
                "no-run" if name == "Failed" else "no-run-unknown",
                "Watch",
                f"Executions{name}",
                1,
                f"No run succeeded in the {monitoring.watch_days} days before the watch looked, or it could not look",
            )
    if monitoring.error_lines_per_hour is not None:
        made["AlarmErrors"] = _alarm(
            deployment,
            "errors",
            f"At least {monitoring.error_lines_per_hour} lines of errors within an hour",
            {"Namespace": monitoring.namespace, "MetricName": error_lines(deployment), "Statistic": "Sum"},
            monitoring.error_lines_per_hour,
            "GreaterThanOrEqualToThreshold",
            3_600,
        )
    for dataset in deployment.settings.datasets:
        made |= _of_data(deployment, dataset)
    return made


def _of_data(deployment: Deployment, dataset: str) -> Resources:
    monitoring = deployment.settings.monitoring
    limits: tuple[tuple[Metric, float | None], ...] = (
        (metrics.NULL_KEYS, monitoring.null_keys),
        (metrics.DUPLICATE_KEYS, monitoring.duplicate_keys),
        (metrics.ROWS_CHANGED, monitoring.rows_changed_percent),
        (metrics.COST, monitoring.cost_usd),
    )
    environment, name = metrics.DIMENSIONS
    made: Resources = {}
    for metric, limit in limits:
        if limit is None:
            continue
        watched = {
            "Namespace": monitoring.namespace,
            "MetricName": metric.name,
            "Statistic": metric.statistic,
            "Dimensions": [{"Name": environment, "Value": deployment.env}, {"Name": name, "Value": dataset}],
        }
        made[logical("Alarm", metric.name, dataset)] = _alarm(
            deployment,
            f"{dataset}-{metric.name}",
            f"{metric.help}: more than {limit:g} in {dataset}",
            watched,
            limit,
            "GreaterThanThreshold",
            _DAY,
        )
    return made


def _of_machine(
    deployment: Deployment, name: str, machine: str, metric: str, threshold: float, text: str
) -> dict[str, Any]:
    watched = {
        "Namespace": "AWS/States",
        "MetricName": metric,
        "Statistic": "Maximum" if metric == "ExecutionTime" else "Sum",
        "Dimensions": [{"Name": "StateMachineArn", "Value": ref(machine)}],
    }
    return _alarm(deployment, name, text, watched, threshold, "GreaterThanOrEqualToThreshold", 300)


def _alarm(
    deployment: Deployment,
    name: str,
    text: str,
    watched: dict[str, Any],
    threshold: float,
    comparison: str,
    period: int,
) -> dict[str, Any]:
    properties = {
        "AlarmName": f"{deployment.stack}-{name}",
        "AlarmDescription": text,
        **watched,
        "Period": period,
        "EvaluationPeriods": 1,
        "Threshold": threshold,
        "ComparisonOperator": comparison,
        # There is nothing to see between two months.
        "TreatMissingData": "notBreaching",
        "AlarmActions": [ref("Notices")],
        "Tags": deployment.tags(),
    }
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}
