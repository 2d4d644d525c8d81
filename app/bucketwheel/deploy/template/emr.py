"""The EMR Serverless application, and the parameters of its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, Resources, ref, sub
from bucketwheel.host import VARIABLE
from bucketwheel.packaging.archive import ARCHIVE

_PYTHON = "./environment/bin/python"
# Executors that Spark requests at first (EMR Serverless User Guide, "Spark jobs": spark.executor.instances).
_FIRST_EXECUTORS = 3


def application(deployment: Deployment) -> Resources:
    """Return the application; nothing if the jobs run on Glue."""
    if deployment.on_glue:
        return {}
    emr = deployment.settings.emr_serverless
    worker = {"Cpu": f"{emr.cores} vCPU", "Memory": f"{emr.memory_gb} GB", "Disk": f"{emr.disk_gb} GB"}
    # The datasets run in parallel, each with its own driver.
    workers = (emr.max_executors + 1) * max(len(deployment.settings.datasets), 1)
    properties: dict[str, Any] = {
        "Name": deployment.stack,
        "Type": "SPARK",
        "ReleaseLabel": emr.release,
        "Architecture": emr.architecture,
        "AutoStartConfiguration": {"Enabled": True},
        "AutoStopConfiguration": {"Enabled": True, "IdleTimeoutMinutes": emr.auto_stop_minutes},
        "MaximumCapacity": {
            "Cpu": f"{workers * emr.cores} vCPU",
            "Memory": f"{workers * emr.memory_gb} GB",
            "Disk": f"{workers * emr.disk_gb} GB",
        },
        "Tags": deployment.tags(),
    }
    if emr.initial_executors:
        properties["InitialCapacity"] = [
            {"Key": key, "Value": {"WorkerCount": count, "WorkerConfiguration": worker}}
            for key, count in (("Driver", 1), ("Executor", emr.initial_executors))
        ]
    if emr.image:
        properties["ImageConfiguration"] = {"ImageUri": _image(emr.image)}
    if emr.subnets:
        properties["NetworkConfiguration"] = {
            "SubnetIds": list(emr.subnets),
            "SecurityGroupIds": list(emr.security_groups),
        }
    return {"Application": {"Type": "AWS::EMRServerless::Application", "Properties": properties}}


def _image(image: str) -> Any:
    """Return the full URI of an image; a name without a registry means this account and region."""
    if "/" in image and "." in image.partition("/")[0]:
        return image
    return sub(f"${{AWS::AccountId}}.dkr.ecr.${{AWS::Region}}.${{AWS::URLSuffix}}/{image}")


def spark_parameters(deployment: Deployment) -> str:
    """Return `sparkSubmitParameters`: worker size, Python environment, name of the runtime.

    Two thirds of a worker's memory are left to the Python processes, which do the work.
    """
    emr = deployment.settings.emr_serverless
    heap = max(emr.memory_gb // 3, 1)
    conf: dict[str, object] = {}
    for part in ("driver", "executor"):
        conf |= {
            f"spark.{part}.cores": emr.cores,
            f"spark.{part}.memory": f"{heap}g",
            f"spark.{part}.memoryOverhead": f"{emr.memory_gb - heap}g",
            f"spark.emr-serverless.{part}.disk": f"{emr.disk_gb}g",
        }
    conf["spark.dynamicAllocation.maxExecutors"] = emr.max_executors
    if emr.max_executors < _FIRST_EXECUTORS:
        # Otherwise, a job begins with more executors than the application's capacity or the account's quota allows.
        conf["spark.executor.instances"] = emr.max_executors
        conf["spark.dynamicAllocation.initialExecutors"] = emr.max_executors
    # AWS documents no way for a driver to detect EMR Serverless.
    conf[f"spark.emr-serverless.driverEnv.{VARIABLE}"] = "emr-serverless"
    if not emr.image:
        conf |= {
            "spark.archives": f"{deployment.package().uri}/{ARCHIVE}#environment",
            "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": _PYTHON,
            "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": _PYTHON,
            "spark.executorEnv.PYSPARK_PYTHON": _PYTHON,
        }
    return " ".join(f"--conf {name}={value}" for name, value in conf.items())


def words(arguments: Mapping[str, str]) -> list[str]:
    """Return arguments as the list for EMR Serverless and `spark-submit`."""
    return [word for name, value in arguments.items() for word in (name, value)]


def monitoring(group: str) -> dict[str, Any]:
    """Return the log configuration of a job for boto3's `StartJobRun`.

    The log group has its own encryption, so this configuration requests none.
    """
    logging = {
        "enabled": True,
        "logGroupName": group,
        "logTypes": {"SPARK_DRIVER": ["STDOUT", "STDERR"], "SPARK_EXECUTOR": ["STDERR"]},
    }
    return {"monitoringConfiguration": {"cloudWatchLoggingConfiguration": logging}}


def capitalised(value: Any) -> Any:
    """Return parameters with the capital first letters of Step Functions; upper-case keys stay."""
    if isinstance(value, Mapping):
        return {f"{key[:1].upper()}{key[1:]}": capitalised(part) for key, part in value.items()}
    return value


def application_output(deployment: Deployment) -> Resources:
    """Return the stack output with the application's id."""
    return {} if deployment.on_glue else {"ApplicationId": {"Value": ref("Application")}}
