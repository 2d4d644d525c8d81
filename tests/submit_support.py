"""A stack's jobs on moto, and faults between them and us."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from moto.glue.models import FakeJobRun

from bucketwheel import api
from bucketwheel.aws import clients
from bucketwheel.submit.follow import Update
from bucketwheel.submit.submit import Submitted, submit
from deploy_support import REGION, configuration


def client(service: str, url: str) -> Any:
    """A client of this service on moto, without faults."""
    create: Callable[..., Any] = boto3.client
    return create(service, endpoint_url=url, region_name=REGION)


def reached(url: str, target: Path | str, **more: Any) -> api.Configuration:
    """A configuration whose AWS is moto, and whose target has runs."""
    named = {"aws__endpoint_url": url, "aws__region": REGION, "aws__attempts": 2, "target": str(target)}
    return configuration(**{**named, **more})


def transitions(url: str, model: str, **transition: Any) -> None:
    """Say how runs of a model move on."""
    body = json.dumps({"model_name": model, "transition": transition}).encode()
    request = urllib.request.Request(f"{url}/moto-api/state-manager/set-transition", data=body, method="POST")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


class Answer:
    """A body as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content


def answered(request: Any, status: int, code: str, message: str) -> AWSResponse:
    """An answer of AWS that says no."""
    content = json.dumps({"__type": code, "message": message}).encode()
    headers: Any = {"x-amzn-errortype": code, "content-type": "application/json"}
    return AWSResponse(request.url, status, headers, Answer(content))


def sent(request: AWSRequest) -> AWSResponse:
    """Let a request take its effect and return the answer."""
    session = URLLib3Session()
    try:
        answer = session.send(request)
        _ = answer.content
    finally:
        session.close()
    return answer


@contextmanager
def faults(config: api.Configuration, service: str, operation: str, fault: Callable[..., Any]) -> Iterator[list[int]]:
    """Have `fault(request, number)` answer calls; None lets a call pass. Yields a list that grows with each call."""
    settings = config.settings.aws
    calls: list[int] = []

    def answer(request: Any, **_: Any) -> Any:
        calls.append(len(calls) + 1)
        return fault(request, len(calls))

    watched = [
        clients.client(service, settings),
        clients.client(service, settings.model_copy(update={"attempts": 1})),
    ]
    event = f"before-send.{watched[0].meta.service_model.service_id.hyphenize()}.{operation}"
    for watched_client in watched:
        watched_client.meta.events.register(event, answer)
    try:
        yield calls
    finally:
        for watched_client in watched:
            watched_client.meta.events.unregister(event, answer)


JOB = "etl-omc-flywheel-prod-pipeline"
GROUP = "/bucketwheel-prod/output"


class Glue:
    """The stack's jobs, and what a submission showed."""

    def __init__(self, url: str, target: Path) -> None:
        self.url = url
        self.config = reached(url, target)
        self.updates: list[Update] = []
        self.started: list[tuple[str, str]] = []
        self.slept = 0
        self.on_sleep: Callable[[int], None] = lambda _: None
        for name in ("pipeline", "register-staged-tables"):
            self._client.create_job(
                Name=f"etl-omc-flywheel-prod-{name}",
                Role="r",
                Command={"Name": "glueetl", "ScriptLocation": "s3://x/job.py"},
                ExecutionProperty={"MaxConcurrentRuns": 2},
            )
        transitions(url, "glue::job_run", progression="manual", times=2)
        client("logs", url).create_log_group(logGroupName=GROUP)

    @property
    def _client(self) -> Any:
        return client("glue", self.url)

    def submit(self, request: api.JobRequest | None = None, **options: Any) -> Submitted:
        return submit(
            options.pop("config", self.config),
            "glue",
            request or api.JobRequest(),
            report=self.updates.append,
            started=lambda run_id, token: self.started.append((run_id, token)),
            sleep=self._sleep,
            **options,
        )

    def _sleep(self, _: float) -> None:
        self.slept += 1
        assert self.slept < 100
        self.on_sleep(self.slept)

    def runs(self, name: str = JOB) -> list[dict[str, Any]]:
        job_runs: list[dict[str, Any]] = self._client.get_job_runs(JobName=name)["JobRuns"]
        return job_runs

    def states(self) -> list[str]:
        return [update.state.state for update in self.updates]

    def lines(self) -> list[str]:
        return [line for update in self.updates for line in update.lines]

    def troubles(self) -> list[str]:
        return [update.trouble for update in self.updates if update.trouble]


def fail(monkeypatch: pytest.MonkeyPatch, state: str, message: str) -> None:
    """Have runs end in a state that moto never reaches."""
    described = FakeJobRun.as_dict

    def as_dict(self: FakeJobRun) -> dict[str, Any]:
        description = described(self)
        ended = {"JobRunState": state, "ErrorMessage": message} if self.status == "SUCCEEDED" else {}
        return {**description, **ended}

    monkeypatch.setattr(FakeJobRun, "as_dict", as_dict)
