"""Resources that exist before the stack is created, and those that remain after it is deleted."""

from __future__ import annotations

from typing import Any

import pytest
from moto_account import LOCATION, NAME, Account

import aws_shapes
from bucketwheel.aws import clients
from bucketwheel.deploy import teardown
from bucketwheel.errors import DeployError, SelectionError
from fake_iam import Refuses

# What moto says about types that it does not know.
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")

DATA, RESULTS = "omc-flywheel-data-us-east-1-prod", "omc-flywheel-prod-analysis-data"
LOGS = f"{DATA}-access-logs"


def there(account: Account) -> dict[str, set[str]]:
    """Return the resources that moto created for the stack, by service."""
    client = account.client
    return {
        "buckets": {bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]} - {"artifacts-prod"},
        "roles": {role["RoleName"] for role in client("iam").list_roles()["Roles"]},
        "log groups": {group["logGroupName"] for group in client("logs").describe_log_groups()["logGroups"]},
        "machines": {resource["name"] for resource in client("stepfunctions").list_state_machines()["stateMachines"]},
        "rules": {rule["Name"] for rule in client("events").list_rules()["Rules"]},
        "topics": {resource["TopicArn"] for resource in client("sns").list_topics()["Topics"]},
    }


def test_existing_resources_are_named_before_creation(account: Account) -> None:
    account.client("iam").create_role(RoleName="omc_flywheel-prod-glue-role", AssumeRolePolicyDocument="{}")
    account.client("athena").create_work_group(Name="omc_flywheel-prod")
    account.client("glue").create_job(
        Name="etl-omc-flywheel-prod-addressable-bucket",
        Role="x",
        Command={"Name": "glueetl", "ScriptLocation": "s3://x/y"},
    )
    with pytest.raises(DeployError) as refused:
        account.apply()
    assert str(refused.value) == (
        "already exists outside the stack: AWS::IAM::Role omc_flywheel-prod-glue-role, AWS::Glue::Job "
        "etl-omc-flywheel-prod-addressable-bucket, AWS::Athena::WorkGroup omc_flywheel-prod. Import it: bucketwheel "
        f"deploy import --env prod --package {LOCATION}; or remove it, or choose another name (glue.role; "
        "deploy.job_prefix; athena.workgroup); see docs/deploy.md"
    )
    assert account.status() is None
    side_by_side: dict[str, Any] = {"glue__role": "next-role", "deploy__job_prefix": "etl-next"}
    assert account.apply(**side_by_side, athena__workgroup="primary").done


def test_existing_workgroup_is_found_on_later_page(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {None: (["primary"], "2"), "2": (["another", "omc_flywheel-prod"], None)}

    def listed(NextToken: str | None = None) -> dict[str, Any]:  # noqa: N803 as botocore calls it
        names, token = pages[NextToken]
        page = {"WorkGroups": [{"Name": name} for name in names], **({"NextToken": token} if token else {})}
        return aws_shapes.response("athena", "ListWorkGroups", page)

    monkeypatch.setattr(clients.client("athena", account.configuration().settings.aws), "list_work_groups", listed)
    with pytest.raises(DeployError, match=r"outside the stack: AWS::Athena::WorkGroup omc_flywheel-prod\."):
        account.apply()
    pages["2"] = (["another"], None)
    assert account.apply().done


def test_existing_buckets_are_named_when_stack_creates_them(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.client("s3").create_bucket(Bucket=DATA)
    assert account.apply().done
    with pytest.raises(DeployError) as refused:
        account.apply(deploy__buckets="create")
    assert str(refused.value) == (
        f"already exists outside the stack: AWS::S3::Bucket {DATA}. Import it: bucketwheel deploy import --env "
        f"prod --package {LOCATION}; or remove it, or choose another name (deploy.buckets=adopt, which leaves "
        "buckets as they are); see "
        "docs/deploy.md"
    )
    client = clients.client("s3", account.configuration().settings.aws)
    monkeypatch.setattr(client, "head_bucket", Refuses("HeadBucket", "head_bucket", "403").head_bucket)  # type: ignore[attr-defined]
    # The bucket belongs to another account.
    with pytest.raises(
        DeployError, match=f"AWS::S3::Bucket {LOGS}, AWS::S3::Bucket {DATA}, AWS::S3::Bucket {RESULTS}"
    ):
        account.apply(deploy__buckets="create")
    monkeypatch.setattr(client, "head_bucket", Refuses("HeadBucket", "head_bucket", "500").head_bucket)  # type: ignore[attr-defined]
    with pytest.raises(DeployError, match=f"AWS::S3::Bucket {LOGS}: HeadBucket failed: 500: no"):
        account.apply(deploy__buckets="create")


def test_denied_existence_probe_is_an_error(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    client = clients.client("iam", account.configuration().settings.aws)
    monkeypatch.setattr(client, "get_role", Refuses("GetRole", "get_role", "AccessDenied").get_role)  # type: ignore[attr-defined]
    with pytest.raises(DeployError, match="AWS::IAM::Role omc_flywheel-prod-glue-role: GetRole was denied"):
        account.apply()
    assert account.status() is None


def test_destroy_keeps_buckets_and_files(account: Account) -> None:
    account.apply(deploy__buckets="create")
    arns = there(account)
    assert arns["buckets"] == {DATA, RESULTS, LOGS}
    s3 = account.client("s3")
    (rule,) = s3.get_bucket_encryption(Bucket=DATA)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert all(arn for arn in arns.values())
    s3.put_object(Bucket=DATA, Key="omc_cleanroom_data/addressable_ids/t/r/000000_0", Body=b"rows")
    config = account.configuration(deploy__buckets="create")
    account.asked.clear()
    assert teardown.destroy(config, account.confirm, sleep=lambda _: None)
    assert account.status() is None
    (question,) = account.asked
    assert "keep     AWS::S3::Bucket                    AccessLogs" in question
    assert "delete   AWS::IAM::Role                     JobRole" in question
    left = there(account)
    assert left.pop("buckets") == arns["buckets"]
    assert left == {name: set() for name in left}
    key = "omc_cleanroom_data/addressable_ids/t/r/000000_0"
    assert s3.get_object(Bucket=DATA, Key=key)["Body"].read() == b"rows"
    # What stayed is in the way of a second stack that would make it, and is adopted by one that does not.
    with pytest.raises(DeployError, match=f"AWS::S3::Bucket {DATA}"):
        account.apply(deploy__buckets="create")
    assert account.apply().done


def test_destroy_needs_confirmation_and_existing_stack(account: Account) -> None:
    account.apply()
    config, arns = account.configuration(), there(account)
    assert not teardown.destroy(config, lambda _: False, sleep=lambda _: None)
    assert (account.status(), there(account)) == ("CREATE_COMPLETE", arns)
    assert teardown.destroy(config, account.confirm, sleep=lambda _: None)
    with pytest.raises(SelectionError, match=f"stack '{NAME}' of environment 'prod' does not exist"):
        teardown.destroy(config, account.confirm)
