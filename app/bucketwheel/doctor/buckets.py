"""Checks of the configured buckets: existence, region, encryption and public access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.doctor.checks import Check, CheckResult, failed, ok, warning
from bucketwheel.errors import BucketwheelError, StorageError
from bucketwheel.settings import Settings
from bucketwheel.storage import is_s3
from bucketwheel.storage.locations import is_access_point, s3_location
from bucketwheel.storage.s3_client import S3Client, code_behind

_PUBLIC = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def checks(settings: Settings) -> Iterator[Check]:
    """Yield one check per bucket, and two more for each bucket that runs write to."""
    read: dict[str, list[str]] = {}
    written: dict[str, None] = {}
    for name, location, is_written in _locations(settings):
        if location is not None and is_s3(location):
            bucket = s3_location(name, location).bucket
            read.setdefault(bucket, []).append(name)
            if is_written:
                written[bucket] = None
    for bucket, names in read.items():
        yield Check(f"bucket {bucket}", lambda bucket=bucket, names=names: _exists(settings, bucket, names))  # type: ignore[misc]
    for bucket in written:
        if is_access_point(bucket):
            yield Check(f"encryption {bucket}", _access_point)
            yield Check(f"public access {bucket}", _access_point)
            continue
        yield Check(f"encryption {bucket}", lambda bucket=bucket: _encryption(settings, bucket))  # type: ignore[misc]
        yield Check(f"public access {bucket}", lambda bucket=bucket: _public(settings, bucket))  # type: ignore[misc]


def _access_point() -> CheckResult:
    return warning("unknown: this is an access point", "check the settings of its bucket")


def _locations(settings: Settings) -> Iterator[tuple[str, str | None, bool]]:
    """Yield (setting, location, whether runs write to it)."""
    yield "target", settings.target, True
    for name, dataset in settings.datasets.items():
        yield f"datasets.{name}.source", dataset.source, False
        yield f"datasets.{name}.mapping", dataset.mapping, False
    if settings.catalog.kind == "glue":
        yield "athena.output_location", settings.athena.output_location, True
    yield "deploy.artifacts", settings.deploy.artifacts, False


def _call(settings: Settings, operation: str, bucket: str) -> Any:
    return S3Client(settings.storage).call(operation, bucket)


def _exists(settings: Settings, bucket: str, names: list[str]) -> CheckResult:
    used = f"for {', '.join(names)}"
    try:
        answer = _call(settings, "head_bucket", bucket)
    except FileNotFoundError:
        advice = "create it, or correct its name" + (
            "; `bucketwheel deploy apply` creates those of target and results"
            if settings.deploy.buckets == "create"
            else ""
        )
        return failed(f"does not exist ({used})", advice)
    region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    expected = settings.storage.region or clients.session().region_name
    if region and expected and region != expected:
        return warning(
            f"in {region}, not in {expected} ({used})",
            f"set aws.region={region}: traffic between regions is slow and costs money",
        )
    return ok(f"{region or 'exists'}, {used}")


def _encryption(settings: Settings, bucket: str) -> CheckResult:
    advice = "set the bucket's default encryption"
    try:
        answer = _call(settings, "get_bucket_encryption", bucket)
    except StorageError as error:
        if code_behind(error) == "ServerSideEncryptionConfigurationNotFoundError":
            return failed("no default encryption", advice)
        raise
    rule = answer["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]
    algorithm, key = rule["SSEAlgorithm"], rule.get("KMSMasterKeyID")
    encryption = f"{algorithm}{f' with {key}' if key else ''}"
    wants_kms = settings.storage.encryption == "SSE-KMS" or settings.deploy.kms_key is not None
    if wants_kms and not algorithm.startswith("aws:kms"):
        return failed(f"{encryption}, but the configuration asks for a KMS key", f"{advice} to SSE-KMS with that key")
    wanted = settings.storage.kms_key
    if wanted and key and wanted.rpartition("/")[2] != key.rpartition("/")[2]:
        return warning(
            f"{encryption}, but storage.kms_key is {wanted}", "objects written by other programs get a different key"
        )
    return ok(encryption)


def _public(settings: Settings, bucket: str) -> CheckResult:
    """Check that the settings of the bucket and of the account together block public access."""
    advice = "turn on all four settings of Block Public Access for the bucket, or for the account"
    try:
        own = _call(settings, "get_public_access_block", bucket)["PublicAccessBlockConfiguration"]
    except StorageError as error:
        if code_behind(error) != "NoSuchPublicAccessBlockConfiguration":
            raise
        own = {}
    if all(own.get(name) for name in _PUBLIC):
        return ok("blocked")
    # S3 applies the stricter of both.
    account, unknown = _account_block(settings)
    if missing := [name for name in _PUBLIC if not own.get(name) and not account.get(name)]:
        only = f"only partly blocked: {', '.join(missing)} off" if own or account else "not blocked by the bucket"
        return failed(f"{only}{unknown or (' or the account' if not own and not account else '')}", advice)
    return ok("blocked by the account" if not own else "blocked by the bucket and the account together")


def _account_block(settings: Settings) -> tuple[Mapping[str, bool], str]:
    """Return the account's settings of Block Public Access, and why they are unknown, if they are."""
    try:
        with wrap_aws_errors(BucketwheelError, "the account's settings are unknown"):
            account = clients.client("sts", settings.aws).get_caller_identity()["Account"]
            answer = clients.client("s3control", settings.aws).get_public_access_block(AccountId=account)
    except BucketwheelError as error:
        nothing = code_of(error.__cause__ or error) == "NoSuchPublicAccessBlockConfiguration"
        return {}, "" if nothing else f"; {error}"
    return answer["PublicAccessBlockConfiguration"], ""
