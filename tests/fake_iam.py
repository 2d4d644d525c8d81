"""Fakes of IAM calls that moto lacks, and of services that refuse a call."""

# ruff: noqa: N803 the arguments are called as botocore calls them
from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

import aws_shapes
from deploy_support import allows


class Refuses:
    """A client whose one method fails with an AWS error code."""

    def __init__(self, operation: str, method: str, code: str, message: str = "no") -> None:
        def refuse(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": code, "Message": message}}, operation)

        setattr(self, method, refuse)


class Simulator:
    """A client of IAM's policy simulator, which moto lacks; `asked` lists the simulated actions.

    It answers as IAM does: one result for each action, with the decisions for each resource below it.
    """

    def __init__(self, statements: list[dict[str, Any]], trust: dict[str, Any] | None = None) -> None:
        self.statements = statements
        self.trust = trust or {}
        self.asked: list[str] = []
        # Fields of the result of an action that a test adds.
        self.details: dict[str, dict[str, Any]] = {}
        self.decided: dict[tuple[str, str], str] = {}

    def get_paginator(self, name: str) -> Simulator:
        assert name == "simulate_principal_policy"
        return self

    def get_role(self, RoleName: str) -> dict[str, Any]:
        role = {
            "Path": "/",
            "RoleName": RoleName,
            "RoleId": "AROA0123456789ABCDEF",
            "Arn": f"arn:aws:iam::123456789012:role/{RoleName}",
            "CreateDate": datetime(2026, 1, 1, tzinfo=UTC),
        }
        # botocore decodes the document, which its model calls a string.
        aws_shapes.response("iam", "GetRole", {"Role": role})
        return {"Role": {**role, "AssumeRolePolicyDocument": self.trust}}

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        problems = aws_shapes.request_problems(aws_shapes.model("iam"), "SimulatePrincipalPolicy", request)
        assert not problems, problems
        resources, actions = request["ResourceArns"], request["ActionNames"]
        assert not [arn for arn in resources if "${" in arn or ("*" in arn and arn != "*")]
        context = {entry["ContextKeyName"]: entry["ContextKeyValues"][0] for entry in request["ContextEntries"]}
        self.asked += actions
        for action in actions:
            # One page for each action: a caller that reads only the first one misses the others.
            page = {"EvaluationResults": [self._result(action, resources, context)], "IsTruncated": False}
            yield aws_shapes.response("iam", "SimulatePrincipalPolicy", page)

    def _result(self, action: str, resources: list[str], context: Mapping[str, str]) -> dict[str, Any]:
        decisions = {arn: self._decision(action, arn, context) for arn in resources}
        worst = max(decisions.values(), key=("allowed", "implicitDeny", "explicitDeny").index)
        result = {
            "EvalActionName": action,
            # The pattern of the resource type, not one of the resources.
            "EvalResourceName": f"arn:${{Partition}}:{action.partition(':')[0]}:::${{Resource}}",
            "EvalDecision": worst,
            "MatchedStatements": [],
            "MissingContextValues": [],
            **self.details.get(action, {}),
        }
        if resources != ["*"]:
            result["ResourceSpecificResults"] = [
                {"EvalResourceName": arn, "EvalResourceDecision": decision} for arn, decision in decisions.items()
            ]
        return result

    def _decision(self, action: str, arn: str, context: Mapping[str, str]) -> str:
        granted = "allowed" if allows(self.statements, action, arn, context) else "implicitDeny"
        return self.decided.get((action, arn), granted)
