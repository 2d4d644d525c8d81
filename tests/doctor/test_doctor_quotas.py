"""`doctor` compares what a run asks for with the quotas of the account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aws_server import account_quotas
from bucketwheel.deploy.demand import demands
from bucketwheel.deploy.template.deployment import Deployment
from deploy_support import configuration
from doctor_support import Diagnose
from fake_iam import Refuses

VCPU = "L-D05C8A75"
EMR: dict[str, Any] = {"deploy__platform": "emr-serverless", "emr_serverless__role": "omc_flywheel-prod-glue-role"}


def needed(**overrides: Any) -> dict[str, int]:
    settings = configuration(**overrides).settings
    return {demand.code: demand.needed for demand in demands(Deployment(settings, "prod"))}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # Two datasets in parallel: each has 25 executors and a driver of 4 cores.
        (EMR, {VCPU: 2 * 26 * 4}),
        ({**EMR, "emr_serverless__cores": 8, "emr_serverless__max_executors": 3}, {VCPU: 2 * 4 * 8}),
        ({}, {"L-08F3B322": 2 * 10 * 4, "L-5E4153CA": 2}),
        ({"glue__worker_type": "R.2X", "glue__number_of_workers": 5}, {"L-08F3B322": 2 * 5 * 2, "L-5E4153CA": 2}),
        (
            {"glue__execution_class": "FLEX", "glue__worker_type": "G.2X"},
            {"L-096DBB95": 2 * 10 * 2, "L-5E4153CA": 2},
        ),
    ],
)
def test_demand_is_that_of_all_datasets_in_parallel(overrides: dict[str, Any], expected: dict[str, int]) -> None:
    assert needed(**overrides) == expected


def test_new_account_on_emr_fails_with_the_request_for_more(diagnose: Diagnose) -> None:
    with account_quotas({VCPU: 16}):
        finding = diagnose(**EMR)["quotas"]
    assert (finding.state, finding.found) == (
        "failed",
        "vCPUs of EMR Serverless: 208 needed ((25 executors + 1 driver) * 4 cores * 2 datasets), the quota is 16 "
        "(of this account)",
    )
    assert finding.todo == (
        "aws service-quotas request-service-quota-increase --service-code emr-serverless --quota-code L-D05C8A75 "
        "--desired-value 208, or lower emr_serverless.max_executors or emr_serverless.cores"
    )


def test_quota_that_fits_is_ok_and_names_all(diagnose: Diagnose) -> None:
    finding = diagnose()["quotas"]
    assert (finding.state, finding.todo) == ("ok", "")
    assert finding.found.splitlines() == [
        "DPUs of Glue jobs: 80 of 1,000 (of this account)",
        "concurrent Glue job runs: 2 of 200 (of this account)",
    ]


def test_quota_never_changed_is_the_default_of_aws(diagnose: Diagnose) -> None:
    with account_quotas({}, {"L-08F3B322": 40, "L-5E4153CA": 2000}):
        finding = diagnose()["quotas"]
    assert finding.state == "failed"
    assert (
        "DPUs of Glue jobs: 80 needed (10 workers G.4X * 4 DPUs * 2 datasets), the quota is 40 (AWS's"
        in finding.found
    )


def test_quota_that_iam_denies_is_the_documented_default(
    diagnose: Diagnose, instead: Callable[[str, Any], None]
) -> None:
    double: Any = Refuses("GetServiceQuota", "get_service_quota", "AccessDeniedException")
    double.exceptions = type("Exceptions", (), {"NoSuchResourceException": KeyError})
    instead("service-quotas", double)
    finding = diagnose(**EMR)["quotas"]
    # A warning only: the quota of this account may be higher.
    assert finding.state == "warning"
    assert (
        "the quota is 16 (the documented default, because Service Quotas denied the call; EMR Serv" in finding.found
    )


def test_large_template_without_artifacts_fails(diagnose: Diagnose) -> None:
    finding = diagnose(deploy__artifacts=None)["template"]
    assert finding.state == "failed"
    assert "more than the 51,200 that CloudFormation accepts in a call" in finding.found
    assert "set deploy.artifacts to an S3 location" in finding.todo


def test_configuration_that_deploy_refuses_fails_for_the_template(diagnose: Diagnose) -> None:
    finding = diagnose(deploy__time_zone="Mars", deploy__kms_key="k")["template"]
    assert finding.state == "failed"
    assert finding.found.splitlines() == [
        "deploy.time_zone is 'Mars', which is not a time zone",
        "deploy.kms_key is 'k'",
    ]
    assert finding.todo.splitlines()[0] == "use a name such as Europe/Berlin"
