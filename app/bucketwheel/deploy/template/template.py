"""Build the CloudFormation template from its parts; the same configuration gives the same text."""

from __future__ import annotations

import json
from typing import Any, Literal

import yaml

from bucketwheel.deploy.template import (
    alarms,
    buckets,
    checks,
    emr,
    jobs,
    key,
    lake_formation,
    monitoring,
    roles,
    schedule,
    workgroup,
)
from bucketwheel.deploy.template.deployment import Deployment, joined, ref
from bucketwheel.errors import ConfigError
from bucketwheel.formatting import counted
from bucketwheel.settings import Settings

# CloudFormation's limits (CloudFormation User Guide, "Understand CloudFormation quotas"). A template of more than
# MOST_INLINE_BYTES is read from S3.
MOST_BYTES = 1_000_000
MOST_INLINE_BYTES = 51_200
MOST_RESOURCES = 500

_PARTS = (
    key.key,
    buckets.buckets,
    monitoring.logs,
    monitoring.topic,
    roles.roles,
    lake_formation.grants,
    jobs.glue_jobs,
    emr.application,
    workgroup.workgroup,
    schedule.machines,
    schedule.schedules,
    monitoring.events,
    alarms.alarms,
    monitoring.dashboard,
)


def template(settings: Settings, env: str) -> dict[str, Any]:
    """Return the template of one environment.

    Raises:
        ConfigError: something is missing, holds a secret, or has a name that AWS would refuse; lists all of it.
    """
    deployment = Deployment(settings, env)
    checks.check(deployment)
    resources = joined(part(deployment) for part in _PARTS)
    if len(resources) > MOST_RESOURCES:
        raise ConfigError(
            f"the stack would have {counted(len(resources), 'resource')}, CloudFormation accepts "
            f"{MOST_RESOURCES}; use fewer "
            "datasets or jobs in one environment"
        )
    checks.check_policies(resources)
    body = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Bucketwheel, {env}: jobs, roles, schedule, monitoring",
        "Resources": resources,
        "Outputs": {
            "StateMachineArn": {"Value": ref("StateMachine")},
            "NoticesArn": {"Value": ref("Notices")},
            **emr.application_output(deployment),
        },
    }
    text(body, "json")
    return body


def compact(template: dict[str, Any]) -> str:
    """Return the template as JSON without white space, as CloudFormation gets it."""
    return json.dumps(template, ensure_ascii=False, separators=(",", ":"))


class _Plain(yaml.SafeDumper):
    """Write every value in full; CloudFormation does not support YAML aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def text(template: dict[str, Any], form: Literal["yaml", "json"]) -> str:
    """Return the template as YAML or JSON.

    Raises:
        ConfigError: it is larger than CloudFormation takes.
    """
    if form == "json":
        written = json.dumps(template, indent=1, ensure_ascii=False) + "\n"
    else:
        written = yaml.dump(template, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    if (size := len(written.encode())) > MOST_BYTES:
        raise ConfigError(
            f"the template would be {size:,} bytes, CloudFormation accepts {MOST_BYTES:,}; use fewer datasets or "
            "jobs in one environment"
        )
    return written
