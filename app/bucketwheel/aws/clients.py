"""One way to AWS's services: clients with the same credentials, time-outs and retries, and their errors in words.

Nothing is imported from here before AWS is really used: local runs need neither boto3 nor credentials.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from bucketwheel.errors import BucketwheelError
from bucketwheel.settings import AwsSettings

_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"}
_LACKING = re.compile(r"not authorized to perform:? ([\w-]+:\w+)")
_EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
}

_lock = threading.Lock()


@functools.cache
def session() -> boto3.Session:
    """Return the session of this process; its credentials refresh themselves where they come from a role."""
    # The other tools of AWS know this name, boto3 only AWS_DEFAULT_REGION.
    return boto3.Session(region_name=os.environ.get("AWS_REGION") or None)


def renew_session() -> None:
    """Forget the session: the next one looks for credentials anew; clients that exist keep theirs."""
    session.cache_clear()


def make_client(service: str, region: str | None, endpoint_url: str | None, config: Config) -> Any:
    """Return a new client of the session; see `client` for one that is kept."""
    # Making clients is not safe for threads; using them is.
    with _lock:
        return session().client(service, region_name=region, endpoint_url=endpoint_url, config=config)


def client_config(connect_seconds: float, read_seconds: float, attempts: int, **more: Any) -> Config:
    """Return how a client waits and tries again, the same for all services."""
    retries = {"mode": "standard", "total_max_attempts": attempts}
    return Config(connect_timeout=connect_seconds, read_timeout=read_seconds, retries=retries, **more)


@functools.cache
def _client(service: str, settings: AwsSettings, endpoint_url: str | None) -> Any:
    config = client_config(settings.connect_seconds, settings.read_seconds, settings.attempts)
    return make_client(service, settings.region, endpoint_url or settings.endpoint_url, config)


def client(service: str, settings: AwsSettings, endpoint_url: str | None = None) -> Any:
    """Return the client of a service such as ``glue``; the same one each time, safe for use by threads.

    Args:
        service: its name in boto3.
        settings: region, time-outs, number of attempts.
        endpoint_url: where this one service is, in place of `settings.endpoint_url`.

    Raises:
        BucketwheelError: no region is known.
    """
    try:
        return _client(service, settings, endpoint_url)
    except NoRegionError as error:
        raise BucketwheelError(
            f"{service}: no region is known; set aws.region, or AWS_REGION in the environment"
        ) from error


def code_of(error: BaseException) -> str:
    """Return AWS's error code, or nothing where the error did not come from a service."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def is_denied(error: BaseException) -> bool:
    """Return whether AWS refused because the role lacks a permission."""
    return code_of(error) in _DENIED


@contextmanager
def translated(kind: Callable[[str], BucketwheelError], thing: str) -> Iterator[None]:
    """Turn errors of botocore into `kind`, with the thing, the action that AWS knows it by, and what to do.

    Args:
        kind: the error to raise, or what makes it of a text.
        thing: what the call was about, such as ``table omc_flywheel_prod.ext_ibe_01``.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise kind(f"{thing}: {explained(error)}") from error


def explained(error: ClientError | BotoCoreError) -> str:
    """Return what an error of AWS means and what to do about it."""
    if isinstance(error, NoCredentialsError):
        return "no AWS credentials were found; give this machine a role, or set AWS_PROFILE"
    if not isinstance(error, ClientError):
        return str(error)
    code, message = code_of(error), error.response.get("Error", {}).get("Message", "")
    action = error.operation_name
    if action.startswith("AssumeRole"):
        # No call of ours: botocore makes it for a profile or an environment that names a role.
        return (
            f"no credentials: the role that this process is to take cannot be assumed ({message or code}); choose "
            "another AWS_PROFILE, or have the role trust who runs this"
        )
    if is_denied(error):
        # What is missing may be another action than the one called, such as iam:PassRole.
        missing = _LACKING.search(message)
        needed = missing[1] if missing else "this action"
        return f"{action} was denied ({message or code}); the role needs permission for {needed} on it"
    if code in _EXPIRED:
        return f"{action}: the credentials are not valid any more ({message or code}); renew them, then resume"
    return f"{action} failed: {code}: {message}"
