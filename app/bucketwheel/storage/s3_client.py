"""Call S3: one client per process, conditional puts, requester pays and error messages with a fix."""

from __future__ import annotations

import os
import threading
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 botocore's own
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, explain, is_denied, is_expired
from bucketwheel.errors import ChangedError, StorageError
from bucketwheel.settings import AwsSettings, StorageSettings
from bucketwheel.storage.locations import is_access_point
from bucketwheel.system import system

# Interrupted bodies, whose read botocore does not repeat.
INTERRUPTED = (HTTPClientError, IncompleteReadError)
_CONNECTIONS = 64
_NOT_THERE = {"NoSuchKey", "NotFound", "404"}
_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"}
_ELSEWHERE = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
}
# Permissions whose names differ from their operations.
_PERMISSIONS = {
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadObject": "GetObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "ListMultipartUploads": "ListBucketMultipartUploads",
}
_ON_BUCKET = {"ListObjectsV2", "ListMultipartUploads", "HeadBucket", "GetBucketEncryption", "GetPublicAccessBlock"}
_CONDITIONS = {"IfMatch": "If-Match", "IfNoneMatch": "If-None-Match"}

_lock = threading.Lock()
_clients: dict[StorageSettings, Any] = {}
# Processes that share a connection would read each other's responses.
os.register_at_fork(after_in_child=_clients.clear)


class S3Client:
    """Thread-safe S3 client that reloads credentials when they expire."""

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings

    def call(self, operation: str, bucket: str, key: str = "", **parameters: Any) -> Any:
        """Return the response of a call such as ``put_object``.

        Raises:
            FileNotFoundError: the object does not exist.
            ChangedError: a condition of the call does not hold.
            StorageError: any other error.
        """
        target = {"Bucket": bucket, **({"Key": key} if key else {})}
        client = _client(self._settings)
        try:
            try:
                return getattr(client, operation)(**target, **parameters)
            except ClientError as error:
                # The credentials file may have changed since it was read, or a role's session was revoked.
                if not is_expired(error):
                    raise
                renewed = _renew(self._settings, client)
                return getattr(renewed, operation)(**target, **parameters)
        except ClientError as error:
            raise _explain(error, bucket, key, parameters.get("Prefix", "")) from error
        except BotoCoreError as error:
            raise StorageError(f"s3://{bucket}/{key}: {_explain_no_response(error, client)}") from error


def arrow_options(settings: StorageSettings) -> dict[str, Any]:
    """Return the options of `pyarrow.fs.S3FileSystem` for the same access: credentials, region, endpoint."""
    client = _client(settings)
    credentials = clients.session().get_credentials()
    defaults = AwsSettings()
    options: dict[str, Any] = {
        "region": client.meta.region_name,
        "force_virtual_addressing": settings.path_style is False,
        "connect_timeout": settings.connect_seconds or defaults.connect_seconds,
        "request_timeout": settings.read_seconds or defaults.read_seconds,
    }
    if credentials is None:
        options["anonymous"] = True
    else:
        key = credentials.get_frozen_credentials()
        options |= {"access_key": key.access_key, "secret_key": key.secret_key, "session_token": key.token}
    if url := own_endpoint(settings):
        scheme, _, host = url.partition("://")
        options |= {"scheme": scheme, "endpoint_override": host}
    return options


def own_endpoint(settings: StorageSettings) -> str | None:
    """Return the endpoint of another store than AWS's; that of AWS follows from the region."""
    url = str(_client(settings).meta.endpoint_url).rstrip("/")
    return None if url.endswith((".amazonaws.com", ".amazonaws.com.cn")) else url


def region_of(settings: StorageSettings) -> str:
    """Return the region of S3, from the settings or the environment."""
    return str(_client(settings).meta.region_name)


def code_behind(error: StorageError) -> str:
    """Return the S3 error code behind an error, or an empty text."""
    return code_of(error.__cause__) if error.__cause__ else ""


def _client(settings: StorageSettings) -> Any:
    if replacement := system().client:
        return replacement("s3")
    with _lock:
        if settings not in _clients:
            _clients[settings] = _new_client(settings)
        return _clients[settings]


def _new_client(settings: StorageSettings) -> Any:
    defaults = AwsSettings()
    style = {None: "auto", True: "path", False: "virtual"}[settings.path_style]
    config = clients.client_config(
        settings.connect_seconds or defaults.connect_seconds,
        settings.read_seconds or defaults.read_seconds,
        settings.attempts or defaults.attempts,
        s3={"addressing_style": style},
        max_pool_connections=_CONNECTIONS,
    )
    client = clients.make_client("s3", settings.region, settings.endpoint_url, config)
    events = client.meta.events
    for operation in ("PutObject", "CompleteMultipartUpload"):
        events.register(f"before-parameter-build.s3.{operation}", _take_conditions)
        events.register(f"before-call.s3.{operation}", _send_conditions)
    if settings.requester_pays:
        events.register("before-call.s3", _add_request_payer)
    return client


def _renew(settings: StorageSettings, expired: Any) -> Any:
    with _lock:
        # Only the first of the failed threads reloads the credentials.
        if _clients.get(settings) is expired:
            clients.renew_session()
            _clients[settings] = _new_client(settings)
        return _clients[settings]


def _take_conditions(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    # The oldest supported botocore does not know these parameters of a put.
    context["bucketwheel"] = {header: params.pop(name) for name, header in _CONDITIONS.items() if name in params}


def _send_conditions(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    params["headers"].update(context.get("bucketwheel", {}))


def _add_request_payer(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["x-amz-request-payer"] = "requester"


def _explain(error: ClientError, bucket: str, key: str, prefix: str) -> Exception:
    code, operation = code_of(error), error.operation_name
    message = error.response.get("Error", {}).get("Message") or code
    location = f"s3://{bucket}/{key or prefix}"
    if code in _NOT_THERE:
        return FileNotFoundError(2, "no such object", location)
    if code in _CHANGED:
        return ChangedError(f"{location}: modified concurrently by another writer")
    return StorageError(f"{location}: {_why(code, operation, message, bucket, key, error)}")


def _why(code: str, operation: str, message: str, bucket: str, key: str, error: ClientError) -> str:
    if operation.startswith("AssumeRole"):
        return explain(error)
    if code == "NoSuchBucket":
        return f"{operation}: the bucket {bucket!r} does not exist; create it, or correct its name in the settings"
    if is_denied(error):
        permission = f"s3:{_PERMISSIONS.get(operation, operation)}"
        resource = f"arn:aws:s3:::{bucket}" if operation in _ON_BUCKET else f"arn:aws:s3:::{bucket}/{key or '*'}"
        if is_access_point(bucket):
            return (
                f"{operation} was denied ({message}); {bucket} is an access point: the role needs {permission} on "
                "the access point and on its bucket, and the policies of both must allow it"
            )
        return (
            f"{operation} was denied ({message}); the role needs {permission} on {resource} and, if the bucket is "
            "encrypted with a KMS key, permission to use that key"
        )
    if is_expired(error):
        return f"{operation}: the credentials have expired ({message}); renew them, then resume"
    if code in _WRONG_KEYS:
        return f"{operation}: the credentials are not valid ({message}); check AWS_PROFILE and the AWS_ variables"
    if code in _ELSEWHERE:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
        return f"{operation}: the bucket is in another region; set storage.region={region or 'to that of the bucket'}"
    return f"{operation} failed: {code}: {message}"


def _explain_no_response(error: BotoCoreError, client: Any) -> str:
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return f"no AWS credentials were found ({error}); give this machine a role, or set AWS_PROFILE"
    if isinstance(error, CredentialRetrievalError | TokenRetrievalError):
        return f"the AWS credentials could not be renewed ({error}); sign in again, then resume"
    if isinstance(error, ConnectionError | HTTPClientError):
        return (
            f"{client.meta.endpoint_url} cannot be reached ({error}); check the network, storage.endpoint_url and "
            "storage.region"
        )
    return str(error)
