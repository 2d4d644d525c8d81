"""Stages and engines of an installed plugin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import bucketwheel
from bucketwheel import plugins
from bucketwheel.errors import DataRefusedError, MissingDependencyError, SelectionError
from bucketwheel.settings import STAGES
from runs_support import DATASET, FEBRUARY, JANUARY, Case, reports, warnings_in

PLUGIN = Path(__file__).parents[1] / "plugin"
WITH_PLUGIN = (*STAGES[:5], "rowcount", *STAGES[5:])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the plugin from its pyproject.toml with pip, offline."""
    root = tmp_path_factory.mktemp("plugin")
    # A build writes into the source directory.
    source = shutil.copytree(PLUGIN, root / "source")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(root / "installed"), str(source)]
    process = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    return root / "installed"


@pytest.fixture
def installed(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the directory of the installed plugin; it is importable until the test ends."""
    directory = shutil.copytree(built, tmp_path / "site-packages")
    monkeypatch.syspath_prepend(directory)
    yield directory
    for name in [name for name in sys.modules if name.startswith("bucketwheel_rowcount")]:
        del sys.modules[name]


@pytest.mark.usefixtures("installed")
def test_plugin_stage_runs_at_configured_position(case: Case) -> None:
    steps, report = reports()
    outcome = case.run(report=report, configured=WITH_PLUGIN)
    started = [step.stage for step in steps if step.state == "started"]
    assert started == list(WITH_PLUGIN)
    assert tuple(outcome.manifest.stages) == WITH_PLUGIN
    assert outcome.manifest.stages["rowcount"].result["rows"] == dict.fromkeys(case.names(), case.rows)
    assert case.manifests() == [outcome.manifest]
    assert "counted 2 tables" in warnings_in(steps)
    assert not case.run(configured=WITH_PLUGIN).changed


@pytest.mark.usefixtures("installed")
def test_failed_plugin_stage_stops_publishing_and_is_resumed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.run(configured=WITH_PLUGIN)
    case.snapshot(FEBRUARY)
    monkeypatch.setenv("ROWCOUNT_MINIMUM", "1000000")
    with pytest.raises(DataRefusedError, match="rowcount: table 'people_1' has 300 rows, expected at least 1000000"):
        case.run(configured=WITH_PLUGIN)
    failed = case.manifests()[-1]
    assert (failed.status, tuple(failed.stages)) == ("failed", STAGES[:5])
    assert set().union(*case.shown().values()) == {JANUARY}
    assert case.snapshot_dt() == JANUARY
    monkeypatch.delenv("ROWCOUNT_MINIMUM")
    outcome = case.run(resume="last", configured=WITH_PLUGIN)
    assert outcome.manifest.run_id == failed.run_id
    assert tuple(outcome.manifest.stages) == WITH_PLUGIN
    assert set().union(*case.shown().values()) == {FEBRUARY}


@pytest.mark.usefixtures("installed")
def test_plugin_stage_alone_runs_on_newest_run(case: Case) -> None:
    first = case.run().manifest
    outcome = case.run(["rowcount"], configured=WITH_PLUGIN)
    assert outcome.manifest.run_id == first.run_id
    assert "rowcount" in outcome.manifest.stages


def test_command_line_runs_plugin_stage(case: Case, installed: Path) -> None:
    settings = case.settings(stages=WITH_PLUGIN).model_dump(mode="json")
    conf = case.root / "conf"
    conf.mkdir()
    (conf / "base.yaml").write_text(yaml.safe_dump(settings))
    (conf / "local.yaml").touch()
    app = str(Path(bucketwheel.__file__).parents[1])
    process = subprocess.run(
        [sys.executable, "-m", "bucketwheel", "run", DATASET, "--conf", str(conf), "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([app, str(installed)])},
    )
    (run,) = json.loads(process.stdout)
    assert run["stages"]["rowcount"]["result"]["rows"] == dict.fromkeys(case.names(), case.rows)


@pytest.mark.usefixtures("installed")
def test_plugin_engine_can_be_selected(case: Case) -> None:
    assert plugins.known("engines")[:2] == ["arrow", "counted"]
    assert case.run(engine="counted").manifest.status == "finished"


@pytest.mark.usefixtures("installed")
def test_mistyped_stage_error_suggests_closest_name(case: Case) -> None:
    with pytest.raises(SelectionError, match=r"no stage is called 'rowcont'; did you mean 'rowcount'.*known:"):
        case.run(configured=("discover", "rowcont"))
    with pytest.raises(SelectionError, match="no stage 'rowcont'; did you mean 'rowcount'"):
        case.run(["rowcont"], configured=WITH_PLUGIN)
    assert not case.target.exists()


def test_missing_plugin_stage_is_refused_before_writing(case: Case) -> None:
    with pytest.raises(SelectionError, match="no stage is called 'rowcount'"):
        case.run(configured=WITH_PLUGIN)
    assert not case.target.exists()


@pytest.mark.usefixtures("installed")
def test_missing_package_of_plugin_is_named(case: Case) -> None:
    with pytest.raises(
        MissingDependencyError, match=r"'needy' needs the package .*: pip install a_package_that_nobody"
    ):
        case.run(configured=(*STAGES, "needy"))


def test_missing_package_of_backend_is_named_with_extra(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bucketwheel.catalogs.duckdb", raising=False)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingDependencyError) as caught:
        case.run()
    assert str(caught.value) == "'duckdb' needs the package 'duckdb': pip install 'bucketwheel[duckdb]'"
    assert caught.value.exit_code == 2
    assert not case.target.exists()


def test_missing_own_module_is_not_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._BUILT_IN["stages"], "verify", "bucketwheel.stages.nowhere:Verify")
    with pytest.raises(ModuleNotFoundError, match=r"bucketwheel\.stages\.nowhere"):
        plugins.stage("verify")
