"""Import existing resources into the stack of one environment.

CloudFormation imports only by a change set that does nothing else: it must change no other resource and no output,
and needs a DeletionPolicy for each resource. A normal update then gives the resources the properties of the template.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bucketwheel.deploy import existing, states
from bucketwheel.deploy.cloudformation import Echo, Stack
from bucketwheel.deploy.existing import KINDS, Properties
from bucketwheel.deploy.stack import (
    Confirm,
    change_set_name,
    check_changeable,
    discarded_unless_done,
    template_argument,
)
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.template import template
from bucketwheel.errors import DeployError, SelectionError, did_you_mean
from bucketwheel.settings.loading import Configuration

# Properties that CloudFormation changes only by replacing the resource, with their default.
_FIXED = {"AWS::IAM::Role": ("Path", "/")}
# What AWS returns for properties that nobody set.
_DEFAULTS = {"JobMode": "SCRIPT", "JobRunQueuingEnabled": False, "MaxSessionDuration": 3600, "Path": "/"}


class Adopted(NamedTuple):
    """An existing resource and its place in the template; the update after the import removes `lost` properties."""

    logical_id: str
    kind: str
    name: str
    properties: Properties
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        lost = f"; the update removes {', '.join(self.lost)}" if self.lost else ""
        return f"{'import':<8} {self.kind:<34} {self.logical_id}  {self.name}{lost}"


@dataclass(frozen=True)
class Imported:
    """The result of an import; `done` is False if it was not confirmed or only shown."""

    stack: str
    done: bool
    resources: tuple[Adopted, ...]


def adopt(
    config: Configuration,
    names: Sequence[str],
    confirm: Confirm,
    echo: Echo = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    dry_run: bool = False,
) -> Imported:
    """Import existing resources with the names of the template into the stack, after `confirm`; change none of them.

    Args:
        config: the environment.
        names: names of the resources; empty takes all that exist outside the stack.
        confirm: gets the list of the resources, and returns whether to continue.
        echo: gets one line per resource.
        sleep: pauses for a number of seconds.
        dry_run: whether to return the resources without importing them.

    Raises:
        SelectionError: a name is not in the template, or does not exist on AWS.
        DeployError: a resource belongs to another stack, or the import failed.
    """
    deployment = Deployment(config.settings, config.env)
    rendered = template(config.settings, config.env)
    stack = Stack(config.settings, deployment.stack, config.env, sleep)
    stack.check_owner()
    status = stack.status()
    if status == states.IMPORT_UNDONE and not dry_run and not stack.resources():
        # CloudFormation cannot use the empty stack that a failed import leaves.
        stack.delete(echo)
        status = None
    check_changeable(stack, status)
    exists = status in states.SETTLED and bool(stack.resources())
    adopted = _adopted(config, stack, rendered, names, exists)
    if not adopted or dry_run:
        return Imported(stack.name, not adopted, tuple(adopted))
    body = json.dumps(_import_template(config, stack, adopted, exists), ensure_ascii=False, separators=(",", ":"))
    change_set = change_set_name(body)
    imported = [
        {
            "ResourceType": one.kind,
            "LogicalResourceId": one.logical_id,
            "ResourceIdentifier": {KINDS[one.kind].identifier: one.name},
        }
        for one in adopted
    ]
    stack.prepare(change_set, "IMPORT", template_argument(config, stack, body), imported=imported)
    with discarded_unless_done(stack, change_set) as done:
        head = f"import into stack {stack.name}, {stack.region}, account {stack.account}; this changes no resource:"
        if not confirm("\n".join([head, *map(str, adopted)])):
            return Imported(stack.name, False, tuple(adopted))
        done()
    stack.execute(change_set, echo)
    return Imported(stack.name, True, tuple(adopted))


def _names(rendered: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return (type, name) of each resource that can be imported, by logical id."""
    names = {}
    for logical_id, resource in rendered["Resources"].items():
        if (kind := resource["Type"]) in KINDS:
            name = resource["Properties"][KINDS[kind].identifier]
            if isinstance(name, dict):
                # A bucket policy refers to its bucket.
                name = rendered["Resources"][name["Ref"]]["Properties"]["BucketName"]
            names[logical_id] = (kind, name)
    return names


def _adopted(
    config: Configuration, stack: Stack, rendered: dict[str, Any], names: Sequence[str], exists: bool
) -> list[Adopted]:
    candidates = _names(rendered)
    known = {name for _, name in candidates.values()}
    if unknown := [name for name in names if name not in known]:
        hints = [
            f"{name}: no resource of the template has this name; {did_you_mean(name, known)}" for name in unknown
        ]
        raise SelectionError(
            "\n".join([*(hint.rstrip("; ") for hint in hints), f"known: {', '.join(sorted(known))}"])
        )
    own = set(stack.resources().values()) if exists else set()
    adopted: list[Adopted] = []
    missing: set[str] = set()
    problems: list[str] = []
    for logical_id, (kind, name) in candidates.items():
        if (kind, name) in own or (names and name not in names):
            continue
        properties = existing.read(config.settings.aws, kind, name)
        if properties is None:
            missing.add(name)
        elif problem := _problem(stack, kind, name, properties):
            problems.append(problem)
        else:
            kept = rendered["Resources"][logical_id]["Properties"]
            lost = tuple(key for key in properties if key not in kept and properties[key] != _DEFAULTS.get(key))
            adopted.append(Adopted(logical_id, kind, name, properties, lost))
    if problems:
        raise DeployError("\n".join(problems))
    if absent := [name for name in names if name in missing - {one.name for one in adopted}]:
        raise SelectionError(
            f"not in {stack.region} of account {stack.account}: {', '.join(absent)}; `bucketwheel deploy apply` "
            "creates resources that do not exist"
        )
    return adopted


def _problem(stack: Stack, kind: str, name: str, properties: Properties) -> str | None:
    """Return why a resource cannot be imported, or None."""
    word = KINDS[kind].word
    if kind != "AWS::S3::BucketPolicy" and (owner := stack.owner_of(name)):
        return (
            f"{word} {name} belongs to stack {owner}; remove it from that stack with DeletionPolicy: Retain, or "
            "choose another name (see `bucketwheel deploy apply`), then repeat the import"
        )
    if kind in _FIXED:
        key, default = _FIXED[kind]
        if (value := properties.get(key, default)) != default:
            return (
                f"{word} {name} has the {key.lower()} {value}, and CloudFormation would replace it; set glue.role to "
                "another name"
            )
    return None


def _import_template(config: Configuration, stack: Stack, adopted: Sequence[Adopted], exists: bool) -> dict[str, Any]:
    """Return the template of the stack as it is, plus the imported resources."""
    resources = {
        one.logical_id: {"Type": one.kind, "DeletionPolicy": "Retain", "Properties": one.properties}
        for one in adopted
    }
    if not exists:
        head = {"AWSTemplateFormatVersion": "2010-09-09", "Description": f"Bucketwheel, {config.env}: imported"}
        return {**head, "Resources": resources}
    deployed = stack.template()
    return {**deployed, "Resources": {**deployed["Resources"], **resources}}
