"""Interface for publishing metrics and notifications; `aws_publisher`, imported when needed, implements it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from bucketwheel.optional import aws_module
from bucketwheel.settings import AwsSettings


class Publisher(Protocol):
    """Publishes metrics and notifications; every call returns within a bounded time."""

    def put_metrics(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        """Publish metrics.

        Raises:
            BucketwheelError: the call failed.
        """
        ...

    def notify(self, topic: str, subject: str, text: str) -> None:
        """Send a notification to the topic with this ARN.

        Raises:
            BucketwheelError: the call failed.
        """
        ...


OpenPublisher = Callable[[AwsSettings], Publisher]


def open_aws_publisher(settings: AwsSettings) -> Publisher:
    """Return the publisher to CloudWatch and SNS.

    Raises:
        MissingDependencyError: boto3 is not installed.
    """
    module = aws_module("bucketwheel.monitoring.aws_publisher", "publishing metrics and notifications")
    publisher: Publisher = module.AwsPublisher(settings)
    return publisher
