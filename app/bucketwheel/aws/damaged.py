"""Refuse responses that are not whole XML or JSON, as a proxy that breaks off may send them with status 200."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.parsers import ResponseParserError


class DamagedResponseError(BotoCoreError):
    """The response of a service cannot be parsed."""

    fmt = "{operation}: the response is damaged ({problem}); check proxies on the way to AWS, then try again"


def refuse_damaged_responses(client: Any) -> None:
    """Let a client of boto3 raise DamagedResponseError.

    botocore raises an error outside its hierarchy for damaged XML, and takes damaged JSON for an empty response.
    """
    call = client._make_api_call  # it has no public hook

    def checked(operation: str, parameters: Any) -> Any:
        try:
            return call(operation, parameters)
        except ResponseParserError as error:
            raise DamagedResponseError(operation=operation, problem="not XML") from error

    client._make_api_call = checked
    if "json" in client.meta.service_model.metadata["protocol"]:
        client.meta.events.register("response-received", _check_json)


def _check_json(response_dict: dict[str, Any] | None, event_name: str, **_: Any) -> None:
    if response_dict is None or response_dict["status_code"] >= 300 or not isinstance(response_dict["body"], bytes):
        return
    try:
        json.loads(response_dict["body"] or b"{}")
    except ValueError as error:
        raise DamagedResponseError(operation=event_name.rpartition(".")[2], problem=f"not JSON: {error}") from error
