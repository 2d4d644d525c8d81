"""Format metrics for CloudWatch: as a log line in its embedded metric format (EMF), or as call parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bucketwheel.monitoring.metrics import DIMENSIONS, Metric


def emf_line(
    namespace: str,
    dimensions: Mapping[str, str],
    values: Mapping[Metric, float],
    time: datetime,
    properties: Mapping[str, str],
) -> str:
    """Return the metrics as one log line; `properties` are searchable fields, not metrics."""
    metrics = [{"Name": metric.name, "Unit": metric.unit} for metric in values]
    directive = {"Namespace": namespace, "Dimensions": [list(DIMENSIONS)], "Metrics": metrics}
    head = {"Timestamp": int(time.timestamp() * 1000), "CloudWatchMetrics": [directive]}
    numbers = {metric.name: value for metric, value in values.items()}
    return json.dumps({"_aws": head, **properties, **dimensions, **numbers})


def metric_data(
    dimensions: Mapping[str, str], values: Mapping[Metric, float], time: datetime
) -> list[dict[str, Any]]:
    """Return the parameter `MetricData` of PutMetricData."""
    named = [{"Name": name, "Value": dimensions[name]} for name in DIMENSIONS]
    return [
        {"MetricName": metric.name, "Dimensions": named, "Timestamp": time, "Value": value, "Unit": metric.unit}
        for metric, value in values.items()
    ]
