"""What the jobs of an environment ask of an account, in the terms of AWS's quotas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.formatting import counted
from bucketwheel.runs.cost import dpus

_GLUE_PAGE = 'AWS General Reference, "AWS Glue endpoints and quotas"'
_EMR_PAGE = 'EMR Serverless User Guide, "Endpoints and quotas for EMR Serverless"'


@dataclass(frozen=True)
class Demand:
    """A number that jobs ask for at the same time, and the quota that limits it.

    Attributes:
        what: what is counted, such as `vCPUs of EMR Serverless`.
        needed: the number that is asked for.
        reason: how it follows from the settings.
        service: service code of Service Quotas.
        code: quota code of Service Quotas.
        default: the quota of a new account, as `page` documents it.
        page: the document of `default`.
        fix: the settings that lower the number.
    """

    what: str
    needed: int
    reason: str
    service: str
    code: str
    default: int
    page: str
    fix: str


def demands(deployment: Deployment) -> Iterator[Demand]:
    """Yield what the state machine asks for when it runs all datasets in parallel."""
    yield from _of_glue(deployment) if deployment.on_glue else _of_emr(deployment)


def _of_emr(deployment: Deployment) -> Iterator[Demand]:
    emr, datasets = deployment.settings.emr_serverless, max(len(deployment.settings.datasets), 1)
    yield Demand(
        what="vCPUs of EMR Serverless",
        needed=(emr.max_executors + 1) * emr.cores * datasets,
        reason=f"({counted(emr.max_executors, 'executor')} + 1 driver) * {counted(emr.cores, 'core')} * "
        f"{counted(datasets, 'dataset')}",
        service="emr-serverless",
        code="L-D05C8A75",
        default=16,
        page=_EMR_PAGE,
        fix="lower emr_serverless.max_executors or emr_serverless.cores",
    )


def _of_glue(deployment: Deployment) -> Iterator[Demand]:
    glue, datasets = deployment.settings.glue, max(len(deployment.settings.datasets), 1)
    each = dpus(glue.worker_type) or 1
    flex = glue.execution_class == "FLEX"
    yield Demand(
        what="DPUs of Glue jobs with FLEX" if flex else "DPUs of Glue jobs",
        needed=glue.number_of_workers * each * datasets,
        reason=f"{counted(glue.number_of_workers, 'worker')} {glue.worker_type} * {counted(each, 'DPU')} * "
        f"{counted(datasets, 'dataset')}",
        service="glue",
        code="L-096DBB95" if flex else "L-08F3B322",
        default=50 if flex else 1000,
        page=_GLUE_PAGE,
        fix="lower glue.number_of_workers or choose a smaller glue.worker_type",
    )
    yield Demand(
        what="concurrent Glue job runs",
        needed=datasets,
        reason=f"one job for each of {counted(datasets, 'dataset')}",
        service="glue",
        code="L-5E4153CA",
        default=200,
        page=_GLUE_PAGE,
        fix="divide the datasets among several environments",
    )
