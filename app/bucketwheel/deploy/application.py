"""Stop the EMR Serverless application of a stack before it changes.

AWS updates and deletes an application only while it is created or stopped, and stops one only while no job run is
active. CloudFormation fails on a started application and rolls everything back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from botocore.exceptions import ClientError

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, wrap_aws_errors
from bucketwheel.errors import DeployError
from bucketwheel.formatting import counted
from bucketwheel.settings import Settings

KIND = "AWS::EMRServerless::Application"
# The only property of the template that AWS documents as changeable while jobs run ("Updating Running Applications");
# the other, the image, must not change with preinitialized capacity.
_LIVE = {"MaximumCapacity"}
_STOPPED = ("CREATED", "STOPPED", "TERMINATED")
# Job runs that prevent the application from stopping.
ACTIVE_RUNS: Final = ("SUBMITTED", "PENDING", "SCHEDULED", "RUNNING", "CANCELLING", "QUEUED")
_POLL_SECONDS = 5.0
# AWS releases the capacity in a few minutes.
_MAX_WAIT_SECONDS = 900


class Application:
    """An EMR Serverless application by id."""

    def __init__(self, settings: Settings, name: str, sleep: Callable[[float], None]) -> None:
        self.id = name
        self._sleep = sleep
        with self._errors():
            self._client = clients.client("emr-serverless", settings.aws)
        self.region: str = self._client.meta.region_name

    def _errors(self) -> Any:
        return wrap_aws_errors(DeployError, f"application {self.id}")

    def state(self) -> str:
        """Return the state; TERMINATED if the application no longer exists."""
        with self._errors():
            try:
                return str(self._client.get_application(applicationId=self.id)["application"]["state"])
            except ClientError as error:
                if code_of(error) == "ResourceNotFoundException":
                    return _STOPPED[-1]
                raise

    def active_runs(self) -> list[str]:
        """Return the ids of the job runs that have not ended."""
        with self._errors():
            pages = self._client.get_paginator("list_job_runs").paginate(applicationId=self.id, states=[*ACTIVE_RUNS])
            return [run["id"] for page in pages for run in page["jobRuns"]]

    def must_stop(self, properties: Iterable[str] | None) -> bool:
        """Return whether the application must stop before these properties change; None deletes it.

        Raises:
            DeployError: job runs are active, so that it cannot stop; names them.
        """
        if self.state() in _STOPPED:
            return False
        if not (runs := self.active_runs()):
            return True
        if properties is not None and (changed := set(properties)) and changed <= _LIVE:
            return False
        commands = "\n".join(
            f"aws emr-serverless cancel-job-run --application-id {self.id} --job-run-id {run} --region {self.region}"
            for run in runs
        )
        raise DeployError(
            f"application {self.id} cannot stop for the change: {len(runs)} of its job runs "
            f"{'is active; wait for it' if len(runs) == 1 else 'are active; wait for them'} to finish, or cancel "
            f"{'it' if len(runs) == 1 else 'them'}, then repeat the command:\n{commands}"
        )

    def stop(self, echo: Callable[[str], None]) -> None:
        """Stop the application and wait until it has stopped.

        Raises:
            DeployError: it did not stop in time.
        """
        waited, asked = 0.0, False
        while (state := self.state()) not in _STOPPED:
            # AWS rejects the call while the application is starting.
            if state == "STARTED" and not asked:
                echo(f"{'stopping':<24} application {self.id}")
                with self._errors():
                    self._client.stop_application(applicationId=self.id)
                asked = True
                continue
            if waited >= _MAX_WAIT_SECONDS:
                raise DeployError(
                    f"application {self.id} is in state {state} after {counted(_MAX_WAIT_SECONDS // 60, 'minute')}; "
                    f"look at it (aws emr-serverless get-application --application-id {self.id} --region "
                    f"{self.region}), then repeat the command"
                )
            self._sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
