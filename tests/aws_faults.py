"""Faults between a boto3 client and its service (refusals, lost answers, time-outs), by botocore's event hooks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from botocore.httpsession import URLLib3Session

Fault = Callable[[Any], Any]


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content

    def read(self, *_: Any) -> bytes:
        return self._content


def refusal(code: str, status: int = 400, message: str = "no") -> Fault:
    """The service says no, and does nothing."""

    def answer(request: Any) -> AWSResponse:
        body = json.dumps({"__type": code, "Message": message, "message": message}).encode()
        return AWSResponse(request.url, status, {"x-amzn-ErrorType": code}, _Body(body))

    return answer


def timeout(request: Any) -> None:
    """Nobody answers, and nothing is done."""
    raise ConnectTimeoutError(endpoint_url=request.url)


def lost_answer(request: Any) -> None:
    """The service does it, and its answer never arrives."""
    session = URLLib3Session()
    try:
        session.send(request)
    finally:
        session.close()
    raise ReadTimeoutError(endpoint_url=request.url)


class Faults:
    """Faults for the next calls of an operation, in turn; `calls` counts all of them."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self._planned: dict[str, list[Fault | None]] = {}
        self._always: dict[str, Fault] = {}

    def plan(self, operation: str, *faults: Fault | None) -> None:
        """Let the next calls meet these; None lets one through."""
        self._planned.setdefault(operation, []).extend(faults)

    def always(self, operation: str, fault: Fault) -> None:
        """Let every call meet this one."""
        self._always[operation] = fault

    def meet(self, request: Any, event_name: str, **_: Any) -> Any:
        operation = event_name.rpartition(".")[2]
        self.calls[operation] = self.calls.get(operation, 0) + 1
        waiting = self._planned.get(operation)
        fault = waiting.pop(0) if waiting else self._always.get(operation)
        return fault(request) if fault else None


@contextmanager
def faulty(client: Any) -> Iterator[Faults]:
    """Put faults between this client and its service while the block runs."""
    faults = Faults()
    event = f"before-send.{client.meta.service_model.service_id.hyphenize()}"
    client.meta.events.register(event, faults.meet)
    try:
        yield faults
    finally:
        client.meta.events.unregister(event, faults.meet)
