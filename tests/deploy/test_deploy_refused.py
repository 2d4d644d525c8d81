"""Configurations that AWS would reject are refused before any AWS call, with all problems in one error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bucketwheel import api
from bucketwheel.deploy.template import template as template_module
from bucketwheel.errors import ConfigError
from bucketwheel.settings.secrets import secrets_in
from deploy_support import configuration, rendered


def refusal(**overrides: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        rendered(**overrides)
    assert refused.value.exit_code == 2
    return str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"deploy.package": None},
            "deploy.package is not set; upload one with: bucketwheel package --env prod --upload",
        ),
        (
            {"deploy.package": "build/package"},
            "deploy.package is 'build/package'; set it to a location of the form",
        ),
        ({"target": "./out"}, "target is './out'; set it to a location of the form s3://bucket/prefix"),
        ({"datasets.addressable_ids.source": "/data"}, "datasets.addressable_ids.source is '/data'"),
        ({"athena.output_location": None}, "athena.output_location is None"),
        (
            {"deploy.stack": "bucketwheel_prod"},
            "AWS refuses 'bucketwheel_prod' as the name of a stack; it accepts letters",
        ),
        ({"deploy.stack": "1st"}, "AWS refuses '1st' as the name of a stack"),
        (
            {"deploy.stack": "s" * 70},
            "the schedule name '" + "s" * 70 + "-watch' has 76 characters, AWS accepts at most 64",
        ),
        (
            {"glue.role": "r" * 65},
            "glue.role: the role name '" + "r" * 65 + "' has 65 characters, AWS accepts at most 64",
        ),
        ({"glue.role": "a role"}, "glue.role: AWS refuses 'a role' as the name of a role"),
        ({"glue.role": "rôle"}, "glue.role: AWS refuses 'rôle' as the name of a role"),
        ({"deploy.job_prefix": "p" * 250}, "AWS accepts at most 255"),
        ({"athena.workgroup": "my group"}, "athena.workgroup: AWS refuses 'my group' as the name of a workgroup"),
        (
            {"catalog.database": "omc-flywheel"},
            "catalog.database: AWS refuses 'omc-flywheel' as the name of a database",
        ),
        ({"target": "s3://Upper_Case/x"}, "target: AWS refuses 'Upper_Case' as the name of a bucket"),
        ({"target": "s3://192.168.0.1/x"}, "target: AWS refuses '192.168.0.1' as the name of a bucket"),
        ({"target": "s3://two..dots/x"}, "target: AWS refuses 'two..dots' as the name of a bucket"),
        (
            {"monitoring.namespace": "AWS/Own"},
            "monitoring.namespace: AWS refuses 'AWS/Own' as the name of a namespace",
        ),
        ({"deploy.artifacts": "s3://Mine/x"}, "deploy.artifacts: AWS refuses 'Mine' as the name of a bucket"),
        (
            {"target": "s3://tables-1a-s3alias/x"},
            "target: tables-1a-s3alias is the alias of an access point, which policies of IAM cannot name",
        ),
        ({"target": "arn:aws:s3:::mine"}, "target (override): arn:aws:s3:::mine is an ARN; write s3://mine"),
        ({"deploy.artifacts": "build"}, "deploy.artifacts is 'build'; set it to a location of the form s3://"),
        (
            {"athena.output_location": "s3://My_Results/x"},
            "athena.output_location: AWS refuses 'My_Results' as the name of a bucket",
        ),
        (
            {"deploy.tags": {"aws:team": "x"}},
            "deploy.tags: AWS refuses 'aws:team' as the name of a tag; it accepts up to 128 letters",
        ),
        ({"deploy.tags": {"k" * 129: "x"}}, "as the name of a tag; it accepts up to 128 letters"),
        ({"deploy.tags": {"": "x"}}, "deploy.tags: AWS refuses '' as the name of a tag"),
        (
            {"deploy.tags": {"team": "a;b"}},
            "deploy.tags.team: AWS refuses 'a;b' as the value of a tag; it accepts",
        ),
        ({"deploy.tags": {"team": "v" * 257}}, "as the value of a tag; it accepts up to 256 letters"),
        (
            {"deploy.tags": {"Application": "x"}},
            "deploy.tags: 'application' and 'Application' are the same tag to IAM, which ignores case; "
            "use one of them",
        ),
        (
            {"deploy.tags": {f"tag-{n}": "x" for n in range(49)}},
            "deploy.tags: 51 tags with `application` and `environment`, AWS accepts at most 50; remove some",
        ),
        (
            {"deploy.permissions_boundary": "boundary"},
            "deploy.permissions_boundary is 'boundary'; expected null or the ARN of a policy, such as arn:aws:iam::",
        ),
        (
            {"glue.timeout_minutes": 45},
            "monitoring.long_job_minutes is 45, but Glue stops a job after glue.timeout_minutes=45, so no job",
        ),
        (
            {"monitoring.long_run_minutes": 1080},
            "monitoring.long_run_minutes is 1080, but the state machine stops a run after 1,080 minutes, so no run",
        ),
        ({"monitoring.email": "nobody"}, "monitoring.email is 'nobody', which is not an address"),
        ({"deploy.schedule": "0 6 5 * *"}, "deploy.schedule is '0 6 5 * *'; expected cron("),
        ({"deploy.time_zone": "Berlin"}, "deploy.time_zone is 'Berlin', which is not a time zone"),
        (
            {"deploy.kms_key": "alias/mine"},
            "deploy.kms_key is 'alias/mine'; expected null, create, or the ARN of a key",
        ),
        (
            {"storage.encryption": "SSE-KMS", "storage.kms_key": "alias/data"},
            "storage.kms_key is 'alias/data'; a role policy needs the ARN of the key",
        ),
        (
            {"ctas.method": "athena"},
            "outside the target s3://omc-flywheel-data-us-east-1-prod/omc_cleanroom_data; with ctas.method=athena",
        ),
        ({"deploy.jobs": {"x": {"dataset": "nobody"}}}, "deploy.jobs.x.dataset is 'nobody', which is not configured"),
        (
            {"deploy.jobs": {"x": {"stages": "buckets"}}},
            "deploy.jobs.x.stages has 'buckets', which is not a stage; did you mean 'bucket'? known",
        ),
        (
            {"deploy.buckets": "create"},
            "in a bucket that this stack creates, but the stack needs the package first. Set deploy.artifacts to",
        ),
        (
            {"glue.glue_version": "4.0"},
            "glue.glue_version (override): unknown Glue version, use one of 5.0, 5.1, not 4.0",
        ),
        ({"glue.glue_version": "6.0"}, "Glue 6.0 runs Spark 4.1 on Python 3.13, this application needs 5.0 or 5.1"),
        ({"glue.worker_type": "G.3X"}, "glue.worker_type (override): should be 'G.1X'"),
        (
            {"glue.execution_class": "FLEX"},
            "execution_class is FLEX, but worker_type is G.4X; Glue offers FLEX only with G.1X and G.2X: set",
        ),
        ({"emr_serverless.release": "emr-6.9.0"}, "unknown or unsupported release, use emr-7.8.0 to emr-7.13.0"),
        (
            {"emr_serverless.timeout_minutes": 4},
            "emr_serverless.timeout_minutes (override): should be greater than or",
        ),
        (
            {"emr_serverless.memory_gb": 40},
            "memory_gb is 40; EMR Serverless offers a worker of 4 cores with 8 to 30 GB",
        ),
        (
            {"emr_serverless.cores": 8, "emr_serverless.memory_gb": 30},
            "memory_gb is 30; EMR Serverless offers a worker of 8 cores with 16, 20, 24, 28, 32, 36, 40, 44,",
        ),
        (
            {"emr_serverless.cores": 16, "emr_serverless.memory_gb": 44},
            "a worker of 16 cores with 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120 GB",
        ),
        (
            {"emr_serverless.max_executors": 3, "emr_serverless.initial_executors": 4},
            "initial_executors is 4, more than max_executors, which is 3; keep at most 3 ready",
        ),
        ({"emr_serverless.subnets": "subnet-1"}, "subnets and security_groups belong together; set both or none"),
        (
            {"monitoring.topic_arn": "notices"},
            "monitoring.topic_arn (override): expected the ARN of a topic",
        ),
        ({"monitoring.metrics": "statsd"}, "monitoring.metrics (override): should be 'auto', 'emf', 'put' or 'none'"),
        ({"monitoring.retention_days": 100}, "monitoring.retention_days (override): should be 30, 60"),
    ],
)
def test_refusal_names_setting_value_and_fix(overrides: dict[str, Any], message: str) -> None:
    assert message in refusal(**overrides)


def test_refusal_lists_all_problems() -> None:
    message = refusal(
        deploy__package=None, target="out", deploy__time_zone="Mars", deploy__schedule="monthly", deploy__kms_key="k"
    ).splitlines()
    assert len(message) == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"deploy.jobs": {"a-b": {"stages": "ctas"}, "a.b": {"stages": "ctas"}}},
            "AWS::Glue::Job etl-omc-flywheel-prod-a-b and AWS::Glue::Job etl-omc-flywheel-prod-a.b would both have "
            "the logical id JobAB in the template, which keeps only the letters and digits of a name; rename one",
        ),
        (
            {"deploy.jobs": {"role": {"stages": "ctas"}}},
            "AWS::IAM::Role omc_flywheel-prod-glue-role and AWS::Glue::Job etl-omc-flywheel-prod-role would both "
            "have the logical id JobRole",
        ),
        (
            {"deploy.jobs": {"failed": {"stages": "ctas"}}},
            "AWS::Glue::Job etl-omc-flywheel-prod-failed and AWS::Events::Rule bucketwheel-prod-job-failed would",
        ),
        (
            {
                "datasets": {name: {"source": "s3://a-bucket/x", "key": "id"} for name in ("x.y", "x-y")},
                "deploy.jobs": {"all-bucket": {"stages": "discover,split,size,bucket,verify"}},
            },
            "AWS::CloudWatch::Alarm bucketwheel-prod-x.y-NullKeys and AWS::CloudWatch::Alarm bucketwheel-prod-x-y-",
        ),
        (
            {
                "deploy.buckets": "create",
                "target": "s3://data.prod/t",
                "athena.output_location": "s3://data-prod/r",
                "deploy.package": "s3://elsewhere/p",
            },
            "AWS::S3::Bucket data.prod and AWS::S3::Bucket data-prod would both have the logical id BucketDataProd",
        ),
    ],
)
def test_colliding_logical_ids_are_refused(overrides: dict[str, Any], message: str) -> None:
    assert message in refusal(**overrides)


def test_dataset_without_job_for_stage_is_refused() -> None:
    message = refusal(datasets__third={"source": "s3://a-bucket/third", "key": "id"})
    assert message == ("deploy.jobs has no job that runs stage 'bucket' for dataset 'third'; add one with that stage")


def test_configuration_without_datasets_is_refused(tmp_path: Any) -> None:
    (tmp_path / "prod.yaml").write_text("engine: spark\ntarget: s3://a-bucket/x\ncatalog: {kind: glue}\n")
    config = api.load("prod", tmp_path, {"deploy.package": "s3://a-bucket/p", "deploy.jobs": {}}, environ={})
    with pytest.raises(ConfigError, match="no dataset is configured; add one under `datasets:`"):
        api.deploy_render(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "arrow"}, "engine is arrow, which runs on one machine; .*\nadd to prod.yaml, .*\nengine: spark$"),
        (
            {"catalog.kind": "duckdb"},
            r"catalog.kind is duckdb, a file .*\nadd to prod.yaml, .*\ncatalog: \{kind: glue, ",
        ),
        (
            {"target": "out"},
            "target is out, a path on one machine; .*\nadd to prod.yaml, .*\ntarget: s3://BUCKET/PREFIX$",
        ),
        ({"datasets.infobase_attributes.mapping": "m.csv"}, "infobase_attributes.mapping is m.csv, a path on one"),
    ],
)
def test_environment_for_one_machine_is_refused_by_every_command(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    config = configuration(**changes)
    commands: list[Callable[[], object]] = [
        lambda: api.package(config, tmp_path / "package", without_archive=True),
        lambda: api.deploy_render(config),
        lambda: api.deploy_diff(config),
        lambda: api.deploy_apply(config, lambda _: pytest.fail("nothing to confirm")),
        lambda: api.submit(config, "glue", api.JobRequest()),
        lambda: api.submit(config, "emr-serverless", api.JobRequest()),
        lambda: api.check_for_jobs(config),
    ]
    for command in commands:
        with pytest.raises(ConfigError, match=message) as refused:
            command()
        assert refused.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_lines_to_add_set_each_key_once() -> None:
    dataset = "datasets.infobase_attributes"
    with pytest.raises(ConfigError) as refused:
        api.check_for_jobs(
            configuration(**{"engine": "arrow", f"{dataset}.source": "in", f"{dataset}.mapping": "m.csv"})
        )
    assert str(refused.value).partition("keys:\n")[2].splitlines() == [
        "engine: spark",
        "datasets: {infobase_attributes: {source: 's3://BUCKET/PREFIX', mapping: 's3://BUCKET/PREFIX/mapping.csv'}}",
    ]


def test_template_over_limits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "MOST_BYTES", 20_000)
    assert "bytes, CloudFormation accepts 20,000; use fewer datasets or jobs in one environment" in refusal()
    monkeypatch.setattr(template_module, "MOST_RESOURCES", 10)
    assert "resources, CloudFormation accepts 10; use fewer datasets" in refusal()


def test_policy_over_iam_limit_is_refused() -> None:
    many = {f"dataset_{n}": {"source": f"s3://a-bucket/{'long/' * 20}{n}", "key": "id"} for n in range(60)}
    jobs = {"all-bucket": {"stages": "discover,split,size,bucket,verify"}}
    message = refusal(datasets=many, deploy__jobs=jobs)
    assert "the policies of JobRole would have" in message
    assert "IAM accepts at most 10,240; use fewer datasets" in message


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("target", "s3://AKIAIOSFODNN7EXAMPLE/x", "an access key"),
        ("deploy.tags", {"note": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}, "a secret key"),
        ("glue.arguments", {"--db": "postgresql://admin:hunter2@db/x"}, "a password in a URL"),
        ("glue.arguments", {"--conf": "spark.ssl.keyPassword=x password=hunter2"}, "a secret"),
        ("glue.arguments", {"--password": "hunter2"}, "has the name of a secret"),
        ("deploy.tags", {"note": "-----BEGIN RSA PRIVATE KEY-----"}, "a private key"),
        ("deploy.tags", {"note": f"ghp_{'a1' * 18}"}, "a GitHub token"),
    ],
)
def test_refusal_of_secret_does_not_show_it(name: str, value: Any, words: str) -> None:
    message = refusal(**{name: value})
    assert f"looks like {words};" in message or f"{words};" in message
    assert name in message
    for secret in ("AKIA", "wJalr", "hunter2", "BEGIN", "ghp_"):
        assert secret not in message


def test_example_configurations_have_no_secret() -> None:
    for env in ("dev", "prod", "local", "demo"):
        assert list(secrets_in(configuration(env).settings.model_dump())) == []
