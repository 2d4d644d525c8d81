"""Fakes of IAM calls that moto lacks, and of services that refuse a call."""

# ruff: noqa: N803 the arguments are called as botocore calls them
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from deploy_support import allows


class Refuses:
    """A client whose one method fails with an AWS error code."""

    def __init__(self, operation: str, method: str, code: str) -> None:
        def refuse(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, operation)

        setattr(self, method, refuse)


class Simulator:
    """A client of IAM's policy simulator, which moto lacks; `asked` lists the simulated actions."""

    def __init__(self, statements: list[dict[str, Any]], trust: dict[str, Any] | None = None) -> None:
        self.statements = statements
        self.trust = trust or {}
        self.asked: list[str] = []

    def get_paginator(self, _: str) -> Simulator:
        return self

    def get_role(self, RoleName: str) -> dict[str, Any]:
        return {"Role": {"Arn": f"arn:aws:iam::123456789012:role/{RoleName}", "AssumeRolePolicyDocument": self.trust}}

    def paginate(
        self,
        PolicySourceArn: str,
        ActionNames: list[str],
        ResourceArns: list[str],
        ContextEntries: list[Any],
    ) -> Iterator[dict[str, Any]]:
        assert PolicySourceArn.startswith("arn:aws:iam::123456789012:role/")
        assert not [arn for arn in ResourceArns if "${" in arn or ("*" in arn and arn != "*")]
        context = {entry["ContextKeyName"]: entry["ContextKeyValues"][0] for entry in ContextEntries}
        self.asked += ActionNames
        yield {
            "EvaluationResults": [
                {
                    "EvalActionName": action,
                    "EvalResourceName": arn,
                    "EvalDecision": "allowed" if allows(self.statements, action, arn, context) else "implicitDeny",
                }
                for action in ActionNames
                for arn in ResourceArns
            ]
        }
