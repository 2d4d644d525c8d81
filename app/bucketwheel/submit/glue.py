"""Job runs on Glue."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, is_temporary, wrap_aws_errors
from bucketwheel.aws.retry import retry
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.errors import JobBusyError, SubmitError
from bucketwheel.runs import cost
from bucketwheel.submit.follow import POLL_SECONDS, JobState

if TYPE_CHECKING:
    from mypy_boto3_glue.type_defs import JobRunTypeDef

# Glue has no idempotency token; this argument says which submission started a run.
TOKEN = "--submission-token"  # noqa: S105 a name
_ENDED = {"STOPPED", "SUCCEEDED", "FAILED", "ERROR", "TIMEOUT", "EXPIRED"}
_ATTEMPTS = 5
_PAGES = 5


class GlueRuns:
    """See `follow.JobRunner`."""

    def __init__(self, deployment: Deployment, job: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.job = deployment.job_name(job)
        self.log_group = deployment.output_log_group
        self._glue = deployment.settings.glue
        settings = deployment.settings.aws
        with wrap_aws_errors(SubmitError, f"job {self.job}"):
            self._client = clients.client("glue", settings)
            # boto3 must not retry a start by itself: if the response is lost, the job may run already.
            self._once = clients.client("glue", settings.model_copy(update={"attempts": 1}))
        self._sleep = sleep

    def start(self, arguments: Mapping[str, str], token: str) -> str:
        """See `follow.JobRunner.start`."""

        def start() -> str:
            return self._started(token) or self._start(arguments, token)

        with wrap_aws_errors(SubmitError, f"job {self.job}"):
            return retry(start, is_temporary, repeat(POLL_SECONDS, _ATTEMPTS - 1), self._sleep)

    def _start(self, arguments: Mapping[str, str], token: str) -> str:
        try:
            answer = self._once.start_job_run(
                JobName=self.job,
                Arguments={**arguments, TOKEN: token},
                WorkerType=self._glue.worker_type,
                NumberOfWorkers=self._glue.number_of_workers,
                Timeout=self._glue.timeout_minutes,
                ExecutionClass=self._glue.execution_class,
            )
        except ClientError as error:
            if code_of(error) == "ConcurrentRunsExceededException":
                raise JobBusyError(self._busy()) from error
            raise
        return str(answer["JobRunId"])

    def _started(self, token: str) -> str | None:
        for run in self._newest():
            if run.get("Arguments", {}).get(TOKEN) == token:
                return str(run["Id"])
        return None

    def _newest(self) -> list[JobRunTypeDef]:
        """Return the newest runs, newest first, up to a limit."""
        pages = self._client.get_paginator("get_job_runs").paginate(
            JobName=self.job, PaginationConfig={"PageSize": 100, "MaxItems": 100 * _PAGES}
        )
        return [run for page in pages for run in page["JobRuns"]]

    def _busy(self) -> str:
        running = [run["Id"] for run in self._newest() if run["JobRunState"] not in _ENDED]
        return (
            f"job {self.job} has reached its maximum of concurrent runs: {', '.join(running) or 'not listed'}; wait "
            "for them to finish, stop one, or follow one with its --token"
        )

    def look(self, run_id: str) -> JobState:
        """See `follow.JobRunner.look`."""
        run = self._client.get_job_run(JobName=self.job, RunId=run_id)["JobRun"]
        state, seconds = run["JobRunState"], float(run.get("ExecutionTime") or 0)
        if not seconds and state in ("RUNNING", "STOPPING"):
            seconds = max(time.time() - run["StartedOn"].timestamp(), 0)
        # With auto scaling, Glue bills actual usage and reports it when the run ends.
        used = run.get("DPUSeconds") or seconds * self._workers(run) * self._dpus(run)
        return JobState(
            run_id,
            state,
            state in _ENDED,
            state == "SUCCEEDED",
            seconds,
            cost.glue_dollars(used / 3_600, self._glue),
            run.get("ErrorMessage", ""),
        )

    def _workers(self, run: Mapping[str, Any]) -> int:
        return int(run.get("NumberOfWorkers") or self._glue.number_of_workers)

    def _dpus(self, run: Mapping[str, Any]) -> int:
        return cost.dpus(str(run.get("WorkerType"))) or cost.dpus(self._glue.worker_type) or 1

    def stop(self, run_id: str) -> None:
        """See `follow.JobRunner.stop`."""
        answer = self._client.batch_stop_job_run(JobName=self.job, JobRunIds=[run_id])
        for refused in answer.get("Errors", ()):
            detail = refused.get("ErrorDetail", {})
            raise ClientError(
                {"Error": {"Code": detail.get("ErrorCode", ""), "Message": detail.get("ErrorMessage", "")}},
                "BatchStopJobRun",
            )

    def log_streams(self, run_id: str) -> str:
        """See `follow.JobRunner.log_streams`."""
        return run_id
