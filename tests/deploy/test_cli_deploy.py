"""The deployment commands as a user sees them: exit code, stdout, stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from bucketwheel import __version__, api, cli
from bucketwheel.cli.submit import _JobView
from bucketwheel.submit.follow import JobState, Update
from deploy_support import PACKAGE, REGION, ROOT, archive, checkout, configuration
from project import WIDE, Project, Result
from submit_support import client

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")
Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process with the example configuration of prod."""

    def bucketwheel(*words: str, env: str = "prod") -> Result:
        code = 0
        try:
            cli.main([*words, "--env", env, "--conf", str(ROOT / "conf")])
        except SystemExit as ended:
            code = int(ended.code or 0)
        shown = capsys.readouterr()
        return Result(code, shown.out, shown.err)

    return bucketwheel


@pytest.fixture
def account(aws_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Send all AWS calls to moto."""
    for name, value in (("AWS__ENDPOINT_URL", aws_url), ("AWS__REGION", REGION)):
        monkeypatch.setenv(f"BUCKETWHEEL__{name}", value)
    monkeypatch.setattr("bucketwheel.submit.follow.POLL_SECONDS", 0.0)
    client("s3", aws_url).create_bucket(Bucket="artifacts-prod")
    return aws_url


def test_render_writes_to_stdout_or_file(run: Run, tmp_path: Path) -> None:
    shown = run("deploy", "render", "--package", PACKAGE)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout == api.deploy_render(configuration())
    written = run("deploy", "render", "--package", PACKAGE, "--format", "json", "--to", "template.json")
    assert (written.exit_code, written.stdout) == (0, "template.json\n")
    assert json.loads((tmp_path / "template.json").read_text()) == yaml.safe_load(shown.stdout)
    for env in ("dev", "prod"):
        assert run("deploy", "render", "--package", PACKAGE, env=env).exit_code == 0


def test_render_invalid_configuration_exits_2(run: Run) -> None:
    result = run("deploy", "render", "--set", "deploy.time_zone=Mars")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: deploy.package is not set" in result.stderr
    assert "deploy.time_zone is 'Mars'" in result.stderr


def packed(run: Run, tmp_path: Path, *more: str) -> Result:
    source = tmp_path / "checkout"
    if not source.exists():
        checkout(source)
        (tmp_path / "archive").mkdir()
        archive(tmp_path / "archive", source)
    place = ("--source", str(source), "--archive", str(tmp_path / "archive/environment.tar.gz"), *more)
    return run("package", "--set", "deploy.artifacts=s3://artifacts-prod/bucketwheel", *place)


def test_package_lists_files_and_prints_location_last(run: Run, account: str, tmp_path: Path) -> None:
    here = packed(run, tmp_path)
    assert here.exit_code == 0, here.stderr
    lines = here.stdout.splitlines()
    assert [line.split()[-1] for line in lines[2:6]] == [
        f"bucketwheel-{__version__}-py3-none-any.whl",
        "conf/prod.yaml",
        "environment.tar.gz",
        "job.py",
    ]
    digest = lines[-1].split()[0]
    assert lines[-1] == f"{digest}  build/package"
    there = packed(run, tmp_path, "--upload")
    assert there.stdout.splitlines()[-1] == f"s3://artifacts-prod/bucketwheel/{digest[:16]}"
    elsewhere = packed(run, tmp_path, "--upload", "s3://artifacts-prod/else", "--output", "json")
    document = json.loads(elsewhere.stdout)
    assert (document["digest"], document["location"]) == (digest, f"s3://artifacts-prod/else/{digest[:16]}")
    both = packed(run, tmp_path, "--without-archive")
    assert (both.exit_code, both.stdout) == (2, "")
    assert "--archive and --without-archive exclude each other" in both.stderr
    both = packed(run, tmp_path, "--without-docker")
    assert "--archive and --without-docker exclude each other" in both.stderr


def test_package_apply_and_destroy(run: Run, account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = packed(run, tmp_path, "--upload").stdout.splitlines()[-1]
    given = ("--package", place, "--set", "deploy.artifacts=s3://artifacts-prod/bucketwheel")
    absent = run("deploy", "diff", *given)
    assert (absent.exit_code, absent.stdout) == (2, "")
    monkeypatch.setattr(sys, "stdin", _Said("n\n"))
    refused = run("deploy", "apply", *given)
    assert (refused.exit_code, refused.stdout) == (130, "nothing was changed\n")
    assert "create stack bucketwheel-prod" in refused.stderr
    monkeypatch.setattr(sys, "stdin", _Said("y\n"))
    applied = run("deploy", "apply", *given)
    assert applied.exit_code == 0, applied.stderr
    assert applied.stdout.startswith("stack bucketwheel-prod: ")
    assert "Continue? [y/N]:" in applied.stderr
    assert run("deploy", "diff", *given).stdout == "no difference\n"
    again = run("deploy", "apply", *given, "--yes", "--output", "json", "--set", "monitoring.email=a@example.com")
    done = json.loads(again.stdout)
    assert done["done"] is True
    assert ("Add", "NoticesEmail") in {(change["action"], change["logical_id"]) for change in done["changes"]}
    # It was not asked, and what it reports along the way is not on stdout.
    assert "Continue?" not in again.stderr
    assert "update_complete" in again.stderr
    removed = run("deploy", "destroy", "--yes")
    assert (removed.exit_code, removed.stdout) == (0, "deleted\n")
    assert client("iam", account).list_roles()["Roles"] == []
    assert run("deploy", "destroy", "--yes").exit_code == 2


class _Said:
    """Input that a user types."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines(keepends=True)

    def readline(self, *_: Any) -> str:
        return self._lines.pop(0) if self._lines else ""

    def isatty(self) -> bool:
        return False


def test_submit_prints_progress_to_stderr_and_result_to_stdout(run: Run, account: str) -> None:
    client("glue", account).create_job(
        Name="etl-omc-flywheel-prod-pipeline", Role="r", Command={"Name": "glueetl", "ScriptLocation": "s3://x/y"}
    )
    target = ("--set", "target=s3://artifacts-prod/out")
    done = run("submit", "glue", "infobase_attributes", *target)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("etl-omc-flywheel-prod-pipeline: run jr_")
    assert "SUCCEEDED after 2 min 3 s, 0.60 dollars" in done.stdout
    assert done.stderr.startswith("run jr_")
    assert "succeeded, 2 min 3 s, 0.60 dollars" in done.stderr
    left = run("submit", "glue", "--no-wait", "--token", "mine", *target)
    assert left.exit_code == 0
    as_json = run("submit", "glue", "--output", "json", "--token", "mine", *target)
    assert json.loads(as_json.stdout)["token"] == "mine"
    assert [json.loads(line) for line in as_json.stderr.splitlines()]
    unknown = run("submit", "glue", "--job", "nobody", *target)
    assert (unknown.exit_code, unknown.stdout) == (2, "")


def test_submit_log_lines_become_text(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ('{"time": "T", "level": "INFO", "dataset": "d", "state": "started"}', '{"_aws": {}}', "of Spark")
    update = Update(JobState("jr_1", "RUNNING", False, False, 61, 0.5), lines, "no log")
    _JobView("text").update(update)
    assert capsys.readouterr().err.splitlines() == [
        "T d started",
        "of Spark",
        "warning: no log",
        "running, 1 min 1 s, 0.50 dollars so far",
    ]
    _JobView("json").update(update)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["line"] for event in events[:3]] == list(lines)
    assert events[3] == {"warning": "no log"}


def test_submit_prints_warnings_of_the_run(
    run: Run, account: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    client("glue", account).create_job(
        Name="etl-omc-flywheel-prod-pipeline", Role="r", Command={"Name": "glueetl", "ScriptLocation": "s3://x/y"}
    )
    monkeypatch.setattr("bucketwheel.submit.submit._SKEW", timedelta(hours=1))
    project.run("--stages", "discover,split")
    for path in (found for found in project.target.rglob("*.json")):
        key = f"out/{path.relative_to(project.target)}"
        client("s3", account).put_object(Bucket="artifacts-prod", Key=key, Body=path.read_bytes())
    target = ("--set", "target=s3://artifacts-prod/out")
    done = run("submit", "glue", WIDE, *target)
    assert f"\n\n{WIDE}: run {project.run_ids()[0]} finished\nrows     1,200\n" in done.stdout
    assert done.stdout.endswith("Record_Source, Batch_Number, Load_Date\n")
    listed = run("submit", "glue", WIDE, "--verbose", *target).stdout
    assert f"\n\n{WIDE}: run {project.run_ids()[0]} finished\nwarning: " in listed
    as_json = json.loads(run("submit", "glue", WIDE, "--output", "json", *target).stdout)
    assert [summary["rows"] for summary in as_json["summaries"]] == [1200]


@pytest.mark.parametrize(
    "command", ["deploy", "deploy apply", "submit", "submit glue", "submit emr-serverless", "package"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([*command.split(), "--help"])
    assert capsys.readouterr().out.startswith(f"Usage: bucketwheel {command} ")


def test_submit_without_boto3_names_package(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("bucketwheel.deploy.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("bucketwheel.aws.clients", "boto3", "botocore", "botocore.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    result = run("deploy", "diff", "--package", PACKAGE)
    assert result.exit_code == 2
    assert "pip install 'bucketwheel[aws]'" in result.stderr
