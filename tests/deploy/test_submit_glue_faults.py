"""Runs of Glue jobs (moto): interrupts, limits, throttling, outages and lost responses."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from moto.glue.models import FakeJob

from bucketwheel import api
from bucketwheel.errors import JobBusyError, SelectionError, SubmitError
from submit_support import JOB, Glue, answered, faults, sent


def test_busy_job_error_lists_its_runs(glue: Glue, monkeypatch: pytest.MonkeyPatch) -> None:
    running = [glue.submit(wait=False).state.run_id for _ in range(2)]
    # moto counts runs as running until somebody looks at them.
    monkeypatch.setattr(FakeJob, "get_job_runs", lambda self: self.job_runs)
    with pytest.raises(JobBusyError) as busy:
        glue.submit()
    assert busy.value.exit_code == 4
    assert str(busy.value).startswith(f"job {JOB} has reached its maximum of concurrent runs: ")
    assert all(run_id in str(busy.value) for run_id in running)
    assert glue.submit(api.JobRequest("register-staged-tables"), wait=False).state.run_id not in running


def test_interrupt_stops_run_only_when_requested(glue: Glue) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    glue.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt) as left:
        glue.submit()
    (note,) = left.value.__notes__
    assert note.endswith("the job continues; the same command with the same --token follows it again")

    def stop(request: Any, _: int) -> Any:
        assert glue.started[1][0] in request.body.decode()
        return answered(request, 200, "", "")

    with faults(glue.config, "glue", "BatchStopJobRun", stop) as calls, pytest.raises(KeyboardInterrupt) as stopped:
        glue.submit(stop=True)
    assert calls == [1]
    assert stopped.value.__notes__[0].endswith("a stop was requested")


def test_refused_stop_is_reported(glue: Glue) -> None:
    def refuse(request: Any, _: int) -> Any:
        return answered(request, 400, "AccessDeniedException", "not allowed")

    with faults(glue.config, "glue", "BatchStopJobRun", refuse), pytest.raises(SubmitError) as late:
        glue.submit(wait_minutes=0, stop=True)
    assert "it could not be stopped and continues: " in str(late.value)
    assert "not allowed" in str(late.value)


def test_timeout_leaves_run_running(glue: Glue) -> None:
    with pytest.raises(SubmitError) as late:
        glue.submit(wait_minutes=0)
    assert "reached --timeout; the job continues; the same command with the same --token" in str(late.value)
    assert glue.submit(api.JobRequest(token=glue.started[0][1])).state.succeeded
    assert len(glue.runs()) == 1


@pytest.mark.parametrize(
    ("status", "code"), [(400, "ThrottlingException"), (500, "InternalServiceException"), (503, "SlowDown")]
)
def test_throttling_and_outages_are_retried(glue: Glue, status: int, code: str) -> None:
    def slow(request: Any, number: int) -> Any:
        return answered(request, status, code, "Rate exceeded") if number % 3 else None

    with faults(glue.config, "glue", "GetJobRun", slow), faults(glue.config, "glue", "StartJobRun", slow):
        assert glue.submit().state.succeeded
    assert len(glue.runs()) == 1


def test_long_outage_raises_error_and_run_continues(glue: Glue) -> None:
    def down(request: Any, number: int) -> Any:
        return answered(request, 500, "InternalServiceException", "down")

    with faults(glue.config, "glue", "GetJobRun", down), pytest.raises(SubmitError) as given_up:
        glue.submit()
    assert "GetJobRun failed: InternalServiceException: down" in str(given_up.value)
    assert glue.submit(api.JobRequest(token=glue.started[0][1])).state.succeeded


def test_start_with_lost_response_starts_one_run(glue: Glue) -> None:
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
def test_refused_start_names_job_action_and_reason(glue: Glue, code: str, message: str, words: str) -> None:
    with (
        faults(glue.config, "glue", "StartJobRun", lambda request, _: answered(request, 400, code, message)) as calls,
        pytest.raises(SubmitError) as refused,
    ):
        glue.submit()
    assert str(refused.value).startswith(f"job {JOB}: {words}")
    assert calls == [1]
    notes = getattr(refused.value, "__notes__", [])
    assert ["must allow sts:AssumeRole to glue.amazonaws.com" in note for note in notes] == [True] * (
        "Role" in message
    )


def test_denied_start_names_missing_permission(glue: Glue) -> None:
    message = "User: arn:aws:iam::1:user/me is not authorized to perform: iam:PassRole on resource: role r"

    def refuse(request: Any, _: int) -> Any:
        return answered(request, 400, "AccessDeniedException", message)

    with faults(glue.config, "glue", "StartJobRun", refuse), pytest.raises(SubmitError) as refused:
        glue.submit()
    assert str(refused.value).endswith("; the role needs permission for iam:PassRole on it")


def test_interrupt_during_start_names_token(glue: Glue) -> None:
    def interrupt(request: Any, _: int) -> Any:
        assert sent(request).status_code == 200
        raise KeyboardInterrupt

    with faults(glue.config, "glue", "StartJobRun", interrupt), pytest.raises(KeyboardInterrupt) as interrupted:
        glue.submit()
    (note,) = interrupted.value.__notes__
    (run,) = glue.runs()
    token = run["Arguments"]["--submission-token"]
    assert note == (
        f"{JOB} may have been started; the same command with --token {token} follows that run, "
        "or starts one if there is none"
    )
    assert glue.submit(api.JobRequest(token=token)).state.run_id == run["Id"]


def test_missing_file_is_named(glue: Glue) -> None:
    with pytest.raises(SelectionError, match=r"--job nobody: no such job in deploy.jobs; known: infobase-split-and"):
        glue.submit(api.JobRequest("nobody"))
    with pytest.raises(SelectionError, match="no dataset 'nobody'; configured: infobase_attributes, address"):
        glue.submit(api.JobRequest(dataset="nobody"))
    with pytest.raises(SubmitError, match="job etl-omc-flywheel-prod-addressable-bucket: GetJobRuns failed: Entity"):
        glue.submit(api.JobRequest("addressable-bucket"))
