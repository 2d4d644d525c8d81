"""An AWS account in moto, for tests that create, change and delete stacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto.cloudformation.models import cloudformation_backends

from bucketwheel import api
from bucketwheel.deploy import stack
from bucketwheel.deploy.stack import Applied
from bucketwheel.packaging.package import job_configuration
from bucketwheel.packaging.target import Target
from deploy_support import ACCOUNT, REGION, configuration

NAME = "bucketwheel-prod"
LOCATION = "s3://artifacts-prod/bucketwheel/01"


class Account:
    """An account that contains a package."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.said: list[str] = []
        self.client("s3").create_bucket(Bucket="artifacts-prod")

    def client(self, service: str) -> Any:
        create: Callable[..., Any] = boto3.client
        return create(service, endpoint_url=self.url, region_name=REGION)

    def configuration(self, **overrides: Any) -> api.Configuration:
        reached: dict[str, Any] = {
            "aws.endpoint_url": self.url,
            "aws.region": REGION,
            "deploy.package": LOCATION,
            "deploy.artifacts": "s3://artifacts-prod/bucketwheel",
        }
        config = configuration(**reached, **overrides)
        self.upload(config)
        return config

    def upload(self, config: api.Configuration) -> None:
        contents = json.dumps({"machine": Target.of(config.settings).machine}).encode()
        for name, content in (("package.json", contents), (f"conf/{config.env}.yaml", job_configuration(config))):
            self.client("s3").put_object(Bucket="artifacts-prod", Key=f"bucketwheel/01/{name}", Body=content)

    def confirm(self, text: str) -> bool:
        self.asked.append(text)
        return True

    def apply(self, confirm: Callable[[str], bool] | None = None, **overrides: Any) -> Applied:
        config = self.configuration(**overrides)
        return stack.apply(config, confirm or self.confirm, self.said.append, sleep=lambda _: None)

    def status(self) -> str | None:
        try:
            return str(self.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]["StackStatus"])
        except ClientError:
            return None

    def force(self, status: str) -> None:
        """Set a state of the stack that moto never reaches by itself."""
        stacks = cloudformation_backends[ACCOUNT][REGION].stacks
        next(stack for stack in stacks.values() if stack.name == NAME).status = status
