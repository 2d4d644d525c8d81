"""One CloudFormation stack: its status, template and change sets, and waiting for changes to end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.errors import DeployError, SelectionError
from bucketwheel.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import (
        ChangeTypeDef,
        DescribeChangeSetOutputTypeDef,
        ResourceChangeTypeDef,
        StackEventTypeDef,
        StackTypeDef,
        TagTypeDef,
    )

Echo = Callable[[str], None]

_UNCHANGED = ("didn't contain changes", "No updates are to be performed", "contain no changes")
_POLL_SECONDS = 3.0
# Longer than the slowest resource takes.
_MAX_WAIT_SECONDS = 3_600


@dataclass(frozen=True)
class Change:
    """A change to one resource; `replaced` is CloudFormation's True, False or Conditional."""

    action: str
    logical_id: str
    kind: str
    replaced: str

    def __str__(self) -> str:
        replaced = {"True": "  replaced", "Conditional": "  may be replaced"}.get(self.replaced, "")
        return f"{self.action.lower():<8} {self.kind:<34} {self.logical_id}{replaced}"


class Stack:
    """A stack by name; it may not exist."""

    def __init__(self, settings: Settings, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.name = name
        self._sleep = sleep
        with self._errors():
            self._client = clients.client("cloudformation", settings.aws)
            identity = clients.client("sts", settings.aws).get_caller_identity()
        self.account: str = identity["Account"]
        self.region: str = self._client.meta.region_name

    def _errors(self) -> Any:
        return wrap_aws_errors(DeployError, f"stack {self.name}")

    def status(self) -> str | None:
        """Return the status, or None if the stack does not exist."""
        stack = self._described()
        return str(stack["StackStatus"]) if stack else None

    def outputs(self) -> dict[str, str]:
        """Return the outputs by name."""
        stack = self._described()
        outputs = stack.get("Outputs", ()) if stack else ()
        return {output["OutputKey"]: output["OutputValue"] for output in outputs}

    def _described(self) -> StackTypeDef | None:
        with self._errors():
            try:
                stack = self._client.describe_stacks(StackName=self.name)["Stacks"][0]
            except ClientError as error:
                if code_of(error) == "ValidationError" and "does not exist" in str(error):
                    return None
                raise
        return stack

    def template(self) -> dict[str, Any]:
        """Return the template of the last update.

        Raises:
            SelectionError: the stack does not exist.
        """
        if self.status() in (None, "REVIEW_IN_PROGRESS"):
            raise SelectionError(f"stack {self.name!r} does not exist in {self.region} of account {self.account}")
        with self._errors():
            answer = self._client.get_template(StackName=self.name, TemplateStage="Original")
        body: Any = answer["TemplateBody"]
        # botocore returns JSON templates as ordered mappings.
        template: dict[str, Any] = json.loads(body if isinstance(body, str) else json.dumps(body))
        return template

    def resources(self) -> dict[str, tuple[str, str]]:
        """Return (type, physical name) of every resource, by logical id."""
        with self._errors():
            pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
            return {
                summary["LogicalResourceId"]: (summary["ResourceType"], summary.get("PhysicalResourceId", ""))
                for page in pages
                for summary in page["StackResourceSummaries"]
                if summary["ResourceStatus"] != "DELETE_COMPLETE"
            }

    def prepare(
        self, change_set: str, kind: Literal["CREATE", "UPDATE"], template: dict[str, Any], tags: list[dict[str, str]]
    ) -> list[Change]:
        """Create a change set and return its changes; an empty list if there are none.

        Args:
            change_set: its name.
            kind: CREATE or UPDATE.
            template: ``{"TemplateBody": …}`` or ``{"TemplateURL": …}``.
            tags: of the stack.

        Raises:
            DeployError: CloudFormation refused the template.
        """
        with self._errors():
            self._client.create_change_set(
                StackName=self.name,
                ChangeSetName=change_set,
                ChangeSetType=kind,
                Capabilities=["CAPABILITY_NAMED_IAM"],
                Tags=cast("list[TagTypeDef]", tags),
                **template,
            )
        description = self._until(
            lambda: self._change_set(change_set), lambda seen: seen["Status"] in ("CREATE_COMPLETE", "FAILED")
        )
        reason = description.get("StatusReason", "")
        if description["Status"] == "FAILED" and not any(text in reason for text in _UNCHANGED):
            raise DeployError(f"stack {self.name}: CloudFormation refused the template: {reason}")
        if description["Status"] == "FAILED":
            return []
        return [self._change(entry["ResourceChange"]) for entry in self._all_changes(change_set, description)]

    def _change_set(self, change_set: str) -> DescribeChangeSetOutputTypeDef:
        with self._errors():
            return self._client.describe_change_set(StackName=self.name, ChangeSetName=change_set)

    def _all_changes(self, change_set: str, page: DescribeChangeSetOutputTypeDef) -> Iterator[ChangeTypeDef]:
        yield from page["Changes"]
        while token := page.get("NextToken"):
            with self._errors():
                page = self._client.describe_change_set(
                    StackName=self.name, ChangeSetName=change_set, NextToken=token
                )
            yield from page["Changes"]

    @staticmethod
    def _change(resource: ResourceChangeTypeDef) -> Change:
        return Change(
            resource["Action"],
            resource["LogicalResourceId"],
            resource["ResourceType"],
            resource.get("Replacement", "False"),
        )

    def discard(self, change_set: str) -> None:
        """Delete a change set, and the empty stack that exists only for it."""
        with self._errors():
            self._client.delete_change_set(StackName=self.name, ChangeSetName=change_set)
        if self.status() == "REVIEW_IN_PROGRESS":
            self.delete(lambda _: None)

    def execute(self, change_set: str, echo: Echo) -> None:
        """Execute a change set and wait for its end; `echo` gets one line per resource.

        Raises:
            DeployError: it failed and was rolled back; names the resources and the reasons.
        """
        status = self._followed("execute_change_set", echo, ChangeSetName=change_set)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise DeployError(f"stack {self.name} ended in state {status}:\n{self._reasons()}")

    def delete(self, echo: Echo) -> None:
        """Delete the stack and wait for its end.

        Raises:
            DeployError: a resource could not be deleted; names it.
        """
        status = self._followed("delete_stack", echo)
        if status not in (None, "DELETE_COMPLETE"):
            raise DeployError(f"stack {self.name} ended in state {status}:\n{self._reasons()}")

    def _followed(self, call: str, echo: Echo, **arguments: str) -> str | None:
        """Start a change, wait until the stack is no longer in progress, and return its status."""
        seen = {event["EventId"] for event in self._events()}
        with self._errors():
            getattr(self._client, call)(StackName=self.name, **arguments)

        def look() -> str | None:
            status = self.status()
            if status is not None:
                for event in reversed(self._events()):
                    if event["EventId"] not in seen and event["ResourceStatus"].endswith(("COMPLETE", "FAILED")):
                        echo(f"{event['ResourceStatus'].lower():<24} {event['LogicalResourceId']}")
                    seen.add(event["EventId"])
            return status

        ended: str | None = self._until(look, lambda status: status is None or not status.endswith("_IN_PROGRESS"))
        return ended

    def _events(self) -> list[StackEventTypeDef]:
        with self._errors():
            try:
                events = self._client.describe_stack_events(StackName=self.name)["StackEvents"]
            except ClientError as error:
                # A deleted stack has no events under its name.
                if code_of(error) == "ValidationError":
                    return []
                raise
        return events

    def _reasons(self) -> str:
        failed = [event for event in reversed(self._events()) if event["ResourceStatus"].endswith("FAILED")]
        # Cancelled resources are consequences, not reasons.
        lines = [
            f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}"
            for event in failed
            if "cancelled" not in (reason := event.get("ResourceStatusReason", "no reason given")).lower()
        ]
        return "\n".join(dict.fromkeys(lines)) or "CloudFormation gave no reason; see the events of the stack"

    def _until(self, look: Callable[[], Any], is_done: Callable[[Any], bool]) -> Any:
        waited = 0.0
        while not is_done(result := look()):
            if waited >= _MAX_WAIT_SECONDS:
                raise DeployError(
                    f"stack {self.name}: the change did not finish within an hour; see the events of the stack"
                )
            self._sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        return result
