"""Runs of Glue jobs (moto): life cycle and results."""

from __future__ import annotations

import json

import pytest

from bucketwheel import api
from bucketwheel.errors import SubmitError
from bucketwheel.submit.submit import exit_code
from deploy_support import ROOT
from project import WIDE
from submit_support import JOB, Glue, fail


def test_submit_follows_run_to_its_end(glue: Glue) -> None:
    done = glue.submit()
    assert glue.states() == ["STARTING", "RUNNING", "RUNNING", "SUCCEEDED"]
    # The last pause is for lines that come late.
    assert glue.slept == 4
    assert (done.job, done.state.succeeded, done.state.ended) == (JOB, True, True)
    (run,) = glue.runs()
    assert (done.state.run_id, done.token) == glue.started[0] == (run["Id"], run["Arguments"]["--submission-token"])
    # What is not asked for is the job's own: its default arguments.
    assert set(run["Arguments"]) == {"--submission-token", "--settings"}
    assert json.loads(run["Arguments"]["--settings"]) == {"target": glue.config.settings.target}
    assert (run["WorkerType"], run["NumberOfWorkers"], run["Timeout"]) == ("G.4X", 10, 60)
    # 123 s by moto, 10 workers of 4 DPU at 0.44 dollars.
    assert done.state.cost == pytest.approx(123 / 3600 * 40 * 0.44)


def test_request_becomes_arguments_of_job(glue: Glue) -> None:
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
    expected = {"buckets.count": 32, "monitoring.metrics": "none", "split.column_limit": 50}
    assert settings == {**expected, "target": glue.config.settings.target}
    assert run["NumberOfWorkers"] == 20


def test_submit_without_wait_only_starts_run(glue: Glue) -> None:
    done = glue.submit(wait=False)
    assert (done.state.ended, glue.slept, glue.updates) == (False, 0, [])
    assert len(glue.runs()) == 1


def test_same_token_follows_the_same_run(glue: Glue) -> None:
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
def test_unsuccessful_run_raises_error_with_message(
    glue: Glue, monkeypatch: pytest.MonkeyPatch, state: str, message: str
) -> None:
    fail(monkeypatch, state, message)
    with pytest.raises(SubmitError) as failed:
        glue.submit()
    assert failed.value.exit_code == 1
    text = str(failed.value)
    assert f"of {JOB} ended in state {state} after 123 s, 0.60 dollars: " in text
    assert (message or "no reason was given; see the log group /bucketwheel-prod/output") in text


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
def test_exit_code_comes_from_error_in_message(message: str, code: int) -> None:
    assert exit_code(message, ()) == code
