"""Check for values that AWS would refuse, before calling AWS."""

from __future__ import annotations

import json
import re
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, Resources
from bucketwheel.deploy.template.statemachine import longest_seconds
from bucketwheel.errors import ConfigError
from bucketwheel.formatting import counted
from bucketwheel.settings.secrets import secrets_in
from bucketwheel.storage.locations import is_access_point, is_below

# IAM's limit for all inline policies of a role together, without white space.
_MAX_POLICY = 10_240

_RULES: dict[str, tuple[int, str, str]] = {
    "stack": (128, r"[A-Za-z][A-Za-z0-9-]*", "letters, digits and hyphens, starting with a letter"),
    "role": (64, r"[\w+=,.@-]+", "letters, digits and + = , . @ _ -"),
    "Glue job": (255, r"[\w .:/=+@-]+", "letters, digits, spaces and _ . : / = + @ -"),
    "application": (64, r"[A-Za-z0-9._/#-]+", "letters, digits and . _ / # -"),
    "state machine": (80, r"[A-Za-z0-9_-]+", "letters, digits, hyphens and underscores"),
    "schedule": (64, r"[A-Za-z0-9_.-]+", "letters, digits, hyphens, underscores and dots"),
    "rule": (64, r"[A-Za-z0-9_.-]+", "letters, digits, hyphens, underscores and dots"),
    "workgroup": (128, r"[A-Za-z0-9._-]+", "letters, digits, dots, underscores and hyphens"),
    "database": (255, r"[a-z0-9_]+", "lower case letters, digits and underscores"),
    "topic": (256, r"[A-Za-z0-9_-]+", "letters, digits, hyphens and underscores"),
    "dashboard": (255, r"[A-Za-z0-9_-]+", "letters, digits, hyphens and underscores"),
    "dataset": (60, r"[A-Za-z0-9_.-]+", "letters, digits, underscores, dots and hyphens"),
    "bucket": (63, r"(?!.*\.\.)(?!xn--)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]+[a-z0-9]",
               "3 or more lower case letters, digits, dots and hyphens, but no IP address"),
    "namespace": (255, r"(?!AWS/)[\w.:/#-]+", "letters, digits and . _ : / # -, not starting with AWS/"),
}  # fmt: skip
_SCHEDULE = re.compile(r"(cron\(\S+ \S+ \S+ \S+ \S+ \S+\)|rate\(\d+ (minute|hour|day)s?\))")
_POLICY_ARN = re.compile(r"arn:aws[\w-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]+")
_MAX_TAGS = 50
_TAG = re.compile(r"[\w\s.:/=+@-]*")
_KEY_ARN = re.compile(r"arn:aws[\w-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+")


def check(deployment: Deployment) -> None:
    """Raise if the configuration cannot be deployed.

    Raises:
        ConfigError: lists everything that is wrong.
    """
    settings = deployment.settings
    problems: list[str] = [f"{name}: {what}" for name, what in secrets_in(settings.model_dump())]
    if not settings.datasets:
        problems.append("no dataset is configured; add one under `datasets:`")
    readers: list[Callable[[], object]] = [deployment.target, deployment.sources, deployment.mappings]
    readers += [deployment.package, deployment.jobs]
    readers += [deployment.artifacts] if settings.deploy.artifacts else []
    results = deployment.makes_workgroup or deployment.uses_athena() or settings.deploy.buckets == "create"
    readers += [deployment.query_results] if results or settings.athena.output_location else []
    for read in readers:
        try:
            read()
        except ConfigError as error:
            problems.append(str(error))
    problems += _expressions(deployment)
    problems += _tags(deployment)
    if not problems:
        problems += _limits(deployment)
        problems += _workgroup(deployment)
        problems += _refused(deployment)
    if problems:
        raise ConfigError("\n".join(problems))


def _names(deployment: Deployment) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, setting, name) of everything that gets a name."""
    settings, stack = deployment.settings, deployment.stack
    yield "stack", "deploy.stack", stack
    yield "role", "glue.role" if deployment.on_glue else "emr_serverless.role", deployment.role
    for suffix in ("-states", "-watch", "-scheduler", "-slow-starter"):
        yield "role", "deploy.stack", f"{stack}{suffix}"
    for name in settings.deploy.jobs:
        kind = "Glue job" if deployment.on_glue else "application"
        yield kind, f"deploy.jobs.{name}", deployment.job_name(name)
    if not deployment.on_glue:
        yield "application", "deploy.stack", stack
    for kind, suffix in (("state machine", "-watch"), ("schedule", "-watch"), ("rule", "-job-failed")):
        yield kind, "deploy.stack", f"{stack}{suffix}"
    yield "topic", "deploy.stack", deployment.topic_name
    yield "dashboard", "deploy.stack", stack
    yield "workgroup", "athena.workgroup", settings.athena.workgroup
    yield "namespace", "monitoring.namespace", settings.monitoring.namespace
    if settings.catalog.kind == "glue":
        yield "database", "catalog.database", settings.catalog.database.lower()
    for name in settings.datasets:
        yield "dataset", "datasets", name
    yield from _buckets(deployment)


def _buckets(deployment: Deployment) -> Iterator[tuple[str, str, str]]:
    deploy = deployment.settings.deploy
    yield "bucket", "target", deployment.target().bucket
    yield "bucket", "deploy.package", deployment.package().bucket
    if deploy.artifacts:
        yield "bucket", "deploy.artifacts", deployment.artifacts().bucket
    if deployment.settings.athena.output_location:
        yield "bucket", "athena.output_location", deployment.query_results().bucket
    for name, location in deployment.sources().items():
        yield "bucket", f"datasets.{name}.source", location.bucket
    for name, location in deployment.mappings().items():
        yield "bucket", f"datasets.{name}.mapping", location.bucket
    if deploy.access_log_bucket:
        yield "bucket", "deploy.access_log_bucket", deploy.access_log_bucket
    elif deploy.buckets == "create":
        yield (
            "bucket",
            "the bucket of access logs, named after the target; set deploy.access_log_bucket",
            (f"{deployment.target().bucket}-access-logs"),
        )


def _refused(deployment: Deployment) -> list[str]:
    problems = []
    for kind, origin, name in _names(deployment):
        if kind == "bucket" and is_access_point(name):
            problems.append(
                f"{origin}: {name} is the alias of an access point, which policies of IAM cannot name; deploy with "
                "the name of its bucket"
            )
        longest, pattern, words = _RULES[kind]
        if len(name) > longest:
            problems.append(
                f"{origin}: the {kind} name {name!r} has {len(name)} characters, AWS accepts at most {longest}"
            )
        elif not re.fullmatch(pattern, name, re.ASCII):
            problems.append(f"{origin}: AWS refuses {name!r} as the name of a {kind}; it accepts {words}")
    return list(dict.fromkeys(problems))


def _workgroup(deployment: Deployment) -> Iterator[str]:
    if not (deployment.makes_workgroup and deployment.uses_athena()):
        return
    results, target = deployment.query_results(), deployment.target()
    if not is_below(results.uri, target.uri):
        yield (
            f"athena.output_location is {results.uri}, outside the target {target.uri}; with ctas.method=athena the "
            "workgroup of the stack writes tables there. Set athena.output_location to a location below the target, "
            "or athena.workgroup to primary"
        )


def _expressions(deployment: Deployment) -> Iterator[str]:
    deploy, monitoring = deployment.settings.deploy, deployment.settings.monitoring
    for name, value in (
        ("deploy.schedule", deploy.schedule),
        ("monitoring.watch_schedule", monitoring.watch_schedule),
    ):
        if value is not None and not _SCHEDULE.fullmatch(value):
            yield f"{name} is {value!r}; expected cron(minute hour day month weekday year) or rate(1 day)"
    if deploy.time_zone not in zoneinfo.available_timezones():
        yield f"deploy.time_zone is {deploy.time_zone!r}, which is not a time zone; use a name such as Europe/Berlin"
    if deploy.kms_key not in (None, "create") and not _KEY_ARN.fullmatch(str(deploy.kms_key)):
        yield f"deploy.kms_key is {deploy.kms_key!r}; expected null, create, or the ARN of a key"
    settings = deployment.settings
    keys = [("storage.kms_key", settings.storage.kms_key), ("catalog.kms_key", settings.catalog.kms_key)]
    keys += [("monitoring.topic_kms_key", monitoring.topic_kms_key)]
    keys += [("storage.kms_keys", key) for key in settings.storage.kms_keys]
    for name, key in keys:
        if key is not None and not _KEY_ARN.fullmatch(key):
            yield f"{name} is {key!r}; a role policy needs the ARN of the key"
    if (boundary := deploy.permissions_boundary) is not None and not _POLICY_ARN.fullmatch(boundary):
        yield (
            f"deploy.permissions_boundary is {boundary!r}; expected null or the ARN of a policy, such as "
            "arn:aws:iam::123456789012:policy/boundary"
        )
    if monitoring.email is not None and "@" not in monitoring.email:
        yield f"monitoring.email is {monitoring.email!r}, which is not an address"


def _limits(deployment: Deployment) -> Iterator[str]:
    """Yield time limits that can never be reached, because the job or run ends before."""
    monitoring, glue = deployment.settings.monitoring, deployment.settings.glue
    job, run = monitoring.long_job_minutes, monitoring.long_run_minutes
    if deployment.on_glue and job is not None and job >= glue.timeout_minutes:
        yield (
            f"monitoring.long_job_minutes is {job}, but Glue stops a job after glue.timeout_minutes="
            f"{glue.timeout_minutes}, so no job would be reported as slow. Set it lower, or to null"
        )
    longest = longest_seconds(deployment) // 60
    if run is not None and run >= longest:
        yield (
            f"monitoring.long_run_minutes is {run}, but the state machine stops a run after "
            f"{counted(longest, 'minute')}, so no "
            "run would be reported as slow. Set it lower, or to null"
        )


def _tags(deployment: Deployment) -> Iterator[str]:
    tags = deployment.tag_map()
    if len(tags) > _MAX_TAGS:
        yield (
            f"deploy.tags: {len(tags)} tags with `application` and `environment`, AWS accepts at most {_MAX_TAGS}; "
            "remove some"
        )
    seen: dict[str, str] = {}
    for name, value in tags.items():
        if not 1 <= len(name) <= 128 or name.lower().startswith("aws:") or not _TAG.fullmatch(name):
            yield (
                f"deploy.tags: AWS refuses {name!r} as the name of a tag; it accepts up to 128 letters, digits, "
                "spaces and _ . : / = + - @, not starting with aws:"
            )
        if len(value) > 256 or not _TAG.fullmatch(value):
            yield (
                f"deploy.tags.{name}: AWS refuses {value!r} as the value of a tag; it accepts up to 256 letters, "
                "digits, spaces and _ . : / = + - @"
            )
        if (other := seen.setdefault(name.lower(), name)) != name:
            yield f"deploy.tags: {other!r} and {name!r} are the same tag to IAM, which ignores case; use one of them"


def check_policies(resources: Resources) -> None:
    """Raise if the policies of a role exceed IAM's limit.

    Raises:
        ConfigError: names the role and the sizes.
    """
    for name, resource in resources.items():
        if resource["Type"] != "AWS::IAM::Role":
            continue
        documents: list[Any] = [policy["PolicyDocument"] for policy in resource["Properties"]["Policies"]]
        size = sum(len(json.dumps(document, separators=(",", ":"))) for document in documents)
        if size > _MAX_POLICY:
            raise ConfigError(
                f"the policies of {name} would have {size:,} characters, IAM accepts at most {_MAX_POLICY:,}; use "
                "fewer datasets in one environment, or sources below one prefix"
            )
