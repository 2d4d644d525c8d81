"""Runs of Glue jobs on moto, through their whole life; faults on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from moto.glue.models import FakeJob, FakeJobRun

from bucketwheel import api
from bucketwheel.deploy.jobruns import Update
from bucketwheel.deploy.submit import Submitted, submit
from bucketwheel.errors import JobBusyError, SelectionError, SubmitError
from deploy_support import ROOT
from project import WIDE, Project
from submit_support import answered, client, faults, reached, sent, transitions

JOB = "etl-omc-flywheel-prod-pipeline"


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
        found: list[dict[str, Any]] = self._client.get_job_runs(JobName=name)["JobRuns"]
        return found

    def states(self) -> list[str]:
        return [update.state.state for update in self.updates]


@pytest.fixture
def glue(aws_url: str, tmp_path: Path) -> Glue:
    return Glue(aws_url, tmp_path / "out")


def fail(monkeypatch: pytest.MonkeyPatch, state: str, message: str) -> None:
    """Have runs end in a state that moto never reaches."""
    described = FakeJobRun.as_dict

    def as_dict(self: FakeJobRun) -> dict[str, Any]:
        found = described(self)
        ended = {"JobRunState": state, "ErrorMessage": message} if self.status == "SUCCEEDED" else {}
        return {**found, **ended}

    monkeypatch.setattr(FakeJobRun, "as_dict", as_dict)


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
    assert settings == {"buckets.count": 32, "split.column_limit": 50, "target": glue.config.settings.target}
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
        ("FAILED", "JobFailedError: 200 rows have a NULL key; nothing was published"),
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
    (manifest,) = working.submit(api.JobRequest(dataset=WIDE)).manifests
    assert (manifest.run_id, tuple(manifest.stages)) == (project.run_ids()[0], ("discover", "split"))
    # A run that nothing was done to since then is another one's.
    working.on_sleep = lambda _: None
    monkeypatch.setattr("bucketwheel.deploy.submit._SKEW", timedelta(seconds=-5))
    assert working.submit(api.JobRequest(dataset=WIDE)).manifests == ()


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
    assert failed.value.__notes__ == [f"To go on from here: bucketwheel submit glue {WIDE} --resume {run_id}"]


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


def test_a_job_that_is_running_is_refused_with_the_runs_that_it_has(
    glue: Glue, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = [glue.submit(wait=False).state.run_id for _ in range(2)]
    # moto counts runs as running until somebody looks at them.
    monkeypatch.setattr(FakeJob, "get_job_runs", lambda self: self.job_runs)
    with pytest.raises(JobBusyError) as busy:
        glue.submit()
    assert busy.value.exit_code == 4
    assert str(busy.value).startswith(f"job {JOB} has as many runs as it may have at a time: ")
    assert all(run_id in str(busy.value) for run_id in running)
    assert glue.submit(api.JobRequest("register-staged-tables"), wait=False).state.run_id not in running


def test_an_interrupt_leaves_the_run_or_stops_it_if_that_was_asked(glue: Glue) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    glue.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt) as left:
        glue.submit()
    (note,) = left.value.__notes__
    assert note.endswith("it goes on; the same command with the same --token follows it again")

    def stop(request: Any, _: int) -> Any:
        assert glue.started[1][0] in request.body.decode()
        return answered(request, 200, "", "")

    with faults(glue.config, "glue", "BatchStopJobRun", stop) as calls, pytest.raises(KeyboardInterrupt) as stopped:
        glue.submit(stop=True)
    assert calls == [1]
    assert stopped.value.__notes__[0].endswith("it was told to stop")


def test_a_stop_that_is_refused_is_said(glue: Glue) -> None:
    def refuse(request: Any, _: int) -> Any:
        return answered(request, 400, "AccessDeniedException", "not allowed")

    with faults(glue.config, "glue", "BatchStopJobRun", refuse), pytest.raises(SubmitError) as late:
        glue.submit(wait_minutes=0, stop=True)
    assert "it could not be stopped and goes on: " in str(late.value)
    assert "not allowed" in str(late.value)


def test_a_wait_that_is_over_leaves_the_run(glue: Glue) -> None:
    with pytest.raises(SubmitError) as late:
        glue.submit(wait_minutes=0)
    assert "was waited for long enough; it goes on; the same command with the same --token" in str(late.value)
    assert glue.submit(api.JobRequest(token=glue.started[0][1])).state.succeeded
    assert len(glue.runs()) == 1


@pytest.mark.parametrize(
    ("status", "code"), [(400, "ThrottlingException"), (500, "InternalServiceException"), (503, "SlowDown")]
)
def test_throttling_and_outages_are_waited_out(glue: Glue, status: int, code: str) -> None:
    def slow(request: Any, number: int) -> Any:
        return answered(request, status, code, "Rate exceeded") if number % 3 else None

    with faults(glue.config, "glue", "GetJobRun", slow), faults(glue.config, "glue", "StartJobRun", slow):
        assert glue.submit().state.succeeded
    assert len(glue.runs()) == 1


def test_an_outage_that_lasts_is_an_error_and_the_run_goes_on(glue: Glue) -> None:
    def down(request: Any, number: int) -> Any:
        return answered(request, 500, "InternalServiceException", "down")

    with faults(glue.config, "glue", "GetJobRun", down), pytest.raises(SubmitError) as given_up:
        glue.submit()
    assert "GetJobRun failed: InternalServiceException: down" in str(given_up.value)
    assert glue.submit(api.JobRequest(token=glue.started[0][1])).state.succeeded


def test_a_lost_answer_does_not_start_a_second_run(glue: Glue) -> None:
    def lose(request: Any, number: int) -> Any:
        if number == 1:
            assert sent(request).status_code == 200
            raise EndpointConnectionError(endpoint_url=request.url)
        return None

    with faults(glue.config, "glue", "StartJobRun", lose) as calls:
        done = glue.submit()
    assert calls == [1]
    (run,) = glue.runs()
    assert run["Id"] == done.state.run_id


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        (
            "AccessDeniedException",
            "not authorized to perform glue:StartJobRun",
            "StartJobRun was denied (not authorized",
        ),
        (
            "InvalidInputException",
            "Role r should be given assume role permissions for Glue Service",
            "StartJobRun failed: InvalidInputException: Role r should be given assume role permissions",
        ),
    ],
)
def test_a_refused_start_names_job_action_and_reason(glue: Glue, code: str, message: str, words: str) -> None:
    with (
        faults(glue.config, "glue", "StartJobRun", lambda request, _: answered(request, 400, code, message)) as calls,
        pytest.raises(SubmitError) as refused,
    ):
        glue.submit()
    assert str(refused.value).startswith(f"job {JOB}: {words}")
    assert calls == [1]


def test_what_is_not_there_is_named(glue: Glue) -> None:
    with pytest.raises(
        SelectionError, match=r"--job nobody: no such job in deploy.jobs; there are infobase-split-and"
    ):
        glue.submit(api.JobRequest("nobody"))
    with pytest.raises(SelectionError, match="no dataset is called 'nobody'; there are infobase_attributes, address"):
        glue.submit(api.JobRequest(dataset="nobody"))
    with pytest.raises(SubmitError, match="job etl-omc-flywheel-prod-addressable-bucket: GetJobRuns failed: Entity"):
        glue.submit(api.JobRequest("addressable-bucket"))
