"""Names of datasets, environments, tables and prefixes become part of paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bucketwheel.errors import ConfigError
from bucketwheel.runs.manifest import FileRecord, TableColumns
from bucketwheel.settings import loading
from bucketwheel.settings.names import name_problem
from project import WIDE, Project

WRONG = {
    "": "must not be empty",
    " people": "begin or end with a space",
    "people\t": "begin or end with a space",
    ".": "must not be . or ..",
    "..": "must not be . or ..",
    "a/b": "must not contain /",
    "../../etc": "must not contain /",
    "/tmp": "must not contain /",
    "a\\b": "must not contain / or \\",
    "a\nb": "control characters",
    "a\x00b": "control characters",
    "a\x1b[31mb": "control characters",
    "a\u202eb": "control characters",
    "a\u2028b": "control characters",
    "a\ud800b": "control characters",
    "--env": "must not begin with -",
    "_bucketwheel": "which Bucketwheel uses itself",
    "_NONE_": "which Bucketwheel uses itself",
    "é" * 101: "at most 200 bytes",
}


@pytest.mark.parametrize("name", WRONG)
def test_name_that_breaks_a_rule_is_refused(name: str) -> None:
    assert WRONG[name] in name_problem(name)
    with pytest.raises(ConfigError) as refused:
        loading.load(overrides=[("datasets", {name: {"source": "in", "key": "k"}}, "--set")])
    assert f"the name {name_problem(name)}" in str(refused.value)


@pytest.mark.parametrize(
    "name", ["people", WIDE, "x.y", "a-b", "_raw", "Kunden 2025", "persönlich", "顧客", "a=b", "..a", "x" * 200]
)
def test_earlier_names_of_datasets_stay_valid(name: str) -> None:
    settings = loading.load(overrides=[("datasets", {name: {"source": "in", "key": "k"}}, "--set")]).settings
    assert list(settings.datasets) == [name]


@pytest.mark.parametrize("env", ["../prod", "a/b", "..", "x\ny", ""])
def test_environment_outside_its_directory_is_refused(tmp_path: Path, env: str) -> None:
    (tmp_path / "prod.yaml").write_text("threads: 1")
    (tmp_path / "conf").mkdir()
    with pytest.raises(ConfigError, match=r"^--env .*: the name must not .*; it names a file beside base\.yaml"):
        loading.load(env, tmp_path / "conf")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("catalog.staged_prefix", "../x_"),
        ("catalog.final_prefix", "a\x1bb"),
        ("catalog.database", "a/b"),
        ("catalog.database", ""),
        ("datasets.people.complete_marker", "../_SUCCESS"),
    ],
)
def test_prefix_and_database_with_separator_are_refused(setting: str, value: str) -> None:
    dataset = ("datasets.people", {"source": "in", "key": "k"}, "--set")
    with pytest.raises(ConfigError, match=f"^{setting} .*the name must not"):
        loading.load(overrides=[dataset, (setting, f'"{value}"'.replace("\x1b", "\\e"), "--set")])


def test_empty_prefix_stays_valid() -> None:
    assert loading.load(overrides=[("catalog.final_prefix", "", "--set")]).settings.catalog.final_prefix == ""


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "a\\b"])
def test_manifest_with_path_as_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TableColumns(name=name, columns=())
    with pytest.raises(ValidationError):
        FileRecord(table=name, name="000000_0.snappy.parquet", rows=1, bytes=1)


def test_run_of_dataset_outside_target_is_refused(project: Project) -> None:
    project.settings["datasets"]["../../outside"] = project.settings["datasets"][WIDE]
    project.set()
    result = project.cli("run", "../../outside")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "datasets.../../outside (" in result.stderr
    assert "the name must not contain / or \\, which separate directories" in result.stderr
    assert "Traceback" not in result.stderr


def test_init_refuses_dataset_outside_target(tmp_path: Path) -> None:
    from bucketwheel.pipeline.init import init
    from bucketwheel.settings import Settings

    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^--dataset '\.\./x': the name must not contain /"):
        init(Settings(), {}, tmp_path, str(tmp_path / "raw"), None, "../x")
