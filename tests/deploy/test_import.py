"""Import existing jobs, roles, workgroups, log groups and buckets into a stack, then update them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest
from botocore.model import StructureShape
from cfnlint.api import lint_all
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from fake_imports import Imports
from moto_account import LOCATION, NAME, Account
from moto_types import more_types

from bucketwheel import cli
from bucketwheel.aws import clients
from bucketwheel.deploy import adoption, existing, name_conflicts, stack, teardown
from bucketwheel.deploy.adoption import Imported
from bucketwheel.errors import DeployError, SelectionError
from deploy_support import JOBS, REGION, ROOT, rendered
from fake_iam import Refuses
from project import Result

# What moto says about types that it does not know.
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")

ROLE = "omc_flywheel-prod-glue-role"
WORKGROUP = "omc_flywheel-prod"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "glue.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
OLD = {
    "Role": f"arn:aws:iam::123456789012:role/{ROLE}",
    "Command": {"Name": "glueetl", "ScriptLocation": "s3://old/script.py", "PythonVersion": "3"},
    "GlueVersion": "3.0",
    "WorkerType": "G.1X",
    "NumberOfWorkers": 2,
    "Connections": {"Connections": ["old-network"]},
    "DefaultArguments": {"--DATABASE": "omc_flywheel_prod"},
}


@pytest.fixture
def account(account: Account) -> Iterator[Account]:
    """Return an account with the four jobs, the role and the workgroup from before the stack."""
    account.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST))
    account.client("athena").create_work_group(
        Name=WORKGROUP, Configuration={"ResultConfiguration": {"OutputLocation": "s3://old/results/"}}
    )
    for name in JOBS[:4]:
        account.client("glue").create_job(Name=name, **OLD)
    with more_types(account):
        yield account


@pytest.fixture
def imports(account: Account, monkeypatch: pytest.MonkeyPatch) -> Imports:
    return Imports(account.configuration().settings.aws, monkeypatch)


def adopt(account: Account, *names: str, **more: Any) -> Imported:
    config = account.configuration(**more.pop("settings", {}))
    return adoption.adopt(config, names, account.confirm, account.said.append, lambda _: None, **more)


def job(account: Account, name: str = JOBS[0]) -> dict[str, Any]:
    found: dict[str, Any] = account.client("glue").get_job(JobName=name)["Job"]
    return found


def test_import_into_new_stack_changes_nothing_and_update_changes_all(account: Account, imports: Imports) -> None:
    before = job(account)
    result = adopt(account)
    assert (result.done, account.status()) == (True, "IMPORT_COMPLETE")
    assert {one.name for one in result.resources} == {*JOBS[:4], ROLE, WORKGROUP}
    (question,) = account.asked
    head, *lines = question.splitlines()
    assert head == f"import into stack {NAME}, us-east-1, account 123456789012; this changes no resource:"
    assert f"import   AWS::IAM::Role                     JobRole  {ROLE}" in lines
    assert job(account) == before
    ((_, call),) = imports.change_sets.items()
    template = json.loads(call["TemplateBody"])
    assert set(template) == {"AWSTemplateFormatVersion", "Description", "Resources"}
    assert {part["DeletionPolicy"] for part in template["Resources"].values()} == {"Retain"}
    assert [str(found) for found in lint_all(call["TemplateBody"]) if found.rule.severity == "error"] == []
    properties = template["Resources"]["JobInfobaseSplitAndBucket"]["Properties"]
    assert properties == {
        "Name": JOBS[0],
        **OLD,
        **{key: properties[key] for key in properties.keys() - OLD - {"Name"}},
    }
    applied = account.apply()
    assert (applied.done, account.status()) == (True, "UPDATE_COMPLETE")
    assert {"Modify", "Add"} == {change.action for change in applied.changes}
    after = job(account)
    assert (after["GlueVersion"], after["WorkerType"], after.get("Connections")) == ("5.0", "G.4X", None)
    # Now the jobs are the stack's.
    assert teardown.destroy(account.configuration(), account.confirm, sleep=lambda _: None)
    assert account.client("glue").get_jobs()["Jobs"] == []


def test_import_into_existing_stack_keeps_its_template(account: Account, imports: Imports) -> None:
    side_by_side: dict[str, Any] = {
        "glue.role": "next-role",
        "athena.workgroup": "primary",
        "deploy.job_prefix": "next",
    }
    account.apply(**side_by_side)
    deployed = account.client("cloudformation").get_template(StackName=NAME)["TemplateBody"]
    config = {**side_by_side, "athena.workgroup": WORKGROUP}
    assert [one.name for one in adopt(account, settings=config).resources] == [WORKGROUP]
    ((_, call),) = imports.change_sets.items()
    template = json.loads(call["TemplateBody"])
    workgroup = template["Resources"].pop("Workgroup")
    assert template == json.loads(json.dumps(deployed))
    assert workgroup["Properties"]["WorkGroupConfiguration"]["ResultConfiguration"] == {
        "OutputLocation": "s3://old/results/"
    }
    assert account.apply(**config).done
    again = adopt(account, settings=config)
    assert (again.done, again.resources) == (True, ())


def test_import_dry_run_and_refusal_leave_nothing(account: Account, imports: Imports) -> None:
    shown = adopt(account, JOBS[1], dry_run=True)
    assert (shown.done, [one.name for one in shown.resources]) == (False, [JOBS[1]])
    assert (imports.change_sets, account.asked, account.status()) == ({}, [], None)
    config = account.configuration()
    refused = adoption.adopt(config, [], lambda _: False, sleep=lambda _: None)
    assert (refused.done, account.status()) == (False, None)

    def interrupt(_: str) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adoption.adopt(config, [], interrupt, sleep=lambda _: None)
    assert account.status() is None
    assert len(imports.deleted) == len(imports.change_sets) == 2


def test_import_of_unknown_or_missing_name_is_an_error(account: Account, imports: Imports) -> None:
    with pytest.raises(SelectionError) as unknown:
        adopt(account, "etl-omc-flywheel-prod-piepline")
    first, last = str(unknown.value).splitlines()
    assert first == (
        "etl-omc-flywheel-prod-piepline: no resource of the template has this name; did you mean "
        "'etl-omc-flywheel-prod-pipeline'?"
    )
    assert last.startswith("known: ")
    with pytest.raises(
        SelectionError, match=f"not in us-east-1 of account 123456789012: {JOBS[4]}; `bucketwheel dep"
    ):
        adopt(account, JOBS[4], JOBS[0])
    assert imports.change_sets == {}


def test_import_of_resource_of_other_stack_is_refused(account: Account, imports: Imports) -> None:
    account.client("glue").delete_job(JobName=JOBS[2])
    body = {"Resources": {"J": {"Type": "AWS::Glue::Job", "Properties": {"Name": JOBS[2], **OLD}}}}
    account.client("cloudformation").create_stack(StackName="bucketwheel-dev", TemplateBody=json.dumps(body))
    with pytest.raises(
        DeployError, match=f"^Glue job {JOBS[2]} belongs to stack bucketwheel-dev; remove it from that"
    ):
        adopt(account)
    assert adopt(account, JOBS[0]).done
    assert imports.change_sets


def test_import_of_role_with_path_is_refused(account: Account, imports: Imports) -> None:
    iam = account.client("iam")
    iam.delete_role(RoleName=ROLE)
    iam.create_role(RoleName=ROLE, Path="/service-role/", AssumeRolePolicyDocument=json.dumps(TRUST))
    with pytest.raises(
        DeployError, match=f"role {ROLE} has the path /service-role/, and CloudFormation would replace"
    ):
        adopt(account)
    assert imports.change_sets == {}


def test_denied_read_or_refused_import_is_an_error(
    account: Account, imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = clients.client("glue", account.configuration().settings.aws)
    with monkeypatch.context() as patched:
        patched.setattr(client, "get_job", Refuses("GetJob", "call", "AccessDeniedException").call)  # type: ignore[attr-defined]
        with pytest.raises(DeployError, match=r"Glue job .*: GetJob was denied"):
            adopt(account)
    # A property that CloudFormation does not know.
    monkeypatch.setattr(existing, "JOB_PROPERTIES", (*existing.JOB_PROPERTIES, "CreatedOn"))
    client.meta.events.register(
        "after-call.glue.GetJob", lambda parsed, **_: parsed.get("Job", {}).update(CreatedOn="1")
    )
    with pytest.raises(DeployError, match=r"CloudFormation refused the template: Properties validation failed"):
        adopt(account)
    clients.renew_session()
    assert account.status() is None


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("ROLLBACK_COMPLETE", "it can only be deleted: bucketwheel deploy destroy --env prod"),
        ("IMPORT_IN_PROGRESS", "another change is in progress"),
    ],
)
def test_import_into_stack_that_cannot_change_is_refused(
    account: Account, imports: Imports, status: str, words: str
) -> None:
    body = '{"Description": "Bucketwheel, prod: x", "Resources": {"T": {"Type": "AWS::SNS::Topic"}}}'
    client = account.client("cloudformation")
    client.create_change_set(StackName=NAME, ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=body)
    client.execute_change_set(StackName=NAME, ChangeSetName="c")
    account.force(status)
    with pytest.raises(DeployError, match=words):
        adopt(account)
    assert imports.change_sets == {}


def test_import_can_be_repeated_after_failed_import_into_new_stack(account: Account, imports: Imports) -> None:
    body = '{"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}'
    client = account.client("cloudformation")
    client.create_change_set(StackName=NAME, ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=body)
    account.force("IMPORT_ROLLBACK_COMPLETE")
    assert not adopt(account, dry_run=True).done
    assert account.status() == "IMPORT_ROLLBACK_COMPLETE"
    assert adopt(account).done
    assert account.status() == "IMPORT_COMPLETE"


def test_kept_buckets_and_log_groups_are_imported_again(account: Account, imports: Imports) -> None:
    settings: dict[str, Any] = {
        "deploy.buckets": "create",
        "deploy.job_prefix": "n",
        "glue.role": "n",
        "athena.workgroup": "primary",
    }
    data = "omc-flywheel-data-us-east-1-prod"
    account.client("s3").create_bucket(Bucket=data)
    account.client("s3").put_bucket_policy(Bucket=data, Policy=json.dumps(TRUST))
    account.client("logs").create_log_group(logGroupName=f"/{NAME}/output")
    with pytest.raises(DeployError, match=rf"AWS::S3::Bucket {data}.*AWS::Logs::LogGroup /{NAME}/output"):
        account.apply(**settings)
    kinds = {one.kind for one in adopt(account, settings=settings).resources}
    assert kinds == {"AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::Logs::LogGroup"}
    assert stack.apply(account.configuration(**settings), account.confirm, sleep=lambda _: None).done


@pytest.fixture
def run(
    account: Account, imports: Imports, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Run `deploy import` for prod, with answers to its questions."""
    monkeypatch.setenv("BUCKETWHEEL__AWS__ENDPOINT_URL", account.url)
    monkeypatch.setenv("BUCKETWHEEL__AWS__REGION", REGION)

    def deploy_import(*words: str, answers: str = "") -> Result:
        monkeypatch.setattr("sys.stdin", io.StringIO(answers))
        given = ("--env", "prod", "--conf", str(ROOT / "conf"), "--package", LOCATION)
        artifacts = ("--set", "deploy.artifacts=s3://artifacts-prod/bucketwheel")
        code = 0
        try:
            cli.main(["deploy", "import", *words, *given, *artifacts])
        except SystemExit as ended:
            code = int(ended.code or 0)
        shown = capsys.readouterr()
        return Result(code, shown.out, shown.err)

    return deploy_import


def test_import_command_imports_then_updates(account: Account, run: Callable[..., Result]) -> None:
    shown = run("--dry-run", JOBS[3])
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout == (
        f"import   AWS::Glue::Job                     JobCreateAthenaBucketedTables  {JOBS[3]}; "
        "the update removes Connections\n"
    )
    declined = run(answers="n\n")
    assert (declined.exit_code, declined.stdout, account.status()) == (130, "nothing was changed\n", None)
    half = run(answers="y\nn\n")
    assert (half.exit_code, account.status()) == (130, "IMPORT_COMPLETE")
    assert half.stdout == (
        f"stack {NAME}: 6 resources imported\n"
        "imported, but not updated: `bucketwheel deploy apply` updates the stack\n"
    )
    nothing = run("--yes")
    assert nothing.stdout == "nothing to import: no resource of the template exists outside of the stack\n"
    account.client("glue").create_job(Name=JOBS[4], **OLD)
    whole = run("--yes")
    assert whole.exit_code == 0, whole.stderr
    first, second = whole.stdout.splitlines()
    assert first == f"stack {NAME}: 1 resource imported"
    assert second.startswith(f"stack {NAME}: ")
    assert account.status() == "UPDATE_COMPLETE"
    assert run("etl-omc-flywheel-prod-pipelin").exit_code == 2


def test_importable_types_are_identified_as_their_schemas_say() -> None:
    for kind, how in existing.KINDS.items():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
        assert schema["primaryIdentifier"] == [f"/properties/{how.identifier}"]
        # CloudFormation imports types that it can read.
        assert "read" in schema["handlers"]
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, "AWS::Glue::Job").schema
    returned = botocore.session.get_session().get_service_model("glue").shape_for("Job")
    assert isinstance(returned, StructureShape)
    assert set(existing.JOB_PROPERTIES) == schema["properties"].keys() & returned.members.keys()
    role = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, "AWS::IAM::Role").schema
    assert set(role["createOnlyProperties"]) == {"/properties/RoleName", "/properties/Path"}


def test_every_resource_whose_name_can_be_taken_can_be_imported() -> None:
    for variant in ("glue", "glue-everything"):
        kinds = {part["Type"] for part in rendered(variant)["Resources"].values()}
        assert set(name_conflicts.SETTINGS) & kinds <= existing.KINDS.keys()
