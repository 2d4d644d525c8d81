"""The job entry point: arguments as platforms pass them, and exit behavior."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NoReturn

import pytest

from bucketwheel import host, plugins
from bucketwheel.cli import job as job_cli
from bucketwheel.errors import ConfigError, DataRefusedError, JobFailedError, UsageError
from bucketwheel.sample import Sample
from project import NARROW, WIDE, Project, Result

GLUE = [
    *("--job-bookmark-option", "job-bookmark-disable", "--job-language", "python"),
    *("--TempDir", "s3://aws-glue-assets/temporary/", "--enable-metrics", "true", "--JOB_ID", "j_1"),
    *("--JOB_RUN_ID", "jr_1", "--JOB_NAME", "etl", "--conf", "spark.sql.shuffle.partitions=4 --conf spark.x=y"),
    "--enable-glue-datacatalog",
]


@pytest.fixture(autouse=True)
def own_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(host.VARIABLE, "")


def job(project: Project, *arguments: str) -> Result:
    """Run the job entry point, which returns or raises instead of exiting."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        job_cli.main([*arguments, "--config-dir", str(project.conf)])
    return Result(0, out.getvalue(), err.getvalue())


def words(*arguments: str) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return job_cli.run_words(job_cli._pairs(arguments), lambda conf: conf, said.append), said


def test_job_returns_and_publishes(project: Project) -> None:
    done = job(project, "--dataset", WIDE)
    assert set(project.published().values()) == {1200}
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (events[0]["state"], events[-1]["state"]) == ("started", "finished")
    assert {event["level"] for event in events} == {"INFO", "WARNING"}
    assert (events[-1]["run"], events[-1]["rows"]) == (project.run_ids()[0], 1200)
    assert done.stderr == ""


def test_job_output_text_prints_text(project: Project) -> None:
    done = job(project, "--dataset", WIDE, "--output", "text")
    assert done.stdout.startswith(f"{WIDE}: run ")
    assert f"{WIDE}: bucket " in done.stderr


def test_job_glue_arguments_are_ignored() -> None:
    given, said = words(*GLUE, "--dataset", NARROW)
    assert given == [NARROW]
    assert said == [
        "arguments of the platform, ignored: --JOB_ID, --JOB_NAME, --JOB_RUN_ID, --TempDir, --conf, "
        "--enable-glue-datacatalog, --enable-metrics, --job-bookmark-option, --job-language"
    ]


@pytest.mark.parametrize("platform", ["glue", "emr-serverless"])
def test_job_configured_for_one_machine_is_refused(
    published: Project, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    before, noted = published.content(), published.snapshot_dt()
    if platform == "glue":
        # Known by its arguments.
        monkeypatch.delenv(host.VARIABLE)
    else:
        monkeypatch.setenv(host.VARIABLE, platform)
    with pytest.raises(JobFailedError) as failed:
        job(published, *(GLUE if platform == "glue" else ()), "--dataset", NARROW)
    assert isinstance(failed.value.__cause__, ConfigError)
    lines = str(failed.value).splitlines()
    assert lines[0] == (
        "ConfigError: engine is arrow, which runs on one machine; jobs on Glue and EMR Serverless run Spark"
    )
    assert [line.split(" is ")[0] for line in lines[1:3]] == ["catalog.kind", "target"]
    assert (published.content(), published.snapshot_dt()) == (before, noted)


@pytest.mark.parametrize("automatic", ["_NONE_", ""])
def test_job_accepts_names_of_earlier_jobs(automatic: str) -> None:
    given, said = words(
        *("--SNAPSHOT_DT", "2025-10-22", "--TABLES_FILTER", "IBE_01,MIACS_01", "--BUCKET_COUNT", "32"),
        *("--DATASET", WIDE, "--ENV", automatic, "--stages", "register"),
    )
    assert given == [
        *("--SNAPSHOT_DT=2025-10-22", "--TABLES_FILTER=IBE_01,MIACS_01", "--BUCKET_COUNT=32", WIDE),
        "--stages=register",
    ]
    assert said == ["arguments of the platform, ignored: --ENV"]


def test_job_without_dataset_runs_all() -> None:
    assert words("--dataset", "_NONE_", "--env", "prod") == (["--env=prod"], [])


def test_job_option_prefix_is_not_expanded() -> None:
    assert words("--snapshot", "2025-10-22")[0] == []


def test_job_settings_argument_sets_several(project: Project) -> None:
    job(project, "--dataset", WIDE, "--settings", '{"buckets.count": 2, "quality.duplicate_keys": "allow"}')
    manifest = json.loads(project.cli("show", "last", "--output", "json").stdout)
    assert manifest["stages"]["size"]["result"]["bucket_count"] == 2


@pytest.mark.parametrize("text", ["buckets.count=2", "[1]", '"x"'])
def test_job_settings_not_an_object_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a JSON object"):
        words("--settings", text)


def test_job_failed_stage_raises_with_resume_command(project: Project, dirty: Callable[..., Sample]) -> None:
    project.use(dirty("null_keys"))
    with pytest.raises(JobFailedError) as failed:
        job(project, "--dataset", WIDE)
    assert str(failed.value).startswith("QualityError: ")
    assert "NULL key" in str(failed.value)
    assert "To resume: bucketwheel run infobase_attributes" in str(failed.value)
    assert isinstance(failed.value.__cause__, DataRefusedError)
    assert project.published() == {}


def test_job_interrupt_raises_with_resume_command(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(plugins.stage("bucket")), "run", interrupt)
    with pytest.raises(JobFailedError, match=r"^interrupted\nTo resume: bucketwheel run .* --resume 2025-"):
        job(project, "--dataset", WIDE)


def test_job_with_configuration_on_s3_is_repeated_by_spark_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/job.py"])
    given = [
        *("--config-dir", "s3://bucket/conf", "--env", "prod", "--dataset", "_NONE_", "--resume", "last"),
        *("--settings", '{"buckets.count": 2, "trino.user": "AKIAABCDEFGHIJKLMNOP"}', "--SNAPSHOT_DT=2025-10-22"),
    ]
    assert job_cli._again(job_cli._pairs(given), "") == (
        "spark-submit /opt/job.py --dataset {dataset} --config-dir s3://bucket/conf --env prod --set buckets.count=2 "
        "--set 'trino.user=…' --SNAPSHOT_DT 2025-10-22"
    )
    assert job_cli._again(job_cli._pairs(["--config-dir", "conf", "--env", "prod"]), "") == ""


def test_job_on_glue_is_repeated_by_submit() -> None:
    given = [
        *("--env", "prod", "--BUCKET_COUNT", "8", "--SOURCE_PATH", "s3://b/x", "--TABLES_FILTER", "IBE_01"),
        *("--SNAPSHOT_DT", "_NONE_", "--set", "quality.null_keys=warn", "--JOB_RUN_ID", "jr_1", "--engine", "spark"),
    ]
    assert job_cli._again(job_cli._pairs(given), "glue") == (
        "bucketwheel submit glue {dataset} --env prod --set 'buckets.count=\"8\"' "
        "--set 'datasets.{dataset}.source=\"s3://b/x\"' --tables-filter IBE_01 --set quality.null_keys=warn "
        "--engine spark"
    )


def test_job_wrong_arguments_raise_instead_of_exit(project: Project) -> None:
    with pytest.raises(JobFailedError, match="SelectionError: no dataset 'nobody'") as failed:
        job(project, "--dataset", "nobody")
    assert isinstance(failed.value.__cause__, UsageError)
    with pytest.raises(JobFailedError, match="is not of the form KEY=VALUE"):
        job(project, "--set", "buckets")


@pytest.mark.parametrize("mark", [".dockerenv", ".containerenv"])
def test_job_runtime_is_detected(mark: str, tmp_path: Path) -> None:
    marks = (tmp_path / ".dockerenv", tmp_path / ".containerenv")
    assert host.detect({}, marks) == "local"
    (tmp_path / mark).touch()
    assert host.detect({}, marks) == "container"
    assert host.detect({"BUCKETWHEEL_RUNTIME": "emr-serverless"}, marks) == "emr-serverless"
