"""Remove the stack of one environment, with what stands in the way of its deletion."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.deploy import application, buckets, states, workgroup
from bucketwheel.deploy.application import Application
from bucketwheel.deploy.buckets import Bucket
from bucketwheel.deploy.cloudformation import Echo, Stack
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.errors import DeployError, SelectionError
from bucketwheel.settings import Settings
from bucketwheel.settings.loading import Configuration

Confirm = Callable[[str], bool]

_MACHINE = "AWS::StepFunctions::StateMachine"
_KEPT = ("Retain", "RetainExceptOnCreate")


# How to delete what stays.
_DELETION = {
    "AWS::Logs::LogGroup": "aws logs delete-log-group --log-group-name {name} --region {region}",
    "AWS::KMS::Key": "aws kms schedule-key-deletion --key-id {name} --region {region}",
}


@dataclass
class _Plan:
    """What the deletion of a stack does; `notes` are the lines that describe its consequences."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    applications: list[Application] = field(default_factory=list)
    buckets: list[Bucket] = field(default_factory=list)
    workgroups: list[str] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)


def destroy(
    config: Configuration,
    confirm: Confirm,
    echo: Echo = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    delete_buckets: bool = False,
) -> bool:
    """Delete the stack after `confirm`, which is shown what is deleted and what stays; return whether it was deleted.

    A deletion that is in progress is only awaited.

    Args:
        config: the environment.
        confirm: returns whether to continue.
        echo: gets one line per resource.
        sleep: pauses for a number of seconds.
        delete_buckets: whether to delete the buckets of the stack, too, with everything in them.

    Raises:
        SelectionError: the stack does not exist.
        DeployError: another change or a job run is active, or a resource could not be deleted.
    """
    deployment = Deployment(config.settings, config.env)
    stack = Stack(config.settings, deployment.stack, config.env, sleep)
    status = stack.status()
    if status is None:
        raise SelectionError(
            f"stack {stack.name!r} of environment {config.env!r} does not exist in {stack.region} of account "
            f"{stack.account}"
        )
    stack.check_owner()
    if status == states.DELETING:
        echo(f"stack {stack.name} is already being deleted")
        stack.delete(echo)
        return True
    if status in states.BUSY:
        raise DeployError(f"stack {stack.name} is in state {status}; {states.advice(stack.label, status)}")
    stack.check_deletable()
    plan = _Plan() if status == states.REVIEW else _plan(config.settings, stack, sleep, delete_buckets)
    files = "and their files are kept" if not plan.buckets else "are kept, but not the files in the buckets below"
    head = f"stack {stack.name}, {stack.region}, account {stack.account}: tables {files}"
    if not confirm("\n".join([head, *plan.lines, *plan.notes])):
        return False
    _remove(config.settings, stack, plan, echo)
    for line in _remains(deployment, stack, plan.kept):
        echo(line)
    return True


def remove(settings: Settings, stack: Stack, echo: Echo, sleep: Callable[[float], None]) -> None:
    """Delete a stack that failed, with what stands in the way.

    Raises:
        DeployError: see `destroy`.
    """
    stack.check_deletable()
    _remove(settings, stack, _plan(settings, stack, sleep), echo)


def _plan(settings: Settings, stack: Stack, sleep: Callable[[float], None], delete_buckets: bool = False) -> _Plan:
    """Return what the deletion does.

    Raises:
        DeployError: job runs are active.
    """
    plan = _Plan()
    if not (resources := stack.resources()):
        # A stack whose first import failed has no template either.
        return plan
    policies = {name: part.get("DeletionPolicy") for name, part in stack.template()["Resources"].items()}
    for logical_id, (kind, name) in resources.items():
        emptied = delete_buckets and kind == buckets.KIND
        keeps = policies.get(logical_id) in _KEPT and not emptied
        plan.lines.append(f"{'keep' if keeps else 'delete':<8} {kind:<34} {logical_id}")
        if keeps:
            plan.kept.append((kind, name))
        elif emptied:
            plan.buckets.append(Bucket(settings, name))
            plan.notes.append(f"bucket {name}: {plan.buckets[-1].size()} will be deleted; nothing restores them")
        elif kind == workgroup.KIND and (inside := workgroup.contents(settings, name)):
            plan.workgroups.append(name)
            plan.notes.append(f"workgroup {name}: {inside} will be deleted")
        elif kind == _MACHINE and _is_running(settings, name):
            plan.notes.append(
                f"state machine {name}: an execution is running; it ends at its next step, its jobs go on"
            )
        elif kind == application.KIND and (running := Application(settings, name, sleep)).must_stop(None):
            plan.applications.append(running)
            plan.notes.append(f"application {name} will be stopped first")
    if delete_buckets and not plan.buckets:
        plan.notes.append("the stack has no buckets to delete (deploy.buckets=adopt leaves buckets as they are)")
    return plan


def _is_running(settings: Settings, machine: str) -> bool:
    """Return whether an execution of a state machine is running; Step Functions ends it when it is deleted."""
    with wrap_aws_errors(DeployError, f"state machine {machine}"):
        client = clients.client("stepfunctions", settings.aws)
        try:
            page = client.list_executions(stateMachineArn=machine, statusFilter="RUNNING", maxResults=1)
        except ClientError as error:
            if code_of(error) == "StateMachineDoesNotExist":
                return False
            raise
    return bool(page["executions"])


def _remove(settings: Settings, stack: Stack, plan: _Plan, echo: Echo) -> None:
    for running in plan.applications:
        running.stop(echo)
    # Before the stack: if one of them fails, the same command continues.
    for bucket in plan.buckets:
        echo(f"{'deleting':<24} bucket {bucket.name}")
        bucket.delete()
    for name in plan.workgroups:
        echo(f"{'deleting':<24} workgroup {name}")
        workgroup.delete(settings, name)
    stack.delete(echo)


def _remains(deployment: Deployment, stack: Stack, kept: list[tuple[str, str]]) -> list[str]:
    """Return what stays after the deletion, and how to delete it."""
    settings = deployment.settings
    lines = [f"kept: the tables of database {settings.catalog.database}, their files below {settings.target}"]
    if settings.deploy.artifacts:
        lines.append(f"kept: packages below {settings.deploy.artifacts}")
    for kind, name in kept:
        command = _DELETION.get(kind, "").format(name=name, region=stack.region)
        lines.append(f"kept: {kind} {name}" + (f"; to delete it: {command}" if command else ""))
    return lines
