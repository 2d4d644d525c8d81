"""`submit` reads the summary of a run from the target, and reports a damaged or unreadable one."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from bucketwheel import api
from bucketwheel.errors import ConfigError, SubmitError
from deploy_support import ROOT
from project import WIDE, Project
from submit_support import Glue, fail, reached


@pytest.fixture
def working(aws_url: str, project: Project) -> Glue:
    """Jobs whose target is a local project; the run happens during the first pause of the submission."""
    glue = Glue(aws_url, project.target)
    datasets = {
        name: dataset_settings.model_dump()
        for name, dataset_settings in project.configuration().settings.datasets.items()
    }
    glue.config = reached(aws_url, project.target, datasets=datasets)

    def work(number: int) -> None:
        if number == 1:
            project.run("--stages", "discover,split")

    glue.on_sleep = work
    return glue


def test_submit_returns_manifests_of_run(working: Glue, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    done = working.submit(api.JobRequest(dataset=WIDE))
    (manifest,), (summary,) = done.manifests, done.summaries
    assert (summary.run, summary.status, summary.rows) == (manifest.run_id, "finished", 1200)
    assert (manifest.run_id, tuple(manifest.stages)) == (project.run_ids()[0], ("discover", "split"))
    # A run that nothing was done to since then is another one's.
    working.on_sleep = lambda _: None
    monkeypatch.setattr("bucketwheel.submit.submit._SKEW", timedelta(seconds=-5))
    assert working.submit(api.JobRequest(dataset=WIDE)).manifests == ()


def test_unreadable_summary_is_reported(working: Glue, project: Project) -> None:
    def work(number: int) -> None:
        if number == 1:
            project.run("--stages", "discover")
            (path,) = project.target.glob("_bucketwheel/*/runs/*/summary.json")
            path.write_text("{")

    working.on_sleep = work
    done = working.submit(api.JobRequest(dataset=WIDE))
    assert (len(done.manifests), done.summaries) == (1, ())
    (problem,) = done.problems
    assert "summary.json: is not a summary that this version can read" in problem


def test_failed_run_names_resume_command(working: Glue, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, "FAILED", "no space")
    with pytest.raises(SubmitError) as failed:
        working.submit(api.JobRequest(dataset=WIDE))
    assert not hasattr(failed.value, "__notes__")
    (run_id,) = project.run_ids()
    path = project.target / "_bucketwheel" / WIDE / "runs" / run_id / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "failed"}))
    working.on_sleep = lambda _: None
    with pytest.raises(SubmitError) as failed:
        working.submit(api.JobRequest(dataset=WIDE))
    (note,) = failed.value.__notes__
    # With what was set by hand: without it, the run would have other settings than the one it is to resume.
    assert note.startswith(
        f"To resume: bucketwheel submit glue {WIDE} --env prod --conf {ROOT / 'conf'} --set target="
    )
    assert " --set deploy.package=s3://" in note
    assert note.endswith(f" --resume {run_id}")


def test_denied_target_does_not_fail_successful_run(glue: Glue) -> None:
    glue.config = unreachable(glue)
    done = glue.submit(api.JobRequest(dataset=WIDE))
    assert done.state.succeeded
    (problem,) = done.problems
    assert problem.startswith(f"the run metadata of {WIDE} cannot be read completely from here: s3://no-such-bucket/")
    assert "the bucket 'no-such-bucket' does not exist" in problem


def test_denied_target_does_not_hide_error_of_run(glue: Glue, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, "FAILED", "JobFailedError: QualityError: 3 rows have a NULL key")
    glue.config = unreachable(glue)
    with pytest.raises(SubmitError, match="QualityError: 3 rows have a NULL key") as failed:
        glue.submit(api.JobRequest(dataset=WIDE))
    assert failed.value.exit_code == 3
    (note,) = failed.value.__notes__
    assert note.startswith(
        f"warning: the run metadata of {WIDE} cannot be read completely from here: s3://no-such-bucket/"
    )


def unreachable(glue: Glue) -> api.Configuration:
    """Return a configuration whose target only the jobs can read."""
    return reached(glue.url, "s3://no-such-bucket/out", storage__endpoint_url=glue.url)


def test_damaged_manifest_is_reported(working: Glue, project: Project) -> None:
    project.run("--stages", "discover")
    (path,) = project.target.glob("_bucketwheel/*/runs/*/manifest.json")
    path.write_text("{")
    working.on_sleep = lambda _: None
    done = working.submit(api.JobRequest(dataset=WIDE))
    assert done.manifests == ()
    (problem,) = done.problems
    assert problem.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("by_hand", "environment", "named"),
    [
        ({"trino.user": "AKIAABCDEFGHIJKLMNOP"}, {}, "trino.user"),
        ({}, {"BUCKETWHEEL__DATASETS__INFOBASE_ATTRIBUTES__SOURCE": "s3://me:hunter2@raw/x"}, "datasets.infobase"),
    ],
)
def test_secret_in_override_is_refused_and_not_shown(
    glue: Glue, by_hand: dict[str, str], environment: dict[str, str], named: str
) -> None:
    always = {"aws.endpoint_url": glue.url, "aws.region": "us-east-1", **by_hand}
    given = [(name, value, "--set") for name, value in always.items()]
    config = api.load("prod", ROOT / "conf", given, environment)
    with pytest.raises(ConfigError) as refused:
        glue.submit(config=config)
    assert refused.value.exit_code == 2
    assert str(refused.value).startswith(named)
    assert "looks like" in str(refused.value)
    assert not any(value in str(refused.value) for value in [*by_hand.values(), *environment.values()])
    assert glue.runs() == []
