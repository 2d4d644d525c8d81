"""Check that a configuration suits jobs on Glue and EMR Serverless.

Jobs run on many machines, so they need an engine, a catalog and locations that all of them share. The built-in
defaults are for one machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from bucketwheel.errors import ConfigError
from bucketwheel.settings.loading import Configuration
from bucketwheel.storage import is_s3

# Settings of jobs; an environment that sets one of them is for jobs.
_OF_JOBS = ("deploy.", "emr_serverless.", "glue.")
_JOBS = "jobs on Glue and EMR Serverless"
_LOCAL = "local"
_SHARED_FILE = "base.yaml"


def check(config: Configuration) -> None:
    """Check the configuration of an environment whose jobs run on Glue or EMR Serverless.

    Raises:
        ConfigError: lists every setting that fits only one machine, and the lines to add.
    """
    if unsuited := list(problems(config)):
        others = ["env local is for this machine; select the environment of the jobs with --env"]
        texts = [f"{problem.found}; {problem.need}" for problem in unsuited]
        raise ConfigError("\n".join([*texts, lines_to_add(config), *(others if config.env == _LOCAL else ())]))


@dataclass(frozen=True)
class Problem:
    """A setting that fits only one machine.

    Attributes:
        found: the setting and its value
        need: what jobs need instead
        path: keys of the setting in the file
        example: a value that fits
    """

    found: str
    need: str
    path: tuple[str, ...]
    example: Any


def problems(config: Configuration) -> Iterator[Problem]:
    """Yield each setting that fits only one machine."""
    settings = config.settings
    if settings.engine == "arrow":
        yield Problem("engine is arrow, which runs on one machine", f"{_JOBS} run Spark", ("engine",), "spark")
    if settings.catalog.kind == "duckdb":
        glue = {"kind": "glue", "database": "NAME"}
        found = "catalog.kind is duckdb, a file on one machine"
        yield Problem(found, f"{_JOBS} publish in Glue", ("catalog",), glue)
    if not is_s3(settings.target):
        found = f"target is {settings.target}, a path on one machine"
        yield Problem(found, f"{_JOBS} write to S3", ("target",), "s3://BUCKET/PREFIX")
    for name, dataset in settings.datasets.items():
        for setting, location, example in (
            ("source", dataset.source, "s3://BUCKET/PREFIX"),
            ("mapping", dataset.mapping, "s3://BUCKET/PREFIX/mapping.csv"),
        ):
            if location is not None and not is_s3(location):
                found = f"datasets.{name}.{setting} is {location}, a path on one machine"
                yield Problem(found, f"{_JOBS} read from S3", ("datasets", name, setting), example)


def lines_to_add(config: Configuration) -> str:
    """Return the lines that correct all problems of the environment, with each key once; a key is a line."""
    document: dict[str, Any] = {}
    for problem in problems(config):
        *parents, last = problem.path
        node = document
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = problem.example
    lines = [_line(key, value) for key, value in document.items()]
    return "\n".join([f"add to {config.env}.yaml, or change there if it has these keys:", *lines])


def _line(key: str, value: Any) -> str:
    if not isinstance(value, dict):
        return yaml.safe_dump({key: value}).strip()
    return yaml.safe_dump({key: value}, default_flow_style=True, sort_keys=False, width=10_000).strip()[1:-1]


def is_for_jobs(config: Configuration) -> bool:
    """Return whether the environment sets a job setting outside `base.yaml`."""
    return any(name.startswith(_OF_JOBS) and not _is_shared(origin) for name, _, origin in config.rows())


def _is_shared(origin: str) -> bool:
    return origin == "default" or origin.replace("\\", "/").endswith(f"/{_SHARED_FILE}")
