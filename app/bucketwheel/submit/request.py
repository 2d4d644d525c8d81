"""The request to start a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Platform = Literal["glue", "emr-serverless"]


@dataclass(frozen=True)
class JobRequest:
    """A job of `deploy.jobs` and its options; None and empty values leave the choice to the job.

    A request with the token of an earlier request follows the earlier run instead of starting one.
    """

    job: str = "pipeline"
    dataset: str | None = None
    stages: tuple[str, ...] = ()
    snapshot_dt: str | None = None
    tables: tuple[str, ...] = ()
    resume: str | None = None
    token: str | None = None
