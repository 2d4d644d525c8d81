"""Create boto3 clients with the same credentials, timeouts and retries.

Only code that calls AWS imports this package: local runs need neither boto3 nor credentials.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

import boto3
from botocore.config import Config
from botocore.exceptions import NoRegionError

from bucketwheel.aws.damaged import refuse_damaged_responses
from bucketwheel.aws.errors import THROTTLED
from bucketwheel.errors import BucketwheelError
from bucketwheel.settings import AwsSettings
from bucketwheel.system import system

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_emr_serverless import EMRServerlessClient
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sts import STSClient

_lock = threading.Lock()
_LOG = logging.getLogger("bucketwheel")


@functools.cache
def session() -> boto3.Session:
    """Return the session of this process; credentials of a role renew themselves."""
    # Other AWS tools read AWS_REGION, boto3 only AWS_DEFAULT_REGION.
    return boto3.Session(region_name=os.environ.get("AWS_REGION") or None)


def renew_session() -> None:
    """Drop the session, so that the next client loads new credentials; existing clients keep theirs."""
    session.cache_clear()


def make_client(service: str, region: str | None, endpoint_url: str | None, config: Config) -> Any:
    """Return a new client of the session; `client` returns a cached one."""
    # Clients are thread-safe, creating them is not.
    with _lock:
        create: Callable[..., Any] = session().client
        client = create(service, region_name=region, endpoint_url=endpoint_url, config=config)
    client.meta.events.register("needs-retry", _log_throttling)
    refuse_damaged_responses(client)
    return client


def _log_throttling(operation: Any, response: Any, attempts: int, **_: Any) -> None:
    """Log a throttled call, because botocore repeats it without a line in its log."""
    # Without a response, `response` is None; otherwise the HTTP response and its parsed content.
    code = (response[1] if response else {}).get("Error", {}).get("Code", "")
    if code in THROTTLED:
        _LOG.info("AWS throttled attempt %d of %s: %s", attempts, operation.name, code)


def client_config(connect_seconds: float, read_seconds: float, attempts: int, **more: Any) -> Config:
    """Return the timeouts and retries of a client, the same for all services."""
    return Config(
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
        **more,
    )


@functools.cache
def _client(service: str, settings: AwsSettings, endpoint_url: str | None) -> Any:
    config = client_config(settings.connect_seconds, settings.read_seconds, settings.attempts)
    return make_client(service, settings.region, endpoint_url or settings.endpoint_url, config)


@overload
def client(service: Literal["athena"], settings: AwsSettings, endpoint_url: str | None = None) -> AthenaClient: ...
@overload
def client(
    service: Literal["cloudformation"], settings: AwsSettings, endpoint_url: str | None = None
) -> CloudFormationClient: ...
@overload
def client(
    service: Literal["cloudwatch"], settings: AwsSettings, endpoint_url: str | None = None
) -> CloudWatchClient: ...
@overload
def client(
    service: Literal["emr-serverless"], settings: AwsSettings, endpoint_url: str | None = None
) -> EMRServerlessClient: ...
@overload
def client(service: Literal["glue"], settings: AwsSettings, endpoint_url: str | None = None) -> GlueClient: ...
@overload
def client(service: Literal["iam"], settings: AwsSettings, endpoint_url: str | None = None) -> IAMClient: ...
@overload
def client(
    service: Literal["logs"], settings: AwsSettings, endpoint_url: str | None = None
) -> CloudWatchLogsClient: ...
@overload
def client(service: Literal["sns"], settings: AwsSettings, endpoint_url: str | None = None) -> SNSClient: ...
@overload
def client(service: Literal["sts"], settings: AwsSettings, endpoint_url: str | None = None) -> STSClient: ...
@overload
def client(service: str, settings: AwsSettings, endpoint_url: str | None = None) -> Any: ...
def client(service: str, settings: AwsSettings, endpoint_url: str | None = None) -> Any:
    """Return the cached, thread-safe client of a service such as ``glue``.

    Args:
        service: name of the service in boto3.
        settings: region, timeouts, number of attempts.
        endpoint_url: endpoint of this service, instead of `settings.endpoint_url`.

    Raises:
        BucketwheelError: no region is known.
    """
    if replacement := system().client:
        return replacement(service)
    try:
        return _client(service, settings, endpoint_url)
    except NoRegionError as error:
        raise BucketwheelError(
            f"{service}: no region is known; set aws.region, or AWS_REGION in the environment"
        ) from error
