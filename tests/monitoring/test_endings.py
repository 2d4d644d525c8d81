"""What a run leaves at its end, and that nothing of it changes how the run ended."""

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
from ending_support import DATA, TOPIC, KeptCloud, read_summary, run, summary_path
from project import NARROW, WIDE, Project

CONFIGURED = {"monitoring__metrics": "put", "monitoring__topic_arn": TOPIC}
KNOWN = {"Rows", "BytesWritten", "Seconds", "Skew", "NullKeys", "DuplicateKeys"}


def test_the_summary_is_that_of_the_manifest(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run(project, monkeypatch, KeptCloud())
    (run_id,) = project.run_ids()
    manifest = json.loads(project.cli("show", "last", "--output", "json").stdout)
    files = [file for o in manifest["stages"]["bucket"]["result"]["outcomes"] for file in o["files"]]
    found = ended.summary()
    assert (found["schema_version"], found["run"], found["dataset"], found["environment"]) == (
        1,
        run_id,
        WIDE,
        "local",
    )
    assert (found["status"], found["error"], found["snapshot"], found["rows"]) == (
        "finished",
        None,
        "2025-10-22",
        1200,
    )
    assert found["bytes"] == sum(file["bytes"] for file in files)
    assert found["stages"] == {name: record["seconds"] for name, record in manifest["stages"].items()}
    assert found["seconds"] == pytest.approx(sum(found["stages"].values()))
    assert found["tables"] == manifest["stages"]["verify"]["result"]["tables"]
    assert found["warnings"] == [
        text for r in manifest["stages"].values() for text in r["result"].get("warnings", ())
    ]
    assert set(found["metrics"]) == KNOWN
    assert (found["metrics"]["Rows"], found["metrics"]["BytesWritten"]) == (1200, found["bytes"])
    assert [step.state for step in ended.steps if not step.stage] == ["started", "finished"]


def test_by_default_a_local_run_publishes_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = KeptCloud()
    ended = run(project, monkeypatch, cloud)
    assert (ended.error, ended.lines, cloud.metrics, cloud.notices) == (None, [], [], [])


def test_a_finished_run_sends_its_metrics_and_one_notice(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = KeptCloud()
    ended = run(project, monkeypatch, cloud, **CONFIGURED, monitoring__namespace="Ours")
    ((namespace, data),) = cloud.metrics
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
    ((topic, subject, text),) = cloud.notices
    assert (topic, subject) == (TOPIC, f"Bucketwheel local: {WIDE} finished, snapshot 2025-10-22")
    assert "1,200" in text
    assert str(summary_path(project, project.run_ids()[0])) in text
    assert "ibe_01" in text


def test_some_stages_send_metrics_and_no_notice(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = KeptCloud()
    run(project, monkeypatch, cloud, DATA, **CONFIGURED)
    assert (len(cloud.metrics), cloud.notices) == (1, [])
    run(project, monkeypatch, cloud, ["register"], **CONFIGURED)
    assert (len(cloud.metrics), cloud.notices) == (2, [])
    run(project, monkeypatch, cloud, ["ctas"], **CONFIGURED)
    assert (len(cloud.metrics), len(cloud.notices)) == (3, 1)
    assert list(read_summary(project)["stages"]) == [*DATA, "register", "ctas"]


def test_a_run_that_had_done_it_before_sends_nothing(current: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = KeptCloud()
    ended = run(current, monkeypatch, cloud, **CONFIGURED)
    assert (cloud.metrics, cloud.notices, ended.lines) == ([], [], [])
    assert [step.state for step in ended.steps if not step.stage] == ["started", "skipped"]
    assert ended.steps[-1].run == current.run_ids()[0]


def test_a_failed_run_says_what_why_and_how_to_go_on(
    project: Project, dirty: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.use(dirty("null_keys"))
    cloud = KeptCloud()
    ended = run(project, monkeypatch, cloud, command="bucketwheel run x --env y", **CONFIGURED)
    assert isinstance(ended.error, QualityError)
    (run_id,) = project.run_ids()
    found = ended.summary()
    resume = f"bucketwheel run x --env y --resume {run_id}"
    assert found["status"] == "failed"
    assert found["error"] == {"kind": "QualityError", "message": str(ended.error), "resume": resume}
    # What the alarm looks at, though verify has refused it.
    assert found["metrics"]["NullKeys"] > 0
    assert {entry["MetricName"] for entry in cloud.metrics[0][1]} == KNOWN
    ((_, subject, text),) = cloud.notices
    assert subject == f"Bucketwheel local: {WIDE} FAILED (QualityError)"
    first, _, then, command, *_ = text.splitlines()
    assert (first, command.strip()) == (f"QualityError: {ended.error}", resume)
    assert then.startswith("To go on")
    assert run_id in text


def test_a_resumed_run_writes_the_summary_anew(
    project: Project, dirty: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.use(dirty("null_keys"))
    run(project, monkeypatch, KeptCloud())
    result = project.cli("run", WIDE, "--resume", "last", "--set", "quality.null_keys=warn")
    assert result.exit_code == 0
    found = read_summary(project)
    assert (found["status"], found["error"]) == ("finished", None)
    assert any("have a NULL key" in text for text in found["warnings"])


def test_stages_that_were_asked_for_earlier_and_are_left_are_told(
    project: Project, dirty: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.use(dirty("null_keys"))
    run(project, monkeypatch, KeptCloud())
    cloud = KeptCloud()
    ended = run(project, monkeypatch, cloud, ["verify"], quality__null_keys="warn", **CONFIGURED)
    assert ended.error is None
    found = ended.summary()
    assert (found["status"], found["error"]["kind"]) == ("failed", "Unfinished")
    assert found["error"]["message"] == "still to do: register, ctas"
    assert cloud.notices == []


def test_a_run_that_could_not_begin_is_told_of(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = KeptCloud()
    ended = run(project, monkeypatch, cloud, ["ctas"], command="bucketwheel run people", **CONFIGURED)
    assert isinstance(ended.error, SelectionError)
    ((_, subject, text),) = cloud.notices
    assert subject.endswith("FAILED (SelectionError)")
    assert str(ended.error) in text
    assert "No run was begun" in text
    assert "Once it is put right: bucketwheel run people" in text
    assert cloud.metrics == []
    assert not project.target.exists() or project.run_ids() == []


def test_a_lease_that_another_run_holds_is_told_of(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from bucketwheel.pipeline.services import utc_now

    cloud = KeptCloud()
    with Lease(str(project.target / "_bucketwheel" / WIDE), 60, utc_now):
        ended = run(project, monkeypatch, cloud, **CONFIGURED)
    assert isinstance(ended.error, LeaseError)
    assert cloud.notices[0][1].endswith("FAILED (LeaseError)")


def test_an_interrupt_is_told_of(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(plugins.stage("bucket")), "run", interrupt)
    cloud = KeptCloud()
    ended = run(project, monkeypatch, cloud, **CONFIGURED)
    assert ended.summary()["error"]["message"] == "interrupted"
    assert cloud.notices[0][1].endswith("FAILED (KeyboardInterrupt)")
    assert ended.summary()["rows"] == 1200
    assert ended.summary()["bytes"] is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BucketwheelError("topic x: Publish was denied"), "topic x: Publish was denied"),
        (RuntimeError("a bug"), "RuntimeError: a bug"),
    ],
)
def test_what_cannot_be_sent_is_a_warning_of_a_run_that_succeeded(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    ended = run(project, monkeypatch, KeptCloud(error), **CONFIGURED)
    assert ended.error is None
    wanted = [f"metrics were not published: {text}", f"no notice was sent: {text}"]
    assert ended.warnings() == wanted
    assert {step.run for step in ended.steps if step.state == "warning" and not step.stage} == {*project.run_ids()}
    found = ended.summary()
    assert found["warnings"][-2:] == wanted
    assert found["status"] == "finished"
    assert project.published()


def test_what_cannot_be_sent_does_not_hide_why_a_run_failed(
    project: Project, dirty: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.use(dirty("null_keys"))
    ended = run(project, monkeypatch, KeptCloud(RuntimeError("a bug")), **CONFIGURED)
    assert isinstance(ended.error, QualityError)
    assert ended.summary()["error"]["kind"] == "QualityError"
    assert len(ended.warnings()) == 2


def test_a_notice_says_that_metrics_are_missing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = KeptCloud()

    def refuse(*_: object) -> NoReturn:
        raise BucketwheelError("closed")

    monkeypatch.setattr(cloud, "put_metrics", refuse)
    run(project, monkeypatch, cloud, **CONFIGURED)
    assert "warning: metrics were not published: closed" in cloud.notices[0][2]


def test_a_summary_that_cannot_be_written_is_a_warning(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from bucketwheel.runs.store import RunStore

    def refuse(*_: object) -> NoReturn:
        raise StorageError("no space left")

    monkeypatch.setattr(RunStore, "save_summary", refuse)
    ended = run(project, monkeypatch, KeptCloud())
    assert (ended.error, ended.warnings()) == (None, ["the summary was not written: no space left"])
    assert ended.steps[-1].state == "finished"
    assert project.published()


def test_a_run_that_lost_its_lease_leaves_the_summary_to_its_follower(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> NoReturn:
        (project.target / "_bucketwheel" / WIDE / "lease.json").write_text('{"token": "of another"}')
        raise StorageError("the disk went")

    monkeypatch.setattr(type(plugins.stage("split")), "run", lost)
    ended = run(project, monkeypatch, KeptCloud())
    assert isinstance(ended.error, StorageError)
    (run_id,) = project.run_ids()
    assert not summary_path(project, run_id).exists()
    assert len(ended.warnings()) == 1


@pytest.mark.parametrize(
    ("where", "chosen", "way"),
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
def test_the_way_of_metrics_follows_from_setting_and_runtime(
    project: Project, monkeypatch: pytest.MonkeyPatch, where: str, chosen: str, way: str
) -> None:
    monkeypatch.setenv(host.VARIABLE, where)
    cloud = KeptCloud()
    ended = run(project, monkeypatch, cloud, ["discover"], monitoring__metrics=chosen)
    assert (len(ended.lines), len(cloud.metrics)) == (way == "emf", way == "put")


def test_api_reads_the_summary(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from bucketwheel import api

    run(project, monkeypatch, KeptCloud(), ["discover"])
    config = project.configuration()
    found = api.summary(config, "last")
    assert found is not None
    assert found.model_dump(mode="json") == read_summary(project)
    path = summary_path(project, found.run)
    path.write_text(path.read_text().replace('"rows"', '"added_by_a_later_version": 1, "rows"'))
    assert api.summary(config, found.run) == found
    path.write_text("{")
    with pytest.raises(StorageError, match=r"summary\.json: is no summary that this version reads"):
        api.summary(config, found.run)
    path.unlink()
    assert api.summary(config, found.run) is None


def test_expire_takes_the_summary_along(published: Project) -> None:
    published.run()
    older, newer = published.run_ids()
    assert published.cli("expire", WIDE, "--keep", "1").exit_code == 0
    assert not summary_path(published, older).parent.exists()
    assert summary_path(published, newer).exists()
    assert published.run_ids(NARROW) == []
