"""Find the KMS keys of buckets, catalog and topic that the configuration does not name.

A job needs permission for the key of everything that it reads or writes, and AWS reports a missing one only when the
job runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bucketwheel.aws import clients
from bucketwheel.aws.errors import wrap_aws_errors
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.errors import BucketwheelError, ConfigError, StorageError
from bucketwheel.settings import Settings
from bucketwheel.settings.layouts import iceberg_in_glue
from bucketwheel.storage.locations import S3Location
from bucketwheel.storage.s3_client import S3Client, code_behind

BUCKETS, CATALOG, TOPIC = "storage.kms_keys", "catalog.kms_key", "monitoring.topic_kms_key"
_NO_KEY = "ServerSideEncryptionConfigurationNotFoundError"
_USABLE = ("", "Enabled")


@dataclass(frozen=True)
class KeyUse:
    """A customer key, the thing that it encrypts, and the setting that names such keys.

    Attributes:
        arn: of the key.
        thing: such as ``bucket data (target, athena.output_location)``.
        setting: `storage.kms_keys`, `catalog.kms_key` or `monitoring.topic_kms_key`.
        state: of the key in KMS, such as ``Disabled``; empty if KMS refused to tell.
    """

    arn: str
    thing: str
    setting: str
    state: str = ""

    @property
    def usable(self) -> bool:
        """Whether nothing is known against the key."""
        return self.state in _USABLE


@dataclass
class FoundKeys:
    """The customer keys in use, and a sentence for each thing whose key is unknown."""

    uses: list[KeyUse] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def find(deployment: Deployment) -> FoundKeys:
    """Look up the keys of every bucket, the catalog and the topic that jobs use; a refused call is no error."""
    settings, found = deployment.settings, FoundKeys()
    for bucket, names in _buckets(deployment).items():
        thing = f"bucket {bucket} ({', '.join(names)})"
        try:
            _add(found, settings, thing, BUCKETS, _key_of_bucket(settings, bucket))
        except StorageError as error:
            # The stack may be about to create the bucket; other checks report one that should exist.
            if code_behind(error) == "NoSuchBucket":
                continue
            found.unknown.append(_unknown(thing, str(error), BUCKETS))
    for thing, setting, look in (
        ("the Glue Data Catalog", CATALOG, _key_of_catalog),
        (f"workgroup {settings.athena.workgroup}", BUCKETS, _key_of_workgroup),
        (f"topic {settings.monitoring.topic_arn}", TOPIC, _key_of_topic),
    ):
        try:
            with wrap_aws_errors(BucketwheelError, thing):
                key = look(deployment)
            _add(found, settings, thing, setting, key)
        except BucketwheelError as error:
            found.unknown.append(_unknown(thing, str(error), setting))
    return found


def merged(settings: Settings, found: FoundKeys) -> Settings:
    """Return the settings with the found keys; a key that the configuration names stays."""
    of_buckets = [use.arn for use in found.uses if use.setting == BUCKETS]
    storage = settings.storage.model_copy(
        update={"kms_keys": tuple(dict.fromkeys([*settings.storage.kms_keys, *of_buckets]))}
    )
    catalog = settings.catalog.model_copy(update={"kms_key": settings.catalog.kms_key or _first(found, CATALOG)})
    monitoring = settings.monitoring.model_copy(
        update={"topic_kms_key": settings.monitoring.topic_kms_key or _first(found, TOPIC)}
    )
    return settings.model_copy(update={"storage": storage, "catalog": catalog, "monitoring": monitoring})


def lines(deployment: Deployment, found: FoundKeys) -> Iterator[str]:
    """Yield one line for each key that the configuration does not name, and for each thing whose key is unknown."""
    named = configured(deployment)
    for use in found.uses:
        if use.arn not in named[use.setting] and (use.setting == BUCKETS or not named[use.setting]):
            yield f"found key {use.arn} of {use.thing}: the role of the jobs may use it, as with {use.setting}"
        if not use.usable:
            yield f"warning: key {use.arn} of {use.thing} is {use.state}; no job can use it"
    yield from (f"warning: {text}" for text in (*mismatches(deployment, found), *found.unknown))


def mismatches(deployment: Deployment, found: FoundKeys) -> Iterator[str]:
    """Yield a sentence if the catalog or the topic has another key than the configured one."""
    named = configured(deployment)
    for use in found.uses:
        if use.setting != BUCKETS and named[use.setting] and use.arn not in named[use.setting]:
            yield f"{use.setting} is {named[use.setting][0]}, but {use.thing} uses {use.arn}"


def configured(deployment: Deployment) -> dict[str, tuple[str, ...]]:
    """Return the keys that the configuration names, by setting."""
    settings = deployment.settings
    own = (settings.storage.kms_key, None if deployment.makes_key else settings.deploy.kms_key)
    named: dict[str, tuple[str | None, ...]] = {
        BUCKETS: (*settings.storage.kms_keys, *own),
        CATALOG: (settings.catalog.kms_key,),
        TOPIC: (settings.monitoring.topic_kms_key,),
    }
    return {setting: tuple(key for key in keys if key) for setting, keys in named.items()}


def _first(found: FoundKeys, setting: str) -> str | None:
    return next((use.arn for use in found.uses if use.setting == setting), None)


def _unknown(thing: str, reason: str, setting: str) -> str:
    text = reason.partition("; ")[0].removeprefix(f"{thing}: ")
    return f"the key of {thing} is unknown: {text}; if it is a customer key, set {setting}"


def _buckets(deployment: Deployment) -> dict[str, list[str]]:
    """Return the settings that name each bucket of the jobs."""
    settings, names = deployment.settings, dict[str, list[str]]()

    def add(name: str, location: S3Location) -> None:
        names.setdefault(location.bucket, []).append(name)

    add("target", deployment.target())
    for name, location in deployment.sources().items():
        add(f"datasets.{name}.source", location)
    for name, location in deployment.mappings().items():
        add(f"datasets.{name}.mapping", location)
    if settings.athena.output_location:
        add("athena.output_location", deployment.query_results())
    try:
        add("deploy.package", deployment.package())
    except ConfigError:
        if settings.deploy.artifacts:
            add("deploy.artifacts", deployment.artifacts())
    return names


def _add(found: FoundKeys, settings: Settings, thing: str, setting: str, key: str | None) -> None:
    """Add a key by its ARN; keys that AWS manages need no permission."""
    if key is None:
        return
    if key.rpartition(":")[2].startswith("alias/aws/"):
        return
    try:
        with wrap_aws_errors(BucketwheelError, f"key {key}"):
            metadata = clients.client("kms", settings.aws).describe_key(KeyId=key)["KeyMetadata"]
    except BucketwheelError as error:
        # An ARN suffices for a permission; an id or an alias does not.
        if ":key/" not in key:
            found.unknown.append(_unknown(thing, str(error), setting))
            return
        metadata = {"Arn": key}
    if metadata.get("KeyManager") != "AWS":
        use = KeyUse(metadata["Arn"], thing, setting, metadata.get("KeyState", ""))
        found.uses.append(use)


def _key_of_bucket(settings: Settings, bucket: str) -> str | None:
    """Return the key of a bucket as S3 has it: an ARN, an id or an alias; None if S3 uses a key of its own.

    Raises:
        StorageError: S3 refused the call, or the bucket does not exist.
    """
    try:
        answer = S3Client(settings.storage.filled(settings.aws)).call("get_bucket_encryption", bucket)
    except StorageError as error:
        if code_behind(error) == _NO_KEY:
            return None
        raise
    for rule in answer["ServerSideEncryptionConfiguration"]["Rules"]:
        encryption = rule.get("ApplyServerSideEncryptionByDefault", {})
        if encryption.get("SSEAlgorithm", "").startswith("aws:kms"):
            key: str | None = encryption.get("KMSMasterKeyID")
            return key
    return None


def _key_of_catalog(deployment: Deployment) -> str | None:
    """Return the key of the Glue Data Catalog; None if callers need none.

    With a service role, Glue uses the key as that role.
    """
    if deployment.settings.catalog.kind != "glue" and not iceberg_in_glue(deployment.settings):
        return None
    answer = clients.client("glue", deployment.settings.aws).get_data_catalog_encryption_settings()
    at_rest: Any = answer["DataCatalogEncryptionSettings"].get("EncryptionAtRest", {})
    return at_rest.get("SseAwsKmsKeyId") if at_rest.get("CatalogEncryptionMode") == "SSE-KMS" else None


def _key_of_workgroup(deployment: Deployment) -> str | None:
    """Return the key with which an existing workgroup encrypts results; Athena uses it as its caller."""
    if not deployment.uses_athena() or deployment.makes_workgroup:
        return None
    settings = deployment.settings
    group = clients.client("athena", settings.aws).get_work_group(WorkGroup=settings.athena.workgroup)["WorkGroup"]
    results = group.get("Configuration", {}).get("ResultConfiguration", {})
    return results.get("EncryptionConfiguration", {}).get("KmsKey")


def _key_of_topic(deployment: Deployment) -> str | None:
    topic = deployment.settings.monitoring.topic_arn
    if topic is None:
        return None
    answer = clients.client("sns", deployment.settings.aws).get_topic_attributes(TopicArn=topic)
    return answer["Attributes"].get("KmsMasterKeyId")
