"""The table "Would the first run succeed?" of docs/deploy.md: each row is an account in moto."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import first_runs
from aws_server import account_quotas, plain_client
from bucketwheel.doctor import Finding
from doctor_support import DATA, DATABASE, RESULTS, Diagnose, encrypted
from fake_iam import Simulator

# Nothing is deployed yet.
NEW: dict[str, Any] = {"glue__role": "first-run-job", "athena__workgroup": "first-run"}
JOB = "etl-omc-flywheel-prod-pipeline"


def rows() -> dict[str, dict[str, str]]:
    """Return the states of the checks that the table names, by account; `the same` stands for the first row."""
    states: dict[str, dict[str, str]] = {}
    for account, (answer, _) in first_runs.rows().items():
        named = dict(re.findall(r"`([\w ]+)` (ok|warning|failed)", answer))
        first = next(iter(states.values()), {})
        states[account] = {**(first if re.match("the (same|first row)", answer) else {}), **named}
    return states


def check(account: str, seen: dict[str, Finding]) -> None:
    """Compare what `doctor` answers with the row of the table; it names every check that is not ok."""
    named = rows()[account]
    answered = {name: finding.state for name, finding in seen.items() if finding.state != "ok" or name in named}
    assert answered == named, {name: seen[name] for name in answered if seen[name].state != named.get(name)}


def test_table_has_every_account_of_the_tests() -> None:
    assert len(rows()) == 6


def test_new_account_without_keys(diagnose: Diagnose) -> None:
    seen = diagnose(**NEW)
    check("no customer keys, nothing deployed", seen)
    assert seen["role"].todo == "`bucketwheel deploy apply` creates it"
    assert seen["stack"].found.startswith("bucketwheel-prod does not exist yet; its names are free")


@contextmanager
def keys_everywhere(endpoint: str) -> Iterator[str]:
    glue, kms = plain_client("glue", endpoint), plain_client("kms", endpoint)
    arn = str(kms.create_key()["KeyMetadata"]["Arn"])

    def of_catalog(mode: str, **more: str) -> None:
        at_rest = {"CatalogEncryptionMode": mode, **more}
        glue.put_data_catalog_encryption_settings(DataCatalogEncryptionSettings={"EncryptionAtRest": at_rest})

    for bucket in (DATA, RESULTS):
        encrypted(endpoint, bucket, "aws:kms", KMSMasterKeyID=arn)
    of_catalog("SSE-KMS", SseAwsKmsKeyId=arn)
    yield arn
    of_catalog("DISABLED")


def test_account_with_customer_keys_everywhere(diagnose: Diagnose, prod: str) -> None:
    with keys_everywhere(prod) as key:
        seen = diagnose(**NEW)
    check("customer keys on every bucket and on the catalog", seen)
    for thing in (key, f"bucket {DATA}", f"bucket {RESULTS}", "the Glue Data Catalog"):
        assert thing in seen["keys"].found


def test_account_with_lake_formation(diagnose: Diagnose, prod: str) -> None:
    lake, everybody = plain_client("lakeformation", prod), {"DataLakePrincipalIdentifier": "IAM_ALLOWED_PRINCIPALS"}
    whole = {"Principal": everybody, "Resource": {"Database": {"Name": DATABASE}}, "Permissions": ["ALL"]}
    lake.revoke_permissions(**whole)
    lake.register_resource(ResourceArn=f"arn:aws:s3:::{DATA}", RoleArn="arn:aws:iam::123456789012:role/lake")
    seen = diagnose(**NEW)
    lake.deregister_resource(ResourceArn=f"arn:aws:s3:::{DATA}")
    lake.grant_permissions(**whole)
    check("Lake Formation decides on database and target", seen)
    assert "lacks CREATE_TABLE, DESCRIBE on database" in seen["Lake Formation"].found
    assert "catalog.lake_formation=database,locations" in seen["Lake Formation"].todo


def test_new_account_on_emr_serverless(diagnose: Diagnose) -> None:
    with account_quotas({"L-D05C8A75": 16}):
        seen = diagnose(**NEW, deploy__platform="emr-serverless")
    check("new account on EMR Serverless, 16 vCPUs", seen)
    assert "208 needed" in seen["quotas"].found


def test_laptop_with_apple_silicon(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    seen = diagnose(**NEW)
    check("laptop with Apple silicon", seen)
    assert seen["archive"].found == (
        "`package` builds it for Glue (Linux x86_64, Python 3.11, glibc 2.34), not for this machine (Darwin arm64): "
        "Docker emulates linux/amd64, --without-docker downloads wheels"
    )


def test_account_with_existing_jobs(diagnose: Diagnose, simulated: Callable[..., Simulator], prod: str) -> None:
    glue = plain_client("glue", prod)
    glue.create_job(Name=JOB, Role="r", Command={"Name": "glueetl", "ScriptLocation": "s3://x/y.py"})
    simulated()
    seen = diagnose()
    glue.delete_job(JobName=JOB)
    check("jobs, role and workgroup that exist already", seen)
    for thing in (JOB, "AWS::IAM::Role omc_flywheel-prod-glue-role", "AWS::Athena::WorkGroup omc_flywheel-prod"):
        assert thing in seen["stack"].found
    assert "bucketwheel deploy import --env prod --package LOCATION;" in seen["stack"].todo
