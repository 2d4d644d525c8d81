"""Lines that a job prints, from which CloudWatch counts errors and extracts metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from bucketwheel import host, plugins
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.monitoring import logs
from bucketwheel.monitoring.metrics import DIMENSIONS, METRICS
from bucketwheel.sample import Sample
from deploy_support import configuration
from project import NARROW, WIDE, Project
from run_end_support import DATA, TOPIC, FakePublisher, job, read_summary

UNITS = {metric.name: metric.unit for metric in METRICS}


@pytest.fixture(autouse=True)
def own_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(host.VARIABLE, "local")


def matches(pattern: str, line: str) -> bool:
    """Return whether a filter of CloudWatch Logs matches a line; supports one equality, as the stack's filter has."""
    parts = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', pattern)
    assert parts, pattern
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and event.get(parts[1]) == parts[2]


@pytest.fixture
def errors() -> Callable[[list[str]], list[dict[str, Any]]]:
    """Return a function that selects the events that the stack's metric filter counts."""
    pattern = logs(Deployment(configuration().settings, "prod"))["ErrorLines"]["Properties"]["FilterPattern"]
    assert matches(pattern, '{"level": "ERROR"}')
    assert not matches(pattern, "level ERROR")
    return lambda lines: [json.loads(line) for line in lines if matches(pattern, line)]


Errors = Callable[[list[str]], list[dict[str, Any]]]


def test_successful_job_logs_no_error(project: Project, errors: Errors) -> None:
    lines, failed = job(project, "--dataset", WIDE)
    assert (failed, errors(lines)) == (None, [])
    assert {{"time", "level"} <= set(json.loads(line)) for line in lines} == {True}


def test_failed_job_logs_class_text_and_resume_command(
    project: Project, dirty: Callable[..., Sample], errors: Errors
) -> None:
    project.use(dirty("null_keys"))
    lines, failed = job(project, "--dataset", WIDE)
    (event,) = errors(lines)
    (run_id,) = project.run_ids()
    assert (event["run"], event["dataset"], event["stage"]) == (run_id, WIDE, "verify")
    assert event["error"] == "QualityError"
    assert str(failed).startswith(f"QualityError: {event['message']}")
    assert event["resume"].startswith(f"bucketwheel run {WIDE} ")
    assert event["resume"].endswith(f"--set quality.null_keys=warn --resume {run_id}")
    assert event["advice"] == f"To resume: {event['resume']}"
    assert lines[-1] == json.dumps(event)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("--dataset", "missing"), "SelectionError"),
        (("--settings", "no JSON"), "ConfigError"),
        (("--settings", '{"buckets.cuont": 1}'), "ConfigError"),
        (("--set", "buckets"), "BadParameter"),
        (("--dataset", WIDE, "--stages", "ctas"), "SelectionError"),
        (("--resume", "2025-10-22-20251101T041109Z-0a1b2c"), "SelectionError"),
    ],
)
def test_invalid_arguments_log_one_error(
    project: Project, errors: Errors, arguments: tuple[str, ...], kind: str
) -> None:
    lines, failed = job(project, *arguments)
    (event,) = errors(lines)
    assert failed is not None
    assert event["error"] == kind


@pytest.mark.parametrize("where", ["glue", "emr-serverless"])
def test_invalid_settings_log_one_error_on_every_platform(
    project: Project, errors: Errors, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(host.VARIABLE, where)
    lines, failed = job(project, "--settings", "no JSON")
    assert failed is not None
    assert [event["error"] for event in errors(lines)] == ["ConfigError"]


def test_interrupt_and_bug_log_one_error(project: Project, errors: Errors, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(type(plugins.stage("bucket")), "run", interrupt)
    lines, _ = job(project, "--dataset", WIDE)
    (event,) = errors(lines)
    assert (event["error"], event["message"]) == ("KeyboardInterrupt", "interrupted")
    assert event["resume"].endswith(project.run_ids()[0])
    monkeypatch.setattr(type(plugins.stage("bucket")), "run", fail)
    with pytest.raises(ZeroDivisionError):
        job(project, "--dataset", WIDE)
    assert read_summaries(project)[-1]["error"]["kind"] == "ZeroDivisionError"


def read_summaries(project: Project) -> list[dict[str, Any]]:
    runs = project.target / "_bucketwheel" / WIDE / "runs"
    return [json.loads((runs / run_id / "summary.json").read_text()) for run_id in project.run_ids()]


def test_error_line_follows_output_format(project: Project, errors: Errors) -> None:
    for output in ("text", "json", "log"):
        lines, _ = job(project, "--dataset", "missing", "--output", output)
        events = errors(lines) if output != "json" else []
        assert [event["error"] for event in events] == ([] if output == "json" else ["SelectionError"])


@pytest.mark.parametrize("platform", ["glue", "emr-serverless"])
def test_resume_command_on_a_platform_is_a_submit_command(
    project: Project, dirty: Callable[..., Sample], errors: Errors, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setenv(host.VARIABLE, platform)
    # What such a job refuses has a test of its own; here it runs on this machine.
    monkeypatch.setattr("bucketwheel.deploy.aws_jobs.check", lambda _: None)
    project.use(dirty("null_keys"))
    project.set(monitoring={"metrics": "none"})
    lines, failed = job(
        project, "--env", "local", "--dataset", WIDE, "--stages", ",".join(DATA), "--settings", '{"buckets.count": 2}'
    )
    (event,) = errors(lines)
    (run_id,) = project.run_ids()
    package = f" --package {project.root}" if platform == "emr-serverless" else ""
    command = (
        f"bucketwheel submit {platform} {WIDE} --env local --stages {','.join(DATA)} --set buckets.count=2{package} "
        f"--set quality.null_keys=warn --resume {run_id}"
    )
    assert event["resume"] == command
    assert f"To resume: {command}" in str(failed)


def test_notices_topic_argument_sets_topic(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from bucketwheel.monitoring import run_end

    publisher = FakePublisher()
    monkeypatch.setattr(run_end, "open_aws_publisher", publisher)
    job(project, "--notices-topic", TOPIC, "--dataset", NARROW)
    assert [(topic, subject) for topic, subject, _ in publisher.notifications] == [
        (TOPIC, f"Bucketwheel local: {NARROW} finished, snapshot 2025-10-22")
    ]
    job(project, "--notices-topic", "_NONE_", "--dataset", WIDE)
    assert len(publisher.notifications) == 1


def test_emf_metrics_are_one_log_line(project: Project) -> None:
    lines, _ = job(project, "--dataset", WIDE, "--set", "monitoring.metrics=emf")
    (document,) = [event for line in lines if "_aws" in (event := json.loads(line))]
    check_embedded(document)
    (run_id,) = project.run_ids()
    assert (document["run"], document["snapshot"], document["status"]) == (run_id, "2025-10-22", "finished")
    assert (document["Environment"], document["Dataset"]) == ("local", WIDE)
    values = {metric["Name"]: document[metric["Name"]] for metric in metrics_of(document)}
    assert values == read_summary(project)["metrics"]
    assert (values["Rows"], values["NullKeys"]) == (1200, 0)


def metrics_of(document: dict[str, Any]) -> list[dict[str, str]]:
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    metrics: list[dict[str, str]] = directive["Metrics"]
    return metrics


def check_embedded(document: dict[str, Any]) -> None:
    """Check a document against the specification of the embedded metric format."""
    assert set(document["_aws"]) == {"Timestamp", "CloudWatchMetrics"}
    # Milliseconds, not seconds.
    assert isinstance(document["_aws"]["Timestamp"], int)
    assert 1.7e12 < document["_aws"]["Timestamp"] < 1e13
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert 0 < len(directive["Namespace"]) <= 1024
    assert directive["Dimensions"] == [list(DIMENSIONS)]
    # Dimensions are strings in the root object, metrics are numbers there.
    assert all(isinstance(document[name], str) and document[name] for name in DIMENSIONS)
    assert 0 < len(directive["Metrics"]) <= 100
    for metric in directive["Metrics"]:
        assert set(metric) == {"Name", "Unit"}
        assert metric["Unit"] == UNITS[metric["Name"]]
        assert isinstance(document[metric["Name"]], int | float)


def test_emf_line_goes_to_stderr_unless_output_is_log(project: Project) -> None:
    result = project.cli("run", WIDE, "--set", "monitoring.metrics=emf")
    assert result.stdout.startswith(f"{WIDE}: run ")
    assert len([line for line in result.stderr.splitlines() if line.startswith('{"_aws"')]) == 1
    as_json = project.cli("run", NARROW, "--output", "json", "--set", "monitoring.metrics=emf")
    assert json.loads(as_json.stdout)[0]["status"] == "finished"
    assert len([line for line in as_json.stderr.splitlines() if "_aws" in json.loads(line)]) == 1


def test_cli_logs_one_error_line_as_json(project: Project, dirty: Callable[..., Sample], errors: Errors) -> None:
    project.use(dirty("null_keys"))
    result = project.cli("run", WIDE, "--output", "json")
    assert (result.exit_code, result.stdout) == (3, "")
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert [event["error"] for event in events if event["level"] == "ERROR"] == ["QualityError"]
    as_log = project.cli("run", WIDE, "--output", "log", "--resume", "last")
    assert (as_log.exit_code, as_log.stderr) == (3, "")
    assert len(errors(as_log.stdout.splitlines())) == 1
