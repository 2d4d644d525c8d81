"""Write a new object as a stream: one put if it is small, else a multipart upload.

No upload replaces an object. Tasks are retried and repeated, so an object with the same content is accepted.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from typing import Any

from bucketwheel.errors import ChangedError, StorageError
from bucketwheel.storage.ranged import pool
from bucketwheel.storage.s3_client import INTERRUPTED, S3Client, code_behind
from bucketwheel.system import system

# S3 accepts at most 10,000 parts of at least 5 MiB. Part sizes grow, so that 400 GiB fit while an object of 1 GiB
# needs the memory of three parts only.
_PART = 8 * 2**20
_PARTS_PER_SIZE = 1000
_IN_FLIGHT = 2
_MARK = "bucketwheel-upload"
_NEW = {"IfNoneMatch": "*"}
# S3 may refuse a conditional put because another request for the key is under way, although no object exists.
_PUTS = 3
# In a Parquet file this end has the offset and the statistics of all columns.
_END = 64 * 2**10


class Upload(io.RawIOBase):
    """A writable file that `complete` turns into an object and `abandon` discards."""

    def __init__(self, client: S3Client, bucket: str, key: str, options: Mapping[str, str]) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._options = options
        self._buffer = bytearray()
        self._end = bytearray()
        self._position = 0
        self._id = ""
        self._sum = ""
        self._mark = system().new_id()
        self._repeated = False
        self._pending: deque[Future[dict[str, Any]]] = deque()
        self._parts: list[dict[str, Any]] = []
        self._ended = False

    def writable(self) -> bool:
        """See `io.IOBase.writable`."""
        return True

    def write(self, content: Any, /) -> int:
        """Buffer the next bytes and send full parts.

        Raises:
            StorageError: S3 refused an earlier part.
        """
        view = memoryview(content)
        if not self._ended:
            self._buffer += view
            self._position += view.nbytes
            self._end += view[-_END:]
            del self._end[:-_END]
            size = _PART * (1 + self._sent // _PARTS_PER_SIZE)
            while len(self._buffer) >= size:
                self._send(size)
        return view.nbytes

    @property
    def _sent(self) -> int:
        return len(self._parts) + len(self._pending)

    def complete(self) -> None:
        """Create the object, or accept one that a retry or another attempt of the task has created.

        Raises:
            StorageError: S3 refused it, or an object with other content exists; call `abandon` next.
        """
        if not self._id:
            self._put()
        else:
            if self._buffer:
                self._send(len(self._buffer))
            while self._pending:
                self._parts.append(self._pending.popleft().result())
            self._finish()
            self._sweep()
        self._ended = True
        self._buffer.clear()

    def abandon(self) -> None:
        """Discard the upload and ignore further writes.

        Raises:
            StorageError: parts may remain, which cost money until they are deleted.
        """
        if self._ended:
            return
        self._ended = True
        self._buffer.clear()
        for part in self._pending:
            # A part in flight would outlive the aborted upload.
            if not part.cancel():
                part.exception()
        if self._id:
            _abort(self._client, self._bucket, self._key, self._id)
            self._sweep()

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._client.call(operation, self._bucket, self._key, **parameters)

    def _send(self, size: int) -> None:
        if not self._id:
            response = self._call("create_multipart_upload", Metadata={_MARK: self._mark}, **self._options)
            self._id = response["UploadId"]
            self._sum = f"Checksum{response['ChecksumAlgorithm']}" if response.get("ChecksumAlgorithm") else ""
            self._repeated = bool(response["ResponseMetadata"].get("RetryAttempts"))
        while len(self._pending) >= _IN_FLIGHT:
            self._parts.append(self._pending.popleft().result())
        content, number = bytes(memoryview(self._buffer)[:size]), self._sent + 1
        del self._buffer[:size]
        self._pending.append(pool().submit(self._send_part, number, content))

    def _send_part(self, number: int, content: bytes) -> dict[str, Any]:
        response = self._call("upload_part", UploadId=self._id, PartNumber=number, Body=content)
        # botocore adds checksums to parts. S3 refuses them on completion if the upload began without checksums.
        sums = {self._sum: response[self._sum]} if self._sum in response else {}
        return {"PartNumber": number, "ETag": response["ETag"], **sums}

    def _put(self) -> None:
        for attempt in range(1, _PUTS + 1):
            try:
                self._call("put_object", Body=self._buffer, **_NEW, **self._options)
                return
            except ChangedError:
                if self._is_in_place():
                    return
                if attempt == _PUTS:
                    raise

    def _finish(self) -> None:
        parts = {"Parts": self._parts}
        try:
            self._call("complete_multipart_upload", UploadId=self._id, MultipartUpload=parts, **_NEW)
        except ChangedError:
            if not self._is_in_place():
                raise
            _abort(self._client, self._bucket, self._key, self._id)
        except StorageError:
            # After a lost response, the retry fails as if the upload did not exist.
            if self._mark_in_place() != self._mark:
                raise

    def _is_in_place(self) -> bool:
        """Return whether an object exists that has the size and the end of this one.

        Raises:
            StorageError: it has other content.
        """
        try:
            response = self._call("head_object")
            same = response["ContentLength"] == self._position
            if same and self._position:
                same = self._end_in_place(response["ETag"]) == self._end
        except FileNotFoundError:
            return False
        if not same:
            raise StorageError(
                f"s3://{self._bucket}/{self._key}: exists with other content, and files of a run are never replaced; "
                "start a new run instead of resuming this one"
            )
        return True

    def _end_in_place(self, etag: str) -> bytes:
        with closing(self._call("get_object", Range=f"bytes=-{_END}", IfMatch=etag)["Body"]) as body:
            try:
                return bytes(body.read())
            except INTERRUPTED as error:
                location = f"s3://{self._bucket}/{self._key}"
                raise StorageError(f"{location}: the read was interrupted ({error}); check the network") from error

    def _mark_in_place(self) -> str:
        try:
            return str(self._call("head_object").get("Metadata", {}).get(_MARK, ""))
        except FileNotFoundError:
            return ""

    def _sweep(self) -> None:
        """Abort an upload whose id is unknown because the response to its creation was lost."""
        if self._repeated:
            abandon_uploads(self._client, self._bucket, self._key, lambda key: key == self._key)


def _abort(client: S3Client, bucket: str, key: str, upload: str) -> None:
    try:
        client.call("abort_multipart_upload", bucket, key, UploadId=upload)
    except StorageError as error:
        if code_behind(error) != "NoSuchUpload":
            raise


def abandon_uploads(client: S3Client, bucket: str, prefix: str, matches: Callable[[str], bool]) -> None:
    """Abort all unfinished uploads to keys below `prefix` for which `matches` returns True.

    Raises:
        StorageError: they cannot be listed or aborted.
    """
    for upload in unfinished_uploads(client, bucket, prefix):
        if matches(upload["Key"]):
            _abort(client, bucket, upload["Key"], upload["UploadId"])


def unfinished_uploads(client: S3Client, bucket: str, prefix: str) -> Iterator[Any]:
    """Yield the unfinished uploads to keys below `prefix`, as S3 describes them.

    Raises:
        StorageError: they cannot be listed.
    """
    marker: dict[str, str] = {}
    while True:
        page = client.call("list_multipart_uploads", bucket, Prefix=prefix, **marker)
        yield from page.get("Uploads", ())
        if not page.get("IsTruncated"):
            return
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
