"""The table "Would the first run succeed?" of docs/deploy.md: what `deploy` and `submit` do in each account.

Each test quotes the cell of its account, so that a change of the table needs a change of the test.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_imports import Imports
from moto_account import NAME, Account
from moto_types import more_types

from aws_server import account_quotas
from bucketwheel import api
from bucketwheel.aws import clients, lake_formation
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.deploy import adoption
from bucketwheel.errors import CatalogError, DeployError, SubmitError, UsageError
from bucketwheel.submit.submit import submit
from deploy_support import ACCOUNT, JOBS, checkout, configuration
from emr_support import Emr
from fake_iam import Refuses
from first_runs import rows
from forged_archives import AARCH64, MACH_O, SITE, elf, file, forged
from submit_support import reached, transitions

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")

DATA = "omc-flywheel-data-us-east-1-prod"
ROLE, WORKGROUP, DATABASE = "omc_flywheel-prod-glue-role", "omc_flywheel-prod", "omc_flywheel_prod"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
LAKE: dict[str, Any] = {"catalog__create_database": False, "catalog__lake_formation": "database,tables,locations"}


@pytest.fixture
def account(account: Account) -> Iterator[Account]:
    with more_types(account):
        yield account


def promised(name: str, cell: str) -> None:
    """Check that the table says this of an account."""
    assert rows()[name].deploy == cell


def submitted(account: Account, target: Path, job: str = "pipeline") -> dict[str, Any]:
    """Submit to a job of the stack and return the job run."""
    transitions(account.url, "glue::job_run", progression="manual", times=1)
    done = submit(reached(account.url, target), "glue", api.JobRequest(job), sleep=lambda _: None)
    assert done.state.succeeded
    (run,) = account.client("glue").get_job_runs(JobName=done.job)["JobRuns"]
    assert run["Id"] == done.state.run_id
    return dict(run)


def test_new_account_gets_stack_and_runs_job(account: Account, tmp_path: Path) -> None:
    promised("no customer keys, nothing deployed", "`deploy apply` creates the stack, `submit` runs the job")
    assert account.apply().done
    assert account.status() == "CREATE_COMPLETE"
    assert {job["Name"] for job in account.client("glue").get_jobs()["Jobs"]} == set(JOBS)
    assert submitted(account, tmp_path)["JobRunState"] == "SUCCEEDED"


def test_customer_keys_are_printed_and_granted(account: Account, tmp_path: Path) -> None:
    promised(
        "customer keys on every bucket and on the catalog",
        "`deploy apply` prints each key and grants it to the role, then as above",
    )
    of_bucket, of_catalog = (str(account.client("kms").create_key()["KeyMetadata"]["Arn"]) for _ in range(2))
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": of_bucket}}
    account.client("s3").create_bucket(Bucket=DATA)
    account.client("s3").put_bucket_encryption(Bucket=DATA, ServerSideEncryptionConfiguration={"Rules": [rule]})
    account.client("glue").put_data_catalog_encryption_settings(
        DataCatalogEncryptionSettings={
            "EncryptionAtRest": {"CatalogEncryptionMode": "SSE-KMS", "SseAwsKmsKeyId": of_catalog}
        }
    )
    assert account.apply().done
    for key in (of_bucket, of_catalog):
        assert [line for line in account.said if line.startswith(f"found key {key} of ")]
    policy = account.client("iam").get_role_policy(RoleName=ROLE, PolicyName="bucketwheel")["PolicyDocument"]
    policy = yaml.safe_load(policy) if isinstance(policy, str) else policy
    granted = {statement["Sid"]: statement["Resource"] for statement in policy["Statement"]}
    assert (granted["UseKey"], granted["UseKeyOfCatalog"]) == (of_bucket, of_catalog)
    submitted(account, tmp_path)


def test_lake_formation_grants_or_early_failure(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised(
        "Lake Formation decides on database and target",
        "with these settings, `deploy apply` by a data lake administrator grants them; without them, a job fails "
        "before it writes data or, if Lake Formation hides tables instead of refusing the call, at `CreateTable`; "
        "`doctor` reports both before",
    )
    account.client("glue").create_database(DatabaseInput={"Name": DATABASE})
    location = lake_formation.data_location(f"arn:aws:s3:::{DATA}")
    account.client("lakeformation").register_resource(**location["DataLocation"], UseServiceLinkedRole=True)
    # The check of the catalog, with which each job begins, sees the grants of the role of the jobs.
    monkeypatch.setattr(lake_formation, "caller", lambda *_: ROLE_ARN)
    settings = account.configuration(**LAKE).settings
    needed = lake_formation.needed(
        settings.catalog.lake_formation, DATABASE, settings.target.replace("s3://", "arn:aws:s3:::"), reads=False
    )
    lake = clients.client("lakeformation", settings.aws)
    assert len(list(lake_formation.missing(lake, ROLE_ARN, needed))) == 3
    with pytest.raises(CatalogError, match="grants of Lake Formation are missing; run `bucketwheel deploy apply`"):
        GlueCatalog(settings).check()
    assert account.apply(**LAKE).done
    assert list(lake_formation.missing(lake, ROLE_ARN, needed)) == []
    GlueCatalog(settings).check()
    submitted(account, tmp_path)
    # Without the settings, the first call to Glue is refused.
    settings = account.configuration().settings
    message = f"Insufficient Lake Formation permission({'s'}): Required Describe on {DATABASE}"
    refused = Refuses("GetTables", "call", "AccessDeniedException", message)
    client = clients.client("glue", settings.aws)
    monkeypatch.setattr(client, "get_tables", refused.call)  # type: ignore[attr-defined]
    monkeypatch.setattr(client, "get_paginator", lambda _: types.SimpleNamespace(paginate=refused.call))  # type: ignore[attr-defined]
    with pytest.raises(CatalogError, match="Lake Formation's grant DESCRIBE is missing: aws lakeformation grant-"):
        GlueCatalog(settings).check()


def test_low_quota_of_emr_serverless_warns_and_fails_the_job(account: Account, tmp_path: Path) -> None:
    promised(
        "new account on EMR Serverless, 16 vCPUs",
        "`deploy apply` warns and creates the application; `submit` starts a job that fails when it needs more than "
        "16 vCPUs",
    )
    with account_quotas({"L-D05C8A75": 16}):
        assert account.apply(deploy__platform="emr-serverless").done
    (warning,) = (line for line in account.asked[0].splitlines() if line.startswith("warning: "))
    assert warning.startswith("warning: vCPUs of EMR Serverless: 208 needed ")
    (application,) = account.client("emr-serverless").list_applications()["applications"]
    assert application["name"] == NAME
    emr = Emr(account.url, tmp_path)
    assert emr.application == application["id"]
    emr.life = ["SUBMITTED", "PENDING", "SCHEDULED", "RUNNING", "FAILED"]
    emr.details = "the account has used its quota of 16 vCPUs"
    with pytest.raises(SubmitError, match=rf"ended in state FAILED after .*: {emr.details}"):
        emr.submit()


def test_laptop_with_apple_silicon_packages_for_the_jobs(
    source: Path, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised(
        "laptop with Apple silicon",
        "`package` builds for x86_64 with Docker's emulation or with `--without-docker`, and refuses an archive for "
        "arm64 or macOS",
    )
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    own = checkout(tmp_path / "own")
    (own / "docker").mkdir()
    (own / "docker/requirements.txt").touch()
    (own / "docker/build.sh").write_text(
        f'echo "$BUILD_PLATFORM" > platform && mkdir -p build && cp {given} build/bucketwheel-venv.tar.gz'
    )
    api.package(configuration(), tmp_path / "docker", own)
    assert (own / "platform").read_text() == "linux/amd64\n"
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr("bucketwheel.packaging.pip.subprocess", types.SimpleNamespace(run=run))
    api.package(configuration(), tmp_path / "pip", own, without_docker=True)
    (command,) = commands
    tags = [value for option, value in pairwise(command) if option == "--platform"]
    assert "manylinux_2_34_x86_64" in tags
    assert all(tag.endswith("_x86_64") for tag in tags)
    for content, of in ((elf(AARCH64), "Linux aarch64"), (MACH_O, "macOS")):
        archive = forged(given, tmp_path / "forged.tar.gz", file(f"{SITE}/a.so", content))
        with pytest.raises(UsageError, match=f"a.so: is for {of}"):
            api.package(configuration(), tmp_path / "forged", source, archive)


def test_existing_jobs_are_refused_then_imported(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised(
        "jobs, role and workgroup that exist already",
        "`deploy apply` refuses before it creates anything; `deploy import` adopts and updates them, then `submit` "
        "runs the job",
    )
    trust = {"Effect": "Allow", "Principal": {"Service": "glue.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    account.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=document)
    place = {"ResultConfiguration": {"OutputLocation": "s3://old/results/"}}
    account.client("athena").create_work_group(Name=WORKGROUP, Configuration=place)
    for name in JOBS[:4]:
        command = {"Name": "glueetl", "ScriptLocation": "s3://old/script.py", "PythonVersion": "3"}
        account.client("glue").create_job(Name=name, Role=ROLE_ARN, Command=command, GlueVersion="3.0")
    Imports(account.configuration().settings.aws, monkeypatch)
    with pytest.raises(DeployError, match=rf"already exists outside the stack: .*{JOBS[0]}"):
        account.apply()
    assert (account.status(), account.asked) == (None, [])
    imported = adoption.adopt(account.configuration(), (), account.confirm, sleep=lambda _: None)
    assert {one.name for one in imported.resources} == {*JOBS[:4], ROLE, WORKGROUP}
    assert account.apply().done
    assert account.status() == "UPDATE_COMPLETE"
    assert submitted(account, tmp_path, "infobase-split-and-bucket")["WorkerType"] == "G.4X"
