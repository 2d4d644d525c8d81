"""Contents of the template, for every variant of the configuration."""

from __future__ import annotations

import json

import pytest
import yaml

from bucketwheel import api
from deploy_support import JOBS, PACKAGE, VARIANTS, configuration, of_type, rendered, resolved

TOPIC_ARN = "arn:aws:sns:us-east-1:123456789012:bucketwheel-prod-notices"
UP_TO_BUCKETS = "discover,split,size,bucket,verify"


@pytest.mark.parametrize("variant", VARIANTS)
def test_yaml_and_json_are_equal_and_deterministic(variant: str) -> None:
    config = configuration(**dict(VARIANTS[variant]))
    texts = {form: api.deploy_render(config, form) for form in ("yaml", "json")}
    assert yaml.safe_load(texts["yaml"]) == json.loads(texts["json"])
    again = configuration(**dict(VARIANTS[variant]))
    assert {form: api.deploy_render(again, form) for form in ("yaml", "json")} == texts
    # CloudFormation has neither aliases nor anchors.
    assert not [line for line in texts["yaml"].splitlines() if ": *" in line.replace(": '*", "") or ": &" in line]


def test_jobs_have_production_names_and_one_script() -> None:
    jobs = {job["Name"]: job for job in of_type(rendered(), "AWS::Glue::Job").values()}
    assert tuple(jobs) == JOBS
    chosen = {
        name: (job["DefaultArguments"].get("--dataset"), job["DefaultArguments"].get("--stages"))
        for name, job in jobs.items()
    }
    assert list(chosen.values()) == [
        ("infobase_attributes", UP_TO_BUCKETS),
        ("addressable_ids", UP_TO_BUCKETS),
        (None, "register"),
        (None, "ctas"),
        (None, None),
    ]
    for job in jobs.values():
        assert job["Command"] == {"Name": "glueetl", "PythonVersion": "3", "ScriptLocation": f"{PACKAGE}/job.py"}
        assert (job["GlueVersion"], job["WorkerType"], job["NumberOfWorkers"]) == ("5.0", "G.4X", 10)
        assert (job["Timeout"], job["ExecutionClass"], job["MaxRetries"]) == (60, "STANDARD", 0)
        arguments = job["DefaultArguments"]
        assert arguments["--python-virtual-env"] == f"{PACKAGE}/environment.tar.gz"
        assert (arguments["--env"], arguments["--config-dir"]) == ("prod", f"{PACKAGE}/conf")
        assert resolved(arguments["--notices-topic"], rendered()["Resources"]) == TOPIC_ARN
        # `--conf` would be Spark's settings, not our directory; the job has none.
        assert "--conf" not in arguments
        assert job["Tags"] == {"application": "bucketwheel", "environment": "prod"}


def test_lake_formation_grants_go_to_role_of_jobs() -> None:
    assert of_type(rendered(), "AWS::LakeFormation::PrincipalPermissions") == {}
    template = rendered(
        "glue-everything",
        ctas__method="athena",
        athena__workgroup="primary",
        catalog__lake_formation="tables,locations",
    )
    grants = of_type(template, "AWS::LakeFormation::PrincipalPermissions")
    account, target = {"Ref": "AWS::AccountId"}, "omc-flywheel-data-us-east-1-prod/omc_cleanroom_data"
    tables = {"CatalogId": account, "DatabaseName": "omc_flywheel_prod", "TableWildcard": {}}
    location = {"CatalogId": account, "ResourceArn": {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{target}"}}
    assert {name: (grant["Permissions"], grant["Resource"]) for name, grant in grants.items()} == {
        "LakeTables": (["ALTER", "DESCRIBE", "DROP", "SELECT"], {"Table": tables}),
        "LakeLocations": (["DATA_LOCATION_ACCESS"], {"DataLocation": location}),
    }
    for grant in grants.values():
        assert grant["Principal"] == {"DataLakePrincipalIdentifier": {"Fn::GetAtt": ["JobRole", "Arn"]}}


def test_job_settings_become_job_properties() -> None:
    template = rendered(
        glue__worker_type="G.2X",
        glue__number_of_workers=20,
        glue__timeout_minutes=30,
        monitoring__long_job_minutes=29,
        glue__execution_class="FLEX",
        glue__auto_scaling=False,
        glue__glue_version="5.1",
        glue__arguments={"--enable-metrics": "false", "--TempDir": "s3://x/y"},
        deploy__tags={"team": "flywheel"},
    )
    jobs = of_type(template, "AWS::Glue::Job")
    assert len(jobs) == len(JOBS)
    for job in jobs.values():
        assert (job["WorkerType"], job["NumberOfWorkers"], job["Timeout"]) == ("G.2X", 20, 30)
        assert job["NotificationProperty"] == {"NotifyDelayAfter": 29}
        assert (job["ExecutionClass"], job["GlueVersion"], job["Tags"]["team"]) == ("FLEX", "5.1", "flywheel")
        arguments = job["DefaultArguments"]
        assert (arguments["--enable-auto-scaling"], arguments["--enable-metrics"]) == ("false", "false")
        assert arguments["--TempDir"] == "s3://x/y"


def test_only_shared_jobs_allow_concurrent_runs() -> None:
    jobs = {job["Name"]: job for job in of_type(rendered(), "AWS::Glue::Job").values()}
    limits = [jobs[name]["ExecutionProperty"]["MaxConcurrentRuns"] for name in JOBS]
    assert limits == [1, 1, 2, 2, 2]


def test_role_has_production_name() -> None:
    assert rendered()["Resources"]["JobRole"]["Properties"]["RoleName"] == "omc_flywheel-prod-glue-role"


@pytest.mark.parametrize("variant", VARIANTS)
def test_scheduler_and_state_machine_have_own_roles(variant: str) -> None:
    template = rendered(variant)
    trusted = {
        name: role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]
        for name, role in of_type(template, "AWS::IAM::Role").items()
    }
    platform = "emr-serverless.amazonaws.com" if variant.startswith("emr") else "glue.amazonaws.com"
    principals = {"JobRole": platform, "StatesRole": "states.amazonaws.com"}
    if variant != "glue-plain":
        principals |= {"WatchRole": "states.amazonaws.com", "SchedulerRole": "scheduler.amazonaws.com"}
        principals |= {"SlowWatchRole": "states.amazonaws.com", "SlowWatchStarterRole": "events.amazonaws.com"}
    assert trusted == principals


def test_disabled_features_create_no_resources() -> None:
    everything, plain = rendered("glue-everything")["Resources"], rendered("glue-plain")["Resources"]
    types = {resource["Type"] for resource in plain.values()}
    assert types
    assert not types & {"AWS::Scheduler::Schedule", "AWS::Athena::WorkGroup", "AWS::S3::Bucket", "AWS::KMS::Key"}
    assert {resource["Type"] for resource in everything.values()} > types
    assert not [name for name in plain if name.startswith("Alarm") and "Run" not in name]


def test_created_buckets_are_private_encrypted_and_retained() -> None:
    template = rendered("glue-everything")
    buckets = of_type(template, "AWS::S3::Bucket")
    assert {bucket["BucketName"] for bucket in buckets.values()} == {
        "omc-flywheel-data-us-east-1-prod",
        "omc-flywheel-prod-analysis-data",
        "omc-flywheel-data-us-east-1-prod-access-logs",
    }
    policies = {policy["Bucket"]["Ref"]: policy for policy in of_type(template, "AWS::S3::BucketPolicy").values()}
    for name, bucket in buckets.items():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        algorithm = rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
        assert algorithm == ("AES256" if name == "AccessLogs" else "aws:kms")
        tls = policies[name]["PolicyDocument"]["Statement"][0]
        assert (tls["Effect"], tls["Action"], tls["Condition"]) == (
            "Deny", "s3:*", {"Bool": {"aws:SecureTransport": "false"}}
        )  # fmt: skip
        assert template["Resources"][name]["DeletionPolicy"] == "Retain"
        assert (name == "AccessLogs") != ("LoggingConfiguration" in bucket)


def test_lifecycle_rules_keep_current_files_of_tables() -> None:
    buckets = of_type(rendered("glue-everything"), "AWS::S3::Bucket")
    data = next(b for b in buckets.values() if b["BucketName"] == "omc-flywheel-data-us-east-1-prod")
    rules = {rule["Id"].rpartition("-")[0]: rule for rule in data["LifecycleConfiguration"]["Rules"]}
    assert set(rules) == {"unfinished-uploads", "deleted-versions", "old-runs"}
    assert not [rule for rule in rules.values() if "ExpirationInDays" in rule]
    assert rules["old-runs"]["Prefix"] == "omc_cleanroom_data/addressable_ids/"
    assert rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_workgroup_enforces_encryption_location_and_limit() -> None:
    (workgroup,) = of_type(rendered(athena__bytes_limit="50GB"), "AWS::Athena::WorkGroup").values()
    enforced = workgroup["WorkGroupConfiguration"]
    assert (workgroup["Name"], enforced["EnforceWorkGroupConfiguration"]) == ("omc_flywheel-prod", True)
    assert enforced["BytesScannedCutoffPerQuery"] == 50 * 10**9
    result = enforced["ResultConfiguration"]
    assert result["OutputLocation"] == "s3://omc-flywheel-prod-analysis-data/athena/"
    assert result["EncryptionConfiguration"] == {"EncryptionOption": "SSE_S3"}
    (keyed,) = of_type(rendered("glue-own-key"), "AWS::Athena::WorkGroup").values()
    encryption = keyed["WorkGroupConfiguration"]["ResultConfiguration"]["EncryptionConfiguration"]
    assert encryption["EncryptionOption"] == "SSE_KMS"


def test_schedule_is_monthly_in_configured_time_zone() -> None:
    template = rendered(deploy__time_zone="America/New_York")
    schedule = template["Resources"]["Schedule"]["Properties"]
    assert schedule["ScheduleExpression"] == "cron(0 6 5 * ? *)"
    assert schedule["ScheduleExpressionTimezone"] == "America/New_York"
    assert schedule["Target"]["Arn"] == {"Ref": "StateMachine"}


def test_emr_application_stops_when_idle_and_scales_to_limit() -> None:
    (plain,) = of_type(rendered("emr-archive"), "AWS::EMRServerless::Application").values()
    assert (plain["ReleaseLabel"], plain["Type"], plain["Architecture"]) == ("emr-7.8.0", "SPARK", "X86_64")
    assert "InitialCapacity" not in plain
    assert "ImageConfiguration" not in plain
    assert plain["AutoStopConfiguration"] == {"Enabled": True, "IdleTimeoutMinutes": 15}
    # Two datasets side by side, each a driver and 25 executors of 4 cores and 16 GB.
    assert plain["MaximumCapacity"] == {"Cpu": "208 vCPU", "Memory": "832 GB", "Disk": "5200 GB"}
    template = rendered("emr-everything")
    (full,) = of_type(template, "AWS::EMRServerless::Application").values()
    assert [(part["Key"], part["Value"]["WorkerCount"]) for part in full["InitialCapacity"]] == [
        ("Driver", 1),
        ("Executor", 2),
    ]
    image = resolved(full["ImageConfiguration"]["ImageUri"], template["Resources"])
    assert image == "123456789012.dkr.ecr.us-east-1.amazonaws.com/bucketwheel:1.0"
    assert not of_type(template, "AWS::Glue::Job")


def test_log_groups_have_configured_retention_and_key() -> None:
    groups = of_type(rendered("glue-own-key", monitoring__retention_days=90), "AWS::Logs::LogGroup")
    assert {group["LogGroupName"] for group in groups.values()} == {
        "/bucketwheel-prod/output",
        "/bucketwheel-prod/error",
        "/aws/vendedlogs/states/bucketwheel-prod",
        "/aws/vendedlogs/states/bucketwheel-prod-watch",
        "/aws/vendedlogs/states/bucketwheel-prod-slow",
    }
    assert {(group["RetentionInDays"], str(group["KmsKeyId"])[:8]) for group in groups.values()} == {(90, "arn:aws:")}
