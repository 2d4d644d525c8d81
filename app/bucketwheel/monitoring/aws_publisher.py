"""Publish metrics to CloudWatch and notifications to SNS; timeouts are short because the end of a run waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from bucketwheel.aws import clients
from bucketwheel.aws.errors import wrap_aws_errors
from bucketwheel.errors import BucketwheelError
from bucketwheel.settings import AwsSettings

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

_CONNECT_SECONDS = 3.0
_READ_SECONDS = 5.0
_ATTEMPTS = 2


class AwsPublisher:
    """See `publisher.Publisher`; a call takes at most about 20 seconds."""

    def __init__(self, settings: AwsSettings) -> None:
        limits = {
            "connect_seconds": min(settings.connect_seconds, _CONNECT_SECONDS),
            "read_seconds": min(settings.read_seconds, _READ_SECONDS),
            "attempts": min(settings.attempts, _ATTEMPTS),
        }
        self._settings = settings.model_copy(update=limits)

    def put_metrics(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        """See `publisher.Publisher.put_metrics`."""
        with wrap_aws_errors(BucketwheelError, f"metrics in namespace {namespace}"):
            metrics = cast("list[MetricDatumTypeDef]", list(data))
            clients.client("cloudwatch", self._settings).put_metric_data(Namespace=namespace, MetricData=metrics)

    def notify(self, topic: str, subject: str, text: str) -> None:
        """See `publisher.Publisher.notify`."""
        # The topic can be in another region than the job.
        settings = self._settings.model_copy(update={"region": topic.split(":")[3]})
        with wrap_aws_errors(BucketwheelError, f"topic {topic}"):
            clients.client("sns", settings).publish(TopicArn=topic, Subject=subject, Message=text)
