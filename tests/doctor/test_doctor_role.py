"""`doctor` checks who may assume roles: the platform the role of the jobs, the caller a role of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from aws_server import plain_client
from bucketwheel.aws import clients as aws_module
from doctor_support import DATA, ROLE, Diagnose


def trusting(principal: Any, **more: Any) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize(
    ("platform", "trust", "seen"),
    [
        ("glue", trusting({"Service": "glue.amazonaws.com"}), "ok"),
        ("glue", trusting({"Service": ["states.amazonaws.com", "glue.amazonaws.com"]}), "ok"),
        ("emr-serverless", trusting({"Service": "emr-serverless.amazonaws.com"}, Condition={"StringEquals": {
            "aws:SourceAccount": "123456789012"}}), "ok"),
        ("emr-serverless", trusting({"Service": "glue.amazonaws.com"}), "failed"),
        ("glue", trusting({"AWS": "*"}), "failed"),
        ("glue", trusting({"Service": "glue.amazonaws.com"}, Action="sts:TagSession"), "failed"),
        ("glue", trusting({"Service": "glue.amazonaws.com"}, Effect="Deny"), "failed"),
        ("glue", trusting({"Service": "glue.amazonaws.com"}, Condition={"StringEquals": {
            "aws:SourceAccount": "123456789012"}}), "warning"),
    ],
)  # fmt: skip
def test_trust_platform_not_trusted_fails(
    diagnose: Diagnose, prod: str, platform: str, trust: str, seen: str
) -> None:
    plain_client("iam", prod).update_assume_role_policy(RoleName=ROLE, PolicyDocument=trust)
    finding = diagnose(deploy__platform=platform)["role"]
    assert finding.state == seen
    assert f"{platform}.amazonaws.com" in finding.found
    if seen == "failed":
        assert f"allow sts:AssumeRole to {platform}.amazonaws.com" in finding.todo


def test_credentials_role_not_assumable_is_named(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profiles = tmp_path / "config"
    profiles.write_text(
        "[profile own]\naws_access_key_id = test\naws_secret_access_key = test\n"
        "[profile ops]\nrole_arn = arn:aws:iam::123456789012:role/ops\nsource_profile = own\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles))
    monkeypatch.setenv("AWS_PROFILE", "ops")
    monkeypatch.setattr(BaseClient, "_make_api_call", refusing(vars(BaseClient)["_make_api_call"]))
    aws_module.renew_session()
    # Clients of these settings exist, and keep the credentials that they were made with.
    seen = diagnose(aws__connect_seconds=2)
    for name in ("credentials", f"bucket {DATA}"):
        assert "no credentials: the role of this process cannot be assumed (not for you)" in seen[name].found
        assert seen[name].todo == "choose another AWS_PROFILE, or let the role trust the caller"


def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap calls of AWS so that STS denies AssumeRole, which moto would allow to all callers."""

    def answer(self: Any, operation: str, arguments: Any) -> Any:
        if operation == "AssumeRole":
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not for you"}}, operation)
        return call(self, operation, arguments)

    return answer
