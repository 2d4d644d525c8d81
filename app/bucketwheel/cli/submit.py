"""The commands that start a job on AWS and follow it: submit glue, submit emr-serverless."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bucketwheel.cli.options import (
    configured,
    dataset_argument,
    output_option,
    package_option,
    print_json,
    resume_option,
    snapshot_option,
    stages_option,
    tables_option,
)
from bucketwheel.cli.terminal import echo_whole
from bucketwheel.safe_text import one_line

if TYPE_CHECKING:
    from bucketwheel.api import Configuration
    from bucketwheel.submit.follow import Update
    from bucketwheel.submit.request import Platform


@click.group()
def submit() -> None:
    """Start a job on Glue or EMR Serverless and follow it to its end."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a submission to a command."""
    for option in (
        dataset_argument,
        click.option("--job", default="pipeline", show_default=True, help="Name of the job in deploy.jobs."),
        stages_option,
        snapshot_option,
        tables_option,
        resume_option,
        click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the job to its end."),
        click.option("--timeout", type=click.FloatRange(min=0), metavar="MINUTES", help="Maximum time to wait."),
        click.option("--stop", is_flag=True, help="Stop the job on Ctrl-C and at --timeout."),
        click.option("--token", help="Idempotency token: submitting it again follows the same job."),
        output_option,
        click.option("--verbose", is_flag=True, help="Show each table and where it was published."),
    )[::-1]:
        command = option(command)
    return command


@submit.command("glue")
@_options
@configured
def _glue(config: Configuration, **options: Any) -> None:
    """Start a job of the stack on Glue."""
    _submit(config, "glue", **options)


@submit.command("emr-serverless")
@package_option
@_options
@configured
def _emr_serverless(config: Configuration, **options: Any) -> None:
    """Start a job on the stack's EMR Serverless application."""
    _submit(config, "emr-serverless", **options)


def _submit(
    config: Configuration,
    platform: Platform,
    dataset: str | None,
    job: str,
    stages: tuple[str, ...],
    snapshot_dt: str | None,
    tables_filter: tuple[str, ...],
    resume: str | None,
    wait: bool,
    timeout: float | None,
    stop: bool,
    token: str | None,
    output: str,
    verbose: bool,
) -> None:
    from bucketwheel import api
    from bucketwheel.cli.summary import summary_text
    from bucketwheel.cli.terminal import echo
    from bucketwheel.cli.text import run_text

    request = api.JobRequest(job, dataset, stages, snapshot_dt, tables_filter, resume, token)
    view = _JobView(output)
    done = api.submit(config, platform, request, wait, timeout, stop, view.update, view.started)
    if output == "json":
        manifests = [api.manifest_document(config, manifest) for manifest in done.manifests]
        summaries = [summary.model_dump(mode="json") for summary in done.summaries]
        job_run = {"job": done.job, "token": done.token, **asdict(done.state)}
        print_json({**job_run, "manifests": manifests, "summaries": summaries, "problems": list(done.problems)})
        return
    head = f"{done.job}: run {done.state.run_id} {done.state.state}"
    if not done.state.ended:
        echo_whole(f"{head}\nfollow it with the same command and --token {done.token}")
        return
    echo_whole(f"{head} after {_time(done.state.seconds)}, {done.state.cost:.2f} dollars")
    for manifest in done.manifests:
        # The line above has the cost of the job.
        outcome = api.RunOutcome(manifest, changed=True)
        text = run_text(manifest, changed=True) if verbose else summary_text(config, outcome, with_cost=False)
        echo(f"\n{text}")
    for text in (text for summary in done.summaries for text in summary.warnings):
        echo(f"warning: {one_line(text)}")
    for text in done.problems:
        echo(f"warning: {one_line(text)}", err=True)


class _JobView:
    """Shows news about a job on stderr: lines for people, or JSON lines."""

    def __init__(self, output: str) -> None:
        self._json = output == "json"
        self._state = ""

    def started(self, run_id: str, token: str) -> None:
        """Show the id of the job run."""
        self._echo({"run_id": run_id, "token": token}, f"run {run_id}, token {token}")

    def update(self, news: Update) -> None:
        """Show new log lines, and the state if it changed."""
        from bucketwheel.monitoring.json_log import plain_text

        for line in news.lines:
            text = plain_text(line)
            if self._json or text is not None:
                self._echo({"line": line}, text or "")
        if news.trouble:
            self._echo({"warning": news.trouble}, f"warning: {news.trouble}")
        state = news.state
        if self._json or state.state != self._state:
            so_far = "" if state.ended else " so far"
            text = f"{state.state.lower()}, {_time(state.seconds)}, {state.cost:.2f} dollars{so_far}"
            self._echo(asdict(state), text)
        self._state = state.state

    def _echo(self, event: dict[str, Any], text: str) -> None:
        echo_whole(json.dumps(event) if self._json else text, err=True)


def _time(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
