"""Look at the stack, at existing resources with the names of its own, and at the machine that builds its package."""

from __future__ import annotations

import platform

from bucketwheel.aws.errors import is_denied
from bucketwheel.deploy import states
from bucketwheel.deploy.cloudformation import Stack
from bucketwheel.deploy.name_conflicts import check_name_conflicts
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.template import template
from bucketwheel.doctor.checks import CheckResult, failed, ok, warning
from bucketwheel.errors import ConfigError, DeployError
from bucketwheel.packaging.target import Target
from bucketwheel.settings.loading import Configuration

# Names that operating systems give to machines of these types.
_SAME = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


def with_package(deployment: Deployment) -> Deployment:
    """Return the deployment with the location of a package; only the location's length matters for the template."""
    settings = deployment.settings
    if settings.deploy.package:
        return deployment
    package = f"{settings.deploy.artifacts or settings.target}/{'0' * 16}"
    deploy = settings.deploy.model_copy(update={"package": package})
    return Deployment(settings.model_copy(update={"deploy": deploy}), deployment.env)


def look(deployment: Deployment) -> CheckResult:
    """Report the state of the stack, and resources outside it whose names it needs.

    Raises:
        DeployError: AWS did not answer.
    """
    try:
        rendered = template(with_package(deployment).settings, deployment.env)
    except ConfigError:
        return ok("not looked at: the check of the template reports its problem")
    try:
        return _look(deployment, rendered)
    except DeployError as error:
        if not is_denied(error.__cause__ or error):
            raise
        return warning(
            f"unknown: {error}",
            "ask a user who may deploy; the calls of jobs do not need this",
        )


def _look(deployment: Deployment, rendered: dict[str, object]) -> CheckResult:
    stack = Stack(deployment.settings, deployment.stack, deployment.env)
    status = stack.status()
    found = f"{stack.name} is in state {status}" if status else f"{stack.name} does not exist yet"
    if status in (*states.STUCK, *states.DEAD):
        name = states.StackName(stack.name, stack.region, deployment.env)
        todo = (
            "`bucketwheel deploy apply` offers to delete it" if status in states.DEAD else states.advice(name, status)
        )
        return failed(found, todo)
    if status in states.BUSY:
        return warning(found, "wait until the change has finished")
    config = Configuration(deployment.settings, deployment.env, {})
    try:
        check_name_conflicts(config, rendered, stack if status in states.SETTLED else None)
    except DeployError as error:
        if error.__cause__ is not None:
            raise
        problem, _, todo = str(error).partition(". Import it: ")
        return warning(f"{found}; {problem}", f"import it: {todo}")
    return ok(found if status else f"{found}; its names are free, `bucketwheel deploy apply` creates it")


def archive(deployment: Deployment) -> CheckResult:
    """Report the platform that the package must fit, and how this machine can build it."""
    target = Target.of(deployment.settings)
    if deployment.settings.emr_serverless.image and not deployment.on_glue:
        return ok(f"the image needs Python for {target.text}; no archive")
    machine = platform.machine()
    here = _SAME.get(machine.lower(), machine.lower())
    if (here, platform.system()) == (target.machine, "Linux"):
        return ok(f"`package` builds it for {target.text} with Docker, or with --without-docker")
    return ok(
        f"`package` builds it for {target.text}, not for this machine ({platform.system()} {machine}): Docker "
        f"emulates {target.docker_platform}, --without-docker downloads wheels"
    )
