"""Compares, applies and removes the stack of one environment."""

from __future__ import annotations

import difflib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from bucketwheel.deploy import name_conflicts
from bucketwheel.deploy.cloudformation import Change, Say, Stack
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.template import template, text
from bucketwheel.errors import ConfigError, DeployError, SelectionError
from bucketwheel.packaging import package
from bucketwheel.settings.loading import Configuration
from bucketwheel.storage import Storage, join
from bucketwheel.storage.locations import bucket_and_key

Agree = Callable[[str], bool]

# What CloudFormation takes in a call; a larger template is read from S3.
_MOST_INLINE_BYTES = 51_200
# States of a stack that can be changed.
_SETTLED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")
# States of a stack that AWS only lets be deleted: it never came to be, or was deleted in part.
_DEAD = ("ROLLBACK_COMPLETE", "CREATE_FAILED", "DELETE_FAILED", "ROLLBACK_FAILED")
_WAYS_OUT = {
    "UPDATE_ROLLBACK_FAILED": "finish its rollback: aws cloudformation continue-update-rollback --stack-name NAME",
}


@dataclass(frozen=True)
class Applied:
    """What was done to a stack: nothing where `changes` is empty, nothing yet where `done` is False."""

    stack: str
    done: bool
    changes: tuple[Change, ...]
    outputs: dict[str, str]


def diff(config: Configuration) -> str:
    """Return the difference between the stack's template and the rendered one, as a unified diff; empty where none.

    Raises:
        SelectionError: there is no stack yet.
    """
    wanted = text(template(config.settings, config.env), "yaml")
    stack = Stack(config.settings, Deployment(config.settings, config.env).stack)
    found = text(stack.template(), "yaml")
    lines = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), stack.name, "this configuration", lineterm=""
    )
    return "\n".join(lines)


def apply(
    config: Configuration, agree: Agree, say: Say = lambda _: None, sleep: Callable[[float], None] = time.sleep
) -> Applied:
    """Make or change the stack, after `agree` was shown what will happen and returned True.

    Raises:
        ConfigError: see `template.template` and `package.check_uploaded`.
        DeployError: something of the same name exists, another change is under way, or the change failed.
    """
    deployment = Deployment(config.settings, config.env)
    made = template(config.settings, config.env)
    package.check_uploaded(config, deployment.package().uri)
    stack = Stack(config.settings, deployment.stack, sleep)
    status = stack.status()
    if status in _DEAD:
        if not agree(_dead_text(stack, str(status))):
            return Applied(stack.name, False, (), {})
        stack.delete(say)
        status = None
    if status not in (None, "REVIEW_IN_PROGRESS", *_SETTLED):
        way = _WAYS_OUT.get(str(status), "another change is under way; wait for its end")
        raise DeployError(f"stack {stack.name} is in state {status}; {way}")
    kind = "UPDATE" if status in _SETTLED else "CREATE"
    name_conflicts.refuse(config, made, stack if kind == "UPDATE" else None)
    body = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    name = f"bucketwheel-{hashlib.sha256(body.encode()).hexdigest()[:12]}-{time.time_ns() // 10**6}"
    changes = stack.prepare(name, kind, _passed(config, stack, body), deployment.tags())
    if not changes:
        stack.discard(name)
        return Applied(stack.name, True, (), stack.outputs())
    if not agree(_question(stack, kind, changes)):
        stack.discard(name)
        return Applied(stack.name, False, tuple(changes), {})
    stack.execute(name, say)
    return Applied(stack.name, True, tuple(changes), stack.outputs())


def destroy(
    config: Configuration, agree: Agree, say: Say = lambda _: None, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Delete the stack after `agree` was shown what goes and what stays; return whether it was done.

    Raises:
        SelectionError: there is no such stack.
        DeployError: something could not be deleted.
    """
    stack = Stack(config.settings, Deployment(config.settings, config.env).stack, sleep)
    if stack.status() is None:
        raise SelectionError(f"there is no stack {stack.name!r} in {stack.region} of account {stack.account}")
    policies = {name: part.get("DeletionPolicy") for name, part in stack.template()["Resources"].items()}
    lines = [
        f"{'stays' if policies.get(name) == 'Retain' else 'delete':<8} {kind:<34} {name}"
        for name, (kind, _) in stack.resources().items()
    ]
    head = f"stack {stack.name}, {stack.region}, account {stack.account}: tables and their files stay as they are"
    if not agree("\n".join([head, *lines])):
        return False
    stack.delete(say)
    return True


def _dead_text(stack: Stack, status: str) -> str:
    return (
        f"stack {stack.name} is in state {status}: AWS only lets it be deleted; delete what is left of it, "
        "then make it anew"
    )


def _question(stack: Stack, kind: str, changes: list[Change]) -> str:
    what = "make" if kind == "CREATE" else "change"
    head = f"{what} stack {stack.name}, {stack.region}, account {stack.account}:"
    return "\n".join([head, *map(str, changes)])


def _passed(config: Configuration, stack: Stack, body: str) -> dict[str, str]:
    """Return the template as CloudFormation takes it; a large one is put beside the packages.

    Raises:
        ConfigError: it is large and `deploy.artifacts` is not set.
    """
    content = body.encode()
    if len(content) <= _MOST_INLINE_BYTES:
        return {"TemplateBody": body}
    if not config.settings.deploy.artifacts:
        raise ConfigError(
            f"the template has {len(content):,} bytes, CloudFormation takes {_MOST_INLINE_BYTES:,} in a call; set "
            "deploy.artifacts to a place on S3 for it"
        )
    base = Deployment(config.settings, config.env).artifacts()
    location = join(base.uri, "templates", f"{hashlib.sha256(content).hexdigest()[:16]}.json")
    Storage.of(config.settings).write(location, content)
    suffix = "amazonaws.com.cn" if stack.region.startswith("cn-") else "amazonaws.com"
    bucket, key = bucket_and_key(location)
    return {"TemplateURL": f"https://{bucket}.s3.{stack.region}.{suffix}/{key}"}
