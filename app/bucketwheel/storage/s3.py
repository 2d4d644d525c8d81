"""Read and write S3 objects: writes are atomic, and conditional puts detect concurrent writers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from bucketwheel.aws.retry import retry
from bucketwheel.errors import ChangedError, StorageError
from bucketwheel.formatting import counted
from bucketwheel.settings import AwsSettings, StorageSettings
from bucketwheel.storage.locations import Entry, bucket_and_key, source_changed
from bucketwheel.storage.ranged import END_BYTES, RangedFile, RangedSource
from bucketwheel.storage.s3_client import INTERRUPTED, S3Client, code_behind
from bucketwheel.storage.s3_upload import Upload, abandon_uploads, unfinished_uploads

# Buffers small writes of page headers before they cross into Python.
_WRITE_BUFFER = 2**20
_DELETED_AT_ONCE = 1000
_PAUSE = 0.1
_MAX_PAUSE = 5
_SSE = {"SSE-S3": "AES256", "SSE-KMS": "aws:kms"}


class S3Objects:
    """Backend for absolute `s3://` URIs; raises FileNotFoundError for missing objects, else StorageError."""

    def __init__(self, settings: StorageSettings) -> None:
        self._client = S3Client(settings)
        self._attempts = settings.attempts or AwsSettings().attempts
        self._options: dict[str, str] = {}
        if settings.encryption:
            self._options["ServerSideEncryption"] = _SSE[settings.encryption]
        if settings.kms_key:
            self._options["SSEKMSKeyId"] = settings.kms_key

    def list(self, path: str, recursive: bool) -> list[Entry]:
        """Return the entries below a prefix, in any order; keys that end with "/" are directories."""
        bucket, key = bucket_and_key(path)
        prefix = f"{key}/" if key else ""
        entries = []
        for page in self._pages(bucket, prefix, "" if recursive else "/"):
            entries += [_directory(bucket, common["Prefix"]) for common in page.get("CommonPrefixes", ())]
            for listed in page.get("Contents", ()):
                if listed["Key"].endswith("/"):
                    # Consoles and some writers create such keys for folders; the prefix itself is not an entry.
                    entries += [_directory(bucket, listed["Key"])] if listed["Key"] != prefix else []
                    continue
                modified = listed["LastModified"].isoformat()
                name = listed["Key"].rpartition("/")[2]
                location, version = f"s3://{bucket}/{listed['Key']}", listed.get("ETag", "")
                entries.append(Entry(location, name, listed["Size"], modified, False, version))
        return entries

    def exists(self, path: str) -> bool:
        """Return whether the object, or one below it, exists."""
        bucket, key = bucket_and_key(path)
        for prefix in (key, f"{key}/" if key else ""):
            page = self._client.call("list_objects_v2", bucket, Prefix=prefix, MaxKeys=1)
            # A listing returns the key itself before longer keys.
            if any(
                listed["Key"] == key or listed["Key"].startswith(f"{key}/") for listed in page.get("Contents", ())
            ):
                return True
        return not key

    def open(self, path: str, version: str = "", end_bytes: int = 0) -> pa.NativeFile:
        """Open an object for ranged reads; the first request also reads its last `end_bytes`, but at least 64 KiB.

        With a `version`, an ETag, every request reads this version or fails.
        """
        bucket, key = bucket_and_key(path)
        condition = {"IfMatch": version} if version else {}
        try:
            end, response = self._get(bucket, key, f"bytes=-{max(end_bytes, END_BYTES)}", **condition)
        except ChangedError as error:
            raise source_changed(path) from error
        except StorageError as error:
            if code_behind(error) != "InvalidRange":
                raise
            # S3 rejects every range request for an empty object.
            end, response = self._get(bucket, key)
        size = int(response.get("ContentRange", f"/{len(end)}").rpartition("/")[2])

        def read(offset: int, length: int) -> bytes:
            try:
                return self._get(bucket, key, f"bytes={offset}-{offset + length - 1}", IfMatch=response["ETag"])[0]
            except (ChangedError, FileNotFoundError) as error:
                if version:
                    raise source_changed(path) from error
                raise StorageError(
                    f"{path}: another writer replaced or deleted it during the read; run again"
                ) from error

        return RangedFile(RangedSource(size, end, read), mode="r")

    def check_version(self, path: str, version: str) -> None:
        """Do nothing: S3 compares the ETag in every read."""

    def read(self, path: str) -> tuple[bytes, str]:
        """Return the content of an object and its ETag."""
        content, response = self._get(*bucket_and_key(path))
        return content, response["ETag"]

    def write(self, path: str, content: bytes, durable: bool) -> None:
        """Replace an object in one put; S3 objects are always durable."""
        self._put(path, content)

    def replace(self, path: str, content: bytes, version: str | None) -> str:
        """Replace an object that still has this ETag (None: does not exist yet) and return its new ETag.

        Raises:
            ChangedError: it has another ETag or was deleted.
        """
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        try:
            return self._put(path, content, **condition)
        except (ChangedError, FileNotFoundError) as error:
            return self._confirm_own_write(path, content, error)

    def _put(self, path: str, content: bytes, **condition: str) -> str:
        bucket, key = bucket_and_key(path)
        response = self._client.call("put_object", bucket, key, Body=content, **condition, **self._options)
        return str(response["ETag"])

    def _confirm_own_write(self, path: str, content: bytes, refusal: Exception) -> str:
        """Return the ETag if an earlier attempt succeeded although its response was lost."""
        try:
            current, etag = self.read(path)
        except FileNotFoundError:
            current, etag = b"", ""
        if etag and current == content:
            return etag
        raise ChangedError(f"{path}: modified concurrently by another writer") from refusal

    @contextmanager
    def create(self, path: str, _scratch: str) -> Iterator[pa.NativeFile]:
        """Open an object for writing; it appears only if the block succeeds."""
        upload = Upload(self._client, *bucket_and_key(path), self._options)
        stream = pa.BufferedOutputStream(pa.PythonFile(upload, mode="w"), _WRITE_BUFFER)
        try:
            yield stream
            stream.flush()
            upload.complete()
        except BaseException as error:
            try:
                upload.abandon()
            except StorageError as left:
                error.add_note(f"an unfinished upload may remain: {left}")
            raise
        finally:
            stream.close()

    def make_directory(self, path: str) -> None:
        """Do nothing: S3 has no directories."""

    def delete(self, path: str) -> None:
        """Delete one object if it exists."""
        self._client.call("delete_object", *bucket_and_key(path))

    def delete_directory(self, path: str) -> None:
        """Delete all objects and unfinished uploads below a prefix."""
        bucket, key = bucket_and_key(path)
        if not key:
            raise StorageError(f"{path}: is a whole bucket, which Bucketwheel never deletes; name a prefix")
        abandon_uploads(self._client, bucket, f"{key}/", lambda _: True)
        for page in self._pages(bucket, f"{key}/", ""):
            keys = [{"Key": listed["Key"]} for listed in page.get("Contents", ())]
            for start in range(0, len(keys), _DELETED_AT_ONCE):
                self._delete_keys(bucket, keys[start : start + _DELETED_AT_ONCE])

    def hide_directory(self, path: str) -> str:
        """Do nothing: S3 cannot rename."""
        return path

    def sweep(self, path: str) -> None:
        """Do nothing: S3 has no partial objects."""

    def abandon_uploads(self, path: str, part: str) -> None:
        """Abort uploads to keys below a prefix that have `part` as a path component."""
        bucket, key = bucket_and_key(path)
        abandon_uploads(self._client, bucket, f"{key}/", lambda upload_key: f"/{part}/" in f"/{upload_key}")

    def uploads(self, path: str) -> Sequence[tuple[str, str]]:
        """Return location and start of each unfinished upload below a prefix."""
        bucket, key = bucket_and_key(path)
        return [
            (f"s3://{bucket}/{upload['Key']}", upload["Initiated"].isoformat())
            for upload in unfinished_uploads(self._client, bucket, f"{key}/")
        ]

    def flush(self, path: str) -> None:
        """Do nothing: S3 objects are always durable."""

    def _delete_keys(self, bucket: str, keys: Sequence[dict[str, str]]) -> None:
        response = self._client.call("delete_objects", bucket, Delete={"Objects": keys, "Quiet": True})
        errors = response.get("Errors", [])
        if errors:
            first = errors[0]
            raise StorageError(
                f"s3://{bucket}/{first.get('Key')}: DeleteObject failed: {first.get('Code')}: {first.get('Message')} "
                f"(failed to delete {len(errors)} of {counted(len(keys), 'object')}); the role needs "
                "s3:DeleteObject on them"
            )

    def _pages(self, bucket: str, prefix: str, delimiter: str) -> Iterator[Any]:
        more: dict[str, str] = {"Delimiter": delimiter} if delimiter else {}
        while True:
            page = self._client.call("list_objects_v2", bucket, Prefix=prefix, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def _get(self, bucket: str, key: str, part: str = "", **condition: str) -> tuple[bytes, Any]:
        """Return content and response; retry interrupted bodies, which botocore does not."""
        range_header = {"Range": part} if part else {}

        def get() -> tuple[bytes, Any]:
            response = self._client.call("get_object", bucket, key, **range_header, **condition)
            body = response["Body"]
            try:
                return body.read(), response
            finally:
                body.close()

        pauses = (min(_PAUSE * 2**attempt, _MAX_PAUSE) for attempt in range(1, self._attempts))
        try:
            return retry(get, lambda error: isinstance(error, INTERRUPTED), pauses)
        except INTERRUPTED as error:
            raise StorageError(
                f"s3://{bucket}/{key}: the read was interrupted {counted(self._attempts, 'time')} ({error}); "
                "check the network, "
                "or raise storage.attempts"
            ) from error


def _directory(bucket: str, prefix: str) -> Entry:
    location = f"s3://{bucket}/{prefix.rstrip('/')}"
    return Entry(location, location.rpartition("/")[2], 0, "", True)
