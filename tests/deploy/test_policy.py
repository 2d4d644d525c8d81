"""The role of the jobs allows exactly the recorded calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from recorded_runs import ATHENA, record
from recorder import Call, Recorder

from aws_server import reset
from bucketwheel.deploy.template.policy import allow
from bucketwheel.sample import Sample
from deploy_support import JOBS, KEY_ARN, VARIANTS, allows, configuration, denied, rendered, statements, unused

HERE = Path(__file__).parent
CALLS: dict[str, list[Call]] = yaml.safe_load((HERE / "stage_calls.yaml").read_text())
OTHERS: dict[str, list[Call]] = yaml.safe_load((HERE / "calls_of_others.yaml").read_text())
BY_HAND = [call for calls in CALLS.values() for call in calls]
OTHER_CHAPTERS = {"by athena", "rollback", "expire"}
DATA, RESULTS = "arn:aws:s3:::omc-flywheel-data-us-east-1-prod", "arn:aws:s3:::omc-flywheel-prod-analysis-data"
TOPIC_ARN = "arn:aws:sns:us-east-1:123456789012:oncall"
GLUE = "arn:aws:glue:us-east-1:123456789012:"
# Of the jobs, `pipeline` is for people.
OF_JOBS: list[Call] = [
    {"action": f"glue:{action}", "resource": f"{GLUE}job/{job}"}
    for job in JOBS
    if not job.endswith("-pipeline")
    for action in ("StartJobRun", "GetJobRun", "GetJobRuns", "BatchStopJobRun")
]
# What state machines need for logs and traces takes no names.
UNNAMED = {"DeliverLogs", "Trace"}

recordings = pytest.mark.xdist_group("recordings")


def with_athena() -> list[dict[str, Any]]:
    return statements(rendered(**ATHENA), "JobRole")


def of_jobs(recorded: Mapping[str, Sequence[Call]]) -> list[Call]:
    """The recorded calls of jobs that promote tables."""
    return [call for name, calls in recorded.items() if name not in OTHER_CHAPTERS for call in calls] + BY_HAND


@pytest.fixture(scope="session")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, aws_endpoint: str, earlier: Sample, clean: Sample
) -> dict[str, list[Call]]:
    """Recorded calls by job, including failed jobs and operators."""
    reset(aws_endpoint)
    calls = record(aws_endpoint, tmp_path_factory.mktemp("nobody"), (earlier, clean))
    # Other tests have databases and buckets of these names.
    reset(aws_endpoint)
    return calls


@recordings
def test_recording_has_characteristic_calls_of_every_job(recorded: dict[str, list[Call]]) -> None:
    jobs = dict(configuration().settings.deploy.jobs)
    assert set(jobs) <= set(recorded)
    assert jobs
    for name, job in jobs.items():
        publishes = not job.stages or bool({"register", "ctas"} & set(job.stages))
        actions = {call["action"] for call in recorded[name]}
        assert bool({"glue:CreateTable", "glue:UpdateTable"} & actions) is publishes
        writes = {call["resource"] for call in recorded[name] if call["action"] == "s3:PutObject"}
        buckets = not job.stages or "bucket" in job.stages
        assert any(resource.endswith(".parquet") for resource in writes) is buckets


def test_recorder_fails_for_call_without_known_permission(aws: str) -> None:
    session = boto3.Session()
    Recorder().listen(session)
    client = session.client("s3", endpoint_url=aws)
    with pytest.raises(LookupError, match="s3 CreateBucket: add here what a policy has to allow"):
        client.create_bucket(Bucket="one-more")
    client.close()


def test_recorder_fails_for_unknown_call_hidden_by_warning(aws: str) -> None:
    session, recorder = boto3.Session(), Recorder()
    recorder.listen(session)
    client = session.client("s3", endpoint_url=aws)
    with pytest.raises(LookupError, match="s3 CreateBucket: add here"), recorder.chapter(), suppress(LookupError):
        client.create_bucket(Bucket="one-more")
    with recorder.chapter() as calls:
        client.list_objects_v2(Bucket="one-more")
    assert [call["action"] for call in calls] == ["s3:ListBucket"]
    client.close()


def test_unused_grants_are_listed_per_resource() -> None:
    granted = [allow("Both", ["s3:GetObject", "s3:PutObject"], ["arn:aws:s3:::a/*", "arn:aws:s3:::b/*"])]
    calls = [
        {"action": "s3:GetObject", "resource": "arn:aws:s3:::a/x"},
        {"action": "s3:PutObject", "resource": "arn:aws:s3:::b/x"},
    ]
    assert unused(granted, calls) == {
        ("Both", "s3:GetObject on arn:aws:s3:::b/*"),
        ("Both", "s3:PutObject on arn:aws:s3:::a/*"),
    }


@recordings
def test_role_allows_every_recorded_call(recorded: dict[str, list[Call]]) -> None:
    granted = statements(rendered(), "JobRole")
    assert denied(granted, of_jobs(recorded)) == []


def test_role_may_create_a_file_of_a_table_and_not_replace_it() -> None:
    file = f"{DATA}/omc_cleanroom_data/infobase_attributes/ibe_01/2025-10-22-x/000000_0.snappy.parquet"

    def put(creates: str, condition: Mapping[str, str], resource: str = file) -> Call:
        context = {"s3:ObjectCreationOperation": creates, **condition}
        return {"action": "s3:PutObject", "resource": resource, "context": context}

    new, replaced, part = put("true", {"s3:if-none-match": "*"}), put("true", {}), put("false", {})
    assert denied(statements(rendered(), "JobRole"), [new, replaced, part]) == [replaced]
    record = put("true", {}, f"{DATA}/omc_cleanroom_data/infobase_attributes/metadata/snapshot_dt.txt")
    assert denied(statements(rendered(), "JobRole"), [record]) == []
    # Athena writes with the role of the jobs, and sends no conditions.
    assert denied(with_athena(), [replaced]) == []


@recordings
def test_role_grants_nothing_unused(recorded: dict[str, list[Call]]) -> None:
    assert unused(statements(rendered(), "JobRole"), of_jobs(recorded)) == set()


@recordings
def test_role_for_athena_ctas_grants_exactly_its_calls(recorded: dict[str, list[Call]]) -> None:
    granted = with_athena()
    calls = [*of_jobs(recorded), *recorded["by athena"], *OTHERS["ctas_by_athena"]]
    assert denied(granted, calls) == []
    assert unused(granted, calls) == set()
    assert denied(statements(rendered(), "JobRole"), recorded["by athena"]) != []


@recordings
def test_operator_needs_only_deletes_beyond_role_of_jobs(recorded: dict[str, list[Call]]) -> None:
    granted = statements(rendered(), "JobRole")
    assert recorded["rollback"]
    assert denied(granted, recorded["rollback"]) == []
    refused = denied(granted, recorded["expire"])
    assert {call["action"] for call in refused} == {"s3:DeleteObject"}
    assert all(call["resource"].endswith(".snappy.parquet") for call in refused)


@recordings
def test_emr_role_allows_same_calls_except_those_of_glue(
    recorded: dict[str, list[Call]],
) -> None:
    granted = statements(rendered("emr-archive"), "JobRole")
    of_glue = [
        call
        for call in of_jobs(recorded)
        if "/error:" in call["resource"] or call["action"] == "cloudwatch:PutMetricData"
    ]
    assert {call.get("context", {}).get("cloudwatch:namespace") for call in of_glue} == {None, "Bucketwheel", "Glue"}
    calls = [*(call for call in of_jobs(recorded) if call not in of_glue), *OTHERS["start_on_emr"]]
    assert denied(granted, calls) == []
    assert unused(granted, calls) == set()
    assert denied(granted, of_glue) == of_glue


@recordings
@pytest.mark.parametrize(
    ("settings", "lists"),
    [
        ({"deploy.kms_key": KEY_ARN}, ("with_a_key", "with_a_key_of_the_topic")),
        ({"deploy.kms_key": KEY_ARN, "monitoring.topic_arn": TOPIC_ARN}, ("with_a_key",)),
        ({"storage.encryption": "SSE-KMS", "storage.kms_key": KEY_ARN}, ("with_a_key",)),
    ],
)
def test_role_uses_kms_key_only_through_services(
    recorded: dict[str, list[Call]], settings: dict[str, Any], lists: tuple[str, ...]
) -> None:
    granted = statements(rendered(**settings), "JobRole")
    calls = [call for name in lists for call in OTHERS[name]]
    if "monitoring.topic_arn" in settings:
        calls.append({"action": "sns:Publish", "resource": TOPIC_ARN})
    assert denied(granted, calls) == []
    assert unused(granted, [*of_jobs(recorded), *calls]) == set()
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
        ("s3:ListBucket", DATA, {"s3:prefix": "opus/"}),
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
def test_role_denies_calls_that_no_job_makes(action: str, resource: str, context: dict[str, str]) -> None:
    assert allows(statements(rendered(), "JobRole"), action, resource, context) == []


@pytest.mark.parametrize(
    ("role", "variant", "calls"),
    [
        ("SchedulerRole", "glue", OTHERS["SchedulerRole"]),
        ("WatchRole", "glue", OTHERS["WatchRole"]),
        ("SlowWatchRole", "glue", OTHERS["SlowWatchRole"]),
        ("SlowWatchStarterRole", "emr-archive", OTHERS["SlowWatchStarterRole"]),
        ("StatesRole", "glue", [*OTHERS["StatesRole"], *OF_JOBS]),
        ("StatesRole", "emr-archive", OTHERS["StatesRoleOnEmr"]),
    ],
)
def test_other_roles_grant_exactly_their_calls(role: str, variant: str, calls: list[dict[str, Any]]) -> None:
    granted = statements(rendered(variant), role)
    assert denied(granted, calls) == []
    assert {(sid, part) for sid, part in unused(granted, calls) if sid not in UNNAMED} == set()
    assert not allows(granted, "s3:GetObject", f"{DATA}/omc_cleanroom_data/x", {})
    assert not allows(granted, "glue:UpdateTable", f"{GLUE}table/omc_flywheel_prod/ext_ibe_01", {})


@pytest.mark.parametrize("variant", VARIANTS)
def test_wildcard_resource_only_where_service_requires_it(variant: str) -> None:
    template = rendered(variant)
    wide = {
        (role, statement["Sid"])
        for role, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
        for statement in statements(template, role)
        if "*" in (statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]])
    }
    machines = {role for role, _ in wide} - {"JobRole"}
    unnamed = {("JobRole", "PutMetrics" if variant.startswith("glue") else "FindLogGroups")}
    unnamed |= {("JobRole", "LakeFormation")} if variant == "glue-everything" else set()
    assert wide == unnamed | {(role, sid) for role in machines for sid in UNNAMED}
    assert machines <= {"StatesRole", "WatchRole", "SlowWatchRole"}


@pytest.mark.parametrize(
    ("variant", "way", "allowed"),
    [
        ("glue", "auto", True), ("glue", "put", True), ("glue", "emf", False), ("glue", "none", False),
        ("emr-archive", "auto", False), ("emr-archive", "put", True), ("emr-archive", "none", False),
    ],
)  # fmt: skip
def test_put_metric_data_is_granted_only_for_its_route(variant: str, way: str, allowed: bool) -> None:
    granted = statements(rendered(variant, monitoring__metrics=way), "JobRole")
    context = {"cloudwatch:namespace": "Bucketwheel"}
    assert bool(allows(granted, "cloudwatch:PutMetricData", "*", context)) is allowed


def test_role_publishes_only_to_configured_topic() -> None:
    granted = statements(rendered(monitoring__topic_arn=TOPIC_ARN), "JobRole")
    assert allows(granted, "sns:Publish", TOPIC_ARN, {}) == ["Notify"]
    assert allows(granted, "sns:Publish", "arn:aws:sns:us-east-1:123456789012:bucketwheel-prod-notices", {}) == []


def test_role_may_change_iceberg_tables_in_glue() -> None:
    granted = statements(
        rendered(catalog__kind="iceberg", iceberg__catalog="glue", buckets__hash="iceberg"), "JobRole"
    )
    for action, resource in (
        ("GetDatabase", "database/omc_flywheel_prod"), ("GetTables", "catalog"), ("CreateTable", "catalog"),
        ("UpdateTable", "table/omc_flywheel_prod/bucketed_ibe_01"), ("CreateDatabase", "catalog"),
    ):  # fmt: skip
        assert allows(granted, f"glue:{action}", f"{GLUE}{resource}", {}), action
    assert not allows(granted, "glue:UpdateTable", f"{GLUE}table/omc_flywheel_prod/other", {})
    assert not allows(statements(rendered(), "JobRole"), "glue:GetDatabase", f"{GLUE}database/omc_flywheel_prod", {})


def test_policies_have_no_action_patterns() -> None:
    for variant in VARIANTS:
        template = rendered(variant)
        for role in ("JobRole", "StatesRole"):
            policy_statements = statements(template, role)
            assert policy_statements
            for statement in policy_statements:
                assert "*" not in "".join(statement["Action"])


def test_role_reads_whole_bucket_and_unmapped_sources() -> None:
    template = rendered(
        datasets__infobase_attributes__source="s3://whole-bucket",
        datasets__infobase_attributes__mapping=None,
        catalog__kind="duckdb",
    )
    granted = statements(template, "JobRole")
    assert allows(granted, "s3:GetObject", "arn:aws:s3:::whole-bucket/snapshot_dt=2025-10-22/a.parquet", {})
    assert allows(granted, "s3:ListBucket", "arn:aws:s3:::whole-bucket", {"s3:prefix": "snapshot_dt=2025-10-22/"})
    assert not allows(granted, "s3:GetObject", f"{DATA}/opus/infobase_attributes/mapping.csv", {})

    def on_glue(found: list[dict[str, Any]]) -> set[str]:
        return {action for statement in found for action in statement["Action"] if action.startswith("glue:")}

    assert on_glue(granted) == set()
    assert "glue:GetTable" in on_glue(statements(rendered(), "JobRole"))
