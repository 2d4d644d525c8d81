"""Compare, apply and remove the stack of one environment."""

from __future__ import annotations

import difflib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bucketwheel.deploy import name_conflicts, quotas
from bucketwheel.deploy.cloudformation import Change, Echo, Stack
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.template import MOST_INLINE_BYTES, compact, template, text
from bucketwheel.errors import ConfigError, DeployError, SelectionError
from bucketwheel.packaging import package
from bucketwheel.settings.loading import Configuration
from bucketwheel.storage import Storage, join
from bucketwheel.storage.locations import bucket_and_key

Confirm = Callable[[str], bool]

# States in which a stack can be updated.
_SETTLED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")
# States in which a stack can only be deleted: its creation or deletion failed.
_DEAD = ("ROLLBACK_COMPLETE", "CREATE_FAILED", "DELETE_FAILED", "ROLLBACK_FAILED")
_RECOVERY = {
    "UPDATE_ROLLBACK_FAILED": "finish its rollback: aws cloudformation continue-update-rollback --stack-name NAME",
}


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
    rendered = text(template(config.settings, config.env), "yaml")
    stack = Stack(config.settings, Deployment(config.settings, config.env).stack)
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
        DeployError: a resource of the same name exists, another change is in progress, or the change failed.
    """
    deployment = Deployment(config.settings, config.env)
    rendered = template(config.settings, config.env)
    package.check_uploaded(config, deployment.package().uri)
    stack = Stack(config.settings, deployment.stack, sleep)
    status = stack.status()
    if status in _DEAD:
        if not confirm(_dead_text(stack, str(status))):
            return Applied(stack.name, False, (), {})
        stack.delete(echo)
        status = None
    if status not in (None, "REVIEW_IN_PROGRESS", *_SETTLED):
        advice = _RECOVERY.get(str(status), "another change is in progress; wait for it to finish")
        raise DeployError(f"stack {stack.name} is in state {status}; {advice}")
    kind: Literal["CREATE", "UPDATE"] = "UPDATE" if status in _SETTLED else "CREATE"
    name_conflicts.check_name_conflicts(config, rendered, stack if kind == "UPDATE" else None)
    body = compact(rendered)
    name = f"bucketwheel-{hashlib.sha256(body.encode()).hexdigest()[:12]}-{time.time_ns() // 10**6}"
    changes = stack.prepare(name, kind, _template_argument(config, stack, body), deployment.tags())
    if not changes:
        stack.discard(name)
        return Applied(stack.name, True, (), stack.outputs())
    if not confirm("\n".join([_question(stack, kind, changes), *quotas.warnings(deployment)])):
        stack.discard(name)
        return Applied(stack.name, False, tuple(changes), {})
    stack.execute(name, echo)
    return Applied(stack.name, True, tuple(changes), stack.outputs())


def destroy(
    config: Configuration, confirm: Confirm, echo: Echo = lambda _: None, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Pass what is deleted and what stays to `confirm`; if it returns True, delete the stack. Return whether it did.

    Raises:
        SelectionError: the stack does not exist.
        DeployError: a resource could not be deleted.
    """
    stack = Stack(config.settings, Deployment(config.settings, config.env).stack, sleep)
    if stack.status() is None:
        raise SelectionError(f"stack {stack.name!r} does not exist in {stack.region} of account {stack.account}")
    policies = {name: part.get("DeletionPolicy") for name, part in stack.template()["Resources"].items()}
    lines = [
        f"{'keep' if policies.get(name) == 'Retain' else 'delete':<8} {kind:<34} {name}"
        for name, (kind, _) in stack.resources().items()
    ]
    head = f"stack {stack.name}, {stack.region}, account {stack.account}: tables and their files are kept"
    if not confirm("\n".join([head, *lines])):
        return False
    stack.delete(echo)
    return True


def _dead_text(stack: Stack, status: str) -> str:
    return (
        f"stack {stack.name} is in state {status} and can only be deleted; delete what is left of it, then "
        "create it again"
    )


def _question(stack: Stack, kind: str, changes: list[Change]) -> str:
    action = "create" if kind == "CREATE" else "update"
    head = f"{action} stack {stack.name}, {stack.region}, account {stack.account}:"
    return "\n".join([head, *map(str, changes)])


def _template_argument(config: Configuration, stack: Stack, body: str) -> dict[str, str]:
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
