"""Check requests and responses against botocore's service models, which are AWS's own description of its API."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import botocore.session
from botocore.client import BaseClient
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator

# Fields that AWS has added since the oldest supported botocore was released.
_NEW_FIELDS = ('Unknown parameter in jobRun: "startedAt"',)
_OLD = tuple(int(part) for part in botocore.__version__.split(".")[:2]) < (1, 40)


@functools.cache
def model(service: str) -> ServiceModel:
    """Return the model of a service, by its name in boto3."""
    return botocore.session.get_session().get_service_model(service)


def response(service: str, operation: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return the response of a test double.

    Raises:
        AssertionError: AWS would not answer like this; names the fields that are unknown, missing or of another type.
    """
    shape = model(service).operation_model(operation).output_shape
    fields = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    problems = list(_problems(shape, fields)) if shape is not None else [f"unknown field {name}" for name in fields]
    if _OLD:
        problems = [problem for problem in problems if not problem.startswith(_NEW_FIELDS)]
    assert not problems, f"{service} {operation} does not answer like this: {'; '.join(problems)}"
    return answer


def request_problems(service: ServiceModel, operation: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return what AWS would refuse in a request, and the fields and operations that it has deprecated."""
    operation_model = service.operation_model(operation)
    problems = [f"{operation} is deprecated"] if operation_model.deprecated else []
    if operation_model.input_shape is None:
        return problems + [f"unknown field {name}" for name in parameters]
    return problems + list(_problems(operation_model.input_shape, parameters, strict=True))


@contextmanager
def requests_checked(refused: list[str]) -> Iterator[None]:
    """Fail each request of a boto3 client with a value, field or operation that AWS refuses or has deprecated.

    botocore checks names and types by itself, but neither values nor what is deprecated. `refused` collects the
    problems too, because the code under test may turn the error into a warning.
    """
    real = BaseClient._make_api_call  # type: ignore[attr-defined]

    def checked(self: Any, operation: str, parameters: Mapping[str, Any]) -> Any:
        operation_model = self.meta.service_model.operation_model(operation)
        problems = [f"{operation} is deprecated"] if operation_model.deprecated else []
        if operation_model.input_shape is not None:
            problems += _walk(operation_model.input_shape, parameters, "", strict=True)
        if problems:
            refused.append(f"{self.meta.service_model.service_name} {operation}: {'; '.join(problems)}")
            raise AssertionError(refused[-1])
        return real(self, operation, parameters)

    with mock.patch.object(BaseClient, "_make_api_call", checked):
        yield


def _problems(shape: Shape, value: Any, *, strict: bool = False) -> Iterator[str]:
    report = ParamValidator().validate(value, shape)
    if report.has_errors():
        yield from report.generate_report().splitlines()
    else:
        yield from _walk(shape, value, "", strict)


def _walk(shape: Any, value: Any, path: str, strict: bool) -> Iterator[str]:
    """Yield what botocore itself does not check: values of enums and, if strict, deprecated fields and patterns."""
    if shape.type_name == "structure" and isinstance(value, Mapping):
        # botocore fails for unknown names by itself.
        for name, part in ((name, value[name]) for name in value if name in shape.members):
            described = shape._shape_model["members"].get(name, {})
            if strict and (described.get("deprecated") or shape.members[name]._shape_model.get("deprecated")):
                yield f"{path}.{name} is deprecated"
            yield from _walk(shape.members[name], part, f"{path}.{name}", strict)
    elif shape.type_name == "list":
        yield from _too_many(shape, len(value), f"{path} has {len(value)} items", strict)
        for part in value:
            yield from _walk(shape.member, part, f"{path}[]", strict)
    elif shape.type_name == "map":
        for name, part in value.items():
            yield from _walk(shape.key, name, f"{path} key", strict)
            yield from _walk(shape.value, part, f"{path}.{name}", strict)
    elif shape.type_name == "string" and isinstance(value, str):
        yield from text_problems(shape, value, path, strict)
    elif shape.type_name in ("integer", "long"):
        yield from _too_many(shape, value, f"{path} is {value}", strict)


def _too_many(shape: Any, size: int, text: str, strict: bool) -> Iterator[str]:
    if strict and size > shape.metadata.get("max", size):
        yield f"{text}, at most {shape.metadata['max']}"


def text_problems(shape: Any, value: str, path: str, strict: bool) -> Iterator[str]:
    values = shape.metadata.get("enum", ())
    if values and value not in values:
        yield f"{path} is {value!r}, not one of {', '.join(values)}"
    if not strict:
        return
    yield from _too_many(shape, len(value), f"{path} has {len(value)} characters", strict)
    pattern = _compiled(shape.metadata.get("pattern"))
    if pattern is not None and not pattern.fullmatch(value):
        yield f"{path} is {value!r}, which does not match {pattern.pattern}"


@functools.cache
def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    """Compile a pattern of a model; None if Python's syntax differs from AWS's."""
    try:
        return re.compile(pattern, re.DOTALL) if pattern else None
    except re.error:
        return None
