"""`deploy` finds the customer keys in use and grants them to the role of the jobs."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from moto_account import Account

from bucketwheel.aws import clients
from bucketwheel.deploy import stack
from bucketwheel.deploy.template.template import template
from bucketwheel.errors import ConfigError
from deploy_support import KEY_ARN, configuration, rendered, statements
from fake_iam import Refuses

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")
DATA = "omc-flywheel-data-us-east-1-prod"


def encrypted(account: Account, bucket: str, key: str) -> None:
    account.client("s3").create_bucket(Bucket=bucket)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    account.client("s3").put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})


def granted(account: Account) -> dict[str, dict[str, Any]]:
    """The statements of the role of the jobs in the account, by Sid."""
    iam = account.client("iam")
    document = iam.get_role_policy(RoleName="omc_flywheel-prod-glue-role", PolicyName="bucketwheel")["PolicyDocument"]
    # moto returns Python's notation, which is also YAML.
    document = yaml.safe_load(document) if isinstance(document, str) else document
    return {statement["Sid"]: statement for statement in document["Statement"]}


@pytest.fixture
def key(account: Account) -> str:
    return str(account.client("kms").create_key()["KeyMetadata"]["Arn"])


def test_found_keys_are_reported_and_granted(account: Account, key: str) -> None:
    encrypted(account, DATA, key)
    at_rest = {"CatalogEncryptionMode": "SSE-KMS", "SseAwsKmsKeyId": key}
    account.client("glue").put_data_catalog_encryption_settings(
        DataCatalogEncryptionSettings={"EncryptionAtRest": at_rest}
    )
    assert account.apply().done
    assert account.said[:2] == [
        f"found key {key} of bucket {DATA} (target, datasets.infobase_attributes.source, "
        "datasets.addressable_ids.source, datasets.infobase_attributes.mapping): the role of the jobs may use it, as "
        "with storage.kms_keys",
        f"found key {key} of the Glue Data Catalog: the role of the jobs may use it, as with catalog.kms_key",
    ]
    roles = granted(account)
    assert roles["UseKey"]["Resource"] == key
    assert roles["UseKeyOfCatalog"]["Action"] == ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"]
    # What `apply` added is no difference.
    assert stack.diff(account.configuration()) == ""


def test_configured_keys_are_granted_without_a_word(account: Account, key: str) -> None:
    encrypted(account, DATA, key)
    assert account.apply(storage__kms_keys=key).done
    assert not [line for line in account.said if "key" in line]
    assert granted(account)["UseKey"]["Resource"] == key


def test_refused_look_warns_and_deploys(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    client = clients.client("glue", account.configuration().settings.aws)
    name = "get_data_catalog_encryption_settings"
    refused = Refuses("GetDataCatalogEncryptionSettings", name, "AccessDeniedException")
    monkeypatch.setattr(client, name, getattr(refused, name))
    assert account.apply().done
    assert (
        "warning: the key of the Glue Data Catalog is unknown: GetDataCatalogEncryptionSettings was denied (no); if "
        "it is a customer key, set catalog.kms_key"
    ) in account.said


def test_render_grants_configured_keys_only_for_their_purpose() -> None:
    other, third = f"{KEY_ARN[:-1]}6", f"{KEY_ARN[:-1]}7"
    topic = {"monitoring.topic_arn": "arn:aws:sns:us-east-1:123456789012:oncall", "monitoring.topic_kms_key": third}
    given = rendered(storage__kms_keys=f"{KEY_ARN},{other}", catalog__kms_key=other, **topic)
    by_sid = {statement["Sid"]: statement for statement in statements(given, "JobRole")}
    assert by_sid["UseKey"]["Resource"] == [KEY_ARN, other]
    assert by_sid["UseKey"]["Condition"] == {"StringLike": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}
    assert by_sid["UseKeyOfTopic"]["Resource"] == third
    assert by_sid["UseKeyOfTopic"]["Condition"] == {"StringLike": {"kms:ViaService": "sns.us-east-1.amazonaws.com"}}
    assert by_sid["UseKeyOfCatalog"]["Resource"] == other


def test_key_in_region_of_storage_is_used_there() -> None:
    away = KEY_ARN.replace("us-east-1", "eu-west-1")
    home, both = "s3.us-east-1.amazonaws.com", ["s3.us-east-1.amazonaws.com", "s3.eu-west-1.amazonaws.com"]
    for keys, services in ((away, both[1]), (f"{KEY_ARN},{away}", both)):
        given = rendered(aws__region="us-east-1", storage__region="eu-west-1", storage__kms_keys=keys)
        by_sid = {statement["Sid"]: statement for statement in statements(given, "JobRole")}
        assert by_sid["UseKey"]["Condition"] == {"StringLike": {"kms:ViaService": services}}
    # The key that the stack creates is in the region of the stack.
    given = rendered(deploy__kms_key="create", storage__region="eu-west-1", storage__kms_keys=away)
    by_sid = {statement["Sid"]: statement for statement in statements(given, "JobRole")}
    assert by_sid["UseKey"]["Condition"] == {"StringLike": {"kms:ViaService": [home, both[1]]}}


def test_key_named_twice_is_granted_once() -> None:
    given = rendered(deploy__kms_key=KEY_ARN, storage__kms_keys=KEY_ARN)
    by_sid = {statement["Sid"]: statement for statement in statements(given, "JobRole")}
    assert by_sid["UseKey"]["Resource"] == KEY_ARN


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"storage.kms_keys": "alias/data"}, "storage.kms_keys"),
        ({"catalog.kms_key": "alias/data"}, "catalog.kms_key"),
        ({"monitoring.topic_kms_key": "alias/data"}, "monitoring.topic_kms_key"),
    ],
)
def test_key_that_is_no_arn_is_refused(setting: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is 'alias/data'; a role policy needs the ARN of the key"):
        template(configuration(**setting).settings, "prod")
