"""Every state that a stack can have: what `deploy` does in it, and which commands lead out of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from moto.cloudformation.models import cloudformation_backends
from moto_account import NAME, Account

from aws_commands import aws_commands, enum_of, own_commands
from aws_shapes import response
from bucketwheel.aws import clients
from bucketwheel.deploy import adoption, states, teardown
from bucketwheel.deploy.cloudformation import Stack
from bucketwheel.deploy.states import Failed, StackName
from bucketwheel.errors import DeployError
from deploy_support import ACCOUNT, REGION

# What moto says about types that it does not know.
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")

STACK = StackName("bucketwheel-next", "eu-west-1", "next")
FAILED = [
    Failed("Workgroup", "AWS::Athena::WorkGroup", "omc_next", "WorkGroup omc_next is not empty"),
    Failed("Application", "AWS::EMRServerless::Application", "00fa", "must be in one of the statuses"),
    Failed("JobRole", "AWS::IAM::Role", "next-role", "Cannot delete entity, must detach all policies first"),
    Failed("Topic", "AWS::SNS::Topic", "arn", "denied"),
]
OPTIONS = f"--stack-name {STACK.name} --region eu-west-1"


def test_every_state_of_cloudformation_is_known() -> None:
    known = [
        states.REVIEW,
        states.ABSENT,
        *states.SETTLED,
        *states.DEAD,
        *states.BUSY,
        *states.STUCK,
    ]
    assert sorted(known) == sorted(enum_of("cloudformation", "StackStatus"))


@pytest.mark.parametrize("status", [*states.DEAD, *states.BUSY, *states.STUCK])
def test_advice_has_commands_with_name_of_stack(status: str) -> None:
    text = states.advice(STACK, status, FAILED)
    aws, own = aws_commands(text), own_commands(text)
    assert aws or own
    assert all(OPTIONS in command for command in aws)
    assert all(command.endswith(" --env next") for command in own)


def test_advice_names_resources_to_skip() -> None:
    text = states.advice(STACK, "UPDATE_ROLLBACK_FAILED", FAILED[:2])
    assert aws_commands(text) == [
        f"aws cloudformation continue-update-rollback {OPTIONS}",
        f"aws cloudformation continue-update-rollback {OPTIONS} --resources-to-skip Workgroup Application",
    ]
    assert "skip" not in states.advice(STACK, "UPDATE_ROLLBACK_FAILED")


def test_commands_select_stack_with_another_name() -> None:
    text = states.advice(StackName("ours", "eu-west-1", "prod"), "DELETE_FAILED")
    assert own_commands(text) == ["bucketwheel deploy destroy --env prod --set deploy.stack=ours"]


def test_undeleted_resources_have_commands() -> None:
    text = states.undeleted(STACK, FAILED)
    assert aws_commands(text) == [
        "aws athena delete-work-group --recursive-delete-option --work-group omc_next --region eu-west-1",
        "aws emr-serverless stop-application --application-id 00fa --region eu-west-1",
        "aws iam list-attached-role-policies --role-name next-role --region eu-west-1",
        f"aws cloudformation delete-stack {OPTIONS} --retain-resources Workgroup Application JobRole Topic",
    ]
    assert own_commands(text) == ["bucketwheel deploy destroy --env next"]
    assert aws_commands(states.undeleted(STACK, [])) == []


def event(number: int, name: str, status: str, reason: str = "", kind: str = "AWS::IAM::Role") -> dict[str, Any]:
    texts = {"PhysicalResourceId": f"physical-{name}", "ResourceType": kind, "ResourceStatusReason": reason}
    stack = {"StackId": "arn", "StackName": NAME, "Timestamp": datetime(2026, 1, 1, 0, number, tzinfo=UTC)}
    return {"EventId": str(number), "LogicalResourceId": name, "ResourceStatus": status, **stack, **texts}


def whole(number: int, status: str) -> dict[str, Any]:
    return event(number, NAME, status, "User Initiated", "AWS::CloudFormation::Stack")


def answers_events(monkeypatch: pytest.MonkeyPatch, client: Any, *pages: list[dict[str, Any]]) -> None:
    """Answer the events of a stack page by page, the last one from then on; latest first, as AWS does."""
    left = list(pages)

    def described(**_: Any) -> dict[str, Any]:
        events = left.pop(0) if len(left) > 1 else left[0]
        return response("cloudformation", "DescribeStackEvents", {"StackEvents": events[::-1]})

    monkeypatch.setattr(client, "describe_stack_events", described)


def test_change_in_other_state_is_refused_with_way_out(account: Account) -> None:
    stack = Stack(account.configuration().settings, NAME, "prod")
    account.client("cloudformation").create_stack(
        StackName=NAME,
        TemplateBody='{"Description": "Bucketwheel, prod: x", "Resources": {"T": {"Type": "AWS::SNS::Topic"}}}',
    )
    for status in (*states.BUSY, *states.STUCK):
        account.force(status)
        expected = f"stack {NAME} is in state {status}; {states.advice(stack.label, status)}"
        with pytest.raises(DeployError) as refused:
            account.apply()
        assert str(refused.value) == expected
        if status in states.BUSY and status != states.DELETING:
            with pytest.raises(DeployError) as refused:
                teardown.destroy(account.configuration(), account.confirm)
            assert str(refused.value) == expected
    assert account.asked == []


def test_failed_rollback_error_names_latest_causes_only(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.apply()
    account.force("UPDATE_ROLLBACK_FAILED")
    client = clients.client("cloudformation", account.configuration().settings.aws)
    old = [whole(1, "CREATE_IN_PROGRESS"), event(2, "Old", "CREATE_FAILED", "long mended")]
    new = [
        whole(3, "UPDATE_IN_PROGRESS"),
        event(4, "JobRole", "UPDATE_FAILED", "Role was deleted"),
        event(5, "Watch", "UPDATE_FAILED", "Resource update cancelled"),
        whole(6, "UPDATE_ROLLBACK_FAILED"),
    ]
    answers_events(monkeypatch, client, [*old, *new])
    with pytest.raises(DeployError) as refused:
        account.apply()
    first, *rest = str(refused.value).splitlines()
    assert f"continue-update-rollback --stack-name {NAME} --region us-east-1 --resources-to-skip JobRole" in first
    assert rest == ["JobRole (AWS::IAM::Role): Role was deleted"]


def test_failed_deletion_error_names_obstacles(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.apply()
    client = clients.client("cloudformation", account.configuration().settings.aws)
    before = [whole(1, "UPDATE_IN_PROGRESS"), event(2, "Old", "UPDATE_FAILED", "long mended")]
    deletion = [
        whole(3, "DELETE_IN_PROGRESS"),
        event(4, "Workgroup", "DELETE_FAILED", "WorkGroup omc is not empty", "AWS::Athena::WorkGroup"),
        whole(5, "DELETE_FAILED"),
    ]
    answers_events(monkeypatch, client, before, [*before, *deletion])
    monkeypatch.setattr(client, "delete_stack", lambda **_: account.force("DELETE_FAILED"))
    with pytest.raises(DeployError) as failed:
        teardown.destroy(account.configuration(), account.confirm, account.said.append, lambda _: None)
    assert str(failed.value).splitlines() == [
        f"stack {NAME} ended in state DELETE_FAILED:",
        "Workgroup (AWS::Athena::WorkGroup): WorkGroup omc is not empty",
        "To remove the obstacles:",
        "Workgroup: aws athena delete-work-group --recursive-delete-option --work-group physical-Workgroup "
        "--region us-east-1",
        "Then repeat: bucketwheel deploy destroy --env prod",
        f"Or keep these resources and delete the rest: aws cloudformation delete-stack --stack-name {NAME} "
        "--region us-east-1 --retain-resources Workgroup",
    ]
    monkeypatch.undo()
    # Once the obstacle is gone, the same command succeeds.
    assert teardown.destroy(account.configuration(), account.confirm, sleep=lambda _: None)
    assert account.status() is None


def test_import_into_new_stack_that_was_undone_can_be_repeated(account: Account) -> None:
    account.client("cloudformation").create_change_set(
        StackName=NAME,
        ChangeSetName="import",
        ChangeSetType="CREATE",
        TemplateBody='{"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}',
    )
    account.force(states.IMPORT_UNDONE)
    assert account.apply().done
    assert account.asked[0].startswith(f"stack {NAME} is in state {states.IMPORT_UNDONE} and can only be deleted")
    assert account.status() == "CREATE_COMPLETE"


def test_interrupt_while_waiting_says_that_change_continues(account: Account) -> None:
    account.apply()

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    account.force("DELETE_IN_PROGRESS")
    with pytest.raises(KeyboardInterrupt) as interrupted:
        teardown.destroy(account.configuration(), account.confirm, sleep=interrupt)
    (note,) = interrupted.value.__notes__
    assert note.startswith(f"stack {NAME}: CloudFormation continues the change; its progress: ")
    assert len(aws_commands(note)) == 1


def test_interrupt_at_confirmation_leaves_no_change_set(account: Account) -> None:
    def interrupt(_: str) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        account.apply(confirm=interrupt)
    assert account.status() is None


def test_deletion_in_progress_is_awaited(account: Account) -> None:
    account.apply()
    account.force("DELETE_IN_PROGRESS")
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        account.client("cloudformation").delete_stack(StackName=NAME)

    assert teardown.destroy(account.configuration(), account.confirm, account.said.append, sleep)
    assert (len(waited), account.asked[1:], account.status()) == (1, [], None)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            '{"Description": "Bucketwheel, dev: jobs", %s}',
            "belongs to environment 'dev', not to 'prod'; use --env dev, or",
        ),
        ('{"Description": "the website", %s}', "but Bucketwheel did not create it; set deploy.stack to another name"),
        ("{%s}", "but Bucketwheel did not create it; set deploy.stack to another name"),
        (
            "Resources: {T: {Type: 'AWS::SNS::Topic'}}",
            "but Bucketwheel did not create it; set deploy.stack to another",
        ),
    ],
)
def test_stack_of_others_is_refused(account: Account, template: str, message: str) -> None:
    body = template.replace("%s", '"Resources": {"T": {"Type": "AWS::SNS::Topic"}}')
    account.client("cloudformation").create_stack(StackName="theirs", TemplateBody=body)
    config = account.configuration(deploy__stack="theirs")
    commands: list[Callable[[], object]] = [
        lambda: account.apply(deploy__stack="theirs"),
        lambda: teardown.destroy(config, account.confirm),
        lambda: adoption.adopt(config, [], account.confirm),
    ]
    for command in commands:
        with pytest.raises(DeployError, match=message):
            command()
    assert account.asked == []


def test_protected_stack_is_not_touched(account: Account) -> None:
    account.apply()
    (protected,) = cloudformation_backends[ACCOUNT][REGION].stacks.values()
    protected.enable_termination_protection = True
    account.asked.clear()
    with pytest.raises(DeployError, match="is protected from deletion") as refused:
        teardown.destroy(account.configuration(), account.confirm)
    assert len(aws_commands(str(refused.value))) == 1
    account.force("ROLLBACK_COMPLETE")
    with pytest.raises(DeployError, match="is protected from deletion"):
        account.apply()
    # moto lacks the command that the message shows.
    protected.enable_termination_protection = False
    assert teardown.destroy(account.configuration(), account.confirm, sleep=lambda _: None)
