"""Every call of the state machines has only fields and values of AWS's service models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import aws_shapes
from deploy_support import VARIANTS, rendered, resolved

# Names of services in Step Functions that are others in boto3.
_SERVICES = {"sfn": "stepfunctions"}
# A value that only a run knows, in JSONPath, JSONata or CloudFormation.
_COMPUTED = ("$", "{%", "States.")


def tasks(state: Any) -> Iterator[dict[str, Any]]:
    """Yield the tasks below a definition."""
    if isinstance(state, dict):
        if state.get("Type") == "Task":
            yield state
        for part in state.values():
            yield from tasks(part)
    elif isinstance(state, list):
        for part in state:
            yield from tasks(part)


def problems(task: Mapping[str, Any]) -> list[str]:
    """Return the fields and values of a task's call that the service model does not have, or calls deprecated."""
    *_, service, action = task["Resource"].split(":")
    operation = action.partition(".")[0]
    model = aws_shapes.model(_SERVICES.get(service, service))
    shape: Any = model.operation_model(f"{operation[:1].upper()}{operation[1:]}").input_shape
    given = task.get("Parameters", task.get("Arguments", {}))
    missing = set(shape.required_members) - {_field(shape, name) for name in given}
    return [*(f"{name} is missing" for name in sorted(missing)), *_unknown(shape, given, "")]


def _field(shape: Any, name: str) -> str:
    """Return the name of a field in the model; Step Functions writes all of them with a capital first letter."""
    plain = name.removesuffix(".$")
    return plain if plain in shape.members else f"{plain[:1].lower()}{plain[1:]}"


def _unknown(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, part in value.items():
            field = _field(shape, name)
            if field not in shape.members or not name[:1].isupper():
                yield f"{path}.{name} is unknown"
            elif shape._shape_model["members"][field].get("deprecated"):
                yield f"{path}.{name} is deprecated"
            elif not name.endswith(".$"):
                yield from _unknown(shape.members[field], part, f"{path}.{name}")
    elif shape.type_name == "string" and not str(value).startswith(_COMPUTED) and "${" not in value:
        yield from aws_shapes.text_problems(shape, value, path, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_call_matches_service_model(variant: str) -> None:
    resources = rendered(variant)["Resources"]
    called = set()
    for name, resource in resources.items():
        if resource["Type"] != "AWS::StepFunctions::StateMachine":
            continue
        text = resolved(resource["Properties"]["DefinitionString"], resources)
        # `resolved` has put the logical id in the place of the application's id.
        definition = json.loads(text.replace('"ApplicationId": "Application"', '"ApplicationId": "00f1"'))
        for task in tasks(definition):
            called.add(task["Resource"].rpartition(":::")[2])
            assert problems(task) == [], (name, task)
    job = "emr-serverless:startJobRun.sync" if variant.startswith("emr") else "glue:startJobRun.sync"
    assert {job, "sns:publish"} <= called


def test_unknown_field_and_wrong_value_are_reported() -> None:
    resource = "arn:aws:states:::aws-sdk:sfn:listExecutions"
    arguments = {"StateMachineArn": "${StateMachine}", "StatusFilter": "GOOD", "MaximumResults": 1}
    assert problems({"Resource": resource, "Arguments": arguments}) == [
        ".StatusFilter is 'GOOD', not one of RUNNING, SUCCEEDED, FAILED, TIMED_OUT, ABORTED, PENDING_REDRIVE",
        ".MaximumResults is unknown",
    ]
    job = {"Resource": "arn:aws:states:::glue:startJobRun.sync", "Parameters": {"AllocatedCapacity": 3}}
    assert problems(job) == ["JobName is missing", ".AllocatedCapacity is deprecated"]
