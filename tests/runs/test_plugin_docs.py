"""Install the catalog that docs/reference/plugins.md shows, test it and publish with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from project import environment
from runs_support import DATASET, Case

ROOT = Path(__file__).parents[2]
FILES = ("json_catalog.py", "pyproject.toml", "test_json_catalog.py")


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Install the package of the page with pip, offline; return the directory of its source and its test."""
    page = (ROOT / "docs/reference/plugins.md").read_text("utf-8")
    source = tmp_path / "plugin"
    source.mkdir()
    for name in FILES:
        block = re.search(rf"`{re.escape(name)}`:\n\n```\w+\n(.*?)```", page, re.DOTALL)
        assert block, f"the page does not show {name}"
        (source / name).write_text(block[1], "utf-8")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run("-m", "pip", "install", "-q", *offline, "--target", str(tmp_path / "installed"), str(source))
    return source


def run(*arguments: str, directory: Path | None = None, path: Path | None = None) -> str:
    search = environment()["PYTHONPATH"]
    process = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=directory,
        env=environment(PYTHONPATH=os.pathsep.join([search, str(path)]) if path else search),
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.slow
def test_catalog_of_the_page_passes_its_suite(plugin: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    (plugin / FILES[2]).rename(suite / FILES[2])
    output = run("-m", "pytest", "-q", "-p", "no:cacheprovider", directory=suite, path=tmp_path / "installed")
    passed = re.search(r"(\d+) passed", output)
    assert passed
    assert int(passed[1]) > 20
    assert "skipped" not in output


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_catalog_of_the_page_publishes_a_run(case: Case, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "base.yaml").write_text(yaml.safe_dump(case.settings().model_dump(mode="json")))
    (conf / "local.yaml").touch()
    tables = tmp_path / "catalog" / "tables.json"
    settings = ["--set", "catalog.kind=json", "--set", f"plugins.json.path={tables}"]
    output = run(
        *("-m", "bucketwheel", "run", DATASET, "--conf", str(conf), "--output", "json", *settings),
        path=tmp_path / "installed",
    )
    (manifest,) = json.loads(output)
    shown = json.loads(tables.read_text())
    assert {table["parameters"]["bucketwheel.run_id"] for table in shown} == {manifest["run_id"]}
    assert {table["parameters"]["numRows"] for table in shown} == {str(case.rows)}
    for prefix in ("ext_", "bucketed_"):
        assert {f"{prefix}{name}" for name in case.names()} <= {table["name"] for table in shown}
    for table in shown:
        assert list(Path(table["location"]).glob("*.parquet"))
