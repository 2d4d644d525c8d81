"""What the end of a run asks of AWS; `aws_cloud.py` does it, and is imported where something is to be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from bucketwheel.optional import aws_module
from bucketwheel.settings import AwsSettings


class Cloud(Protocol):
    """Takes metrics and notices; every call ends within a bounded time."""

    def put_metrics(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        """Send metrics.

        Raises:
            BucketwheelError: they were not taken.
        """
        ...

    def notify(self, topic: str, subject: str, text: str) -> None:
        """Send a notice to a topic, by its ARN.

        Raises:
            BucketwheelError: it was not taken.
        """
        ...


OpenCloud = Callable[[AwsSettings], Cloud]


def aws_cloud(settings: AwsSettings) -> Cloud:
    """Return AWS itself.

    Raises:
        MissingDependencyError: boto3 is not installed.
    """
    made: Cloud = aws_module("bucketwheel.monitoring.aws_publisher", "publishing metrics and notices").AwsCloud(
        settings
    )
    return made
