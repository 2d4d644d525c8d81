"""Runs of Glue jobs on moto, through their whole life; faults on the way."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest

from bucketwheel import api
from bucketwheel.deploy.submit import named_exit_code
from bucketwheel.errors import SubmitError
from deploy_support import ROOT
from project import WIDE, Project
from submit_support import JOB, Glue, client, fail, reached


def test_a_run_is_started_and_followed_to_its_end(glue: Glue) -> None:
    done = glue.submit()
    assert glue.states() == ["STARTING", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert glue.slept == 3
    assert (done.job, done.state.succeeded, done.state.ended) == (JOB, True, True)
    (run,) = glue.runs()
    assert (done.state.run_id, done.token) == glue.started[0] == (run["Id"], run["Arguments"]["--submission-token"])
    # What is not asked for is the job's own: its default arguments.
    assert set(run["Arguments"]) == {"--submission-token", "--settings"}
    assert json.loads(run["Arguments"]["--settings"]) == {"target": glue.config.settings.target}
    assert (run["WorkerType"], run["NumberOfWorkers"], run["Timeout"]) == ("G.4X", 10, 60)
    # 123 s by moto, 10 workers of 4 DPU at 0.44 dollars.
    assert done.state.cost == pytest.approx(123 / 3600 * 40 * 0.44)


def test_what_is_asked_for_reaches_the_job(glue: Glue) -> None:
    config = api.load(
        "prod",
        ROOT / "conf",
        [
            ("aws.endpoint_url", glue.url, "--set"),
            ("aws.region", "us-east-1", "--set"),
            ("target", glue.config.settings.target, "--set"),
            ("buckets.count", "32", "--set"),
            ("glue.number_of_workers", "20", "--set"),
            ("monitoring.metrics", "none", "--set"),
            ("monitoring.long_run_minutes", "30", "--set"),
        ],
        {"BUCKETWHEEL__SPLIT__COLUMN_LIMIT": "50"},
    )
    glue.submit(
        api.JobRequest("pipeline", WIDE, ("register", "ctas"), "2025-10-22", ("ibe_01", "ibe_04"), "last", "mine"),
        config=config,
    )
    (run,) = glue.runs()
    settings = json.loads(run["Arguments"].pop("--settings"))
    assert run["Arguments"] == {
        "--dataset": WIDE,
        "--stages": "register,ctas",
        "--SNAPSHOT_DT": "2025-10-22",
        "--TABLES_FILTER": "ibe_01,ibe_04",
        "--resume": "last",
        "--submission-token": "mine",
    }
    # What says how AWS is reached and how jobs are started stays here.
    wanted = {"buckets.count": 32, "monitoring.metrics": "none", "split.column_limit": 50}
    assert settings == {**wanted, "target": glue.config.settings.target}
    assert run["NumberOfWorkers"] == 20


def test_without_waiting_it_only_starts(glue: Glue) -> None:
    done = glue.submit(wait=False)
    assert (done.state.ended, glue.slept, glue.updates) == (False, 0, [])
    assert len(glue.runs()) == 1


def test_the_same_token_starts_one_run_and_follows_it(glue: Glue) -> None:
    first = glue.submit(api.JobRequest(token="monthly-2025-10"), wait=False)
    second = glue.submit(api.JobRequest(token="monthly-2025-10"))
    assert second.state.run_id == first.state.run_id
    assert second.state.succeeded
    assert len(glue.runs()) == 1


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("FAILED", "ExampleException: 200 rows have a NULL key; nothing was published"),
        ("TIMEOUT", ""),
        ("STOPPED", ""),
        ("ERROR", "internal service error"),
    ],
)
def test_a_run_that_does_not_end_well_is_an_error_with_its_message(
    glue: Glue, monkeypatch: pytest.MonkeyPatch, state: str, message: str
) -> None:
    fail(monkeypatch, state, message)
    with pytest.raises(SubmitError) as failed:
        glue.submit()
    assert failed.value.exit_code == 1
    text = str(failed.value)
    assert f"of {JOB} ended as {state} after 123 s, 0.60 dollars: " in text
    assert (message or "no reason was given; look at the log group /bucketwheel-prod/output") in text


@pytest.fixture
def working(aws_url: str, project: Project) -> Glue:
    """Jobs whose target is a local project; the first pause of a submission is when its run does its work."""
    glue = Glue(aws_url, project.target)
    datasets = {name: found.model_dump() for name, found in project.configuration().settings.datasets.items()}
    glue.config = reached(aws_url, project.target, datasets=datasets)

    def work(number: int) -> None:
        if number == 1:
            project.run("--stages", "discover,split")

    glue.on_sleep = work
    return glue


def test_the_manifests_of_the_run_are_returned(
    working: Glue, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = working.submit(api.JobRequest(dataset=WIDE))
    (manifest,), (summary,) = done.manifests, done.summaries
    assert (summary.run, summary.status, summary.rows) == (manifest.run_id, "finished", 1200)
    assert (manifest.run_id, tuple(manifest.stages)) == (project.run_ids()[0], ("discover", "split"))
    # A run that nothing was done to since then is another one's.
    working.on_sleep = lambda _: None
    monkeypatch.setattr("bucketwheel.deploy.submit._SKEW", timedelta(seconds=-5))
    assert working.submit(api.JobRequest(dataset=WIDE)).manifests == ()


def test_a_summary_that_cannot_be_read_is_left_out(working: Glue, project: Project) -> None:
    def work(number: int) -> None:
        if number == 1:
            project.run("--stages", "discover")
            (path,) = project.target.glob("_bucketwheel/*/runs/*/summary.json")
            path.write_text("{")

    working.on_sleep = work
    done = working.submit(api.JobRequest(dataset=WIDE))
    assert (len(done.manifests), done.summaries) == (1, ())


def test_a_failed_run_says_how_to_go_on(working: Glue, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, "FAILED", "no space")
    with pytest.raises(SubmitError) as failed:
        working.submit(api.JobRequest(dataset=WIDE))
    assert not hasattr(failed.value, "__notes__")
    (run_id,) = project.run_ids()
    path = project.target / "_bucketwheel" / WIDE / "runs" / run_id / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "failed"}))
    working.on_sleep = lambda _: None
    with pytest.raises(SubmitError) as failed:
        working.submit(api.JobRequest(dataset=WIDE))
    (note,) = failed.value.__notes__
    # With what was set by hand: without it, the run would have other settings than the one it is to resume.
    assert note.startswith(f"To go on from here: bucketwheel submit glue {WIDE} --env prod --set target=")
    assert note.endswith(f" --resume {run_id}")


def test_its_log_is_shown_as_it_comes_each_line_once(glue: Glue) -> None:
    logs = client("logs", glue.url)
    logs.create_log_group(logGroupName="/bucketwheel-prod/output")

    def write(number: int) -> None:
        run_id = glue.started[0][0]
        stream = {"logGroupName": "/bucketwheel-prod/output", "logStreamName": f"{run_id}-driver"}
        if number == 1:
            logs.create_log_stream(**stream)
            logs.create_log_stream(logGroupName="/bucketwheel-prod/output", logStreamName="of-another-run")
            logs.put_log_events(
                logGroupName="/bucketwheel-prod/output",
                logStreamName="of-another-run",
                logEvents=[{"timestamp": _now(), "message": "not ours"}],
            )
        events = [{"timestamp": _now(), "message": f"line {number}.{part}\n"} for part in (1, 2)]
        logs.put_log_events(**stream, logEvents=events)

    glue.on_sleep = write
    glue.submit()
    shown = [line for update in glue.updates for line in update.lines]
    assert shown == [f"line {number}.{part}" for number in (1, 2, 3) for part in (1, 2)]


def _now() -> int:
    return time.time_ns() // 10**6


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("JobFailedError: QualityError: 3 rows have a NULL key", 3),
        ("bucketwheel.errors.JobFailedError: LeaseError: another run holds the lease", 4),
        ("JobFailedError: ConfigError: buckets.cuont: unknown", 2),
        ("JobFailedError: EngineError: spark: MemoryError: malloc", 1),
        ("AnalysisException: ValueError: no", 1),
        ("", 1),
    ],
)
def test_the_exit_code_is_that_of_the_error_in_the_message(message: str, code: int) -> None:
    assert named_exit_code(message) == code
