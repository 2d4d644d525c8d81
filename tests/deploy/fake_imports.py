"""CloudFormation's import of existing resources, which moto lacks, with the rules that AWS documents.

The calls and answers are checked against botocore's model, the resources against the schemas of their types.
"""

# ruff: noqa: N803 the arguments are called as botocore calls them
from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import botocore.session
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from moto.cloudformation.models import Stack, cloudformation_backends
from moto.cloudformation.utils import generate_stack_id
from moto.iam.models import iam_backends
from moto.logs.models import logs_backends
from moto.s3.models import s3_backends
from moto_types import MODELS

from aws_shapes import response
from bucketwheel.aws import clients
from deploy_support import ACCOUNT, REGION

_MODEL = botocore.session.get_session().get_service_model("cloudformation")


class Imports:
    """Adds imports to the CloudFormation client of the tests; `change_sets` are the calls that created them."""

    def __init__(self, settings: Any, monkeypatch: Any) -> None:
        self.change_sets: dict[str, dict[str, Any]] = {}
        self.reasons: dict[str, str] = {}
        self.deleted: list[str] = []
        self._client = clients.client("cloudformation", settings)
        self._others = {name: getattr(self._client, name) for name in _PATCHED}
        for name in _PATCHED:
            monkeypatch.setattr(self._client, name, getattr(self, name))

    @property
    def _stacks(self) -> dict[str, Stack]:
        return cloudformation_backends[ACCOUNT][REGION].stacks

    def _stack(self, name: str) -> Stack | None:
        return next((stack for stack in self._stacks.values() if stack.name == name), None)

    def create_change_set(self, **call: Any) -> dict[str, Any]:
        shape = _MODEL.operation_model("CreateChangeSet").input_shape
        assert shape
        report = ParamValidator().validate(call, shape)
        assert not report.has_errors(), report.generate_report()
        if call["ChangeSetType"] != "IMPORT":
            created: dict[str, Any] = self._others["create_change_set"](**call)
            return created
        stack = self._stack(call["StackName"])
        if "TemplateURL" in call:
            bucket, key = re.fullmatch(r"https://([^.]+)\.s3\.[^/]+/(.+)", call["TemplateURL"]).groups()  # type: ignore[union-attr]
            call["TemplateBody"] = s3_backends[ACCOUNT]["aws"].buckets[bucket].keys[key].value.decode()
        self.change_sets[call["ChangeSetName"]] = call
        self.reasons[call["ChangeSetName"]] = _refusal(call, stack)
        if stack is None:
            number = generate_stack_id(call["StackName"], REGION, ACCOUNT)
            self._stacks[number] = Stack(number, call["StackName"], '{"Resources": {}}', {}, ACCOUNT, REGION)  # type: ignore[abstract]
            self._stacks[number].status = "REVIEW_IN_PROGRESS"
        return response("cloudformation", "CreateChangeSet", {"Id": "arn", "StackId": "arn"})

    def describe_change_set(self, StackName: str, ChangeSetName: str, **more: Any) -> dict[str, Any]:
        if ChangeSetName not in self.change_sets:
            found: dict[str, Any] = self._others["describe_change_set"](
                StackName=StackName, ChangeSetName=ChangeSetName, **more
            )
            return found
        if reason := self.reasons[ChangeSetName]:
            return response(
                "cloudformation", "DescribeChangeSet", {"Status": "FAILED", "StatusReason": reason, "Changes": []}
            )
        changes = [
            {
                "Type": "Resource",
                "ResourceChange": {
                    "Action": "Import",
                    "LogicalResourceId": one["LogicalResourceId"],
                    "ResourceType": one["ResourceType"],
                    "PhysicalResourceId": next(iter(one["ResourceIdentifier"].values())),
                },
            }
            for one in self.change_sets[ChangeSetName]["ResourcesToImport"]
        ]
        return response("cloudformation", "DescribeChangeSet", {"Status": "CREATE_COMPLETE", "Changes": changes})

    def execute_change_set(self, StackName: str, ChangeSetName: str) -> dict[str, Any]:
        if ChangeSetName not in self.change_sets:
            executed: dict[str, Any] = self._others["execute_change_set"](
                StackName=StackName, ChangeSetName=ChangeSetName
            )
            return executed
        call, stack = self.change_sets[ChangeSetName], self._stack(StackName)
        assert stack is not None
        template = json.loads(call["TemplateBody"])
        stack.template = call["TemplateBody"]
        stack.template_dict = template
        resources = stack.resource_map
        resources._template = template
        resources._resource_json_map = template["Resources"]
        for one in call["ResourcesToImport"]:
            resource = _object(one["ResourceType"], next(iter(one["ResourceIdentifier"].values())))
            resource.cf_resource_type = one["ResourceType"]
            resource.logical_resource_id = one["LogicalResourceId"]
            resources._parsed_resources[one["LogicalResourceId"]] = resource
        stack._add_stack_event("IMPORT_IN_PROGRESS", resource_status_reason="User Initiated")
        stack._add_stack_event("IMPORT_COMPLETE")
        stack.status = "IMPORT_COMPLETE"
        return {}

    def delete_change_set(self, StackName: str, ChangeSetName: str) -> dict[str, Any]:
        self.deleted.append(ChangeSetName)
        if ChangeSetName in self.change_sets:
            return {}
        removed: dict[str, Any] = self._others["delete_change_set"](StackName=StackName, ChangeSetName=ChangeSetName)
        return removed

    def describe_stack_resources(self, PhysicalResourceId: str) -> dict[str, Any]:
        for stack in self._stacks.values():
            for resource in stack.resource_map.values():
                if getattr(resource, "physical_resource_id", None) == PhysicalResourceId:
                    found = {
                        "StackName": stack.name,
                        "LogicalResourceId": resource.logical_resource_id,
                        "PhysicalResourceId": PhysicalResourceId,
                        "ResourceType": resource.cf_resource_type,
                        "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
                        "ResourceStatus": "CREATE_COMPLETE",
                    }
                    return response("cloudformation", "DescribeStackResources", {"StackResources": [found]})
        message = f"Stack for {PhysicalResourceId} does not exist"
        raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "DescribeStackResources")


_PATCHED = (
    "create_change_set",
    "describe_change_set",
    "execute_change_set",
    "delete_change_set",
    "describe_stack_resources",
)


def _refusal(call: dict[str, Any], stack: Stack | None) -> str:
    """Return why CloudFormation refuses an import, or an empty text."""
    if call.get("Tags"):
        return "As part of the import operation, you cannot modify or add [Tags]"
    template = json.loads(call["TemplateBody"])
    deployed = json.loads(str(stack.template)) if stack and stack.template else {}
    if template.get("Outputs") != deployed.get("Outputs"):
        return "As part of the import operation, you cannot modify or add [Outputs]"
    imported = {one["LogicalResourceId"]: one for one in call["ResourcesToImport"]}
    others = {name: part for name, part in template["Resources"].items() if name not in imported}
    if others != deployed.get("Resources", {}):
        return "You have modified resources in your template that are not being imported"
    for name, one in imported.items():
        resource = template["Resources"][name]
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, one["ResourceType"]).schema
        identifiers = [path.removeprefix("/properties/") for path in schema["primaryIdentifier"]]
        if "read" not in schema["handlers"] or resource["Type"] != one["ResourceType"]:
            return f"ResourceTypes [{one['ResourceType']}] are not supported for import"
        if one["ResourceIdentifier"] != {key: resource["Properties"].get(key) for key in identifiers}:
            return f"Resource identifier of {name} does not match the template"
        if "DeletionPolicy" not in resource:
            return f"Resources {[name]} to import must have DeletionPolicy attribute specified in the template"
        unknown = resource["Properties"].keys() - schema["properties"].keys()
        absent = set(schema.get("required", ())) - resource["Properties"].keys()
        if unknown or absent:
            return f"Properties validation failed for resource {name}: {sorted(unknown | absent)}"
    return ""


def _object(kind: str, name: str) -> Any:
    """Return the object that moto has for an existing resource."""
    if kind in MODELS:
        return MODELS[kind](name)
    if kind == "AWS::IAM::Role":
        return iam_backends[ACCOUNT]["aws"].get_role(name)
    if kind == "AWS::Logs::LogGroup":
        return logs_backends[ACCOUNT][REGION].groups[name]
    return s3_backends[ACCOUNT]["aws"].buckets[name]
