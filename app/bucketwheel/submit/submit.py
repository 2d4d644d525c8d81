"""Starts a job of the stack, follows it, and returns what its runs wrote into their manifests."""

from __future__ import annotations

import json
import re
import shlex
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bucketwheel import errors
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.errors import RESUME, BucketwheelError, ConfigError, JobFailedError, SelectionError, SubmitError
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.summary import Failure, Summary
from bucketwheel.settings.loading import Configuration
from bucketwheel.settings.secrets import secrets_in
from bucketwheel.submit.emr_serverless import EmrRuns
from bucketwheel.submit.follow import JobRunner, JobState, Update, follow
from bucketwheel.submit.glue import GlueRuns
from bucketwheel.submit.log_tail import Tail
from bucketwheel.submit.outcome import Outcome, outcome
from bucketwheel.submit.request import JobRequest, Platform

_GIVEN_BY_HAND = ("--", "environment ", "override")
# What says how AWS is reached and how jobs are started; a job has its own.
_NOT_FOR_JOBS = ("aws.", "deploy.", "emr_serverless.", "glue.", "monitoring.")
_FOR_JOBS = ("monitoring.metrics", "monitoring.namespace", "monitoring.topic_arn")
# "…is not assumable", "…should be given assume role permissions", "Could not assume runtime role …".
_NOT_ASSUMED = re.compile(r"(?i)\bassum(e|able)\b.*\brole\b|\brole\b.*\bassum(e|able)\b", re.DOTALL)
# Clocks of AWS and of this machine differ.
_SKEW = timedelta(minutes=1)


@dataclass(frozen=True)
class Submitted:
    """A run of a job: its last known state, the token it was started with, the manifests and summaries it wrote.

    `problems` says what of these could not be read.
    """

    job: str
    token: str
    state: JobState
    manifests: tuple[Manifest, ...] = ()
    summaries: tuple[Summary, ...] = ()
    problems: tuple[str, ...] = ()


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
        ConfigError: what was set by hand looks like a secret.
        SelectionError: there is no such job.
        KeyboardInterrupt: with a note on what became of the run.
        SubmitError: it could not be started, or did not end well.
    """
    deployment = Deployment(config.settings, config.env)
    datasets = _datasets(config, deployment, request)
    arguments = _arguments(config, deployment, platform, request)
    make: Callable[..., JobRunner] = GlueRuns if platform == "glue" else EmrRuns
    runner = make(deployment, request.job, sleep)
    token, begun = request.token or str(uuid.uuid4()), datetime.now(UTC) - _SKEW
    with _begun(runner, platform, deployment.role, token):
        run_id = runner.start(arguments, token)
        started(run_id, token)
    if not wait:
        return Submitted(runner.job, token, runner.look(run_id))
    tail = Tail(config.settings.aws, runner.log_group, runner.log_streams(run_id))
    seconds = None if wait_minutes is None else wait_minutes * 60
    state = follow(runner, run_id, tail, report, seconds, stop, sleep)
    # The run may be older than this command, where it was only followed.
    since = begun - timedelta(seconds=state.seconds) if request.token else begun
    left = outcome(config.settings, datasets, since)
    if not state.succeeded:
        raise _failure(config, runner, state, platform, left, since)
    return Submitted(runner.job, token, state, left.manifests, left.summaries, left.problems)


@contextmanager
def _begun(runner: JobRunner, platform: Platform, role: str, token: str) -> Iterator[None]:
    """Say where a start was interrupted how to find out about it, and where the role is at fault what it lacks."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(
            f"{runner.job} may have been started; the same command with --token {token} follows that run, or starts "
            "the one"
        )
        raise
    except SubmitError as error:
        if advice := _trust(str(error), platform, role):
            error.add_note(advice)
        raise


def _trust(message: str, platform: Platform, role: str) -> str:
    """Return what to do where AWS says in its own words that the platform cannot take the role of the jobs."""
    if not _NOT_ASSUMED.search(message):
        return ""
    return (
        f"the trust policy of role {role} has to allow sts:AssumeRole to {platform}.amazonaws.com: `bucketwheel "
        f"deploy apply` with deploy.platform={platform} makes it so, `bucketwheel doctor` looks at it"
    )


def _datasets(config: Configuration, deployment: Deployment, request: JobRequest) -> list[str]:
    """Return the datasets that the job works on.

    Raises:
        SelectionError: there is no such job, or no such dataset.
    """
    jobs, known = deployment.jobs(), config.settings.datasets
    if request.job not in jobs:
        raise SelectionError(f"--job {request.job}: no such job in deploy.jobs; there are {', '.join(jobs)}")
    if request.dataset is not None and request.dataset not in known:
        raise SelectionError(f"no dataset is called {request.dataset!r}; there are {', '.join(known) or 'none'}")
    wanted = request.dataset or jobs[request.job].dataset
    return [wanted] if wanted else list(known)


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
    """Return the settings for jobs that flags and environment gave.

    Raises:
        ConfigError: one looks like a secret: arguments of a run can be read in the console; names it, not its value.
    """
    found = {
        name: value
        for name, value, origin in config.rows()
        if origin.startswith(_GIVEN_BY_HAND) and (name in _FOR_JOBS or not name.startswith(_NOT_FOR_JOBS))
    }
    problems = [f"{name}: {what}" for name, value in found.items() for name, what in _secrets(name, value)]
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _secrets(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield what `secrets_in` does for one setting, whose own name counts, not that of its section."""
    section, _, last = name.rpartition(".")
    return secrets_in({last: value}, section)


def exit_code(message: str, failures: Sequence[Failure]) -> int:
    """Return the exit code of the error that a job ended with.

    Args:
        message: what the platform says; on EMR Serverless too short for the name of every error.
        failures: what the runs themselves say, where the message names no error.
    """
    named = re.findall(r"\b(\w+Error): ", message)
    for name in [*named, *(failure.kind for failure in failures)]:
        kind = getattr(errors, name, JobFailedError)
        # The job's own error says that there was another one.
        if issubclass(kind, BucketwheelError) and kind is not JobFailedError:
            return kind.exit_code
    return SubmitError.exit_code


def _failure(
    config: Configuration, runner: JobRunner, state: JobState, platform: Platform, left: Outcome, since: datetime
) -> BucketwheelError:
    error = SubmitError(
        f"run {state.run_id} of {runner.job} ended as {state.state} after {state.seconds:.0f} s, {state.cost:.2f} "
        f"dollars: {state.message or f'no reason was given; look at the log group {runner.log_group}'}"
    )
    failures = left.failures(since)
    error.exit_code = exit_code(state.message, failures)
    for failure in failures:
        if failure.message not in state.message:
            error.add_note(f"the run says: {failure.kind}: {failure.message}")
    if advice := _trust(state.message, platform, Deployment(config.settings, config.env).role):
        error.add_note(advice)
    for problem in left.problems:
        error.add_note(f"warning: {problem}")
    for manifest in left.manifests:
        if manifest.status != "finished":
            error.add_note(f"{RESUME}{_resuming(config, platform, manifest)}")
    return error


def _resuming(config: Configuration, platform: Platform, manifest: Manifest) -> str:
    words = ["bucketwheel", "submit", platform, manifest.dataset, "--env", config.env]
    for name, value in _by_hand(config).items():
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join([*words, "--resume", manifest.run_id])
