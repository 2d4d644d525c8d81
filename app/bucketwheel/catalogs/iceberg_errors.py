"""Explain errors of PyIceberg, and of the libraries through which it calls catalogs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pydantic
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    ServerError,
    ServiceUnavailableError,
    TableAlreadyExistsError,
    TooManyRequestsError,
    UnauthorizedError,
    ValidationError,
)
from requests import ReadTimeout, RequestException
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from bucketwheel.errors import BucketwheelError, CatalogError
from bucketwheel.optional import aws_module
from bucketwheel.safe_text import one_line

# The metadata file of a table does not exist, or is not one.
DAMAGED = (FileNotFoundError, pydantic.ValidationError, ValidationError, UnicodeDecodeError)
# Another writer was faster.
CONFLICTS = (CommitFailedException, TableAlreadyExistsError, NoSuchTableError)
_CONFLICT_CODES = {"ConcurrentModificationException", "VersionMismatchException", "AlreadyExistsException"}
_CREDENTIALS = (UnauthorizedError, AuthorizationExpiredError, OAuthError)
_READ_ONLY = "if it is read-only, nothing can be published there: set iceberg.uri to a catalog that accepts commits"
_UNKNOWN = (CommitStateUnknownException, ServerError, ServiceUnavailableError)


@contextmanager
def wrap_iceberg_errors(thing: str) -> Iterator[None]:
    """Raise errors of PyIceberg and its libraries as CatalogError, with the thing and the fix in the message."""
    try:
        yield
    except BucketwheelError:
        raise
    except Exception as error:
        text = _explained(error)
        if text is None:
            raise
        raise CatalogError(one_line(f"{thing}: {text}")) from error


def is_conflict(error: BaseException | None) -> bool:
    """Return whether a commit was not made because another writer changed the table."""
    return isinstance(error, CONFLICTS) or _aws_code(error) in _CONFLICT_CODES


def lacks_metadata(error: BaseException) -> bool:
    """Return whether a REST catalog has a table but not its metadata file: both are status 404."""
    return str(error).startswith("NotFoundException:")


def is_refusal(error: BaseException | None) -> bool:
    """Return whether a commit was surely not made, because the catalog refused it."""
    if isinstance(error, RESTError):
        return not isinstance(error, _UNKNOWN)
    return isinstance(error, NotImplementedError) or is_conflict(error)


def _explained(error: Exception) -> str | None:
    """Return what an error means, and its fix; None for one that is a fault of the program."""
    known = ((RESTError, _rest), (RequestException, _no_response), (SQLAlchemyError, _sql))
    for kind, explain in known:
        if isinstance(error, kind):
            return explain(error)
    if isinstance(error, NotImplementedError):
        return f"the catalog does not offer this call ({error}); {_READ_ONLY}"
    if isinstance(error, DAMAGED):
        return f"the metadata of the table is missing or damaged ({error}); drop the table, and publish the run again"
    if isinstance(error, (*CONFLICTS, NoSuchNamespaceError)) or type(error).__module__.startswith("pyiceberg"):
        return f"{type(error).__name__}: {error}"
    if type(error).__module__.startswith("botocore"):
        return str(aws_module("bucketwheel.aws.errors", "iceberg.catalog=glue").explain(error))
    return None


def _rest(error: Exception) -> str:
    if isinstance(error, ForbiddenError):
        return f"the catalog denied access ({error}); use credentials that may change its tables; {_READ_ONLY}"
    if isinstance(error, _CREDENTIALS):
        return f"the catalog does not accept the credentials ({error}); set token or credential in iceberg.properties"
    if isinstance(error, TooManyRequestsError):
        return f"the catalog is throttled ({error}); run again later"
    if isinstance(error, _UNKNOWN):
        return f"the catalog failed ({error}); run again when it works"
    return f"the catalog refused ({error}); {_READ_ONLY}"


def _no_response(error: Exception) -> str:
    if isinstance(error, ReadTimeout):
        return (
            f"the catalog did not answer in time ({error}); run again when it works, raise aws.read_seconds, or if "
            "this happens for one table only, its metadata may be damaged: drop it in the catalog, and publish the "
            "run again"
        )
    return f"the catalog cannot be reached ({error}); check iceberg.uri and the network"


def _sql(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    if "file is not a database" in str(cause) or "disk image is malformed" in str(cause):
        return (
            f"the database of the catalog is damaged ({cause}); move its file away, then make the catalog again: "
            "bucketwheel catalog rebuild"
        )
    if isinstance(error, ArgumentError):
        return f"iceberg.uri names no database ({cause}); set it to one, such as sqlite:////data/iceberg.db"
    return f"the database of the catalog failed ({cause}); check iceberg.uri, and that its file can be written"


def _aws_code(error: BaseException | None) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
