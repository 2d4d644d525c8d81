"""Snapshots whose row count exceeds `quality.max_rows_changed_percent`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest

from bucketwheel.sample import Sample
from project import WIDE, Project, Result

Dirty = Callable[..., Sample]
Refused = Callable[..., Result]
LIMIT = "quality.max_rows_changed_percent"


def test_too_many_rows_are_refused_before_writing(published: Project, refused: Refused) -> None:
    (before,) = published.run_ids()
    files = set(published.target.rglob("*.parquet"))
    result = refused(published, 3, "--set", f"{LIMIT}=33")
    assert published.run_ids() == [before]
    assert (
        f"error: snapshot 2025-10-22 has 1,200 rows, 33.33 % more than the 900 of the published run "
        f"{before} (snapshot 2025-09-22); {LIMIT} is 33; nothing was published. Correct the snapshot, or accept it "
        f"with --set {LIMIT}=34\n"
    ) in result.stderr
    assert set(published.target.rglob("*.parquet")) == files


def test_too_few_rows_are_refused(current: Project, dirty: Dirty, refused: Refused) -> None:
    current.use(dirty(None, rows=300, snapshot_dt="2025-11-22"))
    assert "has 300 rows, 75 % fewer than the 1,200 of" in refused(current, 3, "--set", f"{LIMIT}=74.9").stderr


@pytest.mark.parametrize("limit", ["34", "null"])
def test_refused_rows_are_accepted_with_higher_limit(published: Project, refused: Refused, limit: str) -> None:
    result = refused(published, 3, "--set", f"{LIMIT}=20")
    again = shlex.split(result.stderr.splitlines()[-1].removeprefix("To start a new run: "))
    accepted = published.cli(*again[1:], "--set", f"{LIMIT}={limit}", "--output", "json")
    assert accepted.exit_code == 0, accepted.stderr
    assert set(published.published().values()) == {1200}
    (run,) = json.loads(accepted.stdout)
    drift = run["stages"]["verify"]["result"]["drift"]
    assert (drift["rows_before"], drift["rows"], round(drift["rows_changed_percent"], 2)) == (900, 1200, 33.33)


def test_limit_accepts_first_run_and_rerun(project: Project) -> None:
    for _ in range(2):
        project.run("--set", f"{LIMIT}=1")
    assert len(project.run_ids()) == 1


def test_limit_without_drift_is_refused(published: Project, refused: Refused) -> None:
    result = refused(published, 2, "--set", f"{LIMIT}=20", "--set", "quality.drift=off")
    assert "max_rows_changed_percent is set, but drift is off; set drift to counts or keys" in result.stderr


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_invalid_limit_is_refused(published: Project, refused: Refused, value: str) -> None:
    assert LIMIT in refused(published, 2, "--set", f"{LIMIT}={value}", dataset=WIDE).stderr


def test_published_run_without_manifest_gives_warning(published: Project, refused: Refused) -> None:
    (before,) = published.run_ids()
    manifest = published.target / "_bucketwheel" / WIDE / "runs" / before / "manifest.json"
    manifest.unlink()
    result = refused(published, 1, "--set", f"{LIMIT}=50")
    assert str(manifest) in result.stderr
    assert f"to skip the check: --set {LIMIT}=null" in result.stderr
    assert f"warning: not compared with the published run: {manifest}" in published.run().stderr
