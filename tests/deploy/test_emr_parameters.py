"""Parameters of jobs on EMR Serverless match the service model of AWS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.submit.emr_serverless import EmrRuns
from deploy_support import ACCOUNT, PACKAGE, rendered, resolved
from emr_support import TOPIC_ARN, Emr


def parameters(emr: Emr) -> dict[str, Any]:
    runs = EmrRuns(Deployment(emr.config.settings, "prod"), "pipeline")
    return runs.parameters({"--env": "prod", "--SNAPSHOT_DT": "2025-10-22"}, "mine")


def problems(job_parameters: dict[str, Any]) -> str:
    model = botocore.session.get_session().get_service_model("emr-serverless")
    shape: Any = model.operation_model("StartJobRun").input_shape
    return str(ParamValidator().validate(job_parameters, shape).generate_report())


def test_job_parameters_match_service_model(emr: Emr) -> None:
    job_parameters = parameters(emr)
    assert problems(job_parameters) == ""
    assert "Unknown parameter" in problems({**job_parameters, "jobdriver": {}})
    assert job_parameters["executionRoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/omc_flywheel-prod-glue-role"
    assert job_parameters["jobDriver"]["sparkSubmit"]["entryPoint"] == f"{PACKAGE}/job.py"
    assert job_parameters["jobDriver"]["sparkSubmit"]["entryPointArguments"] == [
        "--env",
        "prod",
        "--SNAPSHOT_DT",
        "2025-10-22",
        "--notices-topic",
        TOPIC_ARN,
    ]
    spark = job_parameters["jobDriver"]["sparkSubmit"]["sparkSubmitParameters"]
    conf = dict(word.split("=", 1) for word in spark.replace("--conf ", "").split())
    assert conf["spark.archives"] == f"{PACKAGE}/environment.tar.gz#environment"
    for name in ("emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON", "emr-serverless.driverEnv.PYSPARK_PYTHON"):
        assert conf[f"spark.{name}"] == "./environment/bin/python"
    assert conf["spark.executorEnv.PYSPARK_PYTHON"] == "./environment/bin/python"
    assert conf["spark.emr-serverless.driverEnv.BUCKETWHEEL_RUNTIME"] == "emr-serverless"
    # The whole worker: five GB for the JVM, eleven for Python.
    assert (conf["spark.executor.memory"], conf["spark.executor.memoryOverhead"]) == ("5g", "11g")


def test_job_of_two_executors_does_not_begin_with_three(aws_url: str, tmp_path: Path) -> None:
    job_parameters = parameters(Emr(aws_url, tmp_path, emr_serverless__max_executors=2))
    spark = job_parameters["jobDriver"]["sparkSubmit"]["sparkSubmitParameters"]
    for name in ("executor.instances", "dynamicAllocation.initialExecutors", "dynamicAllocation.maxExecutors"):
        assert f"spark.{name}=2" in spark


def test_job_with_image_needs_no_archive(aws_url: str, tmp_path: Path) -> None:
    job_parameters = parameters(Emr(aws_url, tmp_path, emr_serverless__image="bucketwheel:1.0"))
    spark = job_parameters["jobDriver"]["sparkSubmit"]["sparkSubmitParameters"]
    assert "spark.archives" not in spark
    assert "PYSPARK_PYTHON" not in spark
    assert "driverEnv.BUCKETWHEEL_RUNTIME=emr-serverless" in spark
    assert problems(job_parameters) == ""


def test_state_machine_parameters_match_service_model() -> None:
    resources = rendered("emr-archive")["Resources"]
    definition = json.loads(resolved(resources["StateMachine"]["Properties"]["DefinitionString"], resources))
    branch = definition["States"]["Bucket"]["Branches"][0]["States"]
    task = branch["Bucket infobase_attributes"]["Parameters"]
    started = lowered(task)
    words = started["jobDriver"]["sparkSubmit"].pop("entryPointArguments.$")
    started["jobDriver"]["sparkSubmit"]["entryPointArguments"] = [words]
    started["clientToken"] = started.pop("clientToken.$")
    assert problems(started) == ""
    assert words == (
        f"States.Array('--env', 'prod', '--config-dir', '{PACKAGE}/conf', '--dataset', 'infobase_attributes', "
        "'--stages', 'discover,split,size,bucket,verify', '--later-stages', 'register,ctas', "
        f"'--notices-topic', '{TOPIC_ARN}', "
        "'--SNAPSHOT_DT', $.snapshot_dt, '--TABLES_FILTER', $.tables_filter)"
    )


def lowered(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            (key if key.isupper() or "_" in key else f"{key[:1].lower()}{key[1:]}"): lowered(part)
            for key, part in value.items()
        }
    return value


def test_configured_topic_replaces_topic_of_stack(aws_url: str, tmp_path: Path) -> None:
    other = "arn:aws:sns:us-east-1:123456789012:oncall"
    words = parameters(Emr(aws_url, tmp_path, monitoring__topic_arn=other))["jobDriver"]["sparkSubmit"]
    assert words["entryPointArguments"][-2:] == ["--notices-topic", other]
    resources = rendered("emr-archive", monitoring__topic_arn=other)["Resources"]
    assert f"'--notices-topic', '{other}'" in resolved(
        resources["StateMachine"]["Properties"]["DefinitionString"], resources
    )
