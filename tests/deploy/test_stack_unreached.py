"""The stack without credentials or region."""

from __future__ import annotations

from typing import Any

import pytest

from bucketwheel import api
from bucketwheel.aws import clients
from bucketwheel.errors import BucketwheelError, DeployError
from deploy_support import PACKAGE, REGION, configuration

NAME = "bucketwheel-prod"


def test_missing_credentials_or_region_error_names_setting(aws_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    reached: dict[str, Any] = {"aws.endpoint_url": aws_url, "aws.attempts": 7, "deploy.package": PACKAGE}
    clients.renew_session()
    with pytest.raises(BucketwheelError, match=r"no region is known; set aws.region, or AWS_REGION"):
        api.deploy_diff(configuration(**reached))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    clients.renew_session()
    with pytest.raises(DeployError, match=f"stack {NAME}: no AWS credentials were found; give this machine a role"):
        api.deploy_diff(configuration(**{**reached, "aws.region": REGION, "aws.attempts": 6}))
    clients.renew_session()
