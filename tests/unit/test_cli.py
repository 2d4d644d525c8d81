"""Exit code, stdout and stderr of every command."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import bucketwheel
from bucketwheel import cli
from project import NARROW, WIDE, Project, environment

COMMANDS = (
    "catalog",
    "completion",
    "config",
    "deploy",
    "doctor",
    "expire",
    "init",
    "package",
    "plan",
    "report",
    "rollback",
    "run",
    "runs",
    "sample",
    "show",
    "submit",
    "tables",
    "unmark",
    "verify",
)
TABLES = ("ibe_01", "ibe_02", "ibe_04")
NAMES = tuple(f"{prefix}_{table}" for prefix in ("bucketed", "ext") for table in TABLES)
STAGES = ("discover", "split", "size", "bucket", "verify", "register", "ctas")


def test_help_lists_every_command(project: Project) -> None:
    result = project.cli("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: bucketwheel [OPTIONS] COMMAND [ARGS]...")
    listed = result.stdout.partition("Commands:\n")[2].splitlines()
    assert tuple(line.split()[0] for line in listed) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(project: Project, command: str) -> None:
    result = project.cli(command, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: bucketwheel {command} [OPTIONS]")
    assert set(cli.cli.commands) == set(COMMANDS)


@pytest.mark.parametrize("words", [("-h",), ("run", "-h"), ("deploy", "render", "-h")])
def test_short_help_option_is_help(project: Project, words: tuple[str, ...]) -> None:
    assert project.cli(*words) == project.cli(*words[:-1], "--help")


def test_version_and_missing_command(project: Project) -> None:
    assert project.cli("--version").stdout == f"bucketwheel, version {bucketwheel.__version__}\n"
    result = project.cli()
    assert result.exit_code == 2
    assert "Usage: bucketwheel" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rnu",), "No such command 'rnu'"),
        (("show",), "Missing argument 'RUN_ID'"),
        (("expire",), "Missing option '--keep'"),
        (("expire", "--keep", "x"), "'x' is not a valid integer"),
        (("sample", "there", "--rows", "0"), "0 is not in the range x>=1"),
        (
            ("sample", "there", "--dirty", "trunkated_file"),
            "did you mean 'truncated_file'? choose one of: no_snapshot",
        ),
        (("sample", "there", "--writer", "csv"), "writer is 'csv', which is unknown"),
    ],
)
def test_wrong_use_exits_2_with_reason(project: Project, arguments: tuple[str, ...], message: str) -> None:
    result = project.cli(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_help_imports_no_heavy_library(project: Project) -> None:
    seen: list[float] = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert project.process("run", "--help").exit_code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seen.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seen) < 0.3
    heavy = {"pyarrow", "pydantic", "numpy", "yaml", "rich", "duckdb", "jinja2", "pygal", "psutil"}
    code = f"import sys, bucketwheel.cli; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "[]\n"


def test_local_run_imports_no_boto3(project: Project) -> None:
    code = (
        "import sys; from bucketwheel import api; "
        f"api.run(api.load('local', {str(project.conf)!r}), {WIDE!r}); "
        "print(sorted({'boto3', 'botocore'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "[]\n"


def test_command_imports_modules_without_garbage_collections(project: Project) -> None:
    code = (
        "import gc, json, sys\n"
        "from bucketwheel import cli\n"
        "before = sum(part['collections'] for part in gc.get_stats())\n"
        "cli.main(sys.argv[1:])\n"
        "after = sum(part['collections'] for part in gc.get_stats())\n"
        "print(json.dumps([gc.isenabled(), after - before < 50, gc.get_freeze_count() > 4 * len(gc.get_objects())]))"
    )
    command = [sys.executable, "-c", code, *project.command("config")[3:]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.splitlines()[-1] == "[true, true, true]"


def test_run_prints_result_to_stdout_and_stages_to_stderr(project: Project) -> None:
    result = project.run()
    (run_id,) = project.run_ids()
    head, tables, rows, time, catalog, query = result.stdout.splitlines()
    assert head == f"{WIDE}: run {run_id} finished"
    assert re.fullmatch(r"tables   3 in 12 files, \d+\.\d kB", tables)
    assert rows == "rows     1,200"
    assert re.fullmatch(r"time     \d+\.\d s", time)
    assert catalog == f"catalog  {project.catalog.relative_to(Path.cwd())}, schema omc_flywheel_test"
    assert query.startswith("query    ")
    stages = [line.split()[1] for line in result.stderr.splitlines() if "warning" not in line]
    assert tuple(stages) == STAGES
    assert project.published() == dict.fromkeys(NAMES, 1200)
    assert project.snapshot_dt() == "2025-10-22"


def test_run_verbose_prints_each_table_and_location(project: Project) -> None:
    lines = project.run("--verbose").stdout.splitlines()
    (run_id,) = project.run_ids()
    assert lines[0] == f"{WIDE}: run {run_id} finished"
    assert [line.split()[:3] for line in lines[4:7]] == [[table, "1,200", "4"] for table in TABLES]
    places = {table: f"{project.target}/{WIDE}/{table}/{run_id}" for table in TABLES}
    assert lines[7:] == [
        f"published {prefix}_{table} -> {places[table]}" for prefix in ("ext", "bucketed") for table in TABLES
    ]


@pytest.mark.parametrize("program", ["python", "duckdb"])
def test_run_prints_query_that_works(project: Project, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    programs = project.root / "programs"
    programs.mkdir(parents=True)
    if program == "duckdb":
        # The arguments of DuckDB's own program: -readonly FILE -c SQL.
        code = "import sys, duckdb; print(duckdb.connect(sys.argv[2], read_only=True).sql(sys.argv[4]))"
        (programs / "duckdb").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
        (programs / "duckdb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    project.set(catalog={"database": 'Order\'s $5 "data"'})
    query = project.run().stdout.splitlines()[-1].removeprefix("query    ")
    assert query.startswith("duckdb -readonly ") == (program == "duckdb")
    done = subprocess.run(["sh", "-c", query], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert "customer_user_id" in done.stdout


def test_run_without_dataset_runs_all(project: Project) -> None:
    result = project.cli("run")
    assert result.exit_code == 0, result.stderr
    assert [line.split(":")[0] for line in result.stdout.splitlines() if ": run " in line] == [NARROW, WIDE]
    assert project.published() == dict.fromkeys((*NAMES, f"bucketed_{NARROW}", f"ext_{NARROW}"), 1200)


def test_run_again_is_already_up_to_date(current: Project) -> None:
    before = current.tree(directory_times=True)
    result = current.run()
    (run_id,) = current.run_ids()
    assert result.stdout.startswith(f"{WIDE}: run {run_id} is already up to date\n")
    after = current.tree(directory_times=True)
    changed = {name for name in after if after[name] != before.get(name)}
    # The lease file is temporary.
    assert {name for name in changed if "lease" not in name} <= {"out/_bucketwheel/infobase_attributes"}
    assert set(before) - set(after) == set()


def test_run_json_prints_manifests_and_events(project: Project) -> None:
    result = project.cli("run", "--output", "json")
    first, second = json.loads(result.stdout)
    assert (first["dataset"], second["dataset"]) == (NARROW, WIDE)
    assert second["changed"] is True
    assert second["status"] == "finished"
    assert tuple(second["stages"]) == STAGES
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert {event["state"] for event in events} == {"started", "done", "finished", "warning"}
    started = [event for event in events if event["state"] == "started" and event["dataset"] == WIDE]
    assert [event.get("stage") for event in started] == [None, *STAGES]
    assert {"rows", "message"} & set(started[0]) == set()
    done = [event for event in events if event["state"] == "done" and event["dataset"] == WIDE]
    assert sorted(event["bucket"] for event in done if "bucket" in event) == [0, 1, 2, 3]
    assert sum(event["rows"] for event in done if "bucket" in event) == 1200
    assert [event["table"] for event in done if event["stage"] == "register"] == [f"ext_{name}" for name in TABLES]
    # Every event names its run, except those before the run has an id.
    assert [event["stage"] for event in events if "run" not in event and "stage" in event] == ["discover"] * 2
    assert json.loads(project.cli("run", "--output", "json").stdout)[1]["changed"] is False


def test_stages_run_one_after_another(project: Project) -> None:
    for stages in ("discover,split", "size", "bucket,verify", "register"):
        project.run("--stages", stages)
    assert set(project.published()) == {f"ext_{table}" for table in TABLES}
    project.run("--stages", "ctas")
    assert project.published() == dict.fromkeys(NAMES, 1200)
    assert len(project.run_ids()) == 1


def test_stages_without_earlier_run_are_refused(project: Project) -> None:
    result = project.cli("run", WIDE, "--stages", "register")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no run below" in result.stderr
    assert "has finished discover, split, size, bucket, verify, which stage 'register' needs" in result.stderr


@pytest.mark.parametrize("dataset", [WIDE, NARROW, None])
@pytest.mark.parametrize("output", ["text", "json"])
def test_plan_changes_nothing(current: Project, dataset: str | None, output: str) -> None:
    before = current.tree(directory_times=True)
    result = current.cli("plan", *([dataset] if dataset else []), "--output", output)
    assert current.tree(directory_times=True) == before
    assert (result.exit_code, result.stderr) == (0, "")
    datasets = [dataset] if dataset else [NARROW, WIDE]
    if output == "json":
        plans = json.loads(result.stdout)
        assert list(plans) == datasets
        for name in datasets:
            assert plans[name]["stages"] == list(STAGES)
            assert plans[name]["discover"]["rows"] == 1200
            rows = {table["name"]: table["files"] for table in plans[name]["size"]["tables"]}
            assert rows == dict.fromkeys(TABLES if name == WIDE else [NARROW], 4)
    else:
        heads = [
            line for line in result.stdout.splitlines() if ", snapshot 2025-10-22: 1,200 rows in 3 files, " in line
        ]
        assert [line.partition(",")[0] for line in heads] == datasets


def test_plan_creates_no_directory(project: Project) -> None:
    assert project.cli("plan").exit_code == 0
    assert not project.target.exists()
    assert not project.catalog.exists()


def test_plan_matches_the_run(project: Project) -> None:
    planned = json.loads(project.cli("plan", WIDE, "--output", "json").stdout)[WIDE]
    (run,) = json.loads(project.run("--output", "json").stdout)
    for stage in ("discover", "split", "size"):
        done = run["stages"][stage]["result"]
        assert planned[stage] == {name: value for name, value in done.items() if name != "schema_ipc"}


def test_plan_refuses_like_run(project: Project) -> None:
    for arguments, code in (
        (("--tables-filter", "x"), 2),
        (("--snapshot-dt", "2020-01-01"), 2),
        (("--stages", "x"), 2),
    ):
        refused = project.cli("plan", WIDE, *arguments), project.cli("run", WIDE, *arguments)
        assert [result.exit_code for result in refused] == [code, code]
        assert refused[0].stderr.splitlines()[0] in refused[1].stderr


def test_no_dataset_configured_explains_the_fix(project: Project, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "base.yaml").touch()
    for command in ("plan", "run"):
        result = project.cli(command, "--conf", str(tmp_path / "empty"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert (
            "no dataset is configured; create a configuration (bucketwheel init --source PATH --key COLUMN), add a "
            "dataset under `datasets:`, or use --set datasets.NAME.source=…" in result.stderr
        )


def test_config_prints_settings_with_origin(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKETWHEEL__SIZE__MAX_FILES", "7")
    result = project.cli("config", "--set", "buckets.sort=false", "--engine", "arrow")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["setting", "value", "origin"]
    base = str(project.conf / "base.yaml")
    assert ["buckets.count", "4", base] in rows
    assert ["buckets.sort", "false", "--set"] in rows
    assert ["engine", '"arrow"', "--engine"] in rows
    assert ["memory", '"auto"', "default"] in rows
    assert ["size.max_files", "7", "environment", "BUCKETWHEEL__SIZE__MAX_FILES"] in rows
    settings = json.loads(project.cli("config", "--output", "json").stdout)
    assert settings["buckets.count"] == {"value": 4, "origin": base}
    assert set(settings) == {row[0] for row in rows[2:]}


def test_env_is_read_from_environment_variable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.conf / "prod.yaml").write_text("threads: 5")
    monkeypatch.setenv("BUCKETWHEEL_ENV", "prod")
    assert json.loads(project.cli("config", "--output", "json").stdout)["threads"]["value"] == 5
    assert json.loads(project.cli("config", "--output", "json", "--env", "local").stdout)["threads"]["value"] == 2


def test_conf_is_read_from_environment_variable(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUCKETWHEEL_CONF", str(project.conf))
    cli.main(["config", "--output", "json"])
    assert json.loads(capsys.readouterr().out)["buckets.count"]["value"] == 4


def test_sample_data_runs(project: Project, tmp_path: Path) -> None:
    result = project.cli(
        "sample", str(tmp_path / "made"), "--rows", "500", "--tables", "2", "--columns", "3", "--files", "1"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("500 people, 2 tables of 3 columns, 1 file, ")
    data = tmp_path / "made" / "opus"
    settings = [f"datasets.{name}.source={data}/{name}/raw_input" for name in (WIDE, NARROW)]
    settings.append(f"datasets.{WIDE}.mapping={data}/{WIDE}/mapping.csv")
    run = project.cli("run", *(word for setting in settings for word in ("--set", setting)))
    assert run.exit_code == 0, run.stderr
    assert set(project.published().values()) == {500}
    again = project.cli("sample", str(tmp_path / "made"))
    assert (again.exit_code, "already holds Parquet files" in again.stderr) == (2, True)


def test_closed_stdout_prints_no_traceback(current: Project) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        current.command("config"), stdout=writing, stderr=subprocess.PIPE, text=True, env=environment(), check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
