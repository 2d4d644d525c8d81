"""`doctor --first-run` prints docs/deploy-not-exercised.md with the names of a configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path

import botocore.session
import click
import pytest
from botocore import xform_name
from click.testing import CliRunner

from bucketwheel import api
from bucketwheel.api import FirstRunItem
from bucketwheel.cli import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deploy-not-exercised.md").read_text("utf-8")


def items(env: str = "dev", **overrides: str) -> list[FirstRunItem]:
    return api.first_run(env, ROOT / "conf", {name.replace("__", "."): value for name, value in overrides.items()})


def cells() -> list[list[str]]:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_page_and_command_have_the_same_rows() -> None:
    both = {
        (item.what, item.rests_on, item.steps, item.shows)
        for platform in ("glue", "emr-serverless")
        for item in items(deploy__platform=platform)
    }
    rows = [tuple(row) for row in cells() if row[0] != "not exercised"]
    # The page also puts options outside of code into code.
    assert {tuple(cell.replace("`", "") for cell in row) for row in rows} == {
        tuple(cell.replace("`", "") for cell in row) for row in both
    }
    assert len(rows) == len(both)


def test_every_row_names_document_and_commands() -> None:
    for item in [*items(), *items(deploy__platform="emr-serverless")]:
        assert all((item.rests_on, item.steps, item.shows)), item
        assert not re.search(r"(?<!=)\{\w+\}", item.steps), item


def test_checklist_has_names_of_configuration() -> None:
    done = CliRunner().invoke(
        cli, ["doctor", "--first-run", "--env", "prod", "--conf", str(ROOT / "conf"), "--set", "deploy.stack=ours"]
    )
    assert done.exit_code == 0, done.output
    assert "[ ] 1. " in done.output
    assert "bucketwheel submit glue infobase_attributes --env prod" in done.output
    assert "ours-watch" in done.output
    assert "](" not in done.output
    assert "bucketwheel-dev" not in done.output


@pytest.mark.parametrize(("platform", "other"), [("glue", "emr-serverless"), ("emr-serverless", "glue")])
def test_checklist_leaves_out_other_platform(platform: str, other: str) -> None:
    command = ["doctor", "--first-run", "--env", "dev", "--conf", str(ROOT / "conf"), "--output", "json"]
    done = CliRunner().invoke(cli, [*command, "--set", f"deploy.platform={platform}"])
    assert {item["only"] for item in json.loads(done.output)} == {None, platform}
    assert other not in {item["only"] for item in json.loads(done.output)}


def test_commands_of_the_list_exist() -> None:
    session = botocore.session.get_session()
    steps = " ".join(item.steps for item in [*items(), *items(deploy__platform="emr-serverless")])
    for service, command in re.findall(r"`aws ([\w-]+) ([\w-]+)", steps):
        if service != "s3":
            operations = session.get_service_model(service.removesuffix("api")).operation_names
            assert command in {xform_name(name, "-") for name in operations}, (service, command)
    for name, rest in re.findall(r"`bucketwheel ([\w-]+)([^`]*)", steps):
        command = cli.commands[name]
        if isinstance(command, click.Group):
            command = command.commands[rest.split()[0]]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = [word for word in rest.split() if word.startswith("--")]
        assert set(given) <= known, (name, rest)
