"""The role allows what the stages call, nothing else, and nothing that none of them calls."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from bucketwheel.deploy.policy import document
from bucketwheel.settings import STAGES
from deploy_support import KEY_ARN, VARIANTS, allows, rendered, statements

HERE = Path(__file__).parent
CALLS: dict[str, list[dict[str, Any]]] = yaml.safe_load((HERE / "stage_calls.yaml").read_text())
OTHERS: dict[str, list[dict[str, Any]]] = yaml.safe_load((HERE / "calls_of_others.yaml").read_text())
ALL = [call for calls in CALLS.values() for call in calls]
DATA, RESULTS = "arn:aws:s3:::omc-flywheel-data-us-east-1-prod", "arn:aws:s3:::omc-flywheel-prod-analysis-data"
TOPIC_ARN = "arn:aws:sns:us-east-1:123456789012:oncall"
GLUE = "arn:aws:glue:us-east-1:123456789012:"
# What state machines need for logs and traces takes no names.
UNNAMED = {"DeliverLogs", "Trace"}


def denied(granted: list[dict[str, Any]], calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [call for call in calls if not allows(granted, call["action"], call["resource"], call.get("context", {}))]


def unused(granted: list[dict[str, Any]], calls: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Each (Sid, action) and (Sid, resource) that no call needs."""
    left = {
        (statement["Sid"], part)
        for statement in granted
        for key in ("Action", "Resource")
        for part in (statement[key] if isinstance(statement[key], list) else [statement[key]])
    }
    for call in calls:
        for sid in allows(granted, call["action"], call["resource"], call.get("context", {})):
            left = {
                (owner, part)
                for owner, part in left
                if owner != sid or not (fnmatchcase(call["action"], part) or fnmatchcase(call["resource"], part))
            }
    return left


def with_athena() -> list[dict[str, Any]]:
    below = "s3://omc-flywheel-data-us-east-1-prod/omc_cleanroom_data/_athena"
    return statements(rendered(ctas__method="athena", athena__output_location=below), "JobRole")


def test_every_stage_has_its_list_of_calls() -> None:
    assert set(CALLS) == {"start", "run", *STAGES}


@pytest.mark.parametrize("stage", CALLS)
def test_a_stage_may_do_all_that_it_does(stage: str) -> None:
    assert denied(statements(rendered(), "JobRole"), CALLS[stage]) == []


def test_nothing_is_granted_that_no_stage_needs() -> None:
    assert unused(statements(rendered(), "JobRole"), ALL) == set()


def test_ctas_by_athena_gets_what_it_needs_and_no_more() -> None:
    granted, calls = with_athena(), [*ALL, *OTHERS["ctas_by_athena"]]
    assert denied(granted, calls) == []
    assert unused(granted, calls) == set()


def test_on_emr_serverless_the_same_calls_are_allowed_but_those_that_only_glue_needs() -> None:
    granted = statements(rendered("emr-archive"), "JobRole")
    of_glue = [call for call in ALL if "/error:" in call["resource"] or call["action"] == "cloudwatch:PutMetricData"]
    calls = [*(call for call in ALL if call not in of_glue), *OTHERS["start_on_emr"]]
    assert denied(granted, calls) == []
    assert unused(granted, calls) == set()
    assert denied(granted, of_glue) == of_glue


@pytest.mark.parametrize(
    ("settings", "lists"),
    [
        ({"deploy.kms_key": KEY_ARN}, ("with_a_key", "with_a_key_of_the_topic")),
        ({"deploy.kms_key": KEY_ARN, "monitoring.topic_arn": TOPIC_ARN}, ("with_a_key",)),
        ({"storage.encryption": "SSE-KMS", "storage.kms_key": KEY_ARN}, ("with_a_key",)),
    ],
)
def test_a_key_may_be_used_through_services_only(settings: dict[str, Any], lists: tuple[str, ...]) -> None:
    granted = statements(rendered(**settings), "JobRole")
    calls = [call for name in lists for call in OTHERS[name]]
    if "monitoring.topic_arn" in settings:
        calls.append({"action": "sns:Publish", "resource": TOPIC_ARN})
    assert denied(granted, calls) == []
    assert unused(granted, [*ALL, *calls]) == set()
    assert allows(granted, "kms:Decrypt", KEY_ARN, {"kms:ViaService": "secretsmanager.us-east-1.amazonaws.com"}) == []


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("s3:DeleteObject", f"{DATA}/opus/infobase_attributes/raw_input/snapshot_dt=2025-10-22/part-0.parquet", {}),
        ("s3:PutObject", f"{DATA}/opus/infobase_attributes/raw_input/snapshot_dt=2025-10-22/part-0.parquet", {}),
        ("s3:PutObject", f"{DATA}/opus/infobase_attributes/mapping.csv", {}),
        ("s3:DeleteObject", f"{DATA}/opus/addressable_ids/raw_input/x.parquet", {}),
        ("s3:GetObject", f"{DATA}/opus/another/raw_input/x.parquet", {}),
        ("s3:PutObject", f"{DATA}/omc_cleanroom_data/another_dataset/t/r/000000_0", {}),
        ("s3:DeleteObject", f"{DATA}/omc_cleanroom_data/infobase_attributes/ibe_01/r/000007_0.snappy.parquet", {}),
        ("s3:PutObject", f"{RESULTS}/bucketwheel/0123456789abcdef/job.py", {}),
        ("s3:GetObject", f"{RESULTS}/athena/result.csv", {}),
        ("s3:ListBucket", DATA, {"s3:prefix": ""}),
        ("s3:ListBucket", DATA, {"s3:prefix": "opus/another/"}),
        ("s3:DeleteBucket", DATA, {}),
        ("s3:PutBucketPolicy", DATA, {}),
        ("glue:UpdateTable", f"{GLUE}table/omc_flywheel_prod/of_somebody_else", {}),
        ("glue:DeleteTable", f"{GLUE}table/omc_flywheel_dev/ext_ibe_01", {}),
        ("glue:DeleteDatabase", f"{GLUE}database/omc_flywheel_prod", {}),
        ("glue:StartJobRun", f"{GLUE}job/etl-omc-flywheel-prod-pipeline", {}),
        ("athena:StartQueryExecution", "arn:aws:athena:us-east-1:123456789012:workgroup/omc_flywheel-prod", {}),
        ("logs:DeleteLogGroup", "arn:aws:logs:us-east-1:123456789012:log-group:/bucketwheel-prod/output:*", {}),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "AWS/Billing"}),
        ("sns:Publish", TOPIC_ARN, {}),
        ("sns:Subscribe", "arn:aws:sns:us-east-1:123456789012:bucketwheel-prod-notices", {}),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/omc_flywheel-prod-glue-role", {}),
        ("sts:AssumeRole", "arn:aws:iam::123456789012:role/admin", {}),
    ],
)
def test_the_role_may_not(action: str, resource: str, context: dict[str, str]) -> None:
    assert allows(statements(rendered(), "JobRole"), action, resource, context) == []


@pytest.mark.parametrize(
    ("role", "variant", "calls"),
    [
        ("SchedulerRole", "glue", OTHERS["SchedulerRole"]),
        ("WatchRole", "glue", OTHERS["WatchRole"]),
        ("StatesRole", "glue", OTHERS["StatesRole"]),
        ("StatesRole", "emr-archive", OTHERS["StatesRoleOnEmr"]),
    ],
)
def test_the_other_roles_may_do_what_they_do_and_no_more(
    role: str, variant: str, calls: list[dict[str, Any]]
) -> None:
    granted = statements(rendered(variant), role)
    assert denied(granted, calls) == []
    left = {(sid, part) for sid, part in unused(granted, calls) if sid not in UNNAMED}
    # The jobs are named one by one; the list has a call for some of them.
    assert {(sid, part) for sid, part in left if not part.endswith("-pipeline")} == set()
    assert not allows(granted, "s3:GetObject", f"{DATA}/omc_cleanroom_data/x", {})
    assert not allows(granted, "glue:UpdateTable", f"{GLUE}table/omc_flywheel_prod/ext_ibe_01", {})


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_stands_only_where_the_service_takes_no_name(variant: str) -> None:
    made = rendered(variant)
    wide = {
        (role, statement["Sid"])
        for role, resource in made["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
        for statement in statements(made, role)
        if "*" in (statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]])
    }
    machines = {role for role, _ in wide} - {"JobRole"}
    metrics = {("JobRole", "PutMetrics")} if variant.startswith("glue") else set()
    assert wide == metrics | {(role, sid) for role in machines for sid in UNNAMED}
    assert machines <= {"StatesRole", "WatchRole"}


@pytest.mark.parametrize(
    ("variant", "way", "allowed"),
    [
        ("glue", "auto", True), ("glue", "put", True), ("glue", "emf", False), ("glue", "none", False),
        ("emr-archive", "auto", False), ("emr-archive", "put", True), ("emr-archive", "none", False),
    ],
)  # fmt: skip
def test_metrics_may_be_put_only_where_they_go_that_way(variant: str, way: str, allowed: bool) -> None:
    granted = statements(rendered(variant, monitoring__metrics=way), "JobRole")
    context = {"cloudwatch:namespace": "Bucketwheel"}
    assert bool(allows(granted, "cloudwatch:PutMetricData", "*", context)) is allowed


def test_the_jobs_may_write_to_the_topic_that_is_named_and_to_no_other() -> None:
    granted = statements(rendered(monitoring__topic_arn=TOPIC_ARN), "JobRole")
    assert allows(granted, "sns:Publish", TOPIC_ARN, {}) == ["Notify"]
    assert allows(granted, "sns:Publish", "arn:aws:sns:us-east-1:123456789012:bucketwheel-prod-notices", {}) == []


def test_no_action_is_a_pattern() -> None:
    for variant in VARIANTS:
        made = rendered(variant)
        for role in ("JobRole", "StatesRole"):
            for statement in statements(made, role):
                assert "*" not in "".join(statement["Action"])


def test_a_source_that_is_a_whole_bucket_and_one_without_a_mapping_are_read() -> None:
    made = rendered(
        datasets__infobase_attributes__source="s3://whole-bucket",
        datasets__infobase_attributes__mapping=None,
        catalog__kind="duckdb",
    )
    granted = statements(made, "JobRole")
    assert allows(granted, "s3:GetObject", "arn:aws:s3:::whole-bucket/snapshot_dt=2025-10-22/a.parquet", {})
    assert allows(granted, "s3:ListBucket", "arn:aws:s3:::whole-bucket", {"s3:prefix": "snapshot_dt=2025-10-22/"})
    assert not [statement for statement in granted if "glue:GetTable" in statement["Action"]]
    assert document(granted)["Version"] == "2012-10-17"
