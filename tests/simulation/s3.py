"""A simulated S3 behind the real storage code: the methods of boto3's client that Bucketwheel calls."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from simulation.scheduler import Actor, Scheduler, Violation

BUCKET = "simulated"
_PAGE = 1000
_OK = {"HTTPStatusCode": 200, "RetryAttempts": 0}
# botocore repeats a call after it lost the response.
_ATTEMPTS = 2


_Upload = tuple[str, dict[int, bytes], dict[str, str], datetime]


@dataclass
class S3Object:
    """One object."""

    content: bytes
    etag: str
    modified: datetime
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass
class Bucket:
    """The objects and unfinished uploads of the bucket; `deleted` and `written` are called after each change."""

    objects: dict[str, S3Object] = field(default_factory=dict)
    uploads: dict[str, _Upload] = field(default_factory=dict)
    written: Callable[[Actor, str], None] = lambda _actor, _key: None
    deleted: Callable[[Actor, str], None] = lambda _actor, _key: None
    numbers: int = 0


class SimulatedS3:
    """The client of one actor."""

    def __init__(self, bucket: Bucket, scheduler: Scheduler, actor: Actor) -> None:
        self._bucket = bucket
        self._scheduler = scheduler
        self._actor = actor
        self.meta = SimpleNamespace(endpoint_url="https://simulated", region_name="us-east-1")

    def get_object(self, *, Bucket: str, Key: str, Range: str = "", IfMatch: str = "") -> dict[str, Any]:
        """See boto3."""

        def get() -> dict[str, Any]:
            found = self._found("GetObject", Key)
            if IfMatch and IfMatch != found.etag:
                raise _refused("GetObject", "PreconditionFailed", 412)
            size = len(found.content)
            answer: dict[str, Any] = {"ETag": found.etag, "ContentLength": size}
            part = found.content
            if Range:
                if not size:
                    raise _refused("GetObject", "InvalidRange", 416)
                first, _, last = Range.removeprefix("bytes=").partition("-")
                start, end = (int(first), min(int(last), size - 1)) if first else (max(size - int(last), 0), size - 1)
                part = found.content[start : end + 1]
                answer["ContentRange"] = f"bytes {start}-{end}/{size}"
            return {**answer, "Body": io.BytesIO(part)}

        return self._call(Bucket, "reads", Key, get)

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """See boto3."""
        return self._call(Bucket, "asks for", Key, lambda: self._head(Key))

    def put_object(
        self, *, Bucket: str, Key: str, Body: bytes, IfMatch: str = "", IfNoneMatch: str = ""
    ) -> dict[str, Any]:
        """See boto3."""
        content = bytes(Body)

        def put() -> dict[str, Any]:
            current = self._bucket.objects.get(Key)
            if IfNoneMatch and current is not None:
                raise _refused("PutObject", "PreconditionFailed", 412)
            if IfMatch and current is None:
                raise _refused("PutObject", "NoSuchKey", 404)
            if IfMatch and current is not None and current.etag != IfMatch:
                raise _refused("PutObject", "PreconditionFailed", 412)
            return {"ETag": self._store(Key, content, {})}

        condition = " if unchanged" if IfMatch else " if new" if IfNoneMatch else ""
        return self._call(Bucket, "writes", f"{Key}{condition}", put)

    def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """See boto3."""

        def delete() -> dict[str, Any]:
            self._remove(Key)
            return {}

        return self._call(Bucket, "deletes", Key, delete)

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        """See boto3."""
        keys = [each["Key"] for each in Delete["Objects"]]

        def delete() -> dict[str, Any]:
            for key in keys:
                self._remove(key)
            return {}

        return self._call(Bucket, "deletes", ", ".join(keys), delete)

    def list_objects_v2(
        self, *, Bucket: str, Prefix: str = "", Delimiter: str = "", MaxKeys: int = _PAGE, ContinuationToken: str = ""
    ) -> dict[str, Any]:
        """See boto3."""

        def listed() -> dict[str, Any]:
            contents, prefixes = [], {}
            for key in sorted(key for key in self._bucket.objects if key.startswith(Prefix)):
                name, slash, _ = key[len(Prefix) :].partition(Delimiter) if Delimiter else (key, "", "")
                if slash:
                    prefixes[f"{Prefix}{name}{slash}"] = True
                elif key > ContinuationToken:
                    found = self._bucket.objects[key]
                    contents.append(
                        {
                            "Key": key,
                            "Size": len(found.content),
                            "ETag": found.etag,
                            "LastModified": found.modified,
                        }
                    )
            answer: dict[str, Any] = {"IsTruncated": False}
            if len(contents) > MaxKeys:
                contents = contents[:MaxKeys]
                answer |= {"IsTruncated": True, "NextContinuationToken": contents[-1]["Key"]}
            if prefixes and not ContinuationToken:
                answer["CommonPrefixes"] = [{"Prefix": prefix} for prefix in prefixes]
            return {**answer, "Contents": contents} if contents else answer

        return self._call(Bucket, "lists", Prefix, listed)

    def create_multipart_upload(self, *, Bucket: str, Key: str, Metadata: dict[str, str]) -> dict[str, Any]:
        """See boto3."""

        def create() -> dict[str, Any]:
            self._bucket.numbers += 1
            upload = f"upload-{self._bucket.numbers}"
            self._bucket.uploads[upload] = (Key, {}, Metadata, self._scheduler.time)
            return {"UploadId": upload, "Bucket": BUCKET, "Key": Key}

        return self._call(Bucket, "begins to upload", Key, create)

    def upload_part(self, *, Bucket: str, Key: str, UploadId: str, PartNumber: int, Body: bytes) -> dict[str, Any]:
        """See boto3."""

        def upload() -> dict[str, Any]:
            self._upload("UploadPart", UploadId)[1][PartNumber] = bytes(Body)
            return {"ETag": _etag(Body)}

        return self._call(Bucket, f"uploads part {PartNumber} of", Key, upload)

    def complete_multipart_upload(
        self, *, Bucket: str, Key: str, UploadId: str, MultipartUpload: dict[str, Any], IfNoneMatch: str = ""
    ) -> dict[str, Any]:
        """See boto3."""

        def complete() -> dict[str, Any]:
            _, parts, metadata, _ = self._upload("CompleteMultipartUpload", UploadId)
            if IfNoneMatch and Key in self._bucket.objects:
                raise _refused("CompleteMultipartUpload", "PreconditionFailed", 412)
            content = b"".join(parts[part["PartNumber"]] for part in MultipartUpload["Parts"])
            del self._bucket.uploads[UploadId]
            return {"ETag": self._store(Key, content, metadata)}

        return self._call(Bucket, "completes the upload of", Key, complete)

    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> dict[str, Any]:
        """See boto3."""

        def abort() -> dict[str, Any]:
            self._upload("AbortMultipartUpload", UploadId)
            del self._bucket.uploads[UploadId]
            return {}

        return self._call(Bucket, "aborts the upload of", Key, abort)

    def list_multipart_uploads(
        self, *, Bucket: str, Prefix: str = "", KeyMarker: str = "", UploadIdMarker: str = ""
    ) -> dict[str, Any]:
        """See boto3."""

        def listed() -> dict[str, Any]:
            uploads = [
                {"Key": key, "UploadId": upload, "Initiated": begun}
                for upload, (key, _, _, begun) in self._bucket.uploads.items()
                if key.startswith(Prefix)
            ]
            return {"IsTruncated": False, **({"Uploads": uploads} if uploads else {})}

        return self._call(Bucket, "lists the uploads below", Prefix, listed)

    def _call(self, bucket: str, verb: str, key: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if bucket != BUCKET:
            raise _refused(verb, "NoSuchBucket", 404)
        attempts = 0
        while True:
            attempts += 1
            fault = self._scheduler.step(self._actor, f"it {verb} {key}")
            if fault == "throttled" and attempts == 1:
                self._scheduler.say(f"{self._actor.name} {verb} {key}: throttled")
                raise _refused(verb, "SlowDown", 503)
            try:
                answer = action()
            except ClientError as error:
                self._scheduler.say(f"{self._actor.name} {verb} {key}: refused, {error.response['Error']['Code']}")
                raise
            if fault in ("lost", "repeated"):
                self._scheduler.say(f"{self._actor.name} {verb} {key}: done, but the response is lost ({fault})")
                if fault == "repeated" and attempts < _ATTEMPTS:
                    continue
                raise ReadTimeoutError(endpoint_url="https://simulated")
            self._scheduler.say(f"{self._actor.name} {verb} {key}")
            return {**answer, "ResponseMetadata": {**_OK, "RetryAttempts": attempts - 1}}

    def _head(self, key: str) -> dict[str, Any]:
        found = self._found("HeadObject", key)
        return {"ETag": found.etag, "ContentLength": len(found.content), "Metadata": found.metadata}

    def _found(self, operation: str, key: str) -> S3Object:
        if key not in self._bucket.objects:
            raise _refused(operation, "404" if operation == "HeadObject" else "NoSuchKey", 404)
        return self._bucket.objects[key]

    def _upload(self, operation: str, upload: str) -> _Upload:
        if upload not in self._bucket.uploads:
            raise _refused(operation, "NoSuchUpload", 404)
        return self._bucket.uploads[upload]

    def _store(self, key: str, content: bytes, metadata: dict[str, str]) -> str:
        etag = _etag(content)
        self._bucket.objects[key] = S3Object(content, etag, self._scheduler.time, metadata)
        self._judged(self._bucket.written, key)
        return etag

    def _remove(self, key: str) -> None:
        if self._bucket.objects.pop(key, None) is not None:
            self._judged(self._bucket.deleted, key)

    def _judged(self, judge: Callable[[Actor, str], None], key: str) -> None:
        try:
            judge(self._actor, key)
        except Violation as violation:
            self._scheduler.fail(violation)


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _refused(operation: str, code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)  # type: ignore[arg-type]
