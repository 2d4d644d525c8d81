"""Starts a job of the stack, follows it, and returns what its runs wrote into their manifests."""

from __future__ import annotations

import json
import re
import shlex
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bucketwheel import errors
from bucketwheel.config import Configuration
from bucketwheel.deploy.deployment import Deployment
from bucketwheel.deploy.emr_runs import EmrRuns
from bucketwheel.deploy.glue_runs import GlueRuns
from bucketwheel.deploy.jobruns import JobRunner, JobState, Tail, Update, follow
from bucketwheel.deploy.request import JobRequest, Platform
from bucketwheel.errors import RESUME, BucketwheelError, JobFailedError, SelectionError, StorageError, SubmitError
from bucketwheel.manifest import Manifest
from bucketwheel.operations import run_store
from bucketwheel.summary import Summary

_GIVEN_BY_HAND = ("--", "environment ", "override")
# What says how AWS is reached and how jobs are started; a job has its own.
_NOT_FOR_JOBS = ("aws.", "deploy.", "emr_serverless.", "glue.", "monitoring.")
_FOR_JOBS = ("monitoring.metrics", "monitoring.namespace", "monitoring.topic_arn")
# Clocks of AWS and of this machine differ.
_SKEW = timedelta(minutes=1)


@dataclass(frozen=True)
class Submitted:
    """A run of a job: its last known state, the token it was started with, the manifests and summaries it wrote."""

    job: str
    token: str
    state: JobState
    manifests: tuple[Manifest, ...] = ()
    summaries: tuple[Summary, ...] = ()


def submit(
    config: Configuration,
    platform: Platform,
    request: JobRequest,
    wait: bool = True,
    wait_minutes: float | None = None,
    stop: bool = False,
    report: Callable[[Update], None] = lambda _: None,
    started: Callable[[str, str], None] = lambda _, __: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Submitted:
    """Start a job and, where `wait`, follow it to its end.

    Args:
        config: from `config.load`; what flags and environment set is handed on to the job.
        platform: where the job runs.
        request: what to start.
        wait: follow the run to its end.
        wait_minutes: the longest wait; None: as long as it takes.
        stop: stop the run where the wait is over or interrupted.
        report: called with what is new.
        started: called with (run id, token) once the run has one.
        sleep: waits.

    Raises:
        SelectionError: there is no such job.
        SubmitError: it could not be started, or did not end well.
    """
    deployment = Deployment(config.settings, config.env)
    jobs = deployment.jobs()
    if request.job not in jobs:
        raise SelectionError(f"--job {request.job}: no such job in deploy.jobs; there are {', '.join(jobs)}")
    _check_dataset(config, request)
    make: Callable[..., JobRunner] = GlueRuns if platform == "glue" else EmrRuns
    runner = make(deployment, request.job, sleep)
    token, begun = request.token or str(uuid.uuid4()), datetime.now(UTC) - _SKEW
    run_id = runner.start(_arguments(config, deployment, platform, request), token)
    started(run_id, token)
    if not wait:
        return Submitted(runner.job, token, runner.look(run_id))
    tail = Tail(config.settings.aws, runner.log_group, runner.log_streams(run_id))
    seconds = None if wait_minutes is None else wait_minutes * 60
    state = follow(runner, run_id, tail, report, seconds, stop, sleep)
    datasets = [request.dataset or jobs[request.job].dataset]
    wanted = [name for name in datasets if name] or list(config.settings.datasets)
    # The run may be older than this command, where it was only followed.
    since = begun - timedelta(seconds=state.seconds) if request.token else begun
    if not state.succeeded:
        raise _failure(config, runner, state, platform, _touched(config, wanted, since))
    touched = _touched(config, wanted, since)
    return Submitted(runner.job, token, state, tuple(touched), tuple(_summaries(config, touched)))


def _check_dataset(config: Configuration, request: JobRequest) -> None:
    if request.dataset is not None and request.dataset not in config.settings.datasets:
        known = ", ".join(config.settings.datasets) or "none"
        raise SelectionError(f"no dataset is called {request.dataset!r}; there are {known}")


def _arguments(
    config: Configuration, deployment: Deployment, platform: Platform, request: JobRequest
) -> dict[str, str]:
    job = deployment.jobs()[request.job]
    told = {
        "--SNAPSHOT_DT": request.snapshot_dt,
        "--TABLES_FILTER": ",".join(request.tables) or None,
    }
    given = {name: value for name, value in told.items() if value}
    if request.resume:
        given["--resume"] = request.resume
    if by_hand := _by_hand(config):
        given["--settings"] = json.dumps(by_hand, sort_keys=True)
    if platform == "glue":
        # The rest are default arguments of the job.
        chosen = {"--dataset": request.dataset, "--stages": ",".join(request.stages)}
        return {**{name: value for name, value in chosen.items() if value}, **given}
    return deployment.arguments(job, request.dataset, request.stages, dict(given))


def _by_hand(config: Configuration) -> dict[str, Any]:
    """Return the settings for jobs that flags and environment gave."""
    return {
        name: value
        for name, value, origin in config.rows()
        if origin.startswith(_GIVEN_BY_HAND) and (name in _FOR_JOBS or not name.startswith(_NOT_FOR_JOBS))
    }


def _touched(config: Configuration, datasets: Sequence[str], since: datetime) -> list[Manifest]:
    """Return the newest run of each dataset that something was done to since then."""
    found = []
    for dataset in datasets:
        for manifest in run_store(config.settings).newest_first(dataset, unreadable=lambda _: None):
            moments = [manifest.created, *(record.started for record in manifest.stages.values())]
            if max(map(datetime.fromisoformat, moments)) >= since:
                found.append(manifest)
                break
    return found


def _summaries(config: Configuration, manifests: Sequence[Manifest]) -> Iterator[Summary]:
    for manifest in manifests:
        try:
            found = run_store(config.settings).summary(manifest.dataset, manifest.run_id)
        except StorageError:
            # The manifest was read, and says more.
            continue
        if found is not None:
            yield found


def named_exit_code(message: str) -> int:
    """Return the exit code of the error that a job's message names; that of the job's own error names nothing."""
    for name in re.findall(r"\b(\w+Error): ", message):
        kind = getattr(errors, name, JobFailedError)
        if issubclass(kind, BucketwheelError) and kind is not JobFailedError:
            return kind.exit_code
    return SubmitError.exit_code


def _failure(
    config: Configuration, runner: JobRunner, state: JobState, platform: Platform, manifests: Sequence[Manifest]
) -> BucketwheelError:
    error = SubmitError(
        f"run {state.run_id} of {runner.job} ended as {state.state} after {state.seconds:.0f} s, {state.cost:.2f} "
        f"dollars: {state.message or f'no reason was given; look at the log group {runner.log_group}'}"
    )
    error.exit_code = named_exit_code(state.message)
    for manifest in manifests:
        if manifest.status != "finished":
            error.add_note(f"{RESUME}{_resuming(config, platform, manifest)}")
    return error


def _resuming(config: Configuration, platform: Platform, manifest: Manifest) -> str:
    words = ["bucketwheel", "submit", platform, manifest.dataset, "--env", config.env]
    for name, value in _by_hand(config).items():
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join([*words, "--resume", manifest.run_id])
