"""Check that EMR Serverless can pull the image of its workers: it exists, here, and its repository allows it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bucketwheel.aws import clients
from bucketwheel.aws.errors import code_of, is_denied, wrap_aws_errors
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.doctor.checks import CheckResult, failed, ok, warning
from bucketwheel.errors import BucketwheelError

_SERVICE = "emr-serverless.amazonaws.com"
_ACTIONS = ("ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer")
_URI = re.compile(
    r"(?:(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z0-9.]+/)?"
    r"(?P<repository>[^:@]+)(?::(?P<tag>[^@]+)|@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class _Image:
    """The parts of `emr_serverless.image`; an empty account or region is that of the caller."""

    account: str
    region: str
    repository: str
    id: dict[str, str]


def look(deployment: Deployment) -> CheckResult:
    """Check the image and the policy of its repository.

    Raises:
        BucketwheelError: ECR failed, or there are no credentials.
    """
    text, settings = str(deployment.settings.emr_serverless.image), deployment.settings.aws
    image = _parsed(text)
    if image is None:
        return failed(
            f"{text} is no image in ECR", "set emr_serverless.image to name:tag or to the URI of an image in ECR"
        )
    region = settings.region or clients.session().region_name or ""
    if image.region and image.region != region:
        return failed(
            f"{text} is in {image.region}, not in {region}", "push it to a repository in the region of the jobs"
        )
    try:
        with wrap_aws_errors(BucketwheelError, f"image {text}"):
            arn = clients.client("sts", settings).get_caller_identity()["Arn"]
            _, partition, _, _, account, _ = arn.split(":", 5)
            return _checked(
                clients.client("ecr", settings), image, text, f"arn:{partition}:emr-serverless:{region}:{account}:"
            )
    except BucketwheelError as error:
        return _without_answer(error, image, text)


def _parsed(text: str) -> _Image | None:
    found = _URI.fullmatch(text)
    if found is None:
        return None
    id_ = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"] or "latest"}
    return _Image(found["account"] or "", found["region"] or "", found["repository"], id_)


def _checked(client: Any, image: _Image, text: str, source: str) -> CheckResult:
    """Check the image; `source` begins the ARNs of the caller's applications."""
    registry = {"registryId": image.account} if image.account else {}
    client.describe_images(repositoryName=image.repository, imageIds=[image.id], **registry)
    statements: list[dict[str, Any]] = []
    try:
        policy = client.get_repository_policy(repositoryName=image.repository, **registry)["policyText"]
        statements = _many(json.loads(policy)["Statement"])
    except client.exceptions.RepositoryPolicyNotFoundException:
        pass  # Handled as a policy without statements.
    allowed = set(_allowed(statements, source))
    if lacking := [action for action in _ACTIONS if action not in allowed]:
        return failed(
            f"the policy of repository {image.repository} does not let {_SERVICE} pull the image: it lacks "
            f"{', '.join(lacking)}",
            _advice(image, statements, source),
        )
    return ok(f"{text} exists, and {_SERVICE} may pull it")


def _allowed(statements: Iterable[dict[str, Any]], source: str) -> Iterator[str]:
    """Yield the actions that statements allow to EMR Serverless for applications of the caller's account."""
    for statement in statements:
        principal = statement.get("Principal", {})
        services = (
            ["*"] if principal == "*" else [*_many(principal.get("Service", [])), *_many(principal.get("AWS", []))]
        )
        if statement.get("Effect") != "Allow" or not {_SERVICE, "*"} & set(services):
            continue
        if not all(
            _holds(key, patterns, source)
            for test in statement.get("Condition", {}).values()
            for key, patterns in test.items()
        ):
            continue
        for pattern in _many(statement.get("Action", [])):
            yield from (action for action in _ACTIONS if fnmatchcase(action.lower(), pattern.lower()))


def _holds(key: str, patterns: Any, source: str) -> bool:
    """Return whether a condition may hold; those on other keys than the source count as met."""
    if key.lower() == "aws:sourceaccount":
        return source.split(":")[4] in _many(patterns)
    if key.lower() != "aws:sourcearn":
        return True
    return any(fnmatchcase(source, pattern.partition("/applications")[0]) for pattern in _many(patterns))


def _advice(image: _Image, statements: list[dict[str, Any]], source: str) -> str:
    statement = {
        "Sid": "EmrServerless",
        "Effect": "Allow",
        "Principal": {"Service": _SERVICE},
        "Action": list(_ACTIONS),
        "Condition": {"StringLike": {"aws:SourceArn": f"{source}/applications/*"}},
    }
    if statements:
        return f"add this statement to the policy of the repository: {json.dumps(statement)}"
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    words = ["aws", "ecr", "set-repository-policy", "--repository-name", image.repository, "--policy-text", policy]
    return f"run: {shlex.join(words)}"


def _without_answer(error: BucketwheelError, image: _Image, text: str) -> CheckResult:
    cause = error.__cause__ or error
    if is_denied(cause):
        actions = "ecr:DescribeImages and ecr:GetRepositoryPolicy"
        return warning(f"unknown: {error}", f"allow {actions} on repository {image.repository} to the caller")
    if code_of(cause) in ("RepositoryNotFoundException", "ImageNotFoundException"):
        return failed(
            f"{text} does not exist in ECR",
            "push it with docker/build.sh and `docker push`, or correct emr_serverless.image",
        )
    raise error


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]
