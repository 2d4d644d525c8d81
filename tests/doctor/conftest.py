from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aws_server import REGION, plain_client, reset
from bucketwheel import api
from bucketwheel.aws import clients as aws_module
from bucketwheel.doctor import Finding
from deploy_support import ROOT, rendered, statements
from doctor_support import BLOCKED, DATA, DATABASE, RESULTS, ROLE, WORKGROUP, Diagnose, encrypted
from fake_iam import Simulator
from project import NARROW, WIDE


@pytest.fixture
def region(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The endpoint, with a session that has seen the credentials of this test."""
    aws_module.renew_session()
    monkeypatch.setenv("AWS_REGION", REGION)
    yield aws
    aws_module.renew_session()


@pytest.fixture
def prod(region: str) -> Iterator[str]:
    """What the prod configuration expects to find."""
    # Tests of deployments leave resources of these names in the moto of this process.
    reset(region)
    services = ("s3", "glue", "athena", "iam", "lakeformation")
    s3, glue, athena, iam, lake = (plain_client(name, region) for name in services)
    for bucket in (DATA, RESULTS):
        s3.create_bucket(Bucket=bucket)
        encrypted(region, bucket, "AES256")
        s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=BLOCKED)
    inputs = [
        *(f"opus/{name}/raw_input/snapshot_dt=2025-10-22/x.parquet" for name in (WIDE, NARROW)),
        f"opus/{WIDE}/mapping.csv",
    ]
    for key in inputs:
        s3.put_object(Bucket=DATA, Key=key, Body=b"x")
    glue.create_database(DatabaseInput={"Name": DATABASE})
    # AWS does this in an account with the default settings of Lake Formation.
    everybody = {"DataLakePrincipalIdentifier": "IAM_ALLOWED_PRINCIPALS"}
    lake.grant_permissions(Principal=everybody, Resource={"Catalog": {}}, Permissions=["CREATE_DATABASE"])
    lake.grant_permissions(Principal=everybody, Resource={"Database": {"Name": DATABASE}}, Permissions=["ALL"])
    place = {"OutputLocation": f"s3://{RESULTS}/athena/", "EncryptionConfiguration": {"EncryptionOption": "SSE_S3"}}
    athena.create_work_group(Name=WORKGROUP, Configuration={"ResultConfiguration": place})
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument="{}")
    yield region
    for key in inputs:
        s3.delete_object(Bucket=DATA, Key=key)
    for bucket in (DATA, RESULTS):
        s3.delete_bucket(Bucket=bucket)
    glue.delete_database(Name=DATABASE)
    lake.revoke_permissions(Principal=everybody, Resource={"Catalog": {}}, Permissions=["CREATE_DATABASE"])
    lake.revoke_permissions(Principal=everybody, Resource={"Database": {"Name": DATABASE}}, Permissions=["ALL"])
    athena.delete_work_group(WorkGroup=WORKGROUP)
    iam.delete_role(RoleName=ROLE)


@pytest.fixture
def diagnose(prod: str) -> Diagnose:
    def run(**overrides: Any) -> dict[str, Finding]:
        named = {"aws.endpoint_url": prod, **{name.replace("__", "."): value for name, value in overrides.items()}}
        return {finding.name: finding for finding in api.doctor("prod", ROOT / "conf", named, environ={}, seconds=60)}

    return run


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Put something in the place of the client of a service."""

    def replace(service: str, double: Any) -> None:
        real = aws_module.client
        monkeypatch.setattr(
            aws_module, "client", lambda name, *rest: double if name == service else real(name, *rest)
        )

    return replace


@pytest.fixture
def simulated(instead: Callable[[str, Any], None]) -> Callable[..., Simulator]:
    """Have IAM simulate the statements of the rendered template, but for those with these Sids."""

    def run(*without: str, **overrides: Any) -> Simulator:
        template = rendered(deploy__package=f"s3://{RESULTS}/bucketwheel/some", **overrides)
        granted = statements(template, "JobRole")
        trust = template["Resources"]["JobRole"]["Properties"]["AssumeRolePolicyDocument"]
        double = Simulator([statement for statement in granted if statement["Sid"] not in without], trust)
        instead("iam", double)
        return double

    return run
