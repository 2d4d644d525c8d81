"""Stages and engines that another installed package brings."""

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
    """What pip makes of the plugin's own pyproject.toml, without a network."""
    root = tmp_path_factory.mktemp("plugin")
    # Building leaves things in the source.
    source = shutil.copytree(PLUGIN, root / "source")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(root / "made"), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return root / "made"


@pytest.fixture
def installed(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the plugin is installed; importable in this process until the test ends."""
    directory = shutil.copytree(built, tmp_path / "site-packages")
    monkeypatch.syspath_prepend(directory)
    yield directory
    for name in [name for name in sys.modules if name.startswith("bucketwheel_rowcount")]:
        del sys.modules[name]


@pytest.mark.usefixtures("installed")
def test_a_stage_of_another_package_runs_where_the_configuration_puts_it(case: Case) -> None:
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
def test_a_stage_of_another_package_that_fails_stops_publishing_and_is_resumed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.run(configured=WITH_PLUGIN)
    case.snapshot(FEBRUARY)
    monkeypatch.setenv("ROWCOUNT_MINIMUM", "1000000")
    with pytest.raises(DataRefusedError, match="rowcount: table 'people_1' has 300 rows, expected at least 1000000"):
        case.run(configured=WITH_PLUGIN)
    failed = case.manifests()[-1]
    assert (failed.status, tuple(failed.stages)) == ("failed", STAGES[:5])
    assert set().union(*case.shown().values()) == {JANUARY}
    assert case.note.read_text() == JANUARY
    monkeypatch.delenv("ROWCOUNT_MINIMUM")
    outcome = case.run(resume="last", configured=WITH_PLUGIN)
    assert outcome.manifest.run_id == failed.run_id
    assert tuple(outcome.manifest.stages) == WITH_PLUGIN
    assert set().union(*case.shown().values()) == {FEBRUARY}


@pytest.mark.usefixtures("installed")
def test_a_stage_of_another_package_runs_alone_on_the_newest_run(case: Case) -> None:
    first = case.run().manifest
    outcome = case.run(["rowcount"], configured=WITH_PLUGIN)
    assert outcome.manifest.run_id == first.run_id
    assert "rowcount" in outcome.manifest.stages


def test_a_stage_of_another_package_is_found_by_the_command_line(case: Case, installed: Path) -> None:
    settings = case.settings(stages=WITH_PLUGIN).model_dump(mode="json")
    conf = case.root / "conf"
    conf.mkdir()
    (conf / "base.yaml").write_text(yaml.safe_dump(settings))
    (conf / "local.yaml").touch()
    app = str(Path(bucketwheel.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "bucketwheel", "run", DATASET, "--conf", str(conf), "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([app, str(installed)])},
    )
    (run,) = json.loads(done.stdout)
    assert run["stages"]["rowcount"]["result"]["rows"] == dict.fromkeys(case.names(), case.rows)


@pytest.mark.usefixtures("installed")
def test_an_engine_of_another_package_can_be_chosen(case: Case) -> None:
    assert plugins.known("engines")[:2] == ["arrow", "counted"]
    assert case.run(engine="counted").manifest.status == "finished"


@pytest.mark.usefixtures("installed")
def test_a_name_that_is_mistyped_is_answered_with_the_closest_one(case: Case) -> None:
    with pytest.raises(SelectionError, match=r"no stage is called 'rowcont'; did you mean 'rowcount'.*known:"):
        case.run(configured=("discover", "rowcont"))
    with pytest.raises(SelectionError, match="no stage 'rowcont'; did you mean 'rowcount'"):
        case.run(["rowcont"], configured=WITH_PLUGIN)
    assert not case.target.exists()


def test_a_stage_that_is_not_installed_is_refused_before_anything_is_done(case: Case) -> None:
    with pytest.raises(SelectionError, match="no stage is called 'rowcount'"):
        case.run(configured=WITH_PLUGIN)
    assert not case.target.exists()


@pytest.mark.usefixtures("installed")
def test_a_package_that_a_plugin_needs_is_named(case: Case) -> None:
    with pytest.raises(
        MissingDependencyError, match=r"'needy' needs the package .*: pip install a_package_that_nobody"
    ):
        case.run(configured=(*STAGES, "needy"))


def test_a_package_that_a_backend_needs_is_named_with_the_extra_before_anything_is_done(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "bucketwheel.catalogs.duckdb", raising=False)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingDependencyError) as caught:
        case.run()
    assert str(caught.value) == "'duckdb' needs the package 'duckdb': pip install 'bucketwheel[duckdb]'"
    assert caught.value.exit_code == 2
    assert not case.target.exists()


def test_a_module_of_our_own_that_is_missing_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins._BUILT_IN["stages"], "verify", "bucketwheel.stages.nowhere:Verify")
    with pytest.raises(ModuleNotFoundError, match=r"bucketwheel\.stages\.nowhere"):
        plugins.stage("verify")
