"""The stack on moto's CloudFormation: create, update, no change, delete, and failures.

moto creates buckets, roles, topics, log groups, state machines, rules and dashboards; it accepts the rest silently.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import Stubber
from moto_account import LOCATION, NAME, Account

import aws_shapes
from aws_server import account_quotas
from bucketwheel import api
from bucketwheel.aws import clients
from bucketwheel.deploy import stack
from bucketwheel.deploy.cloudformation import Stack
from bucketwheel.errors import ConfigError, DeployError, SelectionError
from deploy_support import ACCOUNT, REGION, configuration

# What moto says about types that it does not know.
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")


def test_apply_shows_changes_before_creating_stack(account: Account) -> None:
    applied = account.apply()
    assert (applied.done, account.status()) == (True, "CREATE_COMPLETE")
    (question,) = account.asked
    head, *lines = question.splitlines()
    assert head == f"create stack {NAME}, us-east-1, account {ACCOUNT}:"
    assert "add      AWS::IAM::Role                     JobRole" in lines
    assert len(applied.changes) == len(lines)
    assert any(line.startswith("create_complete") for line in account.said)
    roles = {role["RoleName"] for role in account.client("iam").list_roles()["Roles"]}
    own = ("states", "watch", "scheduler", "slow", "slow-starter")
    assert roles == {"omc_flywheel-prod-glue-role", *(f"{NAME}-{name}" for name in own)}
    groups = {group["logGroupName"] for group in account.client("logs").describe_log_groups()["logGroups"]}
    assert {"/bucketwheel-prod/output", "/bucketwheel-prod/error"} <= groups
    machines = account.client("stepfunctions").list_state_machines()["stateMachines"]
    assert {machine["name"] for machine in machines} == {NAME, f"{NAME}-watch", f"{NAME}-slow"}
    (topic,) = account.client("sns").list_topics()["Topics"]
    assert topic["TopicArn"].endswith(f"{NAME}-notices")


def test_apply_warns_of_low_quota_beside_the_changes(account: Account) -> None:
    with account_quotas({"L-08F3B322": 40, "L-5E4153CA": 200}):
        account.apply()
    *_, warning = account.asked[0].splitlines()
    assert warning == (
        "warning: DPUs of Glue jobs: 80 needed (10 workers G.4X * 4 DPUs * 2 datasets), the quota is 40 (of this "
        "account); aws service-quotas request-service-quota-increase --service-code glue --quota-code L-08F3B322 "
        "--desired-value 80, or lower glue.number_of_workers or choose a smaller glue.worker_type"
    )


def test_stack_outputs_are_returned(account: Account) -> None:
    template = {"Resources": {"T": {"Type": "AWS::SNS::Topic"}}, "Outputs": {"NoticesArn": {"Value": {"Ref": "T"}}}}
    account.client("cloudformation").create_stack(StackName=NAME, TemplateBody=json.dumps(template))
    outputs = Stack(account.configuration().settings, NAME, "prod").outputs()
    assert outputs == {"NoticesArn": account.client("sns").list_topics()["Topics"][0]["TopicArn"]}


def test_apply_updates_stack_only_when_template_changed(account: Account) -> None:
    account.apply()
    account.asked.clear()
    changed = account.apply(deploy__retries=0)
    assert changed.done
    assert account.asked[0].startswith(f"update stack {NAME}, us-east-1")
    client = account.client("stepfunctions")
    (arn,) = (m["stateMachineArn"] for m in client.list_state_machines()["stateMachines"] if m["name"] == NAME)
    assert "States.TaskFailed" not in client.describe_state_machine(stateMachineArn=arn)["definition"]
    assert account.status() == "UPDATE_COMPLETE"


def test_empty_change_set_is_not_an_error(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.apply()
    # moto reports every resource as changed; AWS reports a failed change set with this reason.
    refuse_change_set(account, monkeypatch, "The submitted information didn't contain changes. Submit different")
    account.asked.clear()
    again = account.apply()
    assert (again.done, again.changes, account.asked) == (True, (), [])


def refuse_change_set(account: Account, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    client = clients.client("cloudformation", account.configuration().settings.aws)
    answer = aws_shapes.response(
        "cloudformation", "DescribeChangeSet", {"Status": "FAILED", "StatusReason": reason, "Changes": []}
    )
    monkeypatch.setattr(client, "describe_change_set", lambda **_: answer)


def test_change_set_of_lost_response_is_used(account: Account) -> None:
    deployed = Stack(account.configuration().settings, NAME, "prod", sleep=lambda _: None)
    with Stubber(deployed._client) as stub:
        stub.add_client_error("create_change_set", "AlreadyExistsException")
        stub.add_response("describe_change_set", {"Status": "CREATE_COMPLETE", "Changes": []})
        assert deployed.prepare("ours", "UPDATE", {"TemplateBody": "{}"}) == []
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("execution", "is_ours"), [("EXECUTE_IN_PROGRESS", True), ("EXECUTE_COMPLETE", True), ("OBSOLETE", False)]
)
def test_execution_refused_after_lost_response_is_read_back(account: Account, execution: str, is_ours: bool) -> None:
    deployed = Stack(account.configuration().settings, NAME, "prod", sleep=lambda _: None)
    described = {
        "StackName": NAME,
        "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
        "StackStatus": "UPDATE_COMPLETE",
    }
    with Stubber(deployed._client) as stub:
        stub.add_response("describe_stack_events", {"StackEvents": []})
        stub.add_client_error(
            "execute_change_set", "InvalidChangeSetStatus", "cannot be executed in its current status"
        )
        stub.add_response("describe_change_set", {"ExecutionStatus": execution})
        if is_ours:
            stub.add_response("describe_stacks", {"Stacks": [described]})
            stub.add_response("describe_stack_events", {"StackEvents": []})
            deployed.execute("ours", lambda _: None)
        else:
            with pytest.raises(DeployError, match="InvalidChangeSetStatus: cannot be executed"):
                deployed.execute("ours", lambda _: None)
        stub.assert_no_pending_responses()


def test_refused_template_error_has_reason(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_change_set(account, monkeypatch, "Template error: resource NotificationsTopic does not exist")
    with pytest.raises(DeployError, match="CloudFormation refused the template: Template error: resource"):
        account.apply()


def test_apply_without_confirmation_leaves_nothing(account: Account) -> None:
    applied = account.apply(confirm=lambda _: False)
    assert (applied.done, account.status()) == (False, None)
    assert account.client("iam").list_roles()["Roles"] == []
    account.apply()
    refused = account.apply(confirm=lambda _: False, monitoring__retention_days=30)
    assert not refused.done
    assert account.status() == "CREATE_COMPLETE"
    # The one that made the stack.
    assert len(account.client("cloudformation").list_change_sets(StackName=NAME)["Summaries"]) == 1


def test_unfinished_stack_is_deleted_and_created_again(account: Account) -> None:
    account.apply()
    account.force("ROLLBACK_COMPLETE")
    account.asked.clear()
    applied = account.apply()
    assert (applied.done, account.status()) == (True, "CREATE_COMPLETE")
    assert account.asked[0] == (
        f"stack {NAME} is in state ROLLBACK_COMPLETE and can only be deleted; delete what is left of it, then "
        "create it again"
    )
    assert account.asked[1].startswith(f"create stack {NAME}")
    account.force("ROLLBACK_COMPLETE")
    assert not account.apply(confirm=lambda _: False).done
    assert account.status() == "ROLLBACK_COMPLETE"


@pytest.mark.parametrize(
    ("status", "way"),
    [
        ("UPDATE_IN_PROGRESS", "another change is in progress; wait for it to finish"),
        ("UPDATE_ROLLBACK_FAILED", "fix the cause, then finish the rollback: aws cloudformation continue-"),
    ],
)
def test_stack_that_cannot_change_now_is_left_unchanged(account: Account, status: str, way: str) -> None:
    account.apply()
    account.force(status)
    with pytest.raises(DeployError) as refused:
        account.apply()
    assert f"stack {NAME} is in state {status}; {way}" in str(refused.value)


def test_failed_change_error_has_reasons(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.apply()
    client = clients.client("cloudformation", account.configuration().settings.aws)

    def execute(**_: Any) -> None:
        account.force("UPDATE_ROLLBACK_COMPLETE")

    events = [
        ("3", "AlarmErrors", "UPDATE_FAILED", "Resource update cancelled"),
        ("2", "JobPipeline", "UPDATE_FAILED", "Role omc_flywheel-prod-glue-role cannot be assumed"),
        ("1", "JobRole", "UPDATE_COMPLETE", ""),
    ]
    answers = iter([[], *([[_event(*event) for event in events]] * 9)])
    monkeypatch.setattr(client, "execute_change_set", execute)
    monkeypatch.setattr(client, "describe_stack_events", lambda **_: answered(next(answers)))
    with pytest.raises(DeployError) as failed:
        account.apply(monitoring__retention_days=30)
    assert str(failed.value).splitlines() == [
        f"stack {NAME} ended in state UPDATE_ROLLBACK_COMPLETE:",
        "JobPipeline (AWS::Some::Type): Role omc_flywheel-prod-glue-role cannot be assumed",
    ]


def answered(events: list[dict[str, Any]]) -> dict[str, Any]:
    return aws_shapes.response("cloudformation", "DescribeStackEvents", {"StackEvents": events})


def _event(number: str, name: str, status: str, reason: str) -> dict[str, Any]:
    return {
        "StackId": f"arn:aws:cloudformation:us-east-1:123456789012:stack/{NAME}/1",
        "StackName": NAME,
        "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "EventId": number,
        "LogicalResourceId": name,
        "ResourceType": "AWS::Some::Type",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
    }


def test_large_template_is_uploaded_to_s3(account: Account) -> None:
    settings: dict[str, Any] = {"deploy.buckets": "create", "monitoring.email": "a@example.com"}
    applied = account.apply(**settings, deploy__tags={"note": "n" * 250, "more": "m" * 250, "third": "t" * 250})
    assert applied.done
    entries = account.client("s3").list_objects_v2(Bucket="artifacts-prod", Prefix="bucketwheel/templates/")[
        "Contents"
    ]
    assert len(entries) == 1
    assert entries[0]["Size"] > 51_200
    with pytest.raises(ConfigError, match=r"CloudFormation accepts 51,200 in a call; set deploy.artifacts"):
        account.apply(**settings, deploy__tags={"note": "n" * 250}, deploy__artifacts=None)


def test_diff_shows_changes_without_applying_them(account: Account) -> None:
    with pytest.raises(SelectionError, match=f"stack '{NAME}' does not exist in us-east-1 of account {ACCOUNT}"):
        api.deploy_diff(account.configuration())
    account.apply()
    assert api.deploy_diff(account.configuration()) == ""
    shown = api.deploy_diff(account.configuration(**{"glue.number_of_workers": 20})).splitlines()
    assert shown[:2] == [f"--- {NAME}", "+++ this configuration"]
    assert [line for line in shown if line.startswith("-  ")] == ["-      NumberOfWorkers: 10"] * 5
    assert [line for line in shown if line.startswith("+  ")] == ["+      NumberOfWorkers: 20"] * 5
    assert account.status() == "CREATE_COMPLETE"


def test_apply_refuses_package_of_other_settings(account: Account) -> None:
    account.configuration()
    other: dict[str, Any] = {"aws.endpoint_url": account.url, "aws.region": REGION, "buckets.count": 8}
    config = configuration(**other, deploy__package=LOCATION)
    with pytest.raises(ConfigError, match=r"was built with another value of buckets.count; build one with"):
        stack.apply(config, account.confirm)
