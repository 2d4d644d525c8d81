"""`doctor` checks that EMR Serverless can pull the image of the workers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from aws_server import plain_client
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.doctor import image
from bucketwheel.doctor.checks import CheckResult
from deploy_support import configuration

NAME, ACCOUNT = "bucketwheel", "123456789012"
SOURCE = f"arn:aws:emr-serverless:us-east-1:{ACCOUNT}:/applications/"
PULL = ["ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"]
SERVICE = {"Service": "emr-serverless.amazonaws.com"}


@pytest.fixture
def ecr(region: str) -> Iterator[Any]:
    client = plain_client("ecr", region)
    client.create_repository(repositoryName=NAME)
    layers = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}
    client.put_image(repositoryName=NAME, imageManifest=json.dumps(layers), imageTag="1.0")
    yield client
    client.delete_repository(repositoryName=NAME, force=True)


def look(region: str, name: str = f"{NAME}:1.0") -> CheckResult:
    named = {"deploy.platform": "emr-serverless", "emr_serverless.image": name, "aws.endpoint_url": region}
    return image.look(Deployment(configuration(**named).settings, "prod"))


def allow(ecr: Any, **changes: Any) -> None:
    statement = {"Effect": "Allow", "Principal": SERVICE, "Action": PULL, **changes}
    ecr.set_repository_policy(
        repositoryName=NAME, policyText=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )


def test_repository_without_policy_fails_with_working_command(ecr: Any, region: str) -> None:
    result = look(region)
    assert (result.state, "does not let emr-serverless.amazonaws.com pull" in result.found) == ("failed", True)
    words = shlex.split(result.todo.removeprefix("run: "))
    assert words[:5] == ["aws", "ecr", "set-repository-policy", "--repository-name", NAME]
    ecr.set_repository_policy(repositoryName=NAME, policyText=words[-1])
    assert look(region).state == "ok"


@pytest.mark.parametrize(
    ("changes", "lacking"),
    [
        ({}, ""),
        ({"Principal": "*", "Action": "ecr:*"}, ""),
        ({"Principal": {"AWS": "*"}, "Condition": {"StringLike": {"aws:SourceArn": f"{SOURCE}00abc"}}}, ""),
        ({"Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}}}, ""),
        ({"Action": PULL[:2]}, "ecr:GetDownloadUrlForLayer"),
        ({"Effect": "Deny"}, ", ".join(PULL)),
        ({"Principal": {"Service": "lambda.amazonaws.com"}}, ", ".join(PULL)),
        ({"Condition": {"StringLike": {"aws:SourceArn": SOURCE.replace(ACCOUNT, "210987654321")}}}, ", ".join(PULL)),
    ],
)
def test_policy_of_repository_decides(ecr: Any, region: str, changes: dict[str, Any], lacking: str) -> None:
    allow(ecr, **changes)
    result = look(region)
    assert result.state == ("failed" if lacking else "ok")
    if lacking:
        assert result.found.endswith(f"it lacks {lacking}")
        # A policy that exists must not be replaced.
        assert "add this statement to the policy of the repository" in result.todo


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (f"{NAME}:2.0", "bucketwheel:2.0 does not exist in ECR"),
        ("nothing:1.0", "nothing:1.0 does not exist in ECR"),
        (f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/{NAME}:1.0", "is in eu-west-1, not in us-east-1"),
    ],
)
def test_image_that_jobs_cannot_use_fails(ecr: Any, region: str, name: str, found: str) -> None:
    result = look(region, name)
    assert result.state == "failed"
    assert found in result.found
