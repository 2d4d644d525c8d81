"""`doctor` and AWS, by moto: every condition that makes a check fail, once, beside a stack where all is well."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

import aws_shapes
from aws_server import REGION, plain_client
from bucketwheel import api
from bucketwheel.aws import clients as aws_module
from deploy_support import ROOT
from doctor_support import BLOCKED, DATA, RESULTS, ROLE, WORKGROUP, Diagnose, encrypted, state
from fake_iam import Refuses, Simulator
from project import NARROW, WIDE


class Account:
    """S3 Control, which moto serves under host names that no test can reach; botocore's model checks each answer."""

    def __init__(self, *blocked: str, code: str = "") -> None:
        self.client = boto3.client("s3control", REGION)
        stub = Stubber(self.client)
        if code:
            stub.add_client_error("get_public_access_block", code, "no")
            stub.add_client_error("get_public_access_block", code, "no")
        else:
            answer = {"PublicAccessBlockConfiguration": {name: name in blocked for name in BLOCKED}}
            stub.add_response("get_public_access_block", answer, {"AccountId": "123456789012"})
        stub.activate()

    def get_public_access_block(self, **given: str) -> Any:
        return self.client.get_public_access_block(**given)


def test_doctor_complete_account_passes_every_check(diagnose: Diagnose, simulated: Callable[..., Simulator]) -> None:
    double = simulated()
    seen = diagnose(deploy__package=f"s3://{RESULTS}/bucketwheel/some")
    here = {"pyspark", "java", "configuration", "python", "pyarrow", "numpy", "boto3", "backends"}
    cloud = {name: finding for name, finding in seen.items() if name not in here}
    assert list(cloud) == [
        f"dataset {WIDE}", f"dataset {NARROW}", "jobs",
        "credentials", "region", f"bucket {DATA}", f"bucket {RESULTS}",
        f"encryption {DATA}", f"public access {DATA}", f"encryption {RESULTS}", f"public access {RESULTS}",
        "database", "Lake Formation", "workgroup", "role", "keys", "permissions", "quotas", "template",
        "stack", "archive",
    ]  # fmt: skip
    # The role and the workgroup exist, but no stack.
    assert cloud.pop("stack").state == "warning"
    assert {finding.state for finding in cloud.values()} == {"ok"}, cloud
    assert cloud["credentials"].found.startswith("account 123456789012, arn:aws:")
    assert cloud["region"].found == "us-east-1 (from the environment)"
    assert "for target, datasets.infobase_attributes.source, " in cloud[f"bucket {DATA}"].found
    assert {"s3:PutObject", "glue:UpdateTable", "logs:PutLogEvents", "cloudwatch:PutMetricData"} <= {*double.asked}


def test_missing_source_and_mapping_fail(diagnose: Diagnose) -> None:
    sources = {f"datasets.{NARROW}.source": f"s3://{DATA}/nowhere", f"datasets.{WIDE}.mapping": f"s3://{DATA}/no.csv"}
    seen = diagnose(**sources)
    assert state(seen[f"dataset {NARROW}"])[0] == state(seen[f"dataset {WIDE}"])[0] == "failed"
    assert "no snapshot" in seen[f"dataset {NARROW}"].found
    assert f"s3://{DATA}/no.csv" in seen[f"dataset {WIDE}"].found


def test_jobs_configured_for_one_machine_fail_with_the_lines_to_add(diagnose: Diagnose) -> None:
    seen = diagnose(engine="arrow", catalog__kind="duckdb", target="out")["jobs"]
    assert seen.state == "failed"
    assert seen.found.splitlines() == [
        "engine is arrow, which runs on one machine",
        "catalog.kind is duckdb, a file on one machine",
        "target is out, a path on one machine",
    ]
    assert seen.todo.startswith("jobs on Glue and EMR Serverless run Spark\n")
    assert "\nadd to prod.yaml, or change there if it has these keys:\nengine: spark\ncatalog: {" in seen.todo


def test_permissions_denied_action_names_action_and_resource(
    diagnose: Diagnose, simulated: Callable[..., Simulator]
) -> None:
    simulated("WriteBooks", "PutMetrics")
    finding = diagnose()["permissions"]
    assert finding.state == "failed"
    assert finding.found.splitlines() == [
        f"role {ROLE} lacks permissions:",
        "s3:DeleteObject, s3:GetObject, s3:PutObject on "
        f"arn:aws:s3:::{DATA}/omc_cleanroom_data/_bucketwheel/bucketwheel-doctor",
        "cloudwatch:PutMetricData on *",
    ]


def test_permissions_one_denied_resource_is_named(diagnose: Diagnose, simulated: Callable[..., Simulator]) -> None:
    double = simulated()
    table = "arn:aws:glue:us-east-1:123456789012:table/omc_flywheel_prod/ext_bucketwheel-doctor"
    double.decided["glue:UpdateTable", table] = "explicitDeny"
    double.decided["glue:DeleteTable", table] = "implicitDeny"
    finding = diagnose()["permissions"]
    assert finding.found.splitlines() == [
        f"role {ROLE} lacks permissions:",
        f"glue:DeleteTable on {table}",
        f"glue:UpdateTable on {table} (denied by a policy)",
    ]
    assert finding.todo.splitlines() == [
        "`bucketwheel deploy apply` grants them; check its permissions boundary and the account policies, too",
        "denied by a policy: change that policy, because a grant does not override it",
    ]


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (
            {"OrganizationsDecisionDetail": {"AllowedByOrganizations": False}},
            "denied by a policy of the organization",
        ),
        (
            {"PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": False}},
            "outside the permissions boundary",
        ),
    ],
)
def test_permissions_limit_of_account_is_named(
    diagnose: Diagnose, simulated: Callable[..., Simulator], details: dict[str, Any], reason: str
) -> None:
    double = simulated()
    double.decided["cloudwatch:PutMetricData", "*"] = "implicitDeny"
    double.details["cloudwatch:PutMetricData"] = details
    finding = diagnose()["permissions"]
    assert finding.found.splitlines()[1:] == [f"cloudwatch:PutMetricData on * ({reason})"]
    assert finding.todo == f"{reason}: change that policy, because a grant does not override it"


def test_permissions_iam_refuses_warns(diagnose: Diagnose, instead: Callable[[str, Any], None]) -> None:
    instead("iam", Refuses("GetRole", "get_role", "AccessDenied"))
    seen = diagnose()
    for name in ("role", "permissions"):
        assert seen[name].state == "warning"
        assert "iam:SimulatePrincipalPolicy" in seen[name].todo


def test_permissions_missing_role_warns(diagnose: Diagnose) -> None:
    seen = diagnose(glue__role="nobody")
    for name in ("role", "permissions"):
        assert (*state(seen[name]), seen[name].todo) == (
            "warning", "role nobody does not exist", "`bucketwheel deploy apply` creates it",
        )  # fmt: skip


def test_buckets_missing_or_public_fail(diagnose: Diagnose, prod: str, instead: Callable[[str, Any], None]) -> None:
    instead("s3control", Account(code="NoSuchPublicAccessBlockConfiguration"))
    s3 = plain_client("s3", prod)
    s3.delete_public_access_block(Bucket=DATA)
    s3.put_public_access_block(Bucket=RESULTS, PublicAccessBlockConfiguration={**BLOCKED, "BlockPublicPolicy": False})
    seen = diagnose(datasets__addressable_ids__source="s3://nowhere-prod/raw")
    assert state(seen["bucket nowhere-prod"]) == ("failed", "does not exist (for datasets.addressable_ids.source)")
    assert state(seen[f"public access {DATA}"]) == ("failed", "not blocked by the bucket or the account")
    assert state(seen[f"public access {RESULTS}"]) == ("failed", "only partly blocked: BlockPublicPolicy off")


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        (BLOCKED, ("ok", "blocked by the account")),
        (
            ("BlockPublicPolicy",),
            ("failed", "only partly blocked: BlockPublicAcls, IgnorePublicAcls, RestrictPublicBuckets off"),
        ),
        ("NoSuchPublicAccessBlockConfiguration", ("failed", "not blocked by the bucket or the account")),
        (
            "AccessDenied",
            (
                "failed",
                "not blocked by the bucket; the account's settings are unknown: GetPublicAccessBlock was denied",
            ),
        ),
    ],
)
def test_public_access_may_be_blocked_by_the_account(
    diagnose: Diagnose, prod: str, instead: Callable[[str, Any], None], account: Any, expected: tuple[str, str]
) -> None:
    instead("s3control", Account(code=account) if isinstance(account, str) else Account(*account))
    plain_client("s3", prod).delete_public_access_block(Bucket=DATA)
    finding = diagnose()[f"public access {DATA}"]
    assert finding.state == expected[0]
    assert finding.found.startswith(expected[1])


def test_public_access_of_bucket_and_account_add_up(
    diagnose: Diagnose, prod: str, instead: Callable[[str, Any], None]
) -> None:
    instead("s3control", Account("BlockPublicPolicy"))
    partly = {**BLOCKED, "BlockPublicPolicy": False}
    plain_client("s3", prod).put_public_access_block(Bucket=DATA, PublicAccessBlockConfiguration=partly)
    assert state(diagnose()[f"public access {DATA}"]) == ("ok", "blocked by the bucket and the account together")


def test_access_point_has_unknown_encryption(diagnose: Diagnose, prod: str) -> None:
    alias = "tables-abcdefghijklmnopqrstuvwxyz1-s3alias"
    plain_client("s3", prod).create_bucket(Bucket=alias)
    seen = diagnose(target=f"s3://{alias}/out")
    assert seen[f"bucket {alias}"].state == "ok"
    for name in ("encryption", "public access"):
        assert state(seen[f"{name} {alias}"]) == ("warning", "unknown: this is an access point")


def test_bucket_missing_names_the_command_that_creates_it(diagnose: Diagnose) -> None:
    seen = diagnose(target="s3://new-prod/out", deploy__buckets="create")
    assert seen["bucket new-prod"].state == "failed"
    assert "deploy apply" in seen["bucket new-prod"].todo


def test_encryption_differs_from_configuration_is_reported(diagnose: Diagnose, prod: str) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/1111"
    plain_client("s3", prod).delete_bucket_encryption(Bucket=RESULTS)
    encrypted(prod, DATA, "AES256")
    seen = diagnose(storage__encryption="SSE-KMS", storage__kms_key=key)
    assert state(seen[f"encryption {DATA}"]) == ("failed", "AES256, but the configuration asks for a KMS key")
    assert state(seen[f"encryption {RESULTS}"]) == ("failed", "no default encryption")
    encrypted(prod, DATA, "aws:kms", KMSMasterKeyID="2222")
    other = diagnose(storage__encryption="SSE-KMS", storage__kms_key=key)[f"encryption {DATA}"]
    assert state(other) == ("warning", f"aws:kms with 2222, but storage.kms_key is {key}")


def test_bucket_in_another_region_warns(diagnose: Diagnose, prod: str) -> None:
    s3 = plain_client("s3", prod)
    s3.create_bucket(Bucket="far-prod", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    try:
        finding = diagnose(deploy__artifacts="s3://far-prod/packages")["bucket far-prod"]
    finally:
        s3.delete_bucket(Bucket="far-prod")
    assert state(finding) == ("warning", "in eu-west-1, not in us-east-1 (for deploy.artifacts)")


def test_database_missing_and_not_creatable_fails(diagnose: Diagnose) -> None:
    finding = diagnose(catalog__database="later")["database"]
    assert (finding.state, "the first run creates it" in finding.found) == ("ok", True)
    missing = diagnose(catalog__database="later", catalog__create_database=False)["database"]
    assert missing.state == "failed"
    assert "later" in missing.found


def test_workgroup_states_are_reported(diagnose: Diagnose, prod: str, instead: Callable[[str, Any], None]) -> None:
    athena = plain_client("athena", prod)
    moved = diagnose(athena__output_location=f"s3://{RESULTS}/other")["workgroup"]
    assert (moved.state, "set both to the same location" in moved.todo) == ("warning", True)
    athena.create_work_group(Name="bare")
    bare = diagnose(athena__workgroup="bare", athena__output_location=None)["workgroup"]
    assert state(bare) == ("failed", "bare has no location for results")
    athena.delete_work_group(WorkGroup="bare")
    # moto cannot disable one.
    disabled = aws_shapes.response("athena", "GetWorkGroup", {"WorkGroup": {"Name": WORKGROUP, "State": "DISABLED"}})
    instead("athena", SimpleNamespace(get_work_group=lambda **_: disabled))
    assert state(diagnose()["workgroup"]) == ("failed", f"{WORKGROUP} is disabled")


def test_workgroup_missing_fails_only_when_jobs_use_it(
    diagnose: Diagnose, instead: Callable[[str, Any], None]
) -> None:
    instead("athena", Refuses("GetWorkGroup", "get_work_group", "InvalidRequestException"))
    assert diagnose()["workgroup"].todo == "`bucketwheel deploy apply` creates it"
    used = diagnose(ctas__method="athena")["workgroup"]
    assert state(used) == ("failed", f"athena.workgroup: Athena has no workgroup '{WORKGROUP}'")


def test_doctor_without_credentials_runs_the_other_checks(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    aws_module.renew_session()
    nowhere = diagnose(aws__connect_seconds=4)
    assert state(nowhere["region"]) == ("failed", "no region is known")
    assert nowhere["credentials"].state == "failed"
    findings = diagnose(aws__connect_seconds=3, aws__region=REGION)
    assert state(findings["credentials"]) == (
        "failed",
        "credentials: no AWS credentials were found",
    )
    assert findings["credentials"].todo == "give this machine a role, or set AWS_PROFILE"
    assert "no AWS credentials were found" in findings[f"bucket {DATA}"].found
    assert findings["numpy"].state == "ok"


def test_region_differs_from_storage_region_warns(diagnose: Diagnose) -> None:
    assert diagnose(storage__region="eu-west-1")["region"].state == "warning"


def test_doctor_silent_endpoint_ends_within_time_limit(prod: str) -> None:
    named = {"aws.endpoint_url": "http://127.0.0.1:1"}
    seen = {finding.name: finding for finding in api.doctor("prod", ROOT / "conf", named, environ={}, seconds=60)}
    assert seen["credentials"].state == seen[f"bucket {DATA}"].state == seen["database"].state == "failed"


def test_doctor_without_boto3_names_package(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def missing(name: str, *rest: Any) -> Any:
        if name == "bucketwheel.doctor.cloud":
            raise ModuleNotFoundError("No module named 'boto3'", name="boto3")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    finding = diagnose()["aws"]
    assert (*state(finding), finding.todo) == (
        "failed",
        "AWS needs the package 'boto3'",
        "pip install 'bucketwheel[aws]'",
    )
