"""Alarms for failed, slow and missing runs, for errors, and for unexpected data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, Resources, joined, logical, ref
from bucketwheel.deploy.template.monitoring import error_lines
from bucketwheel.formatting import counted
from bucketwheel.monitoring import metrics
from bucketwheel.monitoring.metrics import Metric

_DAY = 86_400
# The comparison for each statistic: too much for a maximum, too little for a minimum.
_COMPARISONS = {"Maximum": ("more", "GreaterThanThreshold"), "Minimum": ("less", "LessThanThreshold")}


def alarms(deployment: Deployment) -> Resources:
    """Return every alarm whose limit is set."""
    monitoring = deployment.settings.monitoring
    alarms: Resources = {}
    for name in ("Failed", "TimedOut", "Aborted"):
        alarms[f"AlarmRun{name}"] = _of_machine(
            deployment, f"run-{name.lower()}", "StateMachine", f"Executions{name}", 1, "A run failed"
        )
    if monitoring.long_run_minutes is not None:
        alarms["AlarmRunSlow"] = _of_machine(
            deployment,
            "run-slow",
            "SlowWatch",
            "ExecutionsFailed",
            1,
            f"A run takes longer than {counted(monitoring.long_run_minutes, 'minute')}, or this could not be checked",
        )
    if monitoring.watch_schedule:
        for name in ("Failed", "TimedOut"):
            alarms[f"AlarmNoRun{name}"] = _of_machine(
                deployment,
                "no-run" if name == "Failed" else "no-run-unknown",
                "Watch",
                f"Executions{name}",
                1,
                f"No run succeeded in the {counted(monitoring.watch_days, 'day')} before the check, or the "
                "check failed",
            )
    if monitoring.error_lines_per_hour is not None:
        alarms["AlarmErrors"] = _alarm(
            deployment,
            "errors",
            f"At least {counted(monitoring.error_lines_per_hour, 'error line')} within an hour",
            {"Namespace": monitoring.namespace, "MetricName": error_lines(deployment), "Statistic": "Sum"},
            monitoring.error_lines_per_hour,
            "GreaterThanOrEqualToThreshold",
            3_600,
        )
    return joined([alarms, *(_of_data(deployment, dataset) for dataset in deployment.settings.datasets)])


def _of_data(deployment: Deployment, dataset: str) -> Resources:
    monitoring = deployment.settings.monitoring
    environment, name = metrics.DIMENSIONS
    parts: list[Resources] = []
    for metric, limit in _limits(deployment):
        if limit is None:
            continue
        word, comparison = _COMPARISONS[metric.statistic]
        watched = {
            "Namespace": monitoring.namespace,
            "MetricName": metric.name,
            "Statistic": metric.statistic,
            "Dimensions": [{"Name": environment, "Value": deployment.env}, {"Name": name, "Value": dataset}],
        }
        text = f"{metric.help}: {word} than {limit:g} in {dataset}"
        alarm = _alarm(deployment, f"{dataset}-{metric.name}", text, watched, limit, comparison, _DAY)
        parts.append({logical("Alarm", metric.name, dataset): alarm})
    return joined(parts)


def _limits(deployment: Deployment) -> Iterator[tuple[Metric, float | None]]:
    """Yield the metrics that runs of this configuration publish, with their limits."""
    monitoring, drift = deployment.settings.monitoring, deployment.settings.quality.drift
    yield metrics.NULL_KEYS, monitoring.null_keys
    yield metrics.DUPLICATE_KEYS, monitoring.duplicate_keys
    if drift != "off":
        yield metrics.ROWS_CHANGED, monitoring.rows_changed_percent
        yield metrics.NULL_SHARE_CHANGED, monitoring.null_share_changed_points
        yield metrics.COLUMNS_CHANGED, monitoring.columns_changed
    if drift == "keys":
        yield metrics.KEYS_KEPT, monitoring.keys_kept_percent
    yield metrics.COST, monitoring.cost_usd


def _of_machine(
    deployment: Deployment, name: str, machine: str, metric: str, threshold: float, text: str
) -> dict[str, Any]:
    watched = {
        "Namespace": "AWS/States",
        "MetricName": metric,
        "Statistic": "Sum",
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
        # There is no data between two monthly runs.
        "TreatMissingData": "notBreaching",
        "AlarmActions": [ref("Notices")],
        "Tags": deployment.tags(),
    }
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}
