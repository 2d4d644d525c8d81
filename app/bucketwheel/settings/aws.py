"""Settings of how AWS's services and S3 are reached."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bucketwheel.settings.base import Frozen


class AwsSettings(Frozen):
    """How AWS's services are reached; null leaves the choice to the environment, as the AWS command line does.

    Attributes:
        region: Region of the services; null takes it from the environment or the machine, as the AWS command line
            does.
        endpoint_url: Endpoint for all services, for emulators; null takes AWS's own, or `AWS_ENDPOINT_URL` and
            `AWS_ENDPOINT_URL_<SERVICE>`.
        connect_seconds: Longest wait for a connection.
        read_seconds: Longest wait for an answer; of a Trino that copies tables, too.
        attempts: How often one call is tried, with growing pauses, where AWS throttles or fails.
    """

    region: str | None = None
    endpoint_url: str | None = None
    connect_seconds: Annotated[float, Field(gt=0)] = 10
    read_seconds: Annotated[float, Field(gt=0)] = 60
    attempts: Annotated[int, Field(ge=1)] = 8


class StorageSettings(Frozen):
    """How S3 is reached, null as in `AwsSettings`; local paths need none of it but the place to spill to.

    Attributes:
        endpoint_url: Endpoint of an S3-compatible store; null takes `aws.endpoint_url`, then `AWS_ENDPOINT_URL_S3`
            and `AWS_ENDPOINT_URL`, then AWS's own.
        region: Region of the buckets; null takes `aws.region`, then the environment's.
        path_style: `true` puts the bucket into the path of the URL, `false` into the host name; null does the first
            only where an endpoint is given.
        encryption: `SSE-S3` or `SSE-KMS` for everything that is written to S3; null leaves it to the bucket.
        kms_key: Id or ARN of the key for `SSE-KMS`; null takes the account's key for S3.
        requester_pays: Pay for requests to buckets that want this of others than their owner.
        connect_seconds: Longest wait for a connection; null takes `aws.connect_seconds`.
        read_seconds: Longest wait for the next bytes of an answer; null takes `aws.read_seconds`.
        attempts: How often one call is tried, with growing pauses; null takes `aws.attempts`.
        spill_directory: A local directory for spilled pieces; null takes the system's temporary directory.
    """

    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    encryption: Literal["SSE-S3", "SSE-KMS"] | None = None
    kms_key: str | None = None
    requester_pays: bool = False
    connect_seconds: Annotated[float, Field(gt=0)] | None = None
    read_seconds: Annotated[float, Field(gt=0)] | None = None
    attempts: Annotated[int, Field(ge=1)] | None = None
    spill_directory: str | None = None

    @model_validator(mode="after")
    def _key_is_used(self) -> StorageSettings:
        if self.kms_key and self.encryption != "SSE-KMS":
            raise ValueError(f"kms_key is set, but encryption is {self.encryption}; set it to SSE-KMS")
        return self

    def filled(self, aws: AwsSettings) -> StorageSettings:
        """Return the settings with what is null taken from those of AWS's other services."""
        names = ("endpoint_url", "region", "connect_seconds", "read_seconds", "attempts")
        taken = {name: getattr(aws, name) for name in names if getattr(self, name) is None}
        return self.model_copy(update=taken)
