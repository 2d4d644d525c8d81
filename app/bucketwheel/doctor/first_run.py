"""The list of everything that is not exercised on AWS, with commands for one configuration.

`first_run.yaml` is the only source: `doctor --first-run` and `docs/deploy-not-exercised.md` both print it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import yaml

from bucketwheel.deploy.template.deployment import Deployment

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_FIELDS = {"what", "rests_on", "try", "shows", "only"}

# Placeholders of first_run.yaml, and their values for a configuration.
NAMES: Final[Mapping[str, Callable[[Deployment], str]]] = {
    "env": lambda deployment: deployment.env,
    "stack": lambda deployment: deployment.stack,
    "role": lambda deployment: deployment.role,
    "target": lambda deployment: deployment.settings.target,
    "bucket": lambda deployment: deployment.settings.target.removeprefix("s3://").partition("/")[0],
    "database": lambda deployment: deployment.settings.catalog.database,
    "workgroup": lambda deployment: deployment.settings.athena.workgroup,
    "dataset": lambda deployment: next(iter(deployment.settings.datasets), "DATASET"),
    "job": lambda deployment: deployment.job_name(next(iter(deployment.settings.deploy.jobs), "JOB")),
    "platform": lambda deployment: deployment.settings.deploy.platform,
    "release": lambda deployment: deployment.settings.emr_serverless.release,
    "namespace": lambda deployment: deployment.settings.monitoring.namespace,
}


@dataclass(frozen=True)
class Item:
    """One thing to try: what is not exercised, the document it rests on, how to try it, and the expected result.

    `only` is the platform on which it matters; None: both.
    """

    section: str
    what: str
    rests_on: str
    steps: str
    shows: str
    only: str | None = None


def items(deployment: Deployment, *, every_platform: bool = False) -> list[Item]:
    """Return the list with the names of a deployment filled in, without rows of the other platform.

    Args:
        deployment: the configuration of the names.
        every_platform: keep rows of the other platform.
    """
    names = {name: value(deployment) for name, value in NAMES.items()}

    def filled(text: str) -> str:
        return _PLACEHOLDER.sub(lambda match: names[match[1]], text)

    result = []
    for section in yaml.safe_load(files("bucketwheel.doctor").joinpath("first_run.yaml").read_text("utf-8"))[
        "sections"
    ]:
        for row in section["rows"]:
            if unknown := row.keys() - _FIELDS:
                raise KeyError(f"first_run.yaml: unknown fields {', '.join(sorted(unknown))}")
            only = row.get("only")
            if every_platform or only in (None, deployment.settings.deploy.platform):
                what, rests_on, steps, shows = (filled(row[name]) for name in ("what", "rests_on", "try", "shows"))
                result.append(Item(section["title"], what, rests_on, steps, shows, only))
    return result
