"""Prices of workers on AWS, and the cost of a run; `stages.run_cost` computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bucketwheel.settings import Settings
from bucketwheel.settings.deploy import TASK_CPUS, EmrServerlessSettings, GlueJobSettings, spark_option
from bucketwheel.storage.locations import is_s3

_DPUS = {"1X": 1, "2X": 2, "4X": 4, "8X": 8, "12X": 12, "16X": 16}
_CORES_PER_DPU = 4
# CPU of a further layout, as a share of that of a run with one (`docs/adr/0024-layouts-from-one-scan.md`).
FURTHER_LAYOUT = 0.5


@dataclass(frozen=True)
class Cost:
    """Resources of a run and their cost.

    Attributes:
        platform: `glue` or `emr-serverless`; None if workers have no price.
        seconds: time of the workers.
        usage: DPU-hours, or vCPU-hours and GB-hours, by these names.
        workers: dollars for `usage`.
        reads: GET requests to S3.
        writes: PUT and LIST requests to S3.
        requests: dollars for both.
        scanned_bytes: bytes that Athena scans.
        scans: dollars for `scanned_bytes`.
        basis: explanation of the figures.
    """

    platform: str | None
    seconds: float
    usage: dict[str, float]
    workers: float
    reads: int
    writes: int
    requests: float
    scanned_bytes: int
    scans: float
    basis: str

    @property
    def dollars(self) -> float:
        """Total dollars."""
        return self.workers + self.requests + self.scans

    def document(self) -> dict[str, Any]:
        """Return a document for JSON."""
        return {"dollars": self.dollars, **vars(self)}


def dpus(worker_type: str) -> int | None:
    """Return the DPUs of a worker of Glue, such as 4 of `G.4X`; None for an unknown type."""
    return _DPUS.get(worker_type.partition(".")[2])


def glue_dollars(dpu_hours: float, settings: GlueJobSettings) -> float:
    """Return the dollars for this many DPU-hours."""
    return dpu_hours * settings.price


def emr_dollars(vcpu_hours: float, gb_hours: float, settings: EmrServerlessSettings) -> float:
    """Return the dollars for vCPU-hours and GB-hours."""
    return vcpu_hours * settings.price_vcpu + gb_hours * settings.price_gb


def platform_of(settings: Settings) -> str | None:
    """Return the AWS platform of a run with these settings, or None for a run outside AWS."""
    on_aws = settings.engine == "spark" and is_s3(settings.target)
    return settings.deploy.platform if on_aws else None


def cores_of(settings: Settings, platform: str) -> int:
    """Return the cores that process data: those of all workers but the driver, and one of each task."""
    if platform == "glue":
        glue, options = settings.glue, settings.glue.arguments.get("--conf", "")
        cores = spark_option(options, "spark.executor.cores") or (dpus(glue.worker_type) or 1) * _CORES_PER_DPU
        return max(1, cores // (spark_option(options, TASK_CPUS) or 1)) * (glue.number_of_workers - 1)
    return settings.emr_serverless.cores * settings.emr_serverless.max_executors


def worker_cost(settings: Settings, platform: str | None, hours: float) -> tuple[dict[str, float], float]:
    """Return usage and dollars of all configured workers for this many seconds."""
    if platform == "glue":
        dpu_hours = settings.glue.number_of_workers * (dpus(settings.glue.worker_type) or 1) * hours
        return {"DPU-hours": dpu_hours}, glue_dollars(dpu_hours, settings.glue)
    if platform == "emr-serverless":
        emr = settings.emr_serverless
        workers = emr.max_executors + 1
        vcpu_hours, gb_hours = workers * emr.cores * hours, workers * emr.memory_gb * hours
        return {"vCPU-hours": vcpu_hours, "GB-hours": gb_hours}, emr_dollars(vcpu_hours, gb_hours, emr)
    return {}, 0.0
