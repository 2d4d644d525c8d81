"""Metrics, notifications and summaries at the end of a run; their failures do not change its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NoReturn

import pytest

from bucketwheel import host, plugins
from bucketwheel.errors import BucketwheelError, LeaseError, QualityError, SelectionError, StorageError
from bucketwheel.lease import Lease
from bucketwheel.monitoring.metrics import METRICS
from bucketwheel.sample import Sample
from project import NARROW, WIDE, Project
from run_end_support import DATA, TOPIC, FakePublisher, read_summary, run, summary_path

CONFIGURED = {"monitoring__metrics": "put", "monitoring__topic_arn": TOPIC}
KNOWN = {"Rows", "BytesWritten", "Seconds", "Skew", "NullKeys", "DuplicateKeys"}


def test_summary_matches_manifest(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run(project, monkeypatch, FakePublisher())
    (run_id,) = project.run_ids()
    manifest = json.loads(project.cli("show", "last", "--output", "json").stdout)
    files = [file for o in manifest["stages"]["bucket"]["result"]["outcomes"] for file in o["files"]]
    summary = ended.summary()
    assert (summary["schema_version"], summary["run"], summary["dataset"], summary["environment"]) == (
        1,
        run_id,
        WIDE,
        "local",
    )
    assert (summary["status"], summary["error"], summary["snapshot"], summary["rows"]) == (
        "finished",
        None,
        "2025-10-22",
        1200,
    )
    assert summary["bytes"] == sum(file["bytes"] for file in files)
    assert summary["stages"] == {name: record["seconds"] for name, record in manifest["stages"].items()}
    assert summary["seconds"] == pytest.approx(sum(summary["stages"].values()))
    verified = manifest["stages"]["verify"]["result"]["tables"]
    assert [{**table, "layout": ""} for table in summary["tables"]] == verified
    assert summary["warnings"] == [
        text for r in manifest["stages"].values() for text in r["result"].get("warnings", ())
    ]
    assert set(summary["metrics"]) == KNOWN
    assert (summary["metrics"]["Rows"], summary["metrics"]["BytesWritten"]) == (1200, summary["bytes"])
    assert [step.state for step in ended.steps if not step.stage] == ["started", "finished"]


def test_local_run_publishes_nothing_by_default(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher()
    ended = run(project, monkeypatch, publisher)
    assert (ended.error, ended.lines, publisher.metrics, publisher.notifications) == (None, [], [], [])


def test_finished_run_sends_metrics_and_one_notification(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher()
    ended = run(project, monkeypatch, publisher, **CONFIGURED, monitoring__namespace="Ours")
    ((namespace, data),) = publisher.metrics
    units = {metric.name: metric.unit for metric in METRICS}
    assert namespace == "Ours"
    assert {entry["MetricName"]: entry["Value"] for entry in data} == ended.summary()["metrics"]
    assert data
    for entry in data:
        assert entry["Unit"] == units[entry["MetricName"]]
        assert entry["Dimensions"] == [
            {"Name": "Environment", "Value": "local"},
            {"Name": "Dataset", "Value": WIDE},
        ]
    ((topic, subject, text),) = publisher.notifications
    assert (topic, subject) == (TOPIC, f"Bucketwheel local: {WIDE} finished, snapshot 2025-10-22")
    assert "1,200" in text
    assert str(summary_path(project, project.run_ids()[0])) in text
    assert "ibe_01" in text


def test_partial_run_sends_metrics_and_no_notification(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher()
    run(project, monkeypatch, publisher, DATA, **CONFIGURED)
    assert (len(publisher.metrics), publisher.notifications) == (1, [])
    run(project, monkeypatch, publisher, ["register"], **CONFIGURED)
    assert (len(publisher.metrics), publisher.notifications) == (2, [])
    run(project, monkeypatch, publisher, ["ctas"], **CONFIGURED)
    assert (len(publisher.metrics), len(publisher.notifications)) == (3, 1)
    assert list(read_summary(project)["stages"]) == [*DATA, "register", "ctas"]


def test_up_to_date_run_sends_nothing(current: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher()
    ended = run(current, monkeypatch, publisher, **CONFIGURED)
    assert (publisher.metrics, publisher.notifications, ended.lines) == ([], [], [])
    assert [step.state for step in ended.steps if not step.stage] == ["started", "skipped"]
    assert ended.steps[-1].run == current.run_ids()[0]


def test_failed_run_reports_error_and_resume_command(
    project: Project, dirty: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.use(dirty("null_keys"))
    publisher = FakePublisher()
    ended = run(project, monkeypatch, publisher, command="bucketwheel run x --env y", **CONFIGURED)
    assert isinstance(ended.error, QualityError)
    (run_id,) = project.run_ids()
    summary = ended.summary()
    resume = f"bucketwheel run x --env y --set quality.null_keys=warn --resume {run_id}"
    assert summary["status"] == "failed"
    assert summary["error"] == {
        "kind": "QualityError",
        "message": str(ended.error),
        "resume": resume,
        "advice": f"To resume: {resume}",
        "remedy": {
            "fix": "",
            "accept": {"quality.null_keys": "warn"},
            "resumable": True,
            "instead": [],
            "whole": False,
        },
    }
    # The alarm uses this metric, although verify rejected the run.
    assert summary["metrics"]["NullKeys"] > 0
    assert {entry["MetricName"] for entry in publisher.metrics[0][1]} == KNOWN
    ((_, subject, text),) = publisher.notifications
    assert subject == f"Bucketwheel local: {WIDE} FAILED (QualityError)"
    first, _, then, *_ = text.splitlines()
    assert (first, then) == (f"QualityError: {ended.error}", f"To resume: {resume}")
    assert run_id in text


def test_resumed_run_rewrites_summary(
    project: Project, dirty: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.use(dirty("null_keys"))
    run(project, monkeypatch, FakePublisher())
    result = project.cli("run", WIDE, "--resume", "last", "--set", "quality.null_keys=warn")
    assert result.exit_code == 0
    summary = read_summary(project)
    assert (summary["status"], summary["error"]) == ("finished", None)
    assert any("have a NULL key" in text for text in summary["warnings"])


def test_partial_resume_reports_stages_not_run(
    project: Project, dirty: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.use(dirty("null_keys"))
    run(project, monkeypatch, FakePublisher())
    publisher = FakePublisher()
    ended = run(project, monkeypatch, publisher, ["verify"], quality__null_keys="warn", **CONFIGURED)
    assert ended.error is None
    summary = ended.summary()
    assert (summary["status"], summary["error"]["kind"]) == ("failed", "Unfinished")
    assert summary["error"]["message"] == "stages not run: register, ctas"
    assert publisher.notifications == []


def test_failed_start_sends_notification(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher()
    ended = run(project, monkeypatch, publisher, ["ctas"], command="bucketwheel run people", **CONFIGURED)
    assert isinstance(ended.error, SelectionError)
    ((_, subject, text),) = publisher.notifications
    assert subject.endswith("FAILED (SelectionError)")
    assert str(ended.error) in text
    assert "The run did not start" in text
    assert "Fix the command, then run again: bucketwheel run people" in text
    assert publisher.metrics == []
    assert not project.target.exists() or project.run_ids() == []


def test_held_lease_sends_notification(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:

    publisher = FakePublisher()
    with Lease(str(project.target / "_bucketwheel" / WIDE), 60):
        ended = run(project, monkeypatch, publisher, **CONFIGURED)
    assert isinstance(ended.error, LeaseError)
    assert publisher.notifications[0][1].endswith("FAILED (LeaseError)")


def test_interrupt_sends_notification(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(plugins.stage("bucket")), "run", interrupt)
    publisher = FakePublisher()
    ended = run(project, monkeypatch, publisher, **CONFIGURED)
    assert ended.summary()["error"]["message"] == "interrupted"
    assert publisher.notifications[0][1].endswith("FAILED (KeyboardInterrupt)")
    assert ended.summary()["rows"] == 1200
    assert ended.summary()["bytes"] is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BucketwheelError("topic x: Publish was denied"), "topic x: Publish was denied"),
        (RuntimeError("a bug"), "RuntimeError: a bug"),
    ],
)
def test_publish_error_is_a_warning_of_a_finished_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    ended = run(project, monkeypatch, FakePublisher(error), **CONFIGURED)
    assert ended.error is None
    expected = [f"metrics were not published: {text}", f"no notification was sent: {text}"]
    assert ended.warnings() == expected
    assert {step.run for step in ended.steps if step.state == "warning" and not step.stage} == {*project.run_ids()}
    summary = ended.summary()
    assert summary["warnings"][-2:] == expected
    assert summary["status"] == "finished"
    assert project.published()


def test_publish_error_does_not_hide_error_of_run(
    project: Project, dirty: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.use(dirty("null_keys"))
    ended = run(project, monkeypatch, FakePublisher(RuntimeError("a bug")), **CONFIGURED)
    assert isinstance(ended.error, QualityError)
    assert ended.summary()["error"]["kind"] == "QualityError"
    assert len(ended.warnings()) == 2


def test_notification_reports_missing_metrics(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher()

    def refuse(*_: object) -> NoReturn:
        raise BucketwheelError("closed")

    monkeypatch.setattr(publisher, "put_metrics", refuse)
    run(project, monkeypatch, publisher, **CONFIGURED)
    assert "warning: metrics were not published: closed" in publisher.notifications[0][2]


def test_summary_write_error_is_a_warning(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from bucketwheel.runs.store import RunStore

    def refuse(*_: object) -> NoReturn:
        raise StorageError("no space left")

    monkeypatch.setattr(RunStore, "save_summary", refuse)
    ended = run(project, monkeypatch, FakePublisher())
    assert (ended.error, ended.warnings()) == (None, ["the summary was not written: no space left"])
    assert ended.steps[-1].state == "finished"
    assert project.published()


def test_run_without_its_lease_writes_no_summary(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose_lease(*_: object) -> NoReturn:
        (project.target / "_bucketwheel" / WIDE / "lease.json").write_text('{"token": "other"}')
        raise StorageError("the disk failed")

    monkeypatch.setattr(type(plugins.stage("bucket")), "run", lose_lease)
    ended = run(project, monkeypatch, FakePublisher())
    assert isinstance(ended.error, StorageError)
    (run_id,) = project.run_ids()
    assert not summary_path(project, run_id).exists()
    assert len(ended.warnings()) == 1


@pytest.mark.parametrize(
    ("runtime", "setting", "route"),
    [
        ("glue", "auto", "put"),
        ("emr-serverless", "auto", "emf"),
        ("container", "auto", ""),
        ("local", "auto", ""),
        ("glue", "emf", "emf"),
        ("glue", "none", ""),
        ("local", "put", "put"),
    ],
)
def test_route_of_metrics_follows_setting_and_runtime(
    project: Project, monkeypatch: pytest.MonkeyPatch, runtime: str, setting: str, route: str
) -> None:
    monkeypatch.setenv(host.VARIABLE, runtime)
    publisher = FakePublisher()
    ended = run(project, monkeypatch, publisher, ["discover"], monitoring__metrics=setting)
    assert (len(ended.lines), len(publisher.metrics)) == (route == "emf", route == "put")


def test_api_summary_returns_summary(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from bucketwheel import api

    run(project, monkeypatch, FakePublisher(), ["discover"])
    config = project.configuration()
    summary = api.summary(config, "last")
    assert summary is not None
    assert summary.model_dump(mode="json") == read_summary(project)
    path = summary_path(project, summary.run)
    path.write_text(path.read_text().replace('"rows"', '"added_by_a_later_version": 1, "rows"'))
    assert api.summary(config, summary.run) == summary
    path.write_text("{")
    with pytest.raises(StorageError, match=r"summary\.json: is not a summary that this version can read"):
        api.summary(config, summary.run)
    path.unlink()
    assert api.summary(config, summary.run) is None


def test_expire_deletes_summary(published: Project) -> None:
    published.run()
    older, newer = published.run_ids()
    assert published.cli("expire", WIDE, "--yes", "--keep", "1").exit_code == 0
    assert not summary_path(published, older).parent.exists()
    assert summary_path(published, newer).exists()
    assert published.run_ids(NARROW) == []
