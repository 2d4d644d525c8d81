"""Commands and settings in README.md and docs/ exist; tests/docs runs the commands."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections import Counter
from typing import Any

import click
import pytest
import yaml

from bucketwheel import api
from bucketwheel.cli import cli
from bucketwheel.errors import BucketwheelError
from bucketwheel.settings import Settings, loading
from page_support import PAGES, ROOT, SHELL, blocks, calls, inline_code

TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
LANGUAGES = {*SHELL, "csv", "json", "python", "sql", "text", "toml", "yaml"}
# Blocks that no test runs, by reason. Hosted checks set up environments and images by themselves.
NOT_RUN = {
    "downloads packages": 6,
    "moto cannot import": 1,
    "needs Docker": 3,
    "needs an AWS account": 1,
    "takes most of an hour": 1,
}
# A setting with a value, as `name=value` or as a line of YAML; `…` and `<name>` are placeholders.
_SETTING = re.compile(r"([a-z_]+(?:\.[a-z_]+)+)(?:=|: )([^\s…<>]+)")


def command_lines() -> list[tuple[str, str]]:
    """Return (page, command) of each call in blocks and in the text."""
    found = []
    for page in PAGES:
        lines = [line for block in blocks(page) if block.language in SHELL for line in block.commands()]
        lines += [line for span in inline_code(page) if "…" not in span for line in calls(span)]
        found += [(str(page.relative_to(ROOT)), line) for line in lines]
    return list(dict.fromkeys(found))


def settings_in_text() -> list[tuple[str, str, str]]:
    """Return (page, name, value) of each setting that a page gives a value."""
    top = Settings.model_fields
    found = []
    for page in PAGES:
        for match in filter(None, map(_SETTING.fullmatch, inline_code(page))):
            if match[1].split(".")[0] in top:
                found.append((str(page.relative_to(ROOT)), match[1], match[2]))
    return list(dict.fromkeys(found))


def check_command_line(line: str) -> None:
    """Resolve a command line without running it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=");|")
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set(");|"):
            break
        words.append(word)
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS, line
        return
    command: click.Command = cli
    context = click.Context(cli, info_name="bucketwheel", **cli.context_settings)
    rest = [word for word in words[1:] if word != "--help"]
    while isinstance(command, click.Group) and rest:
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None, line
        command = found
        context = click.Context(command, parent=context, info_name=name)
    # The text names commands without their arguments.
    if rest:
        with context:
            command.parse_args(context, rest)
    check_overrides(words, line)


def check_overrides(words: list[str], line: str) -> None:
    """Load the built-in defaults with every `--set` of a command line."""
    given = [after for option, after in itertools.pairwise(words) if option == "--set"]
    pairs: list[tuple[str, Any, str]] = []
    datasets: dict[str, dict[str, str]] = {}
    for word in given:
        name, _, value = word.partition("=")
        # The page of plug-ins installs its own; its test runs the command.
        if name.startswith("plugins.") or value == "json":
            continue
        pairs.append((name, value, "--set"))
        if name.startswith("datasets."):
            datasets[name.split(".")[1]] = {"source": "s", "key": "k"}
    overrides = [("datasets", datasets, "test"), *pairs] if datasets else pairs
    assert not given or loading.load("local", None, overrides), line


LINES = command_lines()
SETTINGS = settings_in_text()


def test_docs_commands_are_discovered() -> None:
    assert len(LINES) > 60
    assert {page for page, _ in LINES} > {"README.md", "docs/operations.md", "docs/deploy.md", "docs/tested.md"}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_docs_command_line_parses(page: str, line: str) -> None:
    check_command_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "bucketwheel runn people",
        "bucketwheel run people --resumes last",
        "bucketwheel expire people",
        "bucketwheel run people --set buckets.cuont=8",
        "make demoo",
    ],
)
def test_docs_command_line_with_mistake_is_rejected(line: str) -> None:
    with pytest.raises((click.ClickException, BucketwheelError, AssertionError)):
        check_command_line(line)


def test_docs_settings_load_with_their_values() -> None:
    assert len(SETTINGS) > 15
    for page, name, value in SETTINGS:
        assert loads(name, value), f"{page}: {name}={value}"


def loads(name: str, value: str) -> bool:
    try:
        # Without the plug-ins, which take long to look for.
        loading.load("prod", ROOT / "conf", [(name, value, "page")])
    except BucketwheelError:
        return False
    return True


def test_docs_setting_with_mistake_does_not_load() -> None:
    assert not loads("buckets.cuont", "8")
    assert not loads("quality.null_keys", "maybe")


def test_docs_blocks_name_their_language() -> None:
    found = {(block.page.name, block.language) for page in PAGES for block in blocks(page)}
    assert len(found) > 20
    assert {language for _, language in found} <= LANGUAGES, found


def test_docs_blocks_that_no_test_runs_are_few() -> None:
    reasons = [block.reason for page in PAGES for block in blocks(page) if block.reason is not None]
    assert Counter(reasons) == NOT_RUN
    assert all(block.language in SHELL for page in PAGES for block in blocks(page) if block.reason is not None)


def test_docs_yaml_blocks_load_as_configuration() -> None:
    found = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]
    assert found
    for block in found:
        shown = yaml.safe_load(block.body)
        datasets = {"datasets": {"people": {"source": "data", "key": "person_id"}}}
        assert api.load("local", None, {**datasets, **shown}, environ={}), block.page


def test_docs_json_blocks_parse() -> None:
    bodies = [block.body for page in PAGES for block in blocks(page) if block.language == "json"]
    spans = [span for page in PAGES for span in inline_code(page) if re.fullmatch(r'\{".*\}', span)]
    assert bodies
    assert spans
    for body in [*bodies, *spans]:
        # A block is one document, or one document per line.
        whole = body.startswith(("[\n", "{\n"))
        assert all(isinstance(json.loads(text), (dict, list)) for text in ([body] if whole else body.splitlines()))
