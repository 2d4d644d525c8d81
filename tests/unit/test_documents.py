"""YAML that takes all memory, never ends or cannot be read is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bucketwheel.advice import _yaml
from bucketwheel.errors import ConfigError
from bucketwheel.settings import loading
from bucketwheel.settings.documents import MAX_BYTES, MAX_DEPTH, parse_yaml
from project import Project

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, MAX_DEPTH + 2))
REFUSED = {
    "recursive list": ("a: &a [*a]", "an alias stands for a value that contains it (line 1)"),
    "recursive mapping": ("b: 1\na: &a\n  c: *a", "an alias stands for a value that contains it (line 3)"),
    "recursive merge": ("a: &a {<<: *a}", "an alias stands for a value that contains it (line 1)"),
    "recursive key": ("? &a [*a]\n: 1", "an alias stands for a value that contains it (line 1)"),
    "alias bomb": (LAUGHS, "aliases stand for more than 100,000 values or 50 levels (line 6)"),
    "merge bomb": (MERGES, "aliases stand for more than 100,000 values or 50 levels (line "),
    "chain": (CHAIN, "aliases stand for more than 100,000 values or 50 levels (line 50)"),
    "deep list": ("[" * 5000, "nested more than 50 levels deep (line 1)"),
    "deep mapping": ("{a: " * 5000, "nested more than 50 levels deep (line 1)"),
    "deep block": ("- " * 5000, "nested more than 50 levels deep (line 1)"),
    "long": ("# " + "x" * MAX_BYTES, "has more than 1,048,576 bytes"),
    "long UTF-8": ("# " + "é" * MAX_BYTES, "has more than 1,048,576 bytes"),
    "month": ("a: 2025-13-45", "cannot read the value '2025-13-45' (line 1: month must be in 1..12)"),
    "digits": ("a: " + "9" * 5000, f"cannot read the value '{'9' * 40}…' (line 1: Exceeds the limit"),
    "hexadecimal": ("a: 0x_", "cannot read the value '0x_' (line 1: "),
    "binary key": ("? [a]\n: 1", "found unhashable key"),
    "NUL": ("a: \0", "is not YAML: unacceptable character"),
    "tag": (
        "a: !<tag:yaml.org,2002:python/object/apply:os.system> [id]",
        "could not determine a constructor for the tag",
    ),
    "undefined alias": ("a: *b", "found undefined alias 'b'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_document_beyond_bounds_is_refused(tmp_path: Path, kind: str) -> None:
    text, message = REFUSED[kind]
    (tmp_path / "base.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        loading.load("local", tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / 'base.yaml'}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize("kind", ["recursive list", "alias bomb", "deep list", "month", "digits"])
def test_value_beyond_bounds_is_refused(kind: str) -> None:
    text, message = REFUSED[kind]
    for arguments in ({"overrides": [("target", text, "--set")]}, {"environ": {"BUCKETWHEEL__TARGET": text}}):
        with pytest.raises(ConfigError) as refused:
            loading.load(**arguments)
        assert message in str(refused.value)


def test_aliases_and_deep_values_within_bounds_are_read() -> None:
    text = "common: &c {key: k}\nfirst: {<<: *c, source: a}\nsecond: {<<: *c, source: b, more: [*c, *c]}"
    common = {"key": "k"}
    assert parse_yaml(text, "x") == {
        "common": common,
        "first": {**common, "source": "a"},
        "second": {**common, "source": "b", "more": [common, common]},
    }
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_yaml(deepest, "x") == json.loads(deepest)
    assert parse_yaml(b"a: \xc3\xa9", "x") == {"a": "é"}
    assert parse_yaml("", "x") is None


def test_command_refuses_alias_bomb_with_exit_code_2(project: Project) -> None:
    (project.conf / "local.yaml").write_text(LAUGHS)
    result = project.cli("config")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {project.conf}/local.yaml: aliases stand for more than 100,000 values")


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e300"])
def test_time_to_live_that_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^lease\.ttl_seconds \(--set\): should be "):
        loading.load(overrides=[("lease.ttl_seconds", value, "--set")])


@pytest.mark.parametrize("value", ["2025-13-45", "9" * 5000, "[" * 5000, "a: b", "x"])
def test_advice_quotes_text_that_is_no_yaml_value(value: str) -> None:
    assert loading._scalar(_yaml(value), "--set") == value
