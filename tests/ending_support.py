"""A run of a project whose end is watched, and a cloud that keeps what it is given."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bucketwheel import api
from bucketwheel.cli import job as job_cli
from bucketwheel.errors import BucketwheelError, JobFailedError
from bucketwheel.monitoring import run_end
from bucketwheel.settings import AwsSettings
from project import WIDE, Project

TOPIC = "arn:aws:sns:us-east-1:123456789012:notices"
DATA = ("discover", "split", "size", "bucket", "verify")


@dataclass
class KeptCloud:
    """Keeps metrics and notices, or refuses them with `error`."""

    error: Exception | None = None
    metrics: list[tuple[str, list[Mapping[str, Any]]]] = field(default_factory=list)
    notices: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, _: AwsSettings) -> KeptCloud:
        return self

    def put_metrics(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        if self.error:
            raise self.error
        self.metrics.append((namespace, list(data)))

    def notify(self, topic: str, subject: str, text: str) -> None:
        if self.error:
            raise self.error
        self.notices.append((topic, subject, text))


@dataclass
class Ended:
    """What a run left: its error, the steps it reported, the lines for CloudWatch."""

    project: Project
    error: BaseException | None
    steps: list[api.Progress]
    lines: list[str]

    def warnings(self) -> list[str]:
        return [step.message for step in self.steps if step.state == "warning" and not step.stage]

    def summary(self) -> dict[str, Any]:
        return read_summary(self.project)


def read_summary(project: Project, dataset: str = WIDE) -> dict[str, Any]:
    (run_id,) = project.run_ids(dataset)
    found: dict[str, Any] = json.loads(summary_path(project, run_id, dataset).read_text())
    return found


def summary_path(project: Project, run_id: str, dataset: str = WIDE) -> Path:
    return project.target / "_bucketwheel" / dataset / "runs" / run_id / "summary.json"


def run(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    cloud: KeptCloud,
    stages: Sequence[str] = (),
    command: str = "",
    **overrides: Any,
) -> Ended:
    """Run the wide dataset through the Python interface, with this cloud in the place of AWS."""
    monkeypatch.setattr(run_end, "aws_cloud", cloud)
    steps: list[api.Progress] = []
    lines: list[str] = []
    error: BaseException | None = None
    try:
        api.run(
            project.configuration(**overrides),
            WIDE,
            stages,
            progress=steps.append,
            command=command,
            log=lines.append,
        )
    except (BucketwheelError, KeyboardInterrupt, ValueError) as raised:
        error = raised
    return Ended(project, error, steps, lines)


def job(project: Project, *arguments: str) -> tuple[list[str], JobFailedError | None]:
    """Run as a job; its lines on stdout and what it ended with."""
    out, failed = io.StringIO(), None
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        try:
            job_cli.main([*arguments, "--config-dir", str(project.conf)])
        except JobFailedError as error:
            failed = error
    return out.getvalue().splitlines(), failed
