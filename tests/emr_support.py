"""Runs on EMR Serverless, on moto."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.awsrequest import AWSResponse
from moto.emrserverless.models import JobRun, emrserverless_backends

import aws_shapes
from bucketwheel import api
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.submit.emr_serverless import EmrRuns
from bucketwheel.submit.follow import JobState, Update
from bucketwheel.submit.submit import Submitted, submit
from deploy_support import ACCOUNT, REGION
from submit_support import GROUP, Answer, client, faults, reached

TOPIC_ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:bucketwheel-prod-notices"
LIFE = ("SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "RUNNING", "SUCCESS")


class Emr:
    """The application of the account, or a new one, and runs whose state moves on with each pause of a submission."""

    def __init__(self, url: str, target: Path, **more: Any) -> None:
        self.url = url
        self.config = reached(url, target, deploy__platform="emr-serverless", **more)
        calls = client("emr-serverless", url)
        existing = calls.list_applications()["applications"]
        self.application = str(
            existing[0]["id"]
            if existing
            else calls.create_application(name="bucketwheel-prod", releaseLabel="emr-7.8.0", type="SPARK")[
                "applicationId"
            ]
        )
        logs = client("logs", url)
        if not logs.describe_log_groups()["logGroups"]:
            logs.create_log_group(logGroupName=GROUP)
        self.updates: list[Update] = []
        self.token = ""
        self.life = list(LIFE)
        self.details = ""

    def run(self) -> JobRun:
        job_run: JobRun = emrserverless_backends[ACCOUNT][REGION].job_runs[self.application][-1]
        return job_run

    def submit(self, request: api.JobRequest | None = None, **options: Any) -> Submitted:
        return submit(
            self.config,
            "emr-serverless",
            request or api.JobRequest(),
            report=self.updates.append,
            started=self._started,
            sleep=lambda _: self._move(),
            **options,
        )

    def _started(self, _: str, token: str) -> None:
        self.token = token
        self._move()

    def _move(self) -> None:
        if self.life:
            self.run().state = self.life.pop(0)
            self.run().state_details = self.details


def looked(emr: Emr, **described: Any) -> JobState:
    """What becomes of an answer of AWS to `GetJobRun`."""
    runs = EmrRuns(Deployment(emr.config.settings, "prod"), "pipeline")
    answer = {
        "applicationId": emr.application,
        "jobRunId": "x",
        "arn": f"arn:aws:emr-serverless:{REGION}:{ACCOUNT}:/applications/{emr.application}/jobruns/x",
        "createdBy": f"arn:aws:iam::{ACCOUNT}:user/someone",
        "createdAt": datetime(2026, 1, 1, tzinfo=UTC),
        "updatedAt": datetime(2026, 1, 1, tzinfo=UTC),
        "executionRole": f"arn:aws:iam::{ACCOUNT}:role/omc_flywheel-prod-glue-role",
        "stateDetails": "as the state says",
        "releaseLabel": "emr-7.8.0",
        "jobDriver": {"sparkSubmit": {"entryPoint": "s3://x/job.py"}},
        **described,
    }
    aws_shapes.response("emr-serverless", "GetJobRun", {"jobRun": answer})

    def answered_by_aws(request: Any, _: int) -> Any:
        content = json.dumps({"jobRun": answer}, default=datetime.timestamp).encode()
        headers: Any = {"content-type": "application/json"}
        return AWSResponse(request.url, 200, headers, Answer(content))

    with faults(emr.config, "emr-serverless", "GetJobRun", answered_by_aws):
        return runs.look("x")
