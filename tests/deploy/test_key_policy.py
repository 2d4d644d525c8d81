"""The policy of an existing key is checked before anything is created, and the missing statement is printed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from moto_account import Account

from bucketwheel.aws import clients
from bucketwheel.deploy import key_policy
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.errors import BucketwheelError, DeployError
from deploy_support import ACCOUNT, KEY_ARN, REGION, ROOT, configuration
from fake_iam import Refuses

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")
DEPLOYMENT = Deployment(configuration().settings, "prod")
OWN, NOTICES, LOGS = key_policy.needed(KEY_ARN, ACCOUNT)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/{DEPLOYMENT.role}"
CONTEXT = "kms:EncryptionContext:aws:logs:arn"


def missing(*statements: Any) -> list[str]:
    """The Sids of what a policy of these statements lacks."""
    by = key_policy.users(DEPLOYMENT, KEY_ARN, ACCOUNT)
    return [
        statement["Sid"]
        for statement in key_policy.missing({"Statement": list(statements)}, [OWN, NOTICES, LOGS], by)
    ]


def changed(statement: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**statement, **more}


def only_if(operator: str, key: str, value: Any) -> dict[str, Any]:
    return {"Condition": {operator: {key: value}}}


def test_printed_statements_are_complete() -> None:
    assert missing(OWN, NOTICES, LOGS) == []
    assert missing() == ["Own", "Notices", "Logs"]
    assert "${" not in json.dumps([OWN, NOTICES, LOGS])
    assert LOGS["Principal"] == {"Service": f"logs.{REGION}.amazonaws.com"}


@pytest.mark.parametrize(
    "own",
    [
        changed(OWN, Action="kms:*"),
        changed(OWN, Principal={"AWS": ACCOUNT}),
        changed(OWN, Principal={"AWS": [f"arn:aws:iam::{ACCOUNT}:user/admin", ROLE]}),
        changed(OWN, Principal="*"),
        changed(OWN, **only_if("StringEquals", "kms:CallerAccount", ACCOUNT)),
        changed(OWN, **only_if("StringLike", "kms:ViaService", ["s3.*.amazonaws.com"])),
        changed(OWN, **only_if("StringEquals", "aws:PrincipalOrgID", "o-1")),
    ],
)
def test_policy_that_lets_roles_use_the_key_is_enough(own: dict[str, Any]) -> None:
    assert missing(own, NOTICES, LOGS) == []


@pytest.mark.parametrize(
    ("statements", "lacks"),
    [
        ([changed(OWN, Action="kms:Decrypt"), NOTICES, LOGS], "Own"),
        ([changed(OWN, Principal={"AWS": "arn:aws:iam::210987654321:root"}), NOTICES, LOGS], "Own"),
        ([changed(OWN, **only_if("StringEquals", "kms:ViaService", "rds.*.amazonaws.com")), NOTICES, LOGS], "Own"),
        ([OWN, changed(NOTICES, Principal={"Service": "cloudwatch.amazonaws.com"}), LOGS], "Notices"),
        ([OWN, changed(NOTICES, **only_if("StringEquals", "aws:SourceAccount", ACCOUNT)), LOGS], "Notices"),
        ([OWN, changed(NOTICES, **only_if("ArnLike", "aws:SourceArn", "*")), LOGS], "Notices"),
        ([OWN, changed(NOTICES, **only_if("StringEquals", "kms:CallerAccount", ACCOUNT)), LOGS], "Notices"),
        ([OWN, NOTICES, changed(LOGS, Principal={"Service": "logs.eu-west-1.amazonaws.com"})], "Logs"),
        ([OWN, NOTICES, changed(LOGS, Action=["kms:Decrypt", "kms:GenerateDataKey*"])], "Logs"),
        ([OWN, NOTICES, changed(LOGS, **only_if("ArnEquals", CONTEXT, "arn:aws:logs:us-east-1:1:x"))], "Logs"),
        ([OWN, NOTICES, changed(LOGS, Effect="Deny", Condition={}), LOGS], "Logs"),
    ],
)  # fmt: skip
def test_policy_without_a_needed_use_is_named(statements: list[dict[str, Any]], lacks: str) -> None:
    assert missing(*statements) == [lacks]


def test_deploy_guide_shows_the_statements() -> None:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.DOTALL)
    assert [OWN, NOTICES, LOGS] in [json.loads(block) for block in blocks]


def test_log_groups_of_the_stack_are_enough() -> None:
    groups = [f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{prefix}" for prefix in ("/bucketwheel-prod/*", "/aws/*")]
    assert missing(OWN, NOTICES, changed(LOGS, **only_if("ArnLike", CONTEXT, groups))) == []
    assert missing(OWN, NOTICES, changed(LOGS, **only_if("ArnLike", CONTEXT, groups[:1]))) == ["Logs"]


def key_with(account: Account, *statements: dict[str, Any]) -> str:
    policy = json.dumps({"Version": "2012-10-17", "Statement": [changed(OWN, Action="kms:*"), *statements]})
    return str(account.client("kms").create_key(Policy=policy)["KeyMetadata"]["Arn"])


def test_apply_prints_missing_statements_and_creates_nothing(account: Account) -> None:
    key = key_with(account, LOGS)
    with pytest.raises(DeployError) as refused:
        account.apply(deploy__kms_key=key)
    first, _, pasted = str(refused.value).partition("\n")
    assert first.startswith(f"the policy of key {key} lacks what the stack needs: Notices; add these statements")
    assert json.loads(pasted) == [NOTICES]
    assert account.status() is None


def test_apply_with_complete_policy_creates_the_stack(account: Account) -> None:
    assert account.apply(deploy__kms_key=key_with(account, NOTICES, LOGS)).done


def test_apply_refuses_key_of_another_region(account: Account) -> None:
    with pytest.raises(DeployError, match=r"deploy\.kms_key is in eu-west-1, but the stack is in us-east-1"):
        account.apply(deploy__kms_key=KEY_ARN.replace("us-east-1", "eu-west-1"))


def test_apply_refuses_key_that_does_not_exist(account: Account) -> None:
    with pytest.raises(BucketwheelError, match=f"key {KEY_ARN}: GetKeyPolicy failed: NotFoundException"):
        account.apply(deploy__kms_key=KEY_ARN)


def test_apply_warns_if_policy_may_not_be_read(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Refuses("GetKeyPolicy", "get_key_policy", "AccessDeniedException")
    real = clients.client
    monkeypatch.setattr(clients, "client", lambda name, *rest: refused if name == "kms" else real(name, *rest))
    assert account.apply(deploy__kms_key=KEY_ARN).done
    assert (
        f"warning: the policy of key {KEY_ARN} was not checked, because kms:GetKeyPolicy was denied"
        in (account.said[0].partition(";")[0])
    )
