"""Check everything that a run, a deployment or a job needs, and say how to fix what is missing; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bucketwheel.deploy import aws_jobs
from bucketwheel.doctor import inputs, machine, versions
from bucketwheel.doctor.checks import Check, CheckResult, Finding, failed, of_error, ok, run
from bucketwheel.errors import ConfigError, MissingDependencyError
from bucketwheel.formatting import counted
from bucketwheel.optional import aws_module
from bucketwheel.settings import Settings
from bucketwheel.settings.layouts import iceberg_in_glue
from bucketwheel.settings.loading import Configuration
from bucketwheel.settings.secrets import secrets_in
from bucketwheel.storage import is_s3

__all__ = ["Finding", "diagnose"]

_SUITED = "engine, catalog and locations suit jobs on Glue and EMR Serverless"
# Upper limits of waits and attempts per call, whatever the settings say: a person is waiting.
_WAITS = {"connect_seconds": 5.0, "read_seconds": 10.0, "attempts": 2}


def diagnose(load: Callable[[], Configuration], seconds: float = 30) -> list[Finding]:
    """Run every check that applies to the configuration and return the findings.

    Args:
        load: loads the configuration.
        seconds: time limit for all checks together.
    """
    try:
        config = load()
    except ConfigError as error:
        text = str(error)
        broken = Check("configuration", lambda: failed(text, "correct it; most checks need it and were skipped"))
        return run([broken, *versions.checks(None, uses_aws=False, remote_only=False)], seconds)
    return run([Check("configuration", lambda: _configuration(config)), *_checks(config)], seconds)


def _checks(config: Configuration) -> Iterator[Check]:
    settings = _with_short_waits(config.settings)
    remote_only = settings.engine == "spark" and is_s3(settings.target)
    yield from versions.checks(settings, uses_aws(settings), remote_only)
    yield from machine.checks(settings, remote_only)
    yield from inputs.checks(settings, config.env, remote_only)
    if aws_jobs.is_for_jobs(config):
        yield Check("jobs", lambda: _jobs(config))
    if not uses_aws(settings):
        return
    try:
        cloud = aws_module("bucketwheel.doctor.cloud", "AWS")
    except MissingDependencyError as error:
        missing = of_error(error)
        yield Check("aws", lambda: missing)
        return
    yield from cloud.checks(settings, config.env)


def uses_aws(settings: Settings) -> bool:
    """Return whether a run with these settings calls AWS."""
    locations = [settings.target]
    locations += [
        location
        for dataset in settings.datasets.values()
        for location in (dataset.source, dataset.mapping)
        if location
    ]
    in_glue = settings.catalog.kind == "glue" or iceberg_in_glue(settings)
    return in_glue or settings.ctas.method == "athena" or any(map(is_s3, locations))


def _with_short_waits(settings: Settings) -> Settings:
    aws = settings.aws.model_copy(
        update={name: min(getattr(settings.aws, name), limit) for name, limit in _WAITS.items()}
    )
    storage = settings.storage.filled(aws)
    storage = storage.model_copy(update={name: min(getattr(storage, name), limit) for name, limit in _WAITS.items()})
    catalog = settings.catalog.model_copy(update={"retry_seconds": 0.0})
    return settings.model_copy(update={"aws": aws, "storage": storage, "catalog": catalog})


def _jobs(config: Configuration) -> CheckResult:
    problems = list(aws_jobs.problems(config))
    if not problems:
        return ok(_SUITED)
    needs = dict.fromkeys(problem.need for problem in problems)
    return failed(
        "\n".join(problem.found for problem in problems), "\n".join([*needs, aws_jobs.lines_to_add(config)])
    )


def _configuration(config: Configuration) -> CheckResult:
    if problems := [f"{name}: {what}" for name, what in secrets_in(config.settings.model_dump())]:
        return of_error(ConfigError("\n".join(problems)))
    origins = sorted({origin for _, _, origin in config.rows() if origin != "default"})
    return ok(
        f"env {config.env}, {counted(len(config.rows()), 'setting')}, from "
        f"{', '.join(origins) or 'built-in defaults'}"
    )
