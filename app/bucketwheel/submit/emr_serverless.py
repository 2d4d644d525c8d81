"""Job runs on EMR Serverless."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, is_temporary, wrap_aws_errors
from bucketwheel.aws.retry import retry
from bucketwheel.deploy.template import emr
from bucketwheel.deploy.template.deployment import TOPIC, Deployment
from bucketwheel.errors import JobBusyError, SelectionError, SubmitError
from bucketwheel.packaging.archive import SCRIPT
from bucketwheel.runs import cost
from bucketwheel.submit.follow import POLL_SECONDS, JobState

if TYPE_CHECKING:
    from mypy_boto3_emr_serverless.type_defs import ResourceUtilizationTypeDef, TotalResourceUtilizationTypeDef

_ENDED = {"SUCCESS", "FAILED", "CANCELLED"}
_BUSY = {"ConflictException", "ServiceQuotaExceededException"}
_ATTEMPTS = 5


class EmrRuns:
    """See `follow.JobRunner`."""

    def __init__(self, deployment: Deployment, job: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.job = deployment.job_name(job)
        self.log_group = deployment.output_log_group
        self._deployment = deployment
        self._emr = deployment.settings.emr_serverless
        self._sleep = sleep
        with wrap_aws_errors(SubmitError, f"application {deployment.stack}"):
            self._client = clients.client("emr-serverless", deployment.settings.aws)
            identity = clients.client("sts", deployment.settings.aws).get_caller_identity()
            self.application = self._emr.application_id or self._find()
        partition, account = identity["Arn"].split(":")[1], identity["Account"]
        own = f"arn:{partition}:sns:{self._client.meta.region_name}:{account}:{deployment.topic_name}"
        self._topic = deployment.settings.monitoring.topic_arn or own
        self._role = f"arn:{partition}:iam::{account}:role/{deployment.role}"

    def _find(self) -> str:
        name = self._deployment.stack
        pages = self._client.get_paginator("list_applications").paginate()
        for page in pages:
            for application in page["applications"]:
                if application.get("name") == name and application["state"] != "TERMINATED":
                    return str(application["id"])
        raise SelectionError(
            f"EMR Serverless application {name!r} does not exist; create it with `bucketwheel deploy apply`, or "
            "name one: --set emr_serverless.application_id=…"
        )

    def parameters(self, arguments: Mapping[str, str], token: str) -> dict[str, Any]:
        """Return the parameters of `StartJobRun`."""
        return {
            "applicationId": self.application,
            "clientToken": token,
            "executionRoleArn": self._role,
            "name": self.job,
            "executionTimeoutMinutes": self._emr.timeout_minutes,
            "jobDriver": {
                "sparkSubmit": {
                    "entryPoint": f"{self._deployment.package().uri}/{SCRIPT}",
                    "entryPointArguments": emr.words({**arguments, TOPIC: self._topic}),
                    "sparkSubmitParameters": emr.spark_parameters(self._deployment),
                }
            },
            "configurationOverrides": emr.monitoring(self.log_group),
            "tags": self._deployment.tag_map(),
        }

    def start(self, arguments: Mapping[str, str], token: str) -> str:
        """See `follow.JobRunner.start`; EMR Serverless recognizes a repeated token itself."""
        parameters = self.parameters(arguments, token)

        def start() -> str:
            try:
                return str(self._client.start_job_run(**parameters)["jobRunId"])
            except ClientError as error:
                if code_of(error) == "ConflictException" and "token" in str(error).lower():
                    raise SubmitError(
                        f"token {token} was used for a run with other arguments: {error}; use another --token"
                    ) from error
                if code_of(error) in _BUSY:
                    raise JobBusyError(
                        f"application {self.application} accepts no more runs now: {error}; wait for others to "
                        "finish, or raise emr_serverless.max_executors and apply the stack"
                    ) from error
                raise

        with wrap_aws_errors(SubmitError, f"job {self.job} on application {self.application}"):
            return retry(start, is_temporary, repeat(POLL_SECONDS, _ATTEMPTS - 1), self._sleep)

    def look(self, run_id: str) -> JobState:
        """See `follow.JobRunner.look`."""
        run = self._client.get_job_run(applicationId=self.application, jobRunId=run_id)["jobRun"]
        seconds = float(run.get("totalExecutionDurationSeconds") or 0)
        if not seconds and run["state"] in ("RUNNING", "CANCELLING"):
            # The start, not the creation: the run may have been queued.
            begun = run.get("startedAt") or run["createdAt"]
            seconds = max(time.time() - begun.timestamp(), 0)
        dollars = self._dollars(seconds, run.get("billedResourceUtilization") or run.get("totalResourceUtilization"))
        message = run.get("stateDetails", "") if run["state"] in ("FAILED", "CANCELLED") else ""
        return JobState(
            run_id, run["state"], run["state"] in _ENDED, run["state"] == "SUCCESS", seconds, dollars, message
        )

    def _dollars(
        self, seconds: float, used: ResourceUtilizationTypeDef | TotalResourceUtilizationTypeDef | None
    ) -> float:
        """Return the cost of the reported usage; before AWS reports it, assume that all workers run all the time."""
        if not used or not any(used.values()):
            hours = (self._emr.max_executors + 1) * seconds / 3_600
            return cost.emr_dollars(hours * self._emr.cores, hours * self._emr.memory_gb, self._emr)
        return cost.emr_dollars(used.get("vCPUHour", 0.0), used.get("memoryGBHour", 0.0), self._emr)

    def stop(self, run_id: str) -> None:
        """See `follow.JobRunner.stop`."""
        self._client.cancel_job_run(applicationId=self.application, jobRunId=run_id)

    def log_streams(self, run_id: str) -> str:
        """See `follow.JobRunner.log_streams`."""
        return f"applications/{self.application}/jobs/{run_id}"
