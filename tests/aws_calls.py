"""Record what the clients under test send to AWS that AWS's service models do not accept or have deprecated.

`aws_server` installs this, so that every client of `bucketwheel.aws.clients` in a test with moto is watched. The
fixture `valid_aws_calls` fails a test that has sent such a call, even if the code under test turned an error into a
warning.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import aws_shapes
from bucketwheel.aws import clients

# One text for each problem; tests that send wrong calls on purpose take them out.
problems: list[str] = []


def watch(client: Any) -> Any:
    """Record the problems of every call of a client, and return the client."""
    # Last, because the client sends conditions of S3 itself where an old botocore does not know them.
    client.meta.events.register_last("before-parameter-build", _record)
    return client


def _record(params: dict[str, Any], model: Any, **_: Any) -> None:
    wrong = aws_shapes.request_problems(model.service_model, model.name, params)
    problems.extend(f"{model.service_model.service_name} {model.name}: {problem}" for problem in wrong)


def install() -> None:
    """Watch every client that `bucketwheel.aws.clients` creates from now on."""
    real: Callable[..., Any] = clients.make_client
    if not hasattr(real, "__wrapped__"):
        clients.make_client = functools.wraps(real)(lambda *given, **named: watch(real(*given, **named)))
