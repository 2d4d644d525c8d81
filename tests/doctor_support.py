"""The AWS resources that the prod configuration requires, and helpers to check the results of `doctor`."""

from __future__ import annotations

from collections.abc import Callable

from aws_server import plain_client
from bucketwheel.doctor import Finding

DATA, RESULTS = "omc-flywheel-data-us-east-1-prod", "omc-flywheel-prod-analysis-data"
ROLE, WORKGROUP, DATABASE = "omc_flywheel-prod-glue-role", "omc_flywheel-prod", "omc_flywheel_prod"
BLOCKED = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)  # fmt: skip
Diagnose = Callable[..., dict[str, Finding]]


def encrypted(endpoint: str, bucket: str, algorithm: str, **key: str) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm, **key}}
    plain_client("s3", endpoint).put_bucket_encryption(
        Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]}
    )


def state(finding: Finding) -> tuple[str, str]:
    return finding.state, finding.found
