"""Start a job of the stack, follow it, and return the manifests that its runs wrote."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bucketwheel import advice, errors
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.errors import (
    BucketwheelError,
    ConfigError,
    JobFailedError,
    SelectionError,
    SubmitError,
    did_you_mean,
)
from bucketwheel.pipeline.services import dataset_settings, selected_stages
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

# Settings of access to AWS and of starting jobs; a job has its own values.
_NOT_FOR_JOBS = ("aws.", "deploy.", "emr_serverless.", "glue.", "monitoring.")
_FOR_JOBS = ("monitoring.metrics", "monitoring.namespace", "monitoring.topic_arn")
# "…is not assumable", "…should be given assume role permissions", "Could not assume runtime role …".
_NOT_ASSUMED = re.compile(r"(?i)\bassum(e|able)\b.*\brole\b|\brole\b.*\bassum(e|able)\b", re.DOTALL)
# Tolerance for the difference between AWS's clock and this machine's.
_SKEW = timedelta(minutes=1)


@dataclass(frozen=True)
class Submitted:
    """A submitted job run: its last known state, its token, and the manifests and summaries that it wrote.

    `problems` lists what could not be read.
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
    """Start a job and, if `wait`, follow it to its end.

    Args:
        config: from `loading.load`; settings from flags and the environment are passed on to the job.
        platform: where the job runs.
        request: the job and its options.
        wait: whether to follow the run to its end.
        wait_minutes: maximum time to wait, in minutes; None waits without limit.
        stop: whether to stop the run when the wait ends or is interrupted.
        report: called with every update.
        started: called once with (run id, token).
        sleep: pauses for a number of seconds.

    Raises:
        ConfigError: an explicit setting looks like a secret.
        SelectionError: no such job.
        KeyboardInterrupt: with a note that says what happens to the run.
        SubmitError: the job could not be started, or failed.
    """
    deployment = Deployment(config.settings, config.env)
    datasets = _datasets(config, deployment, request)
    arguments = _arguments(config, deployment, platform, request)
    make: Callable[..., JobRunner] = GlueRuns if platform == "glue" else EmrRuns
    runner = make(deployment, request.job, sleep)
    token, begun = request.token or str(uuid.uuid4()), datetime.now(UTC) - _SKEW
    with _explain_failed_start(runner, platform, deployment.role, token):
        run_id = runner.start(arguments, token)
        started(run_id, token)
    if not wait:
        return Submitted(runner.job, token, runner.look(run_id))
    tail = Tail(config.settings.aws, runner.log_group, runner.log_streams(run_id))
    seconds = None if wait_minutes is None else wait_minutes * 60
    state = follow(runner, run_id, tail, report, seconds, stop, sleep)
    # With a token, the run may be older than this command.
    since = begun - timedelta(seconds=state.seconds) if request.token else begun
    results = outcome(config.settings, datasets, since)
    if not state.succeeded:
        raise _failure(config, runner, state, (platform, request), results, since)
    return Submitted(runner.job, token, state, results.manifests, results.summaries, results.problems)


@contextmanager
def _explain_failed_start(runner: JobRunner, platform: Platform, role: str, token: str) -> Iterator[None]:
    """Add a note to errors of the block: how to follow a run after an interrupt, or what the role lacks."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(
            f"{runner.job} may have been started; the same command with --token {token} follows that run, or "
            "starts one if there is none"
        )
        raise
    except SubmitError as error:
        if trust := _trust_advice(str(error), platform, role):
            error.add_note(trust)
        raise


def _trust_advice(message: str, platform: Platform, role: str) -> str:
    """Return the fix if AWS says that the platform cannot assume the jobs' role, else an empty text."""
    if not _NOT_ASSUMED.search(message):
        return ""
    return (
        f"the trust policy of role {role} must allow sts:AssumeRole to {platform}.amazonaws.com: `bucketwheel deploy "
        f"apply` with deploy.platform={platform} sets it, `bucketwheel doctor` checks it"
    )


def _datasets(config: Configuration, deployment: Deployment, request: JobRequest) -> list[str]:
    """Return the datasets that the job works on.

    Raises:
        SelectionError: no such job, dataset or stage.
    """
    jobs = deployment.jobs()
    if request.job not in jobs:
        guess = did_you_mean(request.job, jobs)
        raise SelectionError(f"--job {request.job}: no such job in deploy.jobs; {guess}known: {', '.join(jobs)}")
    if request.dataset is not None:
        dataset_settings(config.settings, request.dataset)
    selected_stages(config.settings, request.stages)
    known = config.settings.datasets
    wanted = request.dataset or jobs[request.job].dataset
    return [wanted] if wanted else list(known)


def _arguments(
    config: Configuration, deployment: Deployment, platform: Platform, request: JobRequest
) -> dict[str, str]:
    job = deployment.jobs()[request.job]
    options = {
        "--SNAPSHOT_DT": request.snapshot_dt,
        "--TABLES_FILTER": ",".join(request.tables) or None,
    }
    given = {name: value for name, value in options.items() if value}
    if request.resume:
        given["--resume"] = request.resume
    if explicit := _explicit(config):
        given["--settings"] = json.dumps(explicit, sort_keys=True)
    if platform == "glue":
        # The job's default arguments have the rest.
        chosen = {"--dataset": request.dataset, "--stages": ",".join(request.stages)}
        return {**{name: value for name, value in chosen.items() if value}, **given}
    return deployment.arguments(job, request.dataset, request.stages, dict(given))


def _explicit(config: Configuration) -> dict[str, Any]:
    """Return the settings for jobs that come from flags or the environment.

    Raises:
        ConfigError: a setting looks like a secret, which the AWS console would show; the message omits its value.
    """
    settings = {
        name: value
        for name, value in advice.given_settings(config)
        if name in _FOR_JOBS or not name.startswith(_NOT_FOR_JOBS)
    }
    problems = [f"{name}: {what}" for name, value in settings.items() for name, what in _secrets(name, value)]
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def _secrets(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the findings of `secrets_in` for one setting; ignore the names of its sections."""
    section, _, last = name.rpartition(".")
    return secrets_in({last: value}, section)


def exit_code(message: str, failures: Sequence[Failure]) -> int:
    """Return the exit code of the error with which a job ended.

    Args:
        message: the platform's message; EMR Serverless cuts it, so it may lack the name of the error.
        failures: the failures in the runs' summaries, used if the message names no error.
    """
    named = re.findall(r"\b(\w+Error): ", message)
    for name in [*named, *(failure.kind for failure in failures)]:
        kind = getattr(errors, name, JobFailedError)
        # JobFailedError only wraps another error.
        if issubclass(kind, BucketwheelError) and kind is not JobFailedError:
            return kind.exit_code
    return SubmitError.exit_code


def _failure(
    config: Configuration,
    runner: JobRunner,
    state: JobState,
    submitted: tuple[Platform, JobRequest],
    results: Outcome,
    since: datetime,
) -> BucketwheelError:
    platform, request = submitted
    lines = list(_advice(config, platform, request, results, since))
    # Drop the advice of the job: the advice of this command contains the options that the user passed.
    message = "\n".join(line for line in state.message.splitlines() if not (lines and advice.is_advice(line)))
    error = SubmitError(
        f"run {state.run_id} of {runner.job} ended in state {state.state} after {state.seconds:.0f} s, "
        f"{state.cost:.2f} dollars: {message or f'no reason was given; see the log group {runner.log_group}'}"
    )
    failures = results.failures(since)
    error.exit_code = exit_code(state.message, failures)
    for failure in failures:
        if failure.message not in state.message:
            error.add_note(f"the run failed with {failure.kind}: {failure.message}")
    if trust := _trust_advice(state.message, platform, Deployment(config.settings, config.env).role):
        error.add_note(trust)
    for problem in results.problems:
        error.add_note(f"warning: {problem}")
    for line in lines:
        error.add_note(line)
    return error


def _advice(
    config: Configuration, platform: Platform, request: JobRequest, results: Outcome, since: datetime
) -> Iterator[str]:
    """Yield the advice about each run that has not finished."""
    remedies = {summary.run: summary.error.remedy for summary in results.fresh(since) if summary.error}
    options = list(advice.selection(request.stages, request.snapshot_dt, request.tables))
    if request.job != JobRequest.job:
        options = ["--job", request.job, *options]
    for manifest in results.manifests:
        if manifest.status != "finished":
            command = advice.command(config, ["bucketwheel", "submit", platform, manifest.dataset], options)
            yield advice.advice(remedies.get(manifest.run_id, advice.Remedy()), command, manifest.run_id)
