"""Inject refusals, lost responses and timeouts between a boto3 client and its service, through botocore's events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from botocore.httpsession import URLLib3Session
from botocore.retries.standard import ExponentialBackoff

Fault = Callable[[Any], Any]


def shorten_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore repeat calls as often as usual, but at once."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.001)


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content

    def read(self, *_: Any) -> bytes:
        return self._content


def refusal(code: str, status: int = 400, message: str = "no") -> Fault:
    """Return a fault: the service refuses the call and does nothing."""

    def respond(request: Any) -> AWSResponse:
        body = json.dumps({"__type": code, "Message": message, "message": message}).encode()
        headers: Any = {"x-amzn-ErrorType": code}
        return AWSResponse(request.url, status, headers, _Body(body))

    return respond


def broken_off(content: bytes) -> Fault:
    """Return a fault: the response has status 200 and only a part of its content."""
    headers: Any = {}
    return lambda request: AWSResponse(request.url, 200, headers, _Body(content))


def timeout(request: Any) -> None:
    """Fail as if the service could not be reached; the call has no effect."""
    raise ConnectTimeoutError(endpoint_url=request.url)


def lost_response(request: Any) -> None:
    """Carry out the call, then fail as if the response was lost."""
    session = URLLib3Session()
    try:
        session.send(request)
    finally:
        session.close()
    raise ReadTimeoutError(endpoint_url=request.url)


class Faults:
    """Faults for the next calls of each operation; `calls` counts all calls."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self._planned: dict[str, list[Fault | None]] = {}
        self._always: dict[str, Fault | None] = {}

    def plan(self, operation: str, *faults: Fault | None) -> None:
        """Apply these faults to the next calls, in order; None passes a call on."""
        self._planned.setdefault(operation, []).extend(faults)

    def always(self, operation: str, fault: Fault | None) -> None:
        """Apply this fault to every call without a planned one."""
        self._always[operation] = fault

    def intercept(self, request: Any, event_name: str, **_: Any) -> Any:
        operation = event_name.rpartition(".")[2]
        self.calls[operation] = self.calls.get(operation, 0) + 1
        planned = self._planned.get(operation)
        fault = planned.pop(0) if planned else self._always.get(operation)
        return fault(request) if fault else None


@contextmanager
def faulty(client: Any) -> Iterator[Faults]:
    """Inject faults between this client and its service while the block runs."""
    faults = Faults()
    event = f"before-send.{client.meta.service_model.service_id.hyphenize()}"
    client.meta.events.register(event, faults.intercept)
    try:
        yield faults
    finally:
        client.meta.events.unregister(event, faults.intercept)
