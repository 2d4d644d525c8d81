"""Runs on EMR Serverless (moto): life cycle, cost and faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bucketwheel import api
from bucketwheel.errors import ConfigError, JobBusyError, SelectionError, SubmitError
from bucketwheel.sample import Sample
from bucketwheel.submit.submit import submit
from deploy_support import PACKAGE
from emr_support import LIFE, TOPIC_ARN, Emr, looked
from project import WIDE, Project
from submit_support import answered, client, faults, reached


def test_submit_follows_run_to_its_end(emr: Emr) -> None:
    done = emr.submit(api.JobRequest("infobase-split-and-bucket", snapshot_dt="2025-10-22", tables=("ibe_01",)))
    assert tuple(update.state.state for update in emr.updates) == LIFE
    assert done.state.succeeded
    run = emr.run()
    assert (run.client_token, run.name) == (emr.token, "etl-omc-flywheel-prod-infobase-split-and-bucket")
    assert run.job_driver is not None
    words = run.job_driver["sparkSubmit"]["entryPointArguments"]
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given.pop("--settings")
    assert given == {
        "--env": "prod",
        "--config-dir": f"{PACKAGE}/conf",
        "--dataset": "infobase_attributes",
        "--stages": "discover,split,size,bucket,verify",
        "--SNAPSHOT_DT": "2025-10-22",
        "--TABLES_FILTER": "ibe_01",
        "--notices-topic": TOPIC_ARN,
    }


def test_cost_of_finished_run_is_billed_usage(emr: Emr) -> None:
    used, billed = ({"vCPUHour": hours, "memoryGBHour": 4 * hours} for hours in (2.0, 4.0))
    ended = {"state": "SUCCESS", "totalExecutionDurationSeconds": 90}
    look = looked(emr, **ended, totalResourceUtilization=used)
    assert look.cost == pytest.approx(2 * 0.052624 + 8 * 0.0057785)
    look = looked(emr, **ended, totalResourceUtilization=used, billedResourceUtilization=billed)
    assert look.cost == pytest.approx(4 * 0.052624 + 16 * 0.0057785)
    assert look.seconds == 90


def test_cost_of_running_run_counts_all_workers(emr: Emr) -> None:
    now = datetime.now(UTC)
    begun = {"createdAt": now - timedelta(hours=3), "startedAt": now - timedelta(hours=1)}
    look = looked(emr, state="RUNNING", **begun)
    workers = emr.config.settings.emr_serverless.max_executors + 1
    assert workers > 1
    # The boto3 of Glue 5.0 does not know when a run has started, only when it was made.
    known = "startedAt" in client("emr-serverless", emr.url).meta.service_model.shape_for("JobRun").members
    hours = 1 if known else 3
    hour = hours * workers * (4 * 0.052624 + 16 * 0.0057785)
    assert look.cost == pytest.approx(hour, rel=0.01)
    assert look.seconds == pytest.approx(hours * 3600, rel=0.01)
    # AWS says that nothing was used before it says what.
    assert looked(emr, state="RUNNING", **begun, billedResourceUtilization={"vCPUHour": 0.0}).cost > hour * 0.9
    for state in ("SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "CANCELLED"):
        assert looked(emr, state=state, **begun).cost == 0


@pytest.mark.parametrize(
    ("life", "details", "code"),
    [
        (("RUNNING", "FAILED"), "ExitCode: 1. JobFailedError: QualityError: 3 rows have a NULL key", 3),
        (("RUNNING", "FAILED"), "ExitCode: 1. Last few exceptions: Caused by: …", 1),
        (("RUNNING", "CANCELLING", "CANCELLED"), "cancelled by somebody", 1),
        (("QUEUED", "CANCELLED"), "was in the queue for longer than its time-out", 1),
        (("RUNNING", "CANCELLING", "CANCELLED"), "exceeded executionTimeoutMinutes 60", 1),
    ],
)
def test_failed_or_cancelled_run_raises_error_with_details(
    emr: Emr, life: tuple[str, ...], details: str, code: int
) -> None:
    emr.life, emr.details = list(life), details
    with pytest.raises(SubmitError) as ended:
        emr.submit()
    assert f"of etl-omc-flywheel-prod-pipeline ended in state {life[-1]} after" in str(ended.value)
    assert str(ended.value).endswith(f": {details}")
    assert ended.value.exit_code == code
    assert tuple(update.state.state for update in emr.updates) == life


def test_exit_code_comes_from_run_when_details_are_cut(
    emr: Emr, project: Project, dirty: Callable[..., Sample]
) -> None:
    project.use(dirty("null_keys"))
    emr.config = reached(emr.url, project.target, deploy__platform="emr-serverless")
    emr.life, emr.details = ["RUNNING", "RUNNING", "FAILED"], "ExitCode: 1. Last few exceptions: Caused by: …"
    moved = emr._move

    def move() -> None:
        if len(emr.life) == 2:
            assert project.cli("run", WIDE, "--stages", "discover,split,size,bucket,verify").exit_code == 3
        moved()

    emr._move = move  # type: ignore[method-assign]
    with pytest.raises(SubmitError) as ended:
        emr.submit(api.JobRequest(dataset=WIDE))
    assert ended.value.exit_code == 3
    said, resume = ended.value.__notes__
    assert said.startswith("the run failed with QualityError: ")
    assert resume.startswith(f"To resume: bucketwheel submit emr-serverless {WIDE} --env prod --conf ")
    assert " --set quality.null_keys=warn --resume " in resume
    # An earlier attempt says nothing about one that left no summary.
    (summary,) = project.target.glob("_bucketwheel/*/runs/*/summary.json")
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "ended": "2025-01-01T00:00:00+00:00"}))
    emr.life = ["RUNNING", "FAILED"]
    emr._move = moved  # type: ignore[method-assign]
    with pytest.raises(SubmitError) as later:
        emr.submit(api.JobRequest(dataset=WIDE))
    assert later.value.__notes__ == [resume.replace(" --set quality.null_keys=warn", "")]
    assert later.value.exit_code == 1


def test_interrupt_stops_run_when_requested(emr: Emr) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    emr.life = ["RUNNING"]
    with pytest.raises(KeyboardInterrupt) as stopped:
        submit(
            emr.config,
            "emr-serverless",
            api.JobRequest(),
            stop=True,
            started=emr._started,
            sleep=interrupt,
        )
    assert stopped.value.__notes__[0].endswith("a stop was requested")
    assert emr.run().state == "CANCELLED"


def test_throttling_is_retried_and_full_application_is_not(emr: Emr) -> None:
    def slow(request: Any, number: int) -> Any:
        return answered(request, 429, "TooManyRequestsException", "slow down") if number < 4 else None

    emr.life = ["SUBMITTED", "SUCCESS"]
    emr._move = lambda: None  # type: ignore[method-assign]
    with faults(emr.config, "emr-serverless", "StartJobRun", slow) as calls:
        assert emr.submit().state.succeeded
    assert calls[-1] == 4

    def full(request: Any, _: int) -> Any:
        return answered(request, 402, "ServiceQuotaExceededException", "vCPU limit")

    with faults(emr.config, "emr-serverless", "StartJobRun", full), pytest.raises(JobBusyError) as busy:
        emr.submit()
    assert busy.value.exit_code == 4
    assert "accepts no more runs now" in str(busy.value)


def test_token_of_other_run_is_not_called_busy(emr: Emr) -> None:
    def used(request: Any, _: int) -> Any:
        return answered(request, 409, "ConflictException", "Client token was used with different parameters")

    with faults(emr.config, "emr-serverless", "StartJobRun", used), pytest.raises(SubmitError) as refused:
        emr.submit()
    assert not isinstance(refused.value, JobBusyError)
    assert "was used for a run with other arguments" in str(refused.value)
    assert "use another --token" in str(refused.value)


def test_unusable_role_is_named(emr: Emr) -> None:
    def refuse(request: Any, _: int) -> Any:
        return answered(request, 400, "ValidationException", "Role arn:aws:iam::1:role/r is not assumable")

    with faults(emr.config, "emr-serverless", "StartJobRun", refuse), pytest.raises(SubmitError) as refused:
        emr.submit()
    assert f"job etl-omc-flywheel-prod-pipeline on application {emr.application}: StartJobRun failed" in str(
        refused.value
    )
    assert "is not assumable" in str(refused.value)
    (note,) = refused.value.__notes__
    assert note == (
        "the trust policy of role omc_flywheel-prod-glue-role must allow sts:AssumeRole to "
        "emr-serverless.amazonaws.com: `bucketwheel deploy apply` with deploy.platform=emr-serverless "
        "sets it, `bucketwheel doctor` checks it"
    )


def test_role_refused_at_start_of_run_is_named(emr: Emr) -> None:
    emr.life = ["SCHEDULED", "FAILED"]
    emr.details = (
        "Could not assume runtime role arn:aws:iam::123456789012:role/r because it either does not exist or isn't "
        "set up with the required trust relationship."
    )
    with pytest.raises(SubmitError) as ended:
        emr.submit()
    (note,) = ended.value.__notes__
    assert note.startswith("the trust policy of role omc_flywheel-prod-glue-role must allow sts:AssumeRole to emr-")


def test_missing_application_or_package_is_named(aws_url: str, tmp_path: Path) -> None:
    emr = Emr(aws_url, tmp_path, deploy__stack="another")
    with pytest.raises(
        SelectionError, match=r"EMR Serverless application 'another' does not exist; create it with `bucket"
    ):
        emr.submit()
    named = reached(aws_url, tmp_path, deploy__package=None, emr_serverless__application_id=emr.application)
    with pytest.raises(ConfigError, match=r"deploy.package is not set; upload one with"):
        submit(named, "emr-serverless", api.JobRequest())
