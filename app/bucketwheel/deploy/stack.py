"""Compare and apply the stack of one environment."""

from __future__ import annotations

import difflib
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from bucketwheel.deploy import (
    application,
    key_policy,
    keys,
    lake_formation,
    name_conflicts,
    quotas,
    states,
    teardown,
    workgroup,
)
from bucketwheel.deploy.application import Application
from bucketwheel.deploy.cloudformation import Change, Echo, Stack
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.template import MOST_INLINE_BYTES, compact, template, text
from bucketwheel.errors import ConfigError, DeployError
from bucketwheel.packaging import package
from bucketwheel.settings.loading import Configuration
from bucketwheel.storage import Storage, join
from bucketwheel.storage.locations import bucket_and_key

Confirm = Callable[[str], bool]


@dataclass(frozen=True)
class Applied:
    """The result of applying a stack; `changes` lists its changes, `done` is False if they were not confirmed."""

    stack: str
    done: bool
    changes: tuple[Change, ...]
    outputs: dict[str, str]


def diff(config: Configuration) -> str:
    """Return the difference between the deployed and the rendered template as a unified diff, empty if equal.

    Raises:
        SelectionError: the stack does not exist yet.
    """
    deployment = Deployment(config.settings, config.env)
    template(config.settings, config.env)
    stack = Stack(config.settings, deployment.stack, config.env)
    rendered = text(template(keys.merged(config.settings, keys.find(deployment)), config.env), "yaml")
    deployed = text(stack.template(), "yaml")
    lines = difflib.unified_diff(
        deployed.splitlines(), rendered.splitlines(), stack.name, "this configuration", lineterm=""
    )
    return "\n".join(lines)


def apply(
    config: Configuration, confirm: Confirm, echo: Echo = lambda _: None, sleep: Callable[[float], None] = time.sleep
) -> Applied:
    """Pass the changes to `confirm`; if it returns True, create or update the stack.

    Raises:
        ConfigError: see `template.template` and `package.check_uploaded`.
        DeployError: a resource of the same name exists, one for Lake Formation is missing, another change is in
            progress, or the change failed.
    """
    deployment = Deployment(config.settings, config.env)
    # Refuses a wrong configuration before any call of AWS.
    template(config.settings, config.env)
    package.check_uploaded(config, deployment.package().uri)
    stack = Stack(config.settings, deployment.stack, config.env, sleep)
    stack.check_owner()
    lake_formation.check(deployment, echo)
    found = keys.find(deployment)
    for line in keys.lines(deployment, found):
        echo(line)
    if unchecked := key_policy.check(deployment, stack.account, stack.region):
        echo(f"warning: {unchecked}")
    rendered = template(keys.merged(config.settings, found), config.env)
    status = stack.status()
    if status in states.DEAD or (status == states.IMPORT_UNDONE and not stack.resources()):
        if not confirm(_dead_text(stack, str(status))):
            return Applied(stack.name, False, (), {})
        teardown.remove(config.settings, stack, echo, sleep)
        status = None
    check_changeable(stack, status)
    kind: Literal["CREATE", "UPDATE"] = "UPDATE" if status in states.SETTLED else "CREATE"
    name_conflicts.check_name_conflicts(config, rendered, stack if kind == "UPDATE" else None)
    body = compact(rendered)
    name = change_set_name(body)
    changes = stack.prepare(name, kind, template_argument(config, stack, body), deployment.tags())
    if not changes:
        stack.discard(name)
        return Applied(stack.name, True, (), stack.outputs())
    with discarded_unless_done(stack, name) as done:
        stopping = _must_stop(config, stack, changes, sleep)
        notes = [*_left_behind(config, stack, changes), *quotas.warnings(deployment)]
        if not confirm("\n".join([_question(stack, kind, changes, stopping), *notes])):
            return Applied(stack.name, False, tuple(changes), {})
        for running in stopping:
            running.stop(echo)
        done()
    stack.execute(name, echo)
    return Applied(stack.name, True, tuple(changes), stack.outputs())


def check_changeable(stack: Stack, status: str | None) -> None:
    """Raise DeployError, with the way out, if the state of the stack permits no change set."""
    if status not in (None, states.ABSENT, states.REVIEW, *states.SETTLED):
        failed = stack.failed() if status in states.STUCK else []
        lines = [f"stack {stack.name} is in state {status}; {states.advice(stack.label, status, failed)}"]
        raise DeployError("\n".join([*lines, *dict.fromkeys(map(str, failed))]))


def change_set_name(body: str) -> str:
    """Return a new name for a change set with this template."""
    return f"bucketwheel-{hashlib.sha256(body.encode()).hexdigest()[:12]}-{time.time_ns() // 10**6}"


@contextmanager
def discarded_unless_done(stack: Stack, change_set: str) -> Iterator[Callable[[], None]]:
    """Delete the change set at the end of the block, also after an interrupt, unless the block calls the function."""
    done: list[bool] = []
    try:
        yield lambda: done.append(True)
    finally:
        if not done:
            stack.discard(change_set)


def _must_stop(
    config: Configuration, stack: Stack, changes: list[Change], sleep: Callable[[float], None]
) -> list[Application]:
    """Return the applications that must stop before the changes.

    Raises:
        DeployError: job runs are active.
    """
    affected = [change for change in changes if change.kind == application.KIND and change.action != "Add"]
    names = stack.resources() if affected else {}
    running = [
        (Application(config.settings, names[change.logical_id][1], sleep), change)
        for change in affected
        if change.logical_id in names
    ]
    return [one for one, change in running if one.must_stop(change.properties if change.action == "Modify" else None)]


def _left_behind(config: Configuration, stack: Stack, changes: list[Change]) -> Iterator[str]:
    """Yield a line for each workgroup that CloudFormation cannot delete after the change, because it was used."""
    removed = [
        change.logical_id
        for change in changes
        if change.kind == workgroup.KIND and (change.action == "Remove" or change.replaced == "True")
    ]
    names = stack.resources() if removed else {}
    for name in (names[logical_id][1] for logical_id in removed if logical_id in names):
        if inside := workgroup.contents(config.settings, name):
            yield (
                f"workgroup {name} leaves the stack but stays, because it contains {inside}; to delete it: aws "
                f"athena delete-work-group --recursive-delete-option --work-group {name} --region {stack.region}"
            )


def _dead_text(stack: Stack, status: str) -> str:
    return (
        f"stack {stack.name} is in state {status} and can only be deleted; delete what is left of it, then "
        "create it again"
    )


def _question(stack: Stack, kind: str, changes: list[Change], stopping: list[Application]) -> str:
    action = "create" if kind == "CREATE" else "update"
    head = f"{action} stack {stack.name}, {stack.region}, account {stack.account}:"
    notes = [f"application {one.id} will be stopped first; the next job starts it again" for one in stopping]
    return "\n".join([head, *map(str, changes), *notes])


def template_argument(config: Configuration, stack: Stack, body: str) -> dict[str, str]:
    """Return the template as an argument for CloudFormation; a large one is uploaded next to the packages.

    Raises:
        ConfigError: the template is large and `deploy.artifacts` is not set.
    """
    content = body.encode()
    if len(content) <= MOST_INLINE_BYTES:
        return {"TemplateBody": body}
    if not config.settings.deploy.artifacts:
        raise ConfigError(
            f"the template has {len(content):,} bytes, CloudFormation accepts {MOST_INLINE_BYTES:,} in a call; set "
            "deploy.artifacts to an S3 location, so that it can be uploaded"
        )
    base = Deployment(config.settings, config.env).artifacts()
    location = join(base.uri, "templates", f"{hashlib.sha256(content).hexdigest()[:16]}.json")
    Storage.of(config.settings).write(location, content)
    suffix = "amazonaws.com.cn" if stack.region.startswith("cn-") else "amazonaws.com"
    bucket, key = bucket_and_key(location)
    return {"TemplateURL": f"https://{bucket}.s3.{stack.region}.{suffix}/{key}"}
