from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.athena.responses import AthenaResponse
from moto.cloudformation.models import CloudFormationBackend
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.iam.responses import IamResponse

from aws_server import CREDENTIALS, REGION, plain_client, reset
from bucketwheel.aws import clients
from bucketwheel.storage import s3_client
from deploy_support import allows
from page_support import ROOT, Reader
from submit_support import JOB, transitions


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A reader in an empty directory."""
    directory = tmp_path / "reader"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setenv("COLUMNS", "200")
    return Reader(tmp_path / "programs")


@pytest.fixture
def checkout(reader: Reader) -> Reader:
    """A reader in a checkout, with its configuration."""
    shutil.copytree(ROOT / "conf", "conf")
    return reader


@pytest.fixture
def cloud(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """AWS by moto, empty; the environment variables lead every AWS client of this process and its children there."""
    reset(aws_endpoint)
    # The server is shared, and a reset keeps the pace that another test has set for runs of jobs.
    transitions(aws_endpoint, "glue::job_run", progression="immediate")
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": aws_endpoint, "AWS_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    answer = AthenaResponse.get_work_group

    def get_work_group(response: AthenaResponse) -> str:
        # moto answers with null.
        if response.athena_backend.get_work_group(response._get_param("WorkGroup")) is None:
            raise JsonRESTError("InvalidRequestException", "WorkGroup is not found.")
        return answer(response)

    apply = CloudFormationBackend.execute_change_set

    def execute_change_set(backend: CloudFormationBackend, *given: Any, **named: Any) -> None:
        # moto's stacks have no Glue jobs.
        apply(backend, *given, **named)
        script = {"Name": "glueetl", "ScriptLocation": "s3://bucket/job.py"}
        plain_client("glue", aws_endpoint).create_job(Name=JOB, Role="role", Command=script)

    monkeypatch.setattr(CloudFormationBackend, "execute_change_set", execute_change_set)
    monkeypatch.setattr(AthenaResponse, "get_work_group", get_work_group)
    monkeypatch.setattr(IamResponse, "simulate_principal_policy", _simulate, raising=False)
    monkeypatch.setattr("bucketwheel.submit.follow.POLL_SECONDS", 0.0)
    _forget_clients()
    yield aws_endpoint
    _forget_clients()
    reset(aws_endpoint)


def _forget_clients() -> None:
    clients.renew_session()
    clients._client.cache_clear()
    s3_client._clients.clear()


def _simulate(response: IamResponse) -> ActionResult:
    """Evaluate the inline policies of a role, which moto cannot."""
    role = response.backend.get_role_by_arn(response._get_param("PolicySourceArn"))
    documents = [json.loads(document) for document in role.policies.values()]
    statements: list[dict[str, Any]] = [statement for document in documents for statement in document["Statement"]]
    entries = response._get_param("ContextEntries") or []
    context = {entry["ContextKeyName"]: entry["ContextKeyValues"][0] for entry in entries}
    return ActionResult(
        {
            "EvaluationResults": [
                {
                    "EvalActionName": action,
                    "EvalResourceName": arn,
                    "EvalDecision": "allowed" if allows(statements, action, arn, context) else "implicitDeny",
                }
                for action in response._get_param("ActionNames")
                for arn in response._get_param("ResourceArns")
            ],
            "IsTruncated": False,
        }
    )
