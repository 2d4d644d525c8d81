"""One stack as CloudFormation knows it: its state, its template, changes to it, and waiting for their end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.errors import DeployError, SelectionError
from bucketwheel.settings import Settings

Say = Callable[[str], None]

_UNCHANGED = ("didn't contain changes", "No updates are to be performed", "contain no changes")
_POLL_SECONDS = 3.0
# Longer than the slowest resource takes.
_LONGEST_SECONDS = 3_600


@dataclass(frozen=True)
class Change:
    """What will happen to one resource; `replaced` is True, False or Conditional as CloudFormation says."""

    action: str
    logical_id: str
    kind: str
    replaced: str

    def __str__(self) -> str:
        replaced = {"True": "  replaced", "Conditional": "  may be replaced"}.get(self.replaced, "")
        return f"{self.action.lower():<8} {self.kind:<34} {self.logical_id}{replaced}"


class Stack:
    """A stack by name; it need not exist."""

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
        """Return the status, or None where there is no such stack."""
        found = self._described()
        return str(found["StackStatus"]) if found else None

    def outputs(self) -> dict[str, str]:
        """Return the outputs by name."""
        found = self._described() or {}
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", ())}

    def _described(self) -> dict[str, Any] | None:
        with self._errors():
            try:
                found: dict[str, Any] = self._client.describe_stacks(StackName=self.name)["Stacks"][0]
            except ClientError as error:
                if code_of(error) == "ValidationError" and "does not exist" in str(error):
                    return None
                raise
        return found

    def template(self) -> dict[str, Any]:
        """Return the template that the stack was last changed with.

        Raises:
            SelectionError: there is no such stack.
        """
        if self.status() in (None, "REVIEW_IN_PROGRESS"):
            raise SelectionError(f"there is no stack {self.name!r} in {self.region} of account {self.account}")
        with self._errors():
            body = self._client.get_template(StackName=self.name, TemplateStage="Original")["TemplateBody"]
        # botocore gives JSON as ordered mappings.
        found: dict[str, Any] = json.loads(body if isinstance(body, str) else json.dumps(body))
        return found

    def resources(self) -> dict[str, tuple[str, str]]:
        """Return (type, name on AWS) of every resource, by logical id."""
        with self._errors():
            pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
            return {
                found["LogicalResourceId"]: (found["ResourceType"], found.get("PhysicalResourceId", ""))
                for page in pages
                for found in page["StackResourceSummaries"]
                if found["ResourceStatus"] != "DELETE_COMPLETE"
            }

    def prepare(
        self, change_set: str, kind: str, template: dict[str, str], tags: list[dict[str, str]]
    ) -> list[Change]:
        """Make a change set and return what it will do; nothing where there is nothing to do.

        Args:
            change_set: its name.
            kind: CREATE or UPDATE.
            template: ``{"TemplateBody": …}`` or ``{"TemplateURL": …}``.
            tags: of the stack.

        Raises:
            DeployError: the template was refused.
        """
        with self._errors():
            self._client.create_change_set(
                StackName=self.name,
                ChangeSetName=change_set,
                ChangeSetType=kind,
                Capabilities=["CAPABILITY_NAMED_IAM"],
                Tags=tags,
                **template,
            )
        found = self._until(
            lambda: self._change_set(change_set), lambda seen: seen["Status"] in ("CREATE_COMPLETE", "FAILED")
        )
        reason = found.get("StatusReason", "")
        if found["Status"] == "FAILED" and not any(text in reason for text in _UNCHANGED):
            raise DeployError(f"stack {self.name}: CloudFormation refused the template: {reason}")
        if found["Status"] == "FAILED":
            return []
        return [self._change(entry["ResourceChange"]) for entry in self._all_changes(change_set, found)]

    def _change_set(self, change_set: str) -> dict[str, Any]:
        with self._errors():
            found: dict[str, Any] = self._client.describe_change_set(StackName=self.name, ChangeSetName=change_set)
        return found

    def _all_changes(self, change_set: str, page: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from page["Changes"]
        while token := page.get("NextToken"):
            with self._errors():
                page = self._client.describe_change_set(
                    StackName=self.name, ChangeSetName=change_set, NextToken=token
                )
            yield from page["Changes"]

    @staticmethod
    def _change(found: dict[str, Any]) -> Change:
        return Change(
            found["Action"], found["LogicalResourceId"], found["ResourceType"], found.get("Replacement", "False")
        )

    def discard(self, change_set: str) -> None:
        """Delete a change set; a stack that was to be made by it and has nothing in it goes too."""
        with self._errors():
            self._client.delete_change_set(StackName=self.name, ChangeSetName=change_set)
        if self.status() == "REVIEW_IN_PROGRESS":
            self.delete(lambda _: None)

    def execute(self, change_set: str, say: Say) -> None:
        """Carry a change set out and wait for its end; `say` gets a line a resource.

        Raises:
            DeployError: it failed and was undone; names the resources and the reasons.
        """
        status = self._followed("execute_change_set", say, ChangeSetName=change_set)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise DeployError(f"stack {self.name} ended as {status}:\n{self._reasons()}")

    def delete(self, say: Say) -> None:
        """Delete the stack and wait for its end.

        Raises:
            DeployError: something could not be deleted; names it.
        """
        status = self._followed("delete_stack", say)
        if status not in (None, "DELETE_COMPLETE"):
            raise DeployError(f"stack {self.name} ended as {status}:\n{self._reasons()}")

    def _followed(self, call: str, say: Say, **arguments: str) -> str | None:
        """Begin a change, wait until nothing is in progress, and return the status then."""
        seen = {event["EventId"] for event in self._events()}
        with self._errors():
            getattr(self._client, call)(StackName=self.name, **arguments)

        def look() -> str | None:
            status = self.status()
            if status is not None:
                for event in reversed(self._events()):
                    if event["EventId"] not in seen and event["ResourceStatus"].endswith(("COMPLETE", "FAILED")):
                        say(f"{event['ResourceStatus'].lower():<24} {event['LogicalResourceId']}")
                    seen.add(event["EventId"])
            return status

        ended: str | None = self._until(look, lambda status: status is None or not status.endswith("_IN_PROGRESS"))
        return ended

    def _events(self) -> list[dict[str, Any]]:
        with self._errors():
            try:
                found: list[dict[str, Any]] = self._client.describe_stack_events(StackName=self.name)["StackEvents"]
            except ClientError as error:
                # A stack that is gone has no events under its name any more.
                if code_of(error) == "ValidationError":
                    return []
                raise
        return found

    def _reasons(self) -> str:
        failed = [event for event in reversed(self._events()) if event["ResourceStatus"].endswith("FAILED")]
        # Those that were merely broken off say nothing.
        lines = [
            f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}"
            for event in failed
            if "cancelled" not in (reason := event.get("ResourceStatusReason", "no reason given")).lower()
        ]
        return "\n".join(dict.fromkeys(lines)) or "CloudFormation gave no reason; look at the events of the stack"

    def _until(self, look: Callable[[], Any], is_done: Callable[[Any], bool]) -> Any:
        waited = 0.0
        while not is_done(found := look()):
            if waited >= _LONGEST_SECONDS:
                raise DeployError(f"stack {self.name}: nothing came to an end within an hour; look at its events")
            self._sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        return found
