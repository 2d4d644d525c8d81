"""Check the commands that messages and documents tell users to type against botocore."""

from __future__ import annotations

import re
import shlex

import botocore.session
import click
from botocore import xform_name
from botocore.model import StringShape

from bucketwheel.cli import cli

_SESSION = botocore.session.get_session()
_AWS = re.compile(r"\baws ([a-z0-9-]+) ([a-z0-9-]+)((?: (?:--[a-z-]+|[\w:/.-]+))*)")
_OWN = re.compile(r"\bbucketwheel ([a-z][a-z-]*(?: [a-z][a-z-]*)*)((?: --[a-z-]+(?: [\w./:=-]+)?)*)")
# Options of the AWS command line itself.
_GLOBAL = {"region", "query", "output"}


def aws_commands(text: str) -> list[str]:
    """Return the AWS commands in a text, after a check that each operation and option exists."""
    found = []
    for service, operation, rest in _AWS.findall(text):
        model = _SESSION.get_service_model(service)
        names = {xform_name(name, "-"): name for name in model.operation_names}
        assert operation in names, f"aws {service} {operation}"
        shape = model.operation_model(names[operation]).input_shape
        known = {xform_name(name, "-") for name in (shape.members if shape else ())} | _GLOBAL
        options = {word.removeprefix("--").removeprefix("no-") for word in shlex.split(rest) if word.startswith("--")}
        assert options <= known, f"aws {service} {operation}: {options - known}"
        found.append(f"aws {service} {operation}{rest}")
    return found


def own_commands(text: str) -> list[str]:
    """Return the commands of Bucketwheel in a text, after a check that each command and option exists."""
    found = []
    for words, rest in _OWN.findall(text):
        command: click.Command = cli
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, f"bucketwheel {words}"
            command = command.commands[word]
        known = {option for parameter in command.params for option in parameter.opts}
        options = {word for word in rest.split() if word.startswith("--")}
        assert options <= known, f"bucketwheel {words}: {options - known}"
        found.append(f"bucketwheel {words}{rest}")
    return found


def enum_of(service: str, name: str) -> list[str]:
    """Return the values of an enumeration of a service."""
    shape = _SESSION.get_service_model(service).shape_for(name)
    assert isinstance(shape, StringShape)
    return shape.enum
