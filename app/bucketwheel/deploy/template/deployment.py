"""The names and locations of one environment on AWS, all derived from the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bucketwheel.errors import ConfigError, did_you_mean
from bucketwheel.settings import PROMOTE, STAGES, Settings
from bucketwheel.settings.deploy import JobSettings
from bucketwheel.storage.locations import S3Location, s3_location

Resource = dict[str, Any]
Resources = dict[str, Resource]

AWS_WORKGROUP = "primary"
CREATED_KEY = "create"
_NONE = "_NONE_"
# The job argument with the ARN of the notification topic.
TOPIC = "--notices-topic"


def sub(text: str) -> Any:
    """Return a text in which CloudFormation substitutes ``${…}``."""
    return {"Fn::Sub": text}


def ref(name: str) -> Any:
    """Return a reference to a resource of the template."""
    return {"Ref": name}


def arn_of(name: str) -> Any:
    """Return the ARN of a resource of the template."""
    return {"Fn::GetAtt": [name, "Arn"]}


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """Return a part of a template with the pseudo parameters in `names` filled in, such as ``AWS::Region``."""
    if isinstance(value, list):
        return [filled(part, names) for part in value]
    if not isinstance(value, Mapping):
        return value
    text = value.get("Fn::Sub")
    if text is None:
        return {key: filled(part, names) for key, part in value.items()}
    for name, given in names.items():
        text = text.replace(f"${{{name}}}", given)
    return text


def logical(*words: str) -> str:
    """Return the words as one logical id: letters and digits, each word capitalised."""
    parts = "".join(c if c.isalnum() else " " for word in words for c in f"{word} ").split()
    return "".join(part[:1].upper() + part[1:] for part in parts)


def joined(parts: Iterable[Resources]) -> Resources:
    """Return the resources of all parts.

    Raises:
        ConfigError: two resources have the same logical id; one would overwrite the other. The message names both.
    """
    resources: Resources = {}
    for part in parts:
        for logical_id, resource in part.items():
            if logical_id in resources:
                one, other = (_title(each) for each in (resources[logical_id], resource))
                raise ConfigError(
                    f"{one} and {other} would both have the logical id {logical_id} in the template, "
                    "which keeps only the letters and digits of a name; rename one of them"
                )
            resources[logical_id] = resource
    return resources


def _title(resource: Resource) -> str:
    own = (str(value) for key, value in resource["Properties"].items() if key.endswith("Name") or key == "Name")
    return f"{resource['Type']} {next(own, 'without a name')}"


def object_arn(location: S3Location, below: str = "") -> Any:
    """Return the ARN of the objects `below` the location, such as ``/*``, as an intrinsic function."""
    key = f"{location.prefix}{below}".lstrip("/")
    return sub(f"arn:${{AWS::Partition}}:s3:::{location.bucket}/{key}")


def bucket_arn(bucket: str) -> Any:
    """Return the ARN of a bucket."""
    return sub(f"arn:${{AWS::Partition}}:s3:::{bucket}")


@dataclass(frozen=True)
class Deployment:
    """The settings of one environment, and the names of its resources on AWS."""

    settings: Settings
    env: str

    @property
    def stack(self) -> str:
        """Name of the stack, and prefix of the names of its internal resources."""
        return self.settings.deploy.stack or f"bucketwheel-{self.env}"

    @property
    def on_glue(self) -> bool:
        """Whether the jobs run on Glue; otherwise they run on EMR Serverless."""
        return self.settings.deploy.platform == "glue"

    @property
    def role(self) -> str:
        """Name of the jobs' role."""
        glue, emr = self.settings.glue, self.settings.emr_serverless
        return (None if self.on_glue else emr.role) or glue.role or f"{self.stack}-job"

    @property
    def log_prefix(self) -> str:
        """Prefix of the names of the log groups."""
        return f"/{self.stack}"

    @property
    def output_log_group(self) -> str:
        """The log group with the output of the jobs."""
        return f"{self.log_prefix}/output"

    @property
    def makes_key(self) -> bool:
        """Whether the stack creates its own KMS key."""
        return self.settings.deploy.kms_key == CREATED_KEY

    @property
    def key(self) -> Any | None:
        """ARN of the KMS key, or None if AWS-managed keys are used."""
        return arn_of("Key") if self.makes_key else self.settings.deploy.kms_key

    @property
    def topic(self) -> Any:
        """ARN of the topic for the jobs: the configured one, else the stack's own."""
        return self.settings.monitoring.topic_arn or ref("Notices")

    @property
    def topic_name(self) -> str:
        """Name of the stack's own topic."""
        return f"{self.stack}-notices"

    @property
    def makes_workgroup(self) -> bool:
        """Whether the stack creates the workgroup; every account has `primary`."""
        return self.settings.athena.workgroup != AWS_WORKGROUP

    def job_name(self, name: str) -> str:
        """Return the name on AWS of a job in `deploy.jobs`."""
        return f"{self.settings.deploy.job_prefix}-{self.env}-{name}"

    def target(self) -> S3Location:
        """The location of the tables."""
        return s3_location("target", self.settings.target)

    def sources(self) -> dict[str, S3Location]:
        """The locations of the snapshots, by dataset."""
        return {name: s3_location(f"datasets.{name}.source", d.source) for name, d in self.settings.datasets.items()}

    def mappings(self) -> dict[str, S3Location]:
        """The mapping files, by dataset; only for datasets that have one."""
        return {
            name: s3_location(f"datasets.{name}.mapping", dataset.mapping)
            for name, dataset in self.settings.datasets.items()
            if dataset.mapping
        }

    def query_results(self) -> S3Location:
        """The location of Athena's query results."""
        return s3_location("athena.output_location", self.settings.athena.output_location)

    def uses_athena(self) -> bool:
        """Whether the jobs send statements to Athena."""
        return self.settings.ctas.method == "athena"

    def copies_tables(self) -> bool:
        """Whether a SQL engine copies the tables, so that jobs delete files and definitions of failed copies."""
        return self.settings.ctas.method != PROMOTE

    def package(self) -> S3Location:
        """The location of the package for the jobs.

        Raises:
            ConfigError: `deploy.package` is not set.
        """
        if not self.settings.deploy.package:
            raise ConfigError(
                f"deploy.package is not set; upload one with: bucketwheel package --env {self.env} --upload, and "
                "pass the location that it prints with --package"
            )
        return s3_location("deploy.package", self.settings.deploy.package)

    def artifacts(self) -> S3Location:
        """The parent location of uploaded packages."""
        return s3_location("deploy.artifacts", self.settings.deploy.artifacts)

    def tags(self) -> list[dict[str, str]]:
        """Tags of every resource."""
        return [{"Key": key, "Value": value} for key, value in self.tag_map().items()]

    def tag_map(self) -> dict[str, str]:
        """Tags of every resource, for types that take a mapping."""
        return {"application": "bucketwheel", "environment": self.env, **self.settings.deploy.tags}

    def jobs(self) -> Mapping[str, JobSettings]:
        """The jobs by name.

        Raises:
            ConfigError: a job names an unknown dataset or stage.
        """
        problems = []
        known = {*STAGES, *self.settings.stages}
        for name, job in self.settings.deploy.jobs.items():
            if job.dataset is not None and job.dataset not in self.settings.datasets:
                guess = did_you_mean(job.dataset, self.settings.datasets)
                have = ", ".join(self.settings.datasets) or "none"
                problems.append(
                    f"deploy.jobs.{name}.dataset is {job.dataset!r}, which is not configured; {guess}known: {have}"
                )
            problems += [
                f"deploy.jobs.{name}.stages has {stage!r}, which is not a stage; {did_you_mean(stage, known)}"
                f"known: {', '.join(sorted(known))}"
                for stage in job.stages
                if stage not in known
            ]
        if problems:
            raise ConfigError("\n".join(problems))
        return self.settings.deploy.jobs

    def job_for(self, dataset: str, stage: str) -> str:
        """Return the job that runs `stage`, but not all stages, for a dataset.

        Raises:
            ConfigError: there is none.
        """
        fitting = [
            (job.dataset is None, name)
            for name, job in self.jobs().items()
            if stage in job.stages and job.dataset in (None, dataset)
        ]
        if not fitting:
            raise ConfigError(
                f"deploy.jobs has no job that runs stage {stage!r} for dataset {dataset!r}; add one with that stage"
            )
        return min(fitting)[1]

    def arguments(
        self,
        job: JobSettings,
        dataset: str | None = None,
        stages: Sequence[str] = (),
        options: Mapping[str, str | None] | None = None,
    ) -> dict[str, str]:
        """Return the arguments for app/job.py.

        The directory of the configuration is `--config-dir` here: Glue keeps `--conf` for Spark's settings.

        Args:
            job: the job; its settings are the defaults of the next two arguments.
            dataset: the dataset; if None, that of the job, or all datasets.
            stages: a selection of stages; if empty, those of the job.
            options: further arguments, such as ``{"--SNAPSHOT_DT": None}``; None becomes ``_NONE_``: automatic.
        """
        given = {"--env": self.env, "--config-dir": f"{self.package().uri}/conf"}
        if chosen := dataset or job.dataset:
            given["--dataset"] = chosen
        if selected := tuple(stages) or job.stages:
            given["--stages"] = ",".join(selected)
        return given | {name: _NONE if value is None else value for name, value in (options or {}).items()}
