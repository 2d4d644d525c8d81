"""Packages, the stack and jobs on AWS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bucketwheel.api.files import write_text
from bucketwheel.deploy import aws_jobs
from bucketwheel.deploy.template import template as _template
from bucketwheel.optional import aws_module
from bucketwheel.packaging import package as packaging
from bucketwheel.packaging.package import Package
from bucketwheel.settings.loading import Configuration
from bucketwheel.submit.request import JobRequest, Platform

if TYPE_CHECKING:
    from bucketwheel.deploy.adoption import Imported
    from bucketwheel.deploy.stack import Applied
    from bucketwheel.submit.follow import Update
    from bucketwheel.submit.submit import Submitted


def package(
    config: Configuration,
    to: Path | str = "build/package",
    source: Path | str | None = None,
    archive: Path | str | None = None,
    without_archive: bool = False,
    without_docker: bool = False,
) -> Package:
    """Build the package for Glue and EMR Serverless; see `packaging.package`."""
    aws_jobs.check(config)
    return packaging.package(config, to, source, archive, without_archive, without_docker)


def upload(config: Configuration, packed: Package, to: str | None = None) -> Package:
    """Upload a package to S3, below `to` or `deploy.artifacts`, under a name that is a hash of its content."""
    return packaging.upload(config, packed, to)


def check_for_jobs(config: Configuration) -> None:
    """Raise ConfigError unless the configuration suits jobs on Glue and EMR Serverless."""
    aws_jobs.check(config)


def deploy_render(config: Configuration, form: Literal["yaml", "json"] = "yaml", to: Path | str | None = None) -> str:
    """Return the CloudFormation template of the environment; with `to`, also write it to that file."""
    aws_jobs.check(config)
    template = _template.text(_template.template(config.settings, config.env), form)
    if to is not None:
        write_text(template, to)
    return template


def deploy_diff(config: Configuration) -> str:
    """Return a unified diff between the template of the stack and the current one; empty if they are equal."""
    aws_jobs.check(config)
    result: str = aws_module("bucketwheel.deploy.stack", "deploy").diff(config)
    return result


def deploy_import(
    config: Configuration,
    names: Sequence[str],
    confirm: Callable[[str], bool],
    echo: Callable[[str], None] = lambda _: None,
    dry_run: bool = False,
) -> Imported:
    """Import existing resources into the stack if `confirm`, called with their list, returns True.

    This changes none of them; `deploy_apply` then updates them. `names` selects resources by their names on AWS.
    """
    aws_jobs.check(config)
    result: Imported = aws_module("bucketwheel.deploy.adoption", "deploy").adopt(
        config, names, confirm, echo, dry_run=dry_run
    )
    return result


def deploy_apply(
    config: Configuration, confirm: Callable[[str], bool], echo: Callable[[str], None] = lambda _: None
) -> Applied:
    """Create or change the stack if `confirm`, called with the planned changes, returns True."""
    aws_jobs.check(config)
    result: Applied = aws_module("bucketwheel.deploy.stack", "deploy").apply(config, confirm, echo)
    return result


def deploy_destroy(
    config: Configuration,
    confirm: Callable[[str], bool],
    echo: Callable[[str], None] = lambda _: None,
    delete_buckets: bool = False,
) -> bool:
    """Delete the stack if `confirm`, called with the list of resources, returns True.

    Tables and their files stay; with `delete_buckets`, the buckets that the stack created are deleted, too.
    """
    result: bool = aws_module("bucketwheel.deploy.teardown", "deploy").destroy(
        config, confirm, echo, delete_buckets=delete_buckets
    )
    return result


def submit(
    config: Configuration,
    platform: Platform,
    request: JobRequest,
    wait: bool = True,
    wait_minutes: float | None = None,
    stop: bool = False,
    report: Callable[[Update], None] = lambda _: None,
    started: Callable[[str, str], None] = lambda _, __: None,
) -> Submitted:
    """Start a job on AWS and follow it; see `submit.submit`."""
    aws_jobs.check(config)
    module = aws_module("bucketwheel.submit.submit", "submit")
    result: Submitted = module.submit(config, platform, request, wait, wait_minutes, stop, report, started)
    return result
