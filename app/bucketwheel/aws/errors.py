"""Classify errors of AWS services and explain them; the only map of AWS error codes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from bucketwheel.errors import BucketwheelError
from bucketwheel.safe_text import one_line

_DENIED = {
    "403",
    "AccessDenied",
    "AccessDeniedException",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationError",
    "UnauthorizedOperation",
}
_EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "RequestExpired",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
# botocore retries most of these, but only for a number of attempts, however short they were.
THROTTLED = {
    "InternalServerException",
    "InternalServiceException",
    "LimitExceededException",
    "OperationTimeoutException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_UNREADABLE_CATALOG = "GlueEncryptionException"
_MISSING_PERMISSION = re.compile(r"not authorized to perform:? ([\w-]+:\w+)")


def code_of(error: BaseException) -> str:
    """Return the AWS error code, or an empty text if the error did not come from a service."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def is_denied(error: BaseException) -> bool:
    """Return whether AWS refused the call because the role lacks a permission."""
    return code_of(error) in _DENIED


def is_expired(error: BaseException) -> bool:
    """Return whether AWS refused the call because the credentials are no longer valid."""
    return code_of(error) in _EXPIRED


def lacks_credentials(error: BaseException) -> bool:
    """Return whether the process has no credentials, or none that are still valid."""
    return isinstance(error, NoCredentialsError) or is_expired(error)


def is_throttled(error: BaseException) -> bool:
    """Return whether AWS throttled the call or the service had an internal error."""
    return code_of(error) in THROTTLED


def is_temporary(error: BaseException) -> bool:
    """Return whether the same call may succeed later: throttled, a server error or no response."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return is_throttled(error) or status >= 500
    return isinstance(error, BotoCoreError) and not isinstance(error, NoCredentialsError)


@contextmanager
def wrap_aws_errors(kind: Callable[[str], BucketwheelError], thing: str) -> Iterator[None]:
    """Raise errors of botocore as `kind`, with the thing, the AWS action and the fix in the message.

    Args:
        kind: error class, or a function that builds the error from its message.
        thing: subject of the call, such as ``table analytics.ext_finance``.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise kind(one_line(f"{thing}: {explain(error)}")) from error


def explain(error: ClientError | BotoCoreError) -> str:
    """Return the meaning of an AWS error and its fix."""
    if isinstance(error, NoCredentialsError):
        return "no AWS credentials were found; give this machine a role, or set AWS_PROFILE"
    if not isinstance(error, ClientError):
        return str(error)
    code, message = code_of(error), error.response.get("Error", {}).get("Message", "")
    action = error.operation_name
    if action.startswith("AssumeRole"):
        # Bucketwheel never makes this call: botocore does, for a profile or an environment that names a role.
        return (
            f"no credentials: the role of this process cannot be assumed ({message or code}); choose another "
            "AWS_PROFILE, or let the role trust the caller"
        )
    if is_denied(error) and "Lake Formation permission" in message:
        # IAM allows the call, so a permission of the role would not help; `lake_formation.py` names the grant.
        return f"{action} was denied ({message})"
    if is_denied(error):
        # The missing permission may belong to another action than the call, such as iam:PassRole.
        missing = _MISSING_PERMISSION.search(message)
        needed = missing[1] if missing else "this action"
        return f"{action} was denied ({message or code}); the role needs permission for {needed} on it"
    if code == _UNREADABLE_CATALOG:
        return (
            f"{action} failed: {code}: {message.rstrip('.')}; the catalog is encrypted with a key: the role needs "
            "kms:Decrypt and kms:GenerateDataKey on it, which `bucketwheel deploy apply` grants with catalog.kms_key"
        )
    if is_expired(error):
        return f"{action}: the credentials are no longer valid ({message or code}); renew them, then resume"
    return f"{action} failed: {code}: {message}"
