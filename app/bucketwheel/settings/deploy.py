"""Settings of the jobs on AWS, their stack and its monitoring."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from bucketwheel.formatting import counted
from bucketwheel.settings.base import ByteSize, Frozen, Location, Names

_GLUE_VERSIONS = ("5.0", "5.1")
# Releases with Spark 3.5 on which Python 3.11 is installed.
_EMR_RELEASES = tuple(f"emr-7.{minor}.0" for minor in range(8, 14))
# Memory of a worker in GB by its cores: smallest, largest and step (EMR Serverless User Guide, "Supported worker
# configurations").
_EMR_MEMORY = {1: (2, 8, 1), 2: (4, 16, 1), 4: (8, 30, 1), 8: (16, 60, 4), 16: (32, 120, 8)}
# Spark's setting of the cores that a task occupies.
TASK_CPUS = "spark.task.cpus"
_FLEX_WORKERS = ("G.1X", "G.2X")
_UP_TO_BUCKETS = ("discover", "split", "size", "bucket", "verify")

Minutes = Annotated[int, Field(ge=1)]
Price = Annotated[float, Field(ge=0)]


def _as_text(value: Any) -> Any:
    """Return a number such as 5.0, as YAML reads it without quotes, as a text."""
    return str(value) if isinstance(value, float) else value


def _known_glue_version(value: str) -> str:
    if value == "6.0":
        raise ValueError("Glue 6.0 runs Spark 4.1 on Python 3.13, this application needs 5.0 or 5.1 (Python 3.11)")
    if value not in _GLUE_VERSIONS:
        raise ValueError(f"unknown Glue version, use one of {', '.join(_GLUE_VERSIONS)}")
    return value


def _known_release(value: str) -> str:
    if value not in _EMR_RELEASES:
        raise ValueError(f"unknown or unsupported release, use {_EMR_RELEASES[0]} to {_EMR_RELEASES[-1]}")
    return value


def _topic(value: str) -> str:
    if not re.fullmatch(r"arn:aws[\w-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}", value):
        raise ValueError("expected the ARN of a topic, such as arn:aws:sns:us-east-1:123456789012:alerts")
    return value


def spark_option(options: str, name: str) -> int | None:
    """Return the number of a Spark setting in Glue's argument `--conf`, in GB if it is a size."""
    match = re.search(rf"{re.escape(name)}=(\d+)g?\b", options)
    return int(match[1]) if match else None


class GlueJobSettings(Frozen):
    """The Glue jobs that run this application; `price` is in dollars for one DPU and hour.

    Attributes:
        role: Name of the role that the jobs run with; null: `<stack>-job`.
        glue_version: `5.0` or `5.1`; `6.0` has another Python and Spark and is not supported.
        worker_type: `G.1X` to `G.16X`, `R.1X` to `R.8X`.
        number_of_workers: Workers of a job; with `glue.auto_scaling`, the maximum.
        timeout_minutes: Time-out of a job.
        execution_class: `STANDARD`, or `FLEX`: cheaper, may wait for workers, of `G.1X` and `G.2X` only.
        auto_scaling: Let Glue release idle workers.
        arguments: Further arguments of Glue for every job, such as `{--enable-spark-ui: "true"}`; they override those
            of the stack.
        price: Dollars for one DPU and hour, for the cost that `submit` shows; `FLEX` has a price of its own, 0.29 in
            us-east-1.
    """

    role: str | None = None
    glue_version: Annotated[str, BeforeValidator(_as_text), AfterValidator(_known_glue_version)] = "5.0"
    worker_type: Literal["G.1X", "G.2X", "G.4X", "G.8X", "G.12X", "G.16X", "R.1X", "R.2X", "R.4X", "R.8X"] = "G.4X"
    number_of_workers: Annotated[int, Field(ge=2)] = 10
    timeout_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] = 60
    execution_class: Literal["STANDARD", "FLEX"] = "STANDARD"
    auto_scaling: bool = True
    arguments: Mapping[str, str] = {}
    price: Price = 0.44

    @model_validator(mode="after")
    def _workers_of_class(self) -> GlueJobSettings:
        if self.execution_class == "FLEX" and self.worker_type not in _FLEX_WORKERS:
            raise ValueError(
                f"execution_class is FLEX, but worker_type is {self.worker_type}; Glue offers FLEX only with "
                f"{' and '.join(_FLEX_WORKERS)}: set worker_type to one of these, or execution_class to STANDARD"
            )
        return self


class EmrServerlessSettings(Frozen):
    """The EMR Serverless application; prices are in dollars for one hour.

    Attributes:
        role: Name of the role that jobs run with; null: that of `glue.role`.
        application_id: The application that `submit` uses; null: the one named after the stack.
        release: `emr-7.8.0` (Spark 3.5.4, as Glue 5.0) to `emr-7.13.0`.
        architecture: `X86_64` or `ARM64`; `package` builds the archive for it, an image must match.
        image: An image in ECR instead of the archive: `name:tag` of this account and region, or a whole URI.
        cores: vCPU of a worker: 1, 2, 4, 8 or 16.
        memory_gb: Memory of a worker in GB: a third for the JVM, the rest for Python, which does the work. 2 to 8
            with 1 core, 4 to 16 with 2, 8 to 30 with 4, 16 to 60 with 8 (in steps of 4), 32 to 120 with 16 (in steps
            of 8).
        disk_gb: Disk of a worker in GB, for the shuffle.
        max_executors: Maximum executors of one job; the application's limits follow from it.
        initial_executors: Executors kept ready, at most `max_executors`; they cost money while idle.
        auto_stop_minutes: Idle minutes after which the application stops.
        timeout_minutes: Time-out of a job; at least 5.
        subnets: Subnets of the workers; empty: no network of yours.
        security_groups: Security groups of the workers; with `subnets`.
        price_vcpu: Dollars for a vCPU and hour.
        price_gb: Dollars for a GB of memory and hour.
    """

    role: str | None = None
    application_id: str | None = None
    release: Annotated[str, AfterValidator(_known_release)] = "emr-7.8.0"
    architecture: Literal["X86_64", "ARM64"] = "X86_64"
    image: str | None = None
    cores: Literal[1, 2, 4, 8, 16] = 4
    memory_gb: Annotated[int, Field(ge=2, le=120)] = 16
    disk_gb: Annotated[int, Field(ge=20, le=200)] = 100
    max_executors: Annotated[int, Field(ge=1)] = 25
    initial_executors: Annotated[int, Field(ge=0)] = 0
    auto_stop_minutes: Annotated[int, Field(ge=1, le=10_080)] = 15
    timeout_minutes: Annotated[int, Field(ge=5)] = 120
    subnets: Names = ()
    security_groups: Names = ()
    price_vcpu: Price = 0.052624
    price_gb: Price = 0.0057785

    @staticmethod
    def most_memory_gb(cores: int) -> int:
        """Return the largest memory of a worker with this many cores, in GB."""
        return _EMR_MEMORY[cores][1]

    @model_validator(mode="after")
    def _fits_together(self) -> EmrServerlessSettings:
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("subnets and security_groups belong together; set both or none")
        least, most, step = _EMR_MEMORY[self.cores]
        if self.memory_gb not in (allowed := range(least, most + 1, step)):
            values = f"{least} to {most}" if step == 1 else ", ".join(map(str, allowed))
            raise ValueError(
                f"memory_gb is {self.memory_gb}; EMR Serverless offers a worker of "
                f"{counted(self.cores, 'core')} with {values} GB"
            )
        if self.initial_executors > self.max_executors:
            raise ValueError(
                f"initial_executors is {self.initial_executors}, more than max_executors, which is "
                f"{self.max_executors}; keep at most {self.max_executors} ready, or raise max_executors"
            )
        return self


class JobSettings(Frozen):
    """A job: some stages (none: all) of one dataset (null: the one requested)."""

    dataset: str | None = None
    stages: Names = ()


class DeploySettings(Frozen):
    """The stack around the jobs.

    Attributes:
        platform: Platform of the jobs: `glue` or `emr-serverless`.
        stack: Name of the stack; null: `bucketwheel-<env>`. Names that only the stack uses begin with it.
        job_prefix: Jobs are called `<job_prefix>-<env>-<name>`.
        jobs: By name: `dataset` (null: the requested one, or all) and `stages` (none: all). There must be one
            for `bucket`, `register` and `ctas` of each dataset.
        retries: Number of times the state machine retries a failed job; jobs never retry themselves.
        artifacts: Location of uploaded packages: `s3://bucket/prefix`.
        package: The package that the jobs run, as `package --upload` prints it; `--package` sets it.
        archive_limit: Maximum size of the archive of the Python environment.
        permissions_boundary: ARN of the policy that bounds every role of the stack.
        buckets: `adopt` leaves buckets as they are; `create` creates those of `target` and `athena.output_location`.
        access_log_bucket: Bucket for access logs of created buckets; null creates `<bucket of target>-access-logs`.
        kms_key: Key for logs, notifications, results and created buckets: null (AWS's own), `create`, or an ARN.
        schedule: Schedule of the state machine, six fields; null: manual starts only.
        time_zone: Time zone of the schedules, such as `America/New_York`.
        tier_after_days: Days until files of tables move to Intelligent-Tiering, in created buckets; current files are
            never deleted by age.
        old_version_days: Days in which deleted files can be restored, in created buckets.
        query_result_days: Retention of Athena's results in days, in created buckets.
        unfinished_upload_days: Days until unfinished uploads are deleted, in created buckets.
        tags: Tags of every resource, in addition to `application` and `environment`.
    """

    platform: Literal["glue", "emr-serverless"] = "glue"
    stack: str | None = None
    job_prefix: str = "bucketwheel"
    jobs: Mapping[str, JobSettings] = {
        "split-and-bucket": JobSettings(stages=_UP_TO_BUCKETS),
        "register-staged-tables": JobSettings(stages=("register",)),
        "create-bucketed-tables": JobSettings(stages=("ctas",)),
        "pipeline": JobSettings(),
    }
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    artifacts: Location | None = None
    package: Location | None = None
    archive_limit: ByteSize = 2 * 2**30
    permissions_boundary: str | None = None
    buckets: Literal["adopt", "create"] = "adopt"
    access_log_bucket: str | None = None
    kms_key: str | None = None
    schedule: str | None = "cron(0 6 5 * ? *)"
    time_zone: str = "UTC"
    tier_after_days: Annotated[int, Field(ge=1)] = 30
    old_version_days: Annotated[int, Field(ge=1)] = 30
    query_result_days: Annotated[int, Field(ge=1)] = 30
    unfinished_upload_days: Annotated[int, Field(ge=1)] = 7
    tags: Mapping[str, str] = {}


class MonitoringSettings(Frozen):
    """Metrics, notifications, logs and alarms; a limit of null raises no alarm.

    Attributes:
        namespace: Namespace of the metrics in CloudWatch.
        metrics: Transport of metrics to CloudWatch (`observability.md`): `emf` (a line of the log), `put` (a call) or
            `none`; `auto` is `emf` on EMR Serverless, `put` on Glue, else `none`.
        topic_arn: ARN of the SNS topic for notifications at the end of a run; null: none, but jobs of the stack use
            the stack's own topic.
        topic_kms_key: ARN of the customer key of `topic_arn`; `deploy` finds it if it may look.
        email: Address that gets failure notifications; it must confirm the subscription once.
        retention_days: Retention of logs in days; a number that CloudWatch supports.
        long_job_minutes: Notification while a Glue job runs longer; less than `glue.timeout_minutes`.
            Null: none, here and in the limits below.
        long_run_minutes: Alarm while an execution of the state machine takes longer.
        error_lines_per_hour: Alarm at this many lines of level ERROR within an hour; a job that fails writes one.
        null_keys: Alarm at more rows without a key.
        duplicate_keys: Alarm at more rows that repeat a key.
        rows_changed_percent: Alarm if the rows differ by more from the published snapshot.
        null_share_changed_points: Alarm if the NULLs of any column changed by more percentage points against the
            published snapshot: 5 is 1 % of the rows before, 7 % now.
        columns_changed: Alarm if more columns than this are new or missing.
        keys_kept_percent: Alarm if fewer of the published keys are in the snapshot, in percent; needs
            `quality.drift=keys`.
        cost_usd: Alarm if a run of a dataset costs more.
        watch_schedule: Schedule of the missing-run check; null: never.
        watch_days: Alarm if no run has succeeded in this many days before the check.
    """

    namespace: str = "Bucketwheel"
    metrics: Literal["auto", "emf", "put", "none"] = "auto"
    topic_arn: Annotated[str, AfterValidator(_topic)] | None = None
    topic_kms_key: str | None = None
    email: str | None = None
    retention_days: Literal[
        30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
    ] = 365
    long_job_minutes: Minutes | None = 45
    long_run_minutes: Minutes | None = 120
    error_lines_per_hour: Annotated[int, Field(ge=1)] | None = 1
    null_keys: Annotated[int, Field(ge=0)] | None = 0
    duplicate_keys: Annotated[int, Field(ge=0)] | None = None
    rows_changed_percent: Annotated[float, Field(gt=0)] | None = 20
    null_share_changed_points: Annotated[float, Field(gt=0, lt=100)] | None = 10
    columns_changed: Annotated[int, Field(ge=0)] | None = 0
    keys_kept_percent: Annotated[float, Field(gt=0, le=100)] | None = 80
    cost_usd: Annotated[float, Field(gt=0)] | None = None
    watch_schedule: str | None = "cron(0 6 8 * ? *)"
    watch_days: Annotated[int, Field(ge=1)] = 10


class CostSettings(Frozen):
    """Prices in dollars of everything except workers, and the assumed speed of a core without earlier runs."""

    read_requests: Price = 0.0004
    write_requests: Price = 0.005
    scanned_tb: Price = 5.0
    mb_per_core_second: Annotated[float, Field(gt=0)] = 5
