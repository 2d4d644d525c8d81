"""The Glue jobs: one per selection of stages, all with the same script."""

from __future__ import annotations

from typing import Any

from bucketwheel.deploy.template.deployment import TOPIC, Deployment, Resources, arn_of, joined, logical
from bucketwheel.packaging.archive import ARCHIVE, SCRIPT
from bucketwheel.settings.deploy import JobSettings


def glue_jobs(deployment: Deployment) -> Resources:
    """Return the jobs; none if they run on EMR Serverless."""
    if not deployment.on_glue:
        return {}
    return joined({logical("Job", name): _job(deployment, name, job)} for name, job in deployment.jobs().items())


def _job(deployment: Deployment, name: str, job: JobSettings) -> dict[str, Any]:
    glue = deployment.settings.glue
    package = deployment.package().uri
    minutes = deployment.settings.monitoring.long_job_minutes
    return {
        "Type": "AWS::Glue::Job",
        "Properties": {
            "Name": deployment.job_name(name),
            "Description": f"Bucketwheel: {', '.join(job.stages) or 'all stages'} of {job.dataset or 'any dataset'}",
            "Role": arn_of("JobRole"),
            "Command": {"Name": "glueetl", "PythonVersion": "3", "ScriptLocation": f"{package}/{SCRIPT}"},
            "GlueVersion": glue.glue_version,
            "WorkerType": glue.worker_type,
            "NumberOfWorkers": glue.number_of_workers,
            "Timeout": glue.timeout_minutes,
            "ExecutionClass": glue.execution_class,
            # Only the state machine retries; two levels of retries would multiply.
            "MaxRetries": 0,
            "ExecutionProperty": {
                "MaxConcurrentRuns": 1 if job.dataset else max(len(deployment.settings.datasets), 1)
            },
            **({"NotificationProperty": {"NotifyDelayAfter": minutes}} if minutes else {}),
            "DefaultArguments": {
                **deployment.arguments(job),
                TOPIC: deployment.topic,
                "--python-virtual-env": f"{package}/{ARCHIVE}",
                "--job-language": "python",
                "--job-bookmark-option": "job-bookmark-disable",
                "--enable-auto-scaling": str(glue.auto_scaling).lower(),
                "--enable-metrics": "true",
                "--enable-observability-metrics": "true",
                "--custom-logGroup-prefix": deployment.log_prefix,
                **glue.arguments,
            },
            "Tags": deployment.tag_map(),
        },
        # The log group must exist when a job prints its first line.
        "DependsOn": ["OutputLog", "ErrorLog"],
    }
