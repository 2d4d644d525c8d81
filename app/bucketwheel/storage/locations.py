"""Parse locations: local paths, `file://` URIs and S3 URIs.

This is the only parser of S3 URIs. The schemes `s3`, `s3a` and `s3n`, in any case, mean the same; Bucketwheel writes
`s3://` wherever it stores or sends a location.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import unquote

from bucketwheel.errors import ConfigError, SourceChangedError, StorageError
from bucketwheel.settings.base import arn_problem

# Prefix of directories that are being deleted. Readers ignore names that begin with a dot.
HIDDEN = ".deleted-"
_S3_SCHEMES = ("s3", "s3a", "s3n")


@dataclass(frozen=True)
class Entry:
    """A file or directory in a listing.

    Attributes:
        location: absolute path or `s3://` URI.
        name: last part of the location.
        bytes: size of a file.
        modified: UTC time in ISO format.
        is_directory: whether it is a directory.
        version: changes when the file is replaced or rewritten: its ETag, or size, time in nanoseconds and inode.
        problem: why it cannot be read, such as a link whose target does not exist; empty for files and directories.
    """

    location: str
    name: str
    bytes: int
    modified: str
    is_directory: bool
    version: str = ""
    problem: str = ""


def is_s3(location: str) -> bool:
    """Return whether the location names an S3 object or prefix."""
    return _split(location)[0] in _S3_SCHEMES


def _split(location: str) -> tuple[str, str]:
    # urlsplit would take "?" and "#" out of the key.
    scheme, separator, rest = location.partition("://")
    return (scheme.lower(), rest) if separator and scheme.isalnum() else ("", location)


def absolute(location: str) -> str:
    """Return the location as catalogs store it: an absolute path or an `s3://` URI.

    Raises:
        StorageError: the scheme is unknown, the bucket is missing, or the location is an ARN.
    """
    if problem := arn_problem(location):
        raise StorageError(problem)
    scheme, rest = _split(location)
    if scheme in _S3_SCHEMES:
        if not rest.partition("/")[0]:
            raise StorageError(f"{location}: names no bucket; write s3://bucket/prefix")
        return f"s3://{rest.rstrip('/')}"
    if scheme == "file":
        # file:///path and file://localhost/path mean the same.
        rest = unquote(rest[rest.index("/") :] if "/" in rest else "/")
    elif scheme:
        raise StorageError(f"{location}: unknown scheme {scheme!r}; use a local path, s3:// or s3a://")
    return os.path.abspath(rest)  # noqa: PTH100  Path takes ten times as long


def bucket_and_key(location: str) -> tuple[str, str]:
    """Return the bucket and the key of an S3 URI; the key is empty for a whole bucket."""
    bucket, _, key = _split(location)[1].partition("/")
    return bucket, key


def with_s3_scheme(location: str) -> str:
    """Return an S3 URI with the scheme `s3`, and any other location unchanged."""
    return f"s3://{_split(location)[1]}" if is_s3(location) else location


def is_below(location: str, directory: str) -> bool:
    """Return whether an absolute location is `directory` itself or lies below it."""
    return f"{location}/".startswith(f"{directory}/")


def is_inside(location: str, directory: str) -> bool:
    """Return whether an absolute location lies below `directory` and is not `directory` itself."""
    inner, outer = location.rstrip("/"), directory.rstrip("/")
    return inner != outer and is_below(inner, outer)


def is_access_point(bucket: str) -> bool:
    """Return whether a bucket name is the alias of an access point, which S3 accepts for reading and writing objects.

    Policies of IAM and calls about the bucket itself need the name of the bucket.
    """
    return bucket.endswith(("-s3alias", "--ol-s3"))


@dataclass(frozen=True)
class S3Location:
    """A bucket and a prefix in it; the prefix has no slash at either end."""

    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """The location as `s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def arn(self, partition: str = "aws") -> str:
        """Return the ARN of the location."""
        return f"arn:{partition}:s3:::{self.bucket}/{self.prefix}".rstrip("/")


def s3_location(setting: str, location: str | None) -> S3Location:
    """Return the bucket and the prefix of the value of `setting`.

    Raises:
        ConfigError: the value is empty or not an S3 URI.
    """
    if problem := arn_problem(location or ""):
        raise ConfigError(f"{setting}: {problem}")
    scheme, rest = _split(location or "")
    bucket, _, prefix = rest.partition("/")
    if scheme not in _S3_SCHEMES or not bucket:
        raise ConfigError(f"{setting} is {location!r}; set it to a location of the form s3://bucket/prefix")
    return S3Location(bucket, prefix.strip("/"))


def join(location: str, *parts: str) -> str:
    """Append path parts to a location."""
    return "/".join([location.rstrip("/"), *(part.strip("/") for part in parts)])


def name_of(location: str) -> str:
    """Return the last path part."""
    return location.rstrip("/").rsplit("/", 1)[-1]


def source_changed(location: str, change: str = "replaced or rewritten") -> SourceChangedError:
    """Return the error of a source file that changed during the run."""
    return SourceChangedError(f"{location}: was {change} during the run; nothing was published")
