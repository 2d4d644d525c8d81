"""What `submit` is asked to start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Platform = Literal["glue", "emr-serverless"]


@dataclass(frozen=True)
class JobRequest:
    """What to start: a job of `deploy.jobs`, and what is asked of it; None and empty leave it to the job.

    A request with the token of an earlier one follows that one's run and starts none.
    """

    job: str = "pipeline"
    dataset: str | None = None
    stages: tuple[str, ...] = ()
    snapshot_dt: str | None = None
    tables: tuple[str, ...] = ()
    resume: str | None = None
    token: str | None = None
