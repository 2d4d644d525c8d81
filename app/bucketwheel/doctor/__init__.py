"""Looks at everything that a run, a deployment or a job needs, and says what to fix; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bucketwheel.doctor import machine, versions
from bucketwheel.doctor.checks import Check, Finding, Seen, failed, of_error, ok, run
from bucketwheel.errors import ConfigError, MissingDependencyError
from bucketwheel.optional import aws_module
from bucketwheel.settings import Settings
from bucketwheel.settings.loading import Configuration
from bucketwheel.settings.secrets import secrets_in
from bucketwheel.storage import is_s3

__all__ = ["Finding", "diagnose"]

# Longest waits and most tries of a call, whatever the settings say: somebody sits and waits.
_WAITS = {"connect_seconds": 5.0, "read_seconds": 10.0, "attempts": 2}


def diagnose(load: Callable[[], Configuration], seconds: float = 30) -> list[Finding]:
    """Return what every check found that applies to the configuration.

    Args:
        load: loads the configuration.
        seconds: how long all checks together may take.
    """
    try:
        config = load()
    except ConfigError as error:
        text = str(error)
        broken = Check("configuration", lambda: failed(text, "correct it; most checks need it and were left out"))
        return run([broken, *versions.checks(None, uses_aws=False, far=False)], seconds)
    return run([Check("configuration", lambda: _configuration(config)), *_checks(config)], seconds)


def _checks(config: Configuration) -> Iterator[Check]:
    settings = _impatient(config.settings)
    far = settings.engine == "spark" and is_s3(settings.target)
    yield from versions.checks(settings, uses_aws(settings), far)
    yield from machine.checks(settings, far)
    if not uses_aws(settings):
        return
    try:
        cloud = aws_module("bucketwheel.doctor.cloud", "AWS")
    except MissingDependencyError as error:
        found = of_error(error)
        yield Check("aws", lambda: found)
        return
    yield from cloud.checks(settings, config.env)


def uses_aws(settings: Settings) -> bool:
    """Return whether a run with these settings calls AWS."""
    places = [settings.target]
    places += [place for found in settings.datasets.values() for place in (found.source, found.mapping) if place]
    return settings.catalog.kind == "glue" or settings.ctas.method == "athena" or any(map(is_s3, places))


def _impatient(settings: Settings) -> Settings:
    aws = settings.aws.model_copy(
        update={name: min(getattr(settings.aws, name), limit) for name, limit in _WAITS.items()}
    )
    storage = settings.storage.filled(aws)
    storage = storage.model_copy(update={name: min(getattr(storage, name), limit) for name, limit in _WAITS.items()})
    catalog = settings.catalog.model_copy(update={"retry_seconds": 0.0})
    return settings.model_copy(update={"aws": aws, "storage": storage, "catalog": catalog})


def _configuration(config: Configuration) -> Seen:
    if problems := [f"{name}: {what}" for name, what in secrets_in(config.settings.model_dump())]:
        return of_error(ConfigError("\n".join(problems)))
    given = sorted({origin for _, _, origin in config.rows() if origin != "default"})
    return ok(f"env {config.env}, {len(config.rows())} settings, from {', '.join(given) or 'built-in defaults'}")
