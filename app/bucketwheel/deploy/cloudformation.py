"""One CloudFormation stack: its status, template and change sets, and waiting for changes to end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.deploy import states
from bucketwheel.deploy.states import Failed, StackName
from bucketwheel.errors import DeployError, SelectionError
from bucketwheel.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import (
        ChangeTypeDef,
        DescribeChangeSetOutputTypeDef,
        ResourceChangeDetailTypeDef,
        ResourceChangeTypeDef,
        StackEventTypeDef,
        StackTypeDef,
    )

Echo = Callable[[str], None]
ChangeSetKind = Literal["CREATE", "UPDATE", "IMPORT"]

_UNCHANGED = ("didn't contain changes", "No updates are to be performed", "contain no changes")
_POLL_SECONDS = 3.0
# Longer than the slowest resource takes.
_MAX_WAIT_SECONDS = 3_600
_STACK = "AWS::CloudFormation::Stack"
# The first event of a change.
_STARTS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS")
# The beginning of the description of each template.
_OWNER = re.compile("Bucketwheel, ([^:]+):")
# Refusals of a change set that is not available for execution, and its states after its execution began. The states
# are those of a change set whose execution failed, too: the state of the stack tells.
_NOT_EXECUTABLE = ("InvalidChangeSetStatus", "InvalidChangeSetStatusException")
_EXECUTED = ("EXECUTE_IN_PROGRESS", "EXECUTE_COMPLETE", "EXECUTE_FAILED")
_NO_REASON = "CloudFormation gave no reason; see the events of the stack"


@dataclass(frozen=True)
class Change:
    """A change to one resource; `replaced` is CloudFormation's True, False or Conditional.

    `properties` are the names of the properties that change, as far as CloudFormation reports them.
    """

    action: str
    logical_id: str
    kind: str
    replaced: str
    properties: tuple[str, ...] = ()

    def __str__(self) -> str:
        replaced = {"True": "  replaced", "Conditional": "  may be replaced"}.get(self.replaced, "")
        return f"{self.action.lower():<8} {self.kind:<34} {self.logical_id}{replaced}"


class Stack:
    """A stack by name; it may not exist."""

    def __init__(self, settings: Settings, name: str, env: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.name = name
        self._env = env
        self._sleep = sleep
        with self._errors():
            self._client = clients.client("cloudformation", settings.aws)
            identity = clients.client("sts", settings.aws).get_caller_identity()
        self.account: str = identity["Account"]
        self.region: str = self._client.meta.region_name

    @property
    def label(self) -> StackName:
        """The name of the stack for messages and commands."""
        return StackName(self.name, self.region, self._env)

    def _errors(self) -> Any:
        return wrap_aws_errors(DeployError, f"stack {self.name}")

    def status(self) -> str | None:
        """Return the status, or None if the stack does not exist."""
        stack = self._described()
        return str(stack["StackStatus"]) if stack else None

    def check_owner(self) -> None:
        """Raise DeployError if the stack is not that of the environment, so that nobody changes or deletes it."""
        # The others have no template, or nothing is done to them.
        if self.status() in (None, states.REVIEW, states.IMPORT_UNDONE, *states.BUSY):
            return
        owner = _OWNER.match(str(self.template().get("Description", "")))
        if owner is None:
            raise DeployError(self._foreign())
        if owner[1] != self._env:
            raise DeployError(
                f"stack {self.name} belongs to environment {owner[1]!r}, not to {self._env!r}; use --env {owner[1]}, "
                "or set deploy.stack to another name"
            )

    def check_deletable(self) -> None:
        """Raise DeployError, with the command to change it, if the stack is protected from deletion."""
        stack = self._described()
        if stack and stack.get("EnableTerminationProtection"):
            raise DeployError(
                f"stack {self.name} is protected from deletion; to remove the protection: aws cloudformation "
                f"update-termination-protection --no-enable-termination-protection {self.label.options}"
            )

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
            DeployError: it is not JSON, so that another program created the stack.
        """
        if self.status() in (None, states.REVIEW):
            raise SelectionError(f"stack {self.name!r} does not exist in {self.region} of account {self.account}")
        with self._errors():
            answer = self._client.get_template(StackName=self.name, TemplateStage="Original")
        body: Any = answer["TemplateBody"]
        # botocore returns JSON templates as ordered mappings, others as text.
        if isinstance(body, str) and not body.lstrip().startswith("{"):
            raise DeployError(self._foreign())
        template: dict[str, Any] = json.loads(body if isinstance(body, str) else json.dumps(body))
        return template

    def _foreign(self) -> str:
        return (
            f"stack {self.name} exists in {self.region} of account {self.account}, but Bucketwheel did not create "
            "it; set deploy.stack to another name"
        )

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

    def owner_of(self, name: str) -> str | None:
        """Return the name of the stack that a resource belongs to, by its physical name; None if it has none."""
        with self._errors():
            try:
                found = self._client.describe_stack_resources(PhysicalResourceId=name)["StackResources"]
            except ClientError as error:
                if code_of(error) == "ValidationError" and "does not exist" in str(error):
                    return None
                raise
        return found[0]["StackName"] if found else None

    def prepare(
        self,
        change_set: str,
        kind: ChangeSetKind,
        template: dict[str, Any],
        tags: list[dict[str, str]] | None = None,
        imported: list[dict[str, Any]] | None = None,
    ) -> list[Change]:
        """Create a change set and return its changes; an empty list if there are none.

        Args:
            change_set: its name.
            kind: CREATE, UPDATE or IMPORT.
            template: ``{"TemplateBody": …}`` or ``{"TemplateURL": …}``.
            tags: of the stack; an import cannot change them.
            imported: the existing resources to import, as CloudFormation identifies them.

        Raises:
            DeployError: CloudFormation refused the template.
        """
        more: dict[str, Any] = {
            **({"Tags": tags} if tags else {}),
            **({"ResourcesToImport": imported} if imported else {}),
        }
        with self._errors():
            try:
                self._client.create_change_set(
                    StackName=self.name,
                    ChangeSetName=change_set,
                    ChangeSetType=kind,
                    Capabilities=["CAPABILITY_NAMED_IAM"],
                    **more,
                    **template,
                )
            except ClientError as error:
                # The name is new, so an earlier attempt succeeded although its response was lost.
                if code_of(error) != "AlreadyExistsException":
                    raise
        try:
            return self._changes(change_set)
        except (DeployError, KeyboardInterrupt):
            with suppress(DeployError):
                self.discard(change_set)
            raise

    def _changes(self, change_set: str) -> list[Change]:
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
            tuple(dict.fromkeys(_property(detail) for detail in resource.get("Details", ()))),
        )

    def discard(self, change_set: str) -> None:
        """Delete a change set, and the empty stack that exists only for it."""
        with self._errors():
            self._client.delete_change_set(StackName=self.name, ChangeSetName=change_set)
        if self.status() == states.REVIEW:
            self.delete(lambda _: None)

    def execute(self, change_set: str, echo: Echo) -> None:
        """Execute a change set and wait for its end; `echo` gets one line per resource.

        Raises:
            DeployError: it failed and was rolled back; names the resources, the reasons and the way out.
        """
        status, events = self._followed(lambda: self._execute(change_set), echo)
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
            return
        failed = _failed(events)
        lines = [f"stack {self.name} ended in state {status}:", *(_texts(failed) or [_NO_REASON])]
        if status and (status not in states.SETTLED):
            lines.append(states.advice(self.label, status, failed))
        raise DeployError("\n".join(lines))

    def _execute(self, change_set: str) -> None:
        try:
            self._client.execute_change_set(StackName=self.name, ChangeSetName=change_set)
        except ClientError as error:
            # An earlier attempt may have succeeded although its response was lost.
            if code_of(error) not in _NOT_EXECUTABLE:
                raise
            if self._change_set(change_set).get("ExecutionStatus") not in _EXECUTED:
                raise

    def delete(self, echo: Echo) -> None:
        """Delete the stack and wait for its end; a deletion that is in progress is only awaited.

        Raises:
            DeployError: a resource could not be deleted; names it, the reason and the way out.
        """
        if self.status() == states.DELETING:
            status, events = self._followed(lambda: None, echo)
        else:
            status, events = self._followed(lambda: self._client.delete_stack(StackName=self.name), echo)
        if status not in (None, states.ABSENT):
            failed = _failed(events)
            lines = [f"stack {self.name} ended in state {status}:", *(_texts(failed) or [_NO_REASON])]
            raise DeployError("\n".join([*lines, states.undeleted(self.label, failed)]))

    def failed(self) -> list[Failed]:
        """Return the resources that the last change could not create, update or delete."""
        events: list[StackEventTypeDef] = []
        for event in self._events():
            events.append(event)
            if event["ResourceType"] == _STACK and event["ResourceStatus"] in _STARTS:
                break
        return _failed(events[::-1])

    def _followed(self, start: Callable[[], object], echo: Echo) -> tuple[str | None, list[StackEventTypeDef]]:
        """Start a change, wait for its end, and return the state of the stack and the events of the change."""
        seen = {event["EventId"] for event in self._events()}
        with self._errors():
            start()
        events: list[StackEventTypeDef] = []

        def look() -> str | None:
            status = self.status()
            if status is not None:
                for event in reversed(self._events()):
                    if event["EventId"] in seen:
                        continue
                    seen.add(event["EventId"])
                    events.append(event)
                    if event["ResourceStatus"].endswith(("COMPLETE", "FAILED")):
                        echo(f"{event['ResourceStatus'].lower():<24} {event['LogicalResourceId']}")
            return status

        try:
            status: str | None = self._until(look, lambda seen: seen not in (*states.BUSY, states.REVIEW))
        except KeyboardInterrupt as error:
            error.add_note(
                f"stack {self.name}: CloudFormation continues the change; its progress: aws cloudformation "
                f"describe-stack-events {self.label.options}"
            )
            raise
        return status, events

    def _events(self) -> list[StackEventTypeDef]:
        """Return the newest events, the latest first."""
        with self._errors():
            try:
                events = self._client.describe_stack_events(StackName=self.name)["StackEvents"]
            except ClientError as error:
                # A deleted stack has no events under its name.
                if code_of(error) == "ValidationError":
                    return []
                raise
        return events

    def _until(self, look: Callable[[], Any], is_done: Callable[[Any], bool]) -> Any:
        waited = 0.0
        while not is_done(result := look()):
            if waited >= _MAX_WAIT_SECONDS:
                raise DeployError(
                    f"stack {self.name}: the change did not finish within an hour; its progress: aws cloudformation "
                    f"describe-stack-events {self.label.options}"
                )
            self._sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        return result


def _property(detail: ResourceChangeDetailTypeDef) -> str:
    target = detail.get("Target", {})
    return str(target.get("Name") or target.get("Attribute", ""))


def _failed(events: Iterable[StackEventTypeDef]) -> list[Failed]:
    """Return the resources whose events report a failure; canceled ones are consequences, not causes."""
    return [
        Failed(event["LogicalResourceId"], event["ResourceType"], event.get("PhysicalResourceId", ""), reason)
        for event in events
        if event["ResourceStatus"].endswith("FAILED")
        and event["ResourceType"] != _STACK
        and "cancelled" not in (reason := event.get("ResourceStatusReason", "no reason given")).lower()
    ]


def _texts(failed: Iterable[Failed]) -> list[str]:
    return list(dict.fromkeys(map(str, failed)))
