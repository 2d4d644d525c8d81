"""Run a project and return what its end reported; a fake publisher records metrics and notifications."""

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
class FakePublisher:
    """Records metrics and notifications, or raises `error`."""

    error: Exception | None = None
    metrics: list[tuple[str, list[Mapping[str, Any]]]] = field(default_factory=list)
    notifications: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, _: AwsSettings) -> FakePublisher:
        return self

    def put_metrics(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        if self.error:
            raise self.error
        self.metrics.append((namespace, list(data)))

    def notify(self, topic: str, subject: str, text: str) -> None:
        if self.error:
            raise self.error
        self.notifications.append((topic, subject, text))


@dataclass
class RunEnd:
    """The end of a run: its error, the reported steps, the lines for CloudWatch."""

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
    summary: dict[str, Any] = json.loads(summary_path(project, run_id, dataset).read_text())
    return summary


def summary_path(project: Project, run_id: str, dataset: str = WIDE) -> Path:
    return project.target / "_bucketwheel" / dataset / "runs" / run_id / "summary.json"


def run(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    publisher: FakePublisher,
    stages: Sequence[str] = (),
    command: str = "",
    **overrides: Any,
) -> RunEnd:
    """Run the wide dataset through the Python interface with a publisher that replaces AWS."""
    monkeypatch.setattr(run_end, "open_aws_publisher", publisher)
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
    return RunEnd(project, error, steps, lines)


def job(project: Project, *arguments: str) -> tuple[list[str], JobFailedError | None]:
    """Run as a job; return the lines of its standard output and its error."""
    out, failed = io.StringIO(), None
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        try:
            job_cli.main([*arguments, "--config-dir", str(project.conf)])
        except JobFailedError as error:
            failed = error
    return out.getvalue().splitlines(), failed
