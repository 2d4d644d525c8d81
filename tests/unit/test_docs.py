"""The reference has every command, option and setting, and no setting that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from bucketwheel.cli import cli
from bucketwheel.settings import DatasetSettings, Settings

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
    return names


def test_the_reference_lists_exactly_the_settings_there_are() -> None:
    listed = re.findall(r"^\| `([^`]+)` \|", (DOCS / "settings.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(setting_names(Settings))


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_reference_has_the_command_and_its_options(name: str) -> None:
    text = (DOCS / "commands.md").read_text()
    assert re.search(rf"^\| `{name}[ `]", text, re.MULTILINE)
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            assert all(f"`{option}`" in text for option in parameter.opts), parameter.opts
