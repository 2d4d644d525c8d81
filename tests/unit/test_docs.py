"""The reference documents every command, option and setting, and no other setting."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from bucketwheel.cli import cli
from bucketwheel.contracts import Progress
from bucketwheel.monitoring.metrics import METRICS
from bucketwheel.runs.summary import Summary
from bucketwheel.settings import DatasetSettings, LayoutSettings, Settings

DOCS = Path(__file__).parents[2] / "docs" / "reference"


def setting_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += setting_names(kind, f"{prefix}{name}.")
        elif name == "datasets":
            names += setting_names(DatasetSettings, "datasets.<name>.")
        else:
            names.append(f"{prefix}{name}")
            if name == "layouts":
                names += setting_names(LayoutSettings, "layouts.<number>.")
    return names


def test_reference_lists_exactly_existing_settings() -> None:
    listed = re.findall(r"^\| `([^`]+)` \|", (DOCS / "settings.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(setting_names(Settings))


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """Return every runnable command by its full name."""
    by_name: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            by_name |= commands(command, f"{prefix}{name} ")
        else:
            by_name[f"{prefix}{name}"] = command
    return by_name


@pytest.mark.parametrize(("name", "command"), commands(cli).items())
def test_reference_has_command_and_options(name: str, command: click.Command) -> None:
    text = (DOCS / "commands.md").read_text()
    assert re.search(rf"^## `{name}[ `]", text, re.MULTILINE)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts[0]} says nothing of itself"
            names = [*parameter.opts, *parameter.secondary_opts]
            assert all(f"`{option}`" in text for option in names), names


def test_reference_has_every_metric() -> None:
    table = (DOCS.parent / "deploy.md").read_text().partition("| metric | unit |")[2]
    listed = re.findall(r"^\| `([A-Za-z]+)` \|", table, re.MULTILINE)
    assert listed == [metric.name for metric in METRICS]


def test_reference_has_every_field_of_summary() -> None:
    table = (DOCS / "observability.md").read_text().partition("## Summary")[2]
    cells = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == sorted(Summary.model_fields)


def test_reference_has_every_field_of_log() -> None:
    text = (DOCS / "observability.md").read_text().partition("## Log")[2].partition("## Metrics")[0]
    assert fields(Progress)
    assert all(f"`{field.name}`" in text for field in fields(Progress))
