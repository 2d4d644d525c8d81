"""Take a stack down after it was used: queries in the workgroup, a started application, files in buckets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from moto.emrserverless.models import emrserverless_backends
from moto_account import NAME, Account
from moto_types import more_types

from aws_commands import aws_commands, enum_of
from aws_shapes import response
from bucketwheel.aws import clients
from bucketwheel.deploy import application, stack, teardown
from bucketwheel.deploy.application import Application
from bucketwheel.deploy.cloudformation import Stack
from bucketwheel.errors import DeployError
from deploy_support import ACCOUNT, REGION
from fake_iam import Refuses

# What moto says about types that it does not know.
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")

WORKGROUP = "omc_flywheel-prod"
DATA = "omc-flywheel-data-us-east-1-prod"
ROLE = "arn:aws:iam::123456789012:role/job"


@pytest.fixture
def account(account: Account) -> Iterator[Account]:
    """Return the account, with stacks that own jobs, a workgroup and an application."""
    with more_types(account):
        yield account


def destroy(account: Account, **more: Any) -> bool:
    config = account.configuration(**more.pop("settings", {}))
    return teardown.destroy(config, account.confirm, account.said.append, sleep=lambda _: None, **more)


def test_destroy_deletes_used_workgroup_after_naming_its_contents(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.apply()
    athena = account.client("athena")
    athena.start_query_execution(QueryString="SELECT 1", WorkGroup=WORKGROUP)
    athena.create_named_query(Name="mine", Database="d", QueryString="SELECT 1", WorkGroup=WORKGROUP)
    for name in ("one", "two"):
        athena.create_prepared_statement(StatementName=name, WorkGroup=WORKGROUP, QueryStatement="SELECT ?")
    config = account.configuration()
    account.asked.clear()

    def refuse(text: str) -> bool:
        return not account.confirm(text)

    assert not teardown.destroy(config, refuse, sleep=lambda _: None)
    assert account.asked[0].splitlines()[-1] == (
        f"workgroup {WORKGROUP}: 1 saved query, 2 prepared statements and the query history will be deleted"
    )
    assert WORKGROUP in {group["Name"] for group in athena.list_work_groups()["WorkGroups"]}
    calls: list[dict[str, Any]] = []
    client = clients.client("athena", config.settings.aws)
    client.meta.events.register(
        "provide-client-params.athena.DeleteWorkGroup", lambda params, **_: calls.append(params)
    )
    assert destroy(account)
    assert calls == [{"WorkGroup": WORKGROUP, "RecursiveDeleteOption": True}]
    assert WORKGROUP not in {group["Name"] for group in athena.list_work_groups()["WorkGroups"]}
    assert account.status() is None


def test_update_names_used_workgroup_that_it_leaves_behind(account: Account) -> None:
    account.apply()
    account.client("athena").start_query_execution(QueryString="SELECT 1", WorkGroup=WORKGROUP)
    account.asked.clear()
    account.apply(confirm=lambda text: not account.confirm(text), athena__workgroup="primary")
    last = account.asked[0].splitlines()[-1]
    assert last.startswith(f"workgroup {WORKGROUP} leaves the stack but stays, because it contains the query history")
    assert len(aws_commands(last)) == 1


@pytest.mark.parametrize("message", [None, "WorkGroup omc_flywheel-prod is not found"])
def test_destroy_leaves_empty_workgroup_to_cloudformation(
    account: Account, monkeypatch: pytest.MonkeyPatch, message: str | None
) -> None:
    account.apply()
    client = clients.client("athena", account.configuration().settings.aws)
    if message:
        missing = Refuses("ListQueryExecutions", "call", "InvalidRequestException", message)
        monkeypatch.setattr(client, "list_query_executions", missing.call)  # type: ignore[attr-defined]
    monkeypatch.setattr(client, "delete_work_group", lambda **_: pytest.fail("CloudFormation deletes it"))
    assert destroy(account)
    assert WORKGROUP not in {group["Name"] for group in account.client("athena").list_work_groups()["WorkGroups"]}


def test_destroy_counts_a_lone_prepared_statement(account: Account) -> None:
    account.apply()
    account.client("athena").create_prepared_statement(
        StatementName="one", WorkGroup=WORKGROUP, QueryStatement="SELECT ?"
    )
    account.asked.clear()
    assert destroy(account)
    assert account.asked[0].splitlines()[-1] == f"workgroup {WORKGROUP}: 1 prepared statement will be deleted"


def test_destroy_names_running_execution(account: Account) -> None:
    account.apply()
    client = account.client("stepfunctions")
    (arn,) = (one["stateMachineArn"] for one in client.list_state_machines()["stateMachines"] if one["name"] == NAME)
    client.start_execution(stateMachineArn=arn)
    assert destroy(account)
    note = f"state machine {arn}: an execution is running; it ends at its next step, its jobs go on"
    assert account.asked[-1].splitlines()[-1] == note


def started(account: Account, **settings: Any) -> str:
    """Deploy on EMR Serverless and return the id of the application, which is started."""
    account.apply(deploy__platform="emr-serverless", **settings)
    client = account.client("emr-serverless")
    (application_id,) = [one["id"] for one in client.list_applications()["applications"] if one["name"] == NAME]
    client.start_application(applicationId=application_id)
    return str(application_id)


def run_job(account: Account, application_id: str) -> str:
    driver = {"sparkSubmit": {"entryPoint": "x"}}
    run = account.client("emr-serverless").start_job_run(
        applicationId=application_id, clientToken="t", executionRoleArn=ROLE, jobDriver=driver
    )
    # In moto, a job run has succeeded when it starts.
    for known in emrserverless_backends[ACCOUNT][REGION].job_runs[application_id]:
        known.state = "RUNNING"
    return str(run["jobRunId"])


def state(account: Account, application_id: str) -> str:
    return str(account.client("emr-serverless").get_application(applicationId=application_id)["application"]["state"])


def test_destroy_stops_started_application_first(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    name = started(account)
    client = clients.client("emr-serverless", account.configuration().settings.aws)
    shown = iter(["STARTED", "STARTING", "STARTED", "STOPPING", "STOPPING", "STOPPED"])

    def get_application(applicationId: str) -> dict[str, Any]:  # noqa: N803 as botocore calls it
        made = datetime(2026, 1, 1, tzinfo=UTC)
        found = {
            "applicationId": applicationId, "releaseLabel": "emr-7.8.0", "type": "Spark", "state": next(shown),
            "arn": f"arn:aws:emr-serverless:{REGION}:{ACCOUNT}:/applications/{applicationId}",
            "createdAt": made, "updatedAt": made,
        }  # fmt: skip
        return response("emr-serverless", "GetApplication", {"application": found})

    monkeypatch.setattr(client, "get_application", get_application)
    assert destroy(account, settings={"deploy.platform": "emr-serverless"})
    assert f"application {name} will be stopped first" in account.asked[-1]
    assert account.said.count(f"{'stopping':<24} application {name}") == 1
    assert list(shown) == []
    assert account.status() is None
    assert emrserverless_backends[ACCOUNT][REGION].applications[name].state == "TERMINATED"


def test_destroy_with_active_job_run_names_it(account: Account) -> None:
    name = started(account)
    run = run_job(account, name)
    with pytest.raises(DeployError, match="1 of its job runs is active; wait for it") as refused:
        destroy(account, settings={"deploy.platform": "emr-serverless"})
    assert aws_commands(str(refused.value)) == [
        f"aws emr-serverless cancel-job-run --application-id {name} --job-run-id {run} --region us-east-1"
    ]
    assert (state(account, name), account.status()) == ("STARTED", "CREATE_COMPLETE")


def test_destroy_continues_after_resources_were_deleted_by_hand(account: Account) -> None:
    name = started(account)
    client = account.client("stepfunctions")
    for machine in client.list_state_machines()["stateMachines"]:
        client.delete_state_machine(stateMachineArn=machine["stateMachineArn"])
    running = emrserverless_backends[ACCOUNT][REGION].applications.pop(name)
    assert Application(account.configuration().settings, name, lambda _: None).state() == "TERMINATED"
    emrserverless_backends[ACCOUNT][REGION].applications[name] = running
    assert destroy(account, settings={"deploy.platform": "emr-serverless"})


def test_application_that_does_not_stop_is_an_error(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    name = started(account)
    settings = account.configuration().settings
    client = clients.client("emr-serverless", settings.aws)
    monkeypatch.setattr(client, "stop_application", lambda **_: None)
    waited: list[float] = []
    with pytest.raises(DeployError, match=f"application {name} is in state STARTED after 15 minutes") as late:
        Application(settings, name, waited.append).stop(account.said.append)
    assert sum(waited) == 900
    assert len(aws_commands(str(late.value))) == 1


def test_states_of_job_runs_are_those_of_the_service() -> None:
    ended = {"SUCCESS", "FAILED", "CANCELLED"}
    assert set(application.ACTIVE_RUNS) == set(enum_of("emr-serverless", "JobRunState")) - ended


def test_application_must_stop_unless_aws_changes_it_live(account: Account) -> None:
    client = account.client("emr-serverless")
    name = client.create_application(name=NAME, releaseLabel="emr-7.8.0", type="SPARK")["applicationId"]
    emrserverless_backends[ACCOUNT][REGION].job_runs[name] = []
    running = Application(account.configuration().settings, name, sleep=lambda _: None)
    client.stop_application(applicationId=name)
    assert not running.must_stop(["ReleaseLabel"])
    client.start_application(applicationId=name)
    # Without job runs, stopping costs nothing.
    assert running.must_stop(["MaximumCapacity"])
    assert running.must_stop(["Tags"])
    assert running.must_stop(None)
    run_job(account, name)
    assert not running.must_stop(["MaximumCapacity"])
    for properties in (["MaximumCapacity", "ReleaseLabel"], [], None):
        with pytest.raises(DeployError, match=f"application {name} cannot stop for the change"):
            running.must_stop(properties)


def test_update_of_started_application_stops_it_first(account: Account) -> None:
    name = started(account)
    account.asked.clear()
    changed: dict[str, Any] = {"emr_serverless.auto_stop_minutes": 5, "deploy.platform": "emr-serverless"}
    run_job(account, name)
    with pytest.raises(DeployError, match=f"application {name} cannot stop for the change"):
        account.apply(**changed)
    assert (account.status(), account.asked) == ("CREATE_COMPLETE", [])
    emrserverless_backends[ACCOUNT][REGION].job_runs[name] = []
    assert account.apply(**changed).done
    assert account.asked[0].endswith(f"application {name} will be stopped first; the next job starts it again")
    found = account.client("emr-serverless").get_application(applicationId=name)["application"]
    assert (found["state"], found["autoStopConfiguration"]["idleTimeoutMinutes"]) == ("STOPPED", 5)
    assert account.apply(deploy__platform="glue").done
    assert emrserverless_backends[ACCOUNT][REGION].applications[name].state == "TERMINATED"


def test_changed_properties_are_read_from_change_set() -> None:
    details = [{"Target": {"Attribute": "Properties", "Name": "ReleaseLabel"}}, {"Target": {"Attribute": "Tags"}}]
    change = {
        "Action": "Modify",
        "LogicalResourceId": "Application",
        "ResourceType": application.KIND,
        "Replacement": "Conditional",
        "Details": details,
    }
    described = {"Changes": [{"Type": "Resource", "ResourceChange": change}]}
    response("cloudformation", "DescribeChangeSet", described)
    assert Stack._change(change).properties == ("ReleaseLabel", "Tags")  # type: ignore[arg-type]


def test_destroy_with_buckets_deletes_all_versions_after_consent(account: Account) -> None:
    account.apply(deploy__buckets="create")
    s3 = account.client("s3")
    # moto's CloudFormation leaves it off.
    s3.put_bucket_versioning(Bucket=DATA, VersioningConfiguration={"Status": "Enabled"})
    for number in range(3):
        s3.put_object(Bucket=DATA, Key="omc/table/000000_0", Body=b"%d" % number)
    s3.delete_object(Bucket=DATA, Key="omc/table/000000_0")
    s3.create_multipart_upload(Bucket=DATA, Key="omc/unfinished")
    settings = {"deploy.buckets": "create"}
    account.asked.clear()
    config = account.configuration(**settings)
    assert not teardown.destroy(config, lambda _: False, sleep=lambda _: None, delete_buckets=True)
    assert len(s3.list_object_versions(Bucket=DATA)["Versions"]) == 3
    assert destroy(account, settings=settings, delete_buckets=True)
    assert f"bucket {DATA}: 4 object versions will be deleted; nothing restores them" in account.asked[0]
    assert "but not the files in the buckets below" in account.asked[0]
    left = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert left == {"artifacts-prod"}
    assert account.status() is None


def test_bucket_that_cannot_be_emptied_keeps_stack(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.apply(deploy__buckets="create")
    account.client("s3").put_object(Bucket=DATA, Key="kept", Body=b"x")
    client = clients.client("s3", account.configuration().settings.aws)
    errors = [{"Key": "kept", "VersionId": "1", "Code": "AccessDenied", "Message": "locked"}]
    monkeypatch.setattr(client, "delete_objects", lambda **_: response("s3", "DeleteObjects", {"Errors": errors}))
    with pytest.raises(DeployError, match="1 object could not be deleted, such as kept: AccessDenied: locked"):
        destroy(account, settings={"deploy.buckets": "create"}, delete_buckets=True)
    assert account.status() == "CREATE_COMPLETE"
    monkeypatch.undo()
    assert destroy(account, settings={"deploy.buckets": "create"}, delete_buckets=True)


def test_destroy_says_what_remains(account: Account) -> None:
    account.apply(deploy__buckets="create")
    assert destroy(account, settings={"deploy.buckets": "create"})
    kept = [line for line in account.said if line.startswith("kept: ")]
    assert kept[0] == (
        "kept: the tables of database omc_flywheel_prod, their files below "
        "s3://omc-flywheel-data-us-east-1-prod/omc_cleanroom_data"
    )
    assert kept[1] == "kept: packages below s3://artifacts-prod/bucketwheel"
    assert f"kept: AWS::S3::Bucket {DATA}" in kept
    commands = aws_commands("\n".join(kept))
    assert f"aws logs delete-log-group --log-group-name /{NAME}/output --region us-east-1" in commands
    assert destroy_without_buckets(account)


def destroy_without_buckets(account: Account) -> bool:
    stack.apply(account.configuration(), account.confirm, sleep=lambda _: None)
    account.asked.clear()
    return destroy(account, delete_buckets=True) and "the stack has no buckets to delete" in account.asked[0]


def test_denied_look_into_workgroup_deletes_nothing(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.apply()
    account.asked.clear()
    client = clients.client("athena", account.configuration().settings.aws)
    denied = Refuses("ListQueryExecutions", "call", "AccessDeniedException")
    monkeypatch.setattr(client, "list_query_executions", denied.call)  # type: ignore[attr-defined]
    with pytest.raises(DeployError, match=f"workgroup {WORKGROUP}: ListQueryExecutions was denied"):
        destroy(account)
    assert (account.asked, account.status()) == ([], "CREATE_COMPLETE")
