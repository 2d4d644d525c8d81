"""Check that a configuration suits jobs on Glue and EMR Serverless.

Jobs run on many machines, so they need an engine, a catalog and locations that all of them share. The built-in
defaults are for one machine.
"""

from __future__ import annotations

from collections.abc import Iterator

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
        ConfigError: lists every setting that fits only one machine, each with the line to add.
    """
    if unsuited := list(problems(config)):
        others = ["env local is for this machine; select the environment of the jobs with --env"]
        raise ConfigError("\n".join([*unsuited, *(others if config.env == _LOCAL else ())]))


def problems(config: Configuration) -> Iterator[str]:
    """Yield each setting that fits only one machine, with the line to add."""
    settings, file = config.settings, f"{config.env}.yaml"
    if settings.engine == "arrow":
        yield f"engine is arrow, which runs on one machine; {_JOBS} run Spark: add to {file}: `engine: spark`"
    if settings.catalog.kind == "duckdb":
        yield (
            f"catalog.kind is duckdb, a file on one machine; {_JOBS} publish in Glue: add to {file}: "
            "`catalog: {kind: glue, database: NAME}`"
        )
    if not is_s3(settings.target):
        yield (
            f"target is {settings.target}, a path on one machine; {_JOBS} write to S3: add to {file}: "
            "`target: s3://BUCKET/PREFIX`"
        )
    for name, dataset in settings.datasets.items():
        for setting, location in (("source", dataset.source), ("mapping", dataset.mapping)):
            if location is not None and not is_s3(location):
                yield (
                    f"datasets.{name}.{setting} is {location}, a path on one machine; {_JOBS} read from S3: "
                    f"add to {file}: `datasets: {{{name}: {{{setting}: s3://BUCKET/PREFIX}}}}`"
                )


def is_for_jobs(config: Configuration) -> bool:
    """Return whether the environment sets a job setting outside `base.yaml`."""
    return any(name.startswith(_OF_JOBS) and not _is_shared(origin) for name, _, origin in config.rows())


def _is_shared(origin: str) -> bool:
    return origin == "default" or origin.replace("\\", "/").endswith(f"/{_SHARED_FILE}")
