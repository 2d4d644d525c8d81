"""`doctor` finds the customer keys of buckets, catalog and topic that the configuration does not name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aws_server import plain_client
from bucketwheel.aws import clients
from doctor_support import DATA, RESULTS, Diagnose, encrypted, state
from fake_iam import Refuses, Simulator

Simulated = Callable[..., Simulator]
UNUSED = "no customer keys: AWS manages the keys of buckets and catalog"


@pytest.fixture
def kms(prod: str) -> Any:
    return plain_client("kms", prod)


@pytest.fixture
def key(kms: Any) -> str:
    """The ARN of a customer key."""
    return str(kms.create_key()["KeyMetadata"]["Arn"])


@pytest.fixture
def catalog(prod: str) -> Iterator[Callable[..., None]]:
    """Set the encryption of the catalog, which moto keeps."""
    glue = plain_client("glue", prod)

    def put(mode: str, **more: str) -> None:
        at_rest = {"CatalogEncryptionMode": mode, **more}
        glue.put_data_catalog_encryption_settings(DataCatalogEncryptionSettings={"EncryptionAtRest": at_rest})

    yield put
    put("DISABLED")


def test_keys_without_customer_key_say_so(diagnose: Diagnose) -> None:
    assert state(diagnose()["keys"]) == ("ok", UNUSED)


def test_key_of_source_bucket_is_simulated_for_the_role(
    diagnose: Diagnose, simulated: Simulated, prod: str, key: str
) -> None:
    encrypted(prod, DATA, "aws:kms", KMSMasterKeyID=key)
    simulated()
    seen = diagnose()
    assert seen["keys"].state == "ok"
    assert seen["keys"].found.startswith(f"{key}: bucket {DATA} (target, datasets.")
    assert state(seen["permissions"])[0] == "failed"
    assert f"kms:Decrypt, kms:GenerateDataKey on {key}" in seen["permissions"].found.splitlines()
    simulated(storage__kms_keys=key)
    assert diagnose()["permissions"].state == "ok"


def test_key_of_catalog_is_simulated_for_the_role(
    diagnose: Diagnose, simulated: Simulated, catalog: Callable[..., None], key: str
) -> None:
    catalog("SSE-KMS", SseAwsKmsKeyId=key)
    simulated()
    seen = diagnose()
    assert state(seen["keys"]) == ("ok", f"{key}: the Glue Data Catalog")
    assert f"kms:Decrypt, kms:Encrypt, kms:GenerateDataKey on {key}" in seen["permissions"].found.splitlines()
    simulated(catalog__kms_key=key)
    assert diagnose()["permissions"].state == "ok"


@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("DISABLED", {}),
        ("SSE-KMS", {"SseAwsKmsKeyId": "alias/aws/glue"}),
        ("SSE-KMS-WITH-SERVICE-ROLE", {"CatalogEncryptionServiceRole": "arn:aws:iam::123456789012:role/catalog"}),
    ],
)
def test_catalog_without_key_of_its_callers_needs_nothing(
    diagnose: Diagnose, catalog: Callable[..., None], key: str, mode: str, more: dict[str, str]
) -> None:
    catalog(mode, **{"SseAwsKmsKeyId": key, **more} if "ROLE" in mode else more)
    assert state(diagnose()["keys"]) == ("ok", UNUSED)


def test_alias_of_bucket_is_resolved_to_its_key(diagnose: Diagnose, prod: str, kms: Any, key: str) -> None:
    kms.create_alias(AliasName="alias/results", TargetKeyId=key)
    encrypted(prod, RESULTS, "aws:kms", KMSMasterKeyID="alias/results")
    assert state(diagnose()["keys"]) == ("ok", f"{key}: bucket {RESULTS} (athena.output_location, deploy.artifacts)")
    kms.delete_alias(AliasName="alias/results")


def test_key_of_topic_is_found(diagnose: Diagnose, prod: str, key: str) -> None:
    sns = plain_client("sns", prod)
    topic = sns.create_topic(Name="alerts", Attributes={"KmsMasterKeyId": key})["TopicArn"]
    finding = diagnose(monitoring__topic_arn=topic)["keys"]
    assert state(finding) == ("ok", f"{key}: topic {topic}")


def test_policy_of_own_key_prints_missing_statements(diagnose: Diagnose, key: str) -> None:
    finding = diagnose(deploy__kms_key=key)["key policy"]
    assert state(finding) == ("failed", f"the policy of key {key} lacks what the stack needs: Notices, Logs")
    first, _, pasted = finding.todo.partition("\n")
    assert first.startswith("add these statements to its `Statement` list")
    assert [statement["Sid"] for statement in json.loads(pasted)] == ["Notices", "Logs"]


def test_policy_that_shuts_out_roles_of_the_account_fails(
    diagnose: Diagnose, simulated: Simulated, prod: str, kms: Any
) -> None:
    other = {"AWS": "arn:aws:iam::123456789012:role/of-somebody-else"}
    statement = {"Sid": "x", "Effect": "Allow", "Principal": other, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    closed = kms.create_key(Policy=policy, BypassPolicyLockoutSafetyCheck=True)["KeyMetadata"]["Arn"]
    encrypted(prod, DATA, "aws:kms", KMSMasterKeyID=closed)
    simulated(storage__kms_keys=closed)
    finding = diagnose()["keys"]
    assert state(finding) == ("failed", f"the policy of key {closed} lacks what the stack needs: Own")


def test_disabled_key_fails(diagnose: Diagnose, prod: str, kms: Any, key: str) -> None:
    encrypted(prod, DATA, "aws:kms", KMSMasterKeyID=key)
    kms.disable_key(KeyId=key.rpartition("/")[2])
    finding = diagnose()["keys"]
    assert finding.state == "failed"
    assert finding.found.startswith(f"key {key} of bucket {DATA} (")
    assert finding.found.endswith(" is Disabled")
    assert "aws kms enable-key" in finding.todo


def test_other_key_of_catalog_than_configured_fails(
    diagnose: Diagnose, catalog: Callable[..., None], key: str
) -> None:
    catalog("SSE-KMS", SseAwsKmsKeyId=key)
    other = f"{key[:-4]}0000"
    finding = diagnose(catalog__kms_key=other)["keys"]
    assert state(finding) == ("failed", f"catalog.kms_key is {other}, but the Glue Data Catalog uses {key}")


def test_refused_look_at_catalog_warns_with_the_setting(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch, prod: str, key: str
) -> None:
    encrypted(prod, RESULTS, "aws:kms", KMSMasterKeyID=key)
    real = clients.client
    refused = {
        "glue": Refuses("GetDataCatalogEncryptionSettings", "get_data_catalog_encryption_settings", "AccessDenied"),
        "kms": Refuses("DescribeKey", "describe_key", "AccessDeniedException"),
    }
    policy = Refuses("GetKeyPolicy", "get_key_policy", "AccessDeniedException")
    monkeypatch.setattr(refused["kms"], "get_key_policy", vars(policy)["get_key_policy"], raising=False)
    monkeypatch.setattr(clients, "client", lambda name, *rest: refused.get(name) or real(name, *rest))
    finding = diagnose()["keys"]
    assert finding.state == "warning"
    assert finding.found.splitlines() == [
        f"{key}: bucket {RESULTS} (athena.output_location, deploy.artifacts)",
        "the key of the Glue Data Catalog is unknown: GetDataCatalogEncryptionSettings was denied (no)",
    ]
    assert finding.todo.startswith("if it is a customer key, set catalog.kms_key; or allow s3:GetEncryption")
