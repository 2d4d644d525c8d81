"""Delete buckets with everything in them, including old versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.errors import DeployError
from bucketwheel.formatting import counted
from bucketwheel.settings import Settings

KIND = "AWS::S3::Bucket"
_MISSING = ("404", "NoSuchBucket")


class Bucket:
    """A bucket by name."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.name = name
        with self._errors():
            self._client = clients.client("s3", settings.aws)

    def _errors(self) -> Any:
        return wrap_aws_errors(DeployError, f"bucket {self.name}")

    def size(self) -> str:
        """Return the number of object versions in words; it counts at most one page."""
        with self._errors():
            try:
                page = self._client.list_object_versions(Bucket=self.name)
            except ClientError as error:
                if code_of(error) not in _MISSING:
                    raise
                return counted(0, "object version")
        count = len(page.get("Versions", ())) + len(page.get("DeleteMarkers", ()))
        return f"more than {count:,} object versions" if page.get("IsTruncated") else counted(count, "object version")

    def delete(self) -> None:
        """Delete all versions of all objects, unfinished uploads, and the bucket; nothing if it does not exist.

        Raises:
            DeployError: an object could not be deleted; names the first one.
        """
        with self._errors():
            try:
                for keys in self._versions():
                    self._delete_keys(keys)
                for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name):
                    for upload in page.get("Uploads", ()):
                        self._client.abort_multipart_upload(
                            Bucket=self.name, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                self._client.delete_bucket(Bucket=self.name)
            except ClientError as error:
                if code_of(error) not in _MISSING:
                    raise

    def _versions(self) -> Iterator[list[dict[str, str]]]:
        """Yield the versions page by page; a page has at most as many keys as DeleteObjects accepts."""
        for page in self._client.get_paginator("list_object_versions").paginate(Bucket=self.name):
            entries = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            if entries:
                yield [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]

    def _delete_keys(self, keys: list[dict[str, str]]) -> None:
        answer = self._client.delete_objects(Bucket=self.name, Delete={"Objects": keys, "Quiet": True})
        if errors := answer.get("Errors"):
            first = errors[0]
            raise DeployError(
                f"bucket {self.name}: {counted(len(errors), 'object')} could not be deleted, such as {first['Key']}: "
                f"{first['Code']}: {first.get('Message', '')}"
            )
