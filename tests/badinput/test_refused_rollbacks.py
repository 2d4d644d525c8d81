"""Rollbacks, and deletions of old runs, that are refused: the tables that are live stay as they are."""

from __future__ import annotations

import pytest

from bucketwheel.lease import Lease
from project import WIDE, Project


@pytest.fixture
def two(published: Project) -> Project:
    """A project with two published runs; the newer one is live."""
    published.run()
    return published


def refused(project: Project, exit_code: int, *arguments: str) -> str:
    """Run a command that must be refused without changing what is live; return its message."""
    before, snapshot, runs = project.content(), project.snapshot_dt(), project.run_ids()
    result = project.cli(*arguments)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.stderr
    assert (project.content(), project.snapshot_dt(), project.run_ids()) == (before, snapshot, runs)
    return result.stderr


def test_rollback_to_run_without_files_is_refused(two: Project) -> None:
    earlier = two.run_ids()[0]
    file = sorted(two.target.glob(f"{WIDE}/*/{earlier}/*.parquet"))[0]
    file.unlink()
    message = refused(two, 3, "rollback", earlier)
    assert message.startswith(f"error: {file}: is missing or has changed size since run {earlier} wrote it")
    assert "restore the file, or start a new run" in message


def test_rollback_to_withdrawn_run_is_refused(two: Project) -> None:
    newer = two.run_ids()[-1]
    assert two.cli("rollback", "--previous", WIDE, "--reason", "wrong ages").exit_code == 0
    for run_id in (newer, "last"):
        message = refused(two, 3, "rollback", run_id)
        assert message.startswith(f"error: run {newer} (snapshot 2025-10-22) was withdrawn at ")
        assert f"wrong ages; nothing was changed. To publish it all the same: bucketwheel unmark {newer}" in message
    assert f"no run that was published before {two.run_ids()[0]}" in refused(two, 2, "rollback", "--previous", WIDE)
    assert two.cli("unmark", newer.rpartition("-")[2]).exit_code == 0
    assert two.cli("rollback", newer).exit_code == 0
    assert set(two.published().values()) == {1200}


@pytest.mark.parametrize("command", ["rollback", "unmark", "verify", "show", "report"])
def test_run_id_with_typo_is_refused_with_suggestion(two: Project, command: str) -> None:
    newer = two.run_ids()[-1]
    if command == "unmark":
        assert two.cli("rollback", "--previous", WIDE).exit_code == 0
    assert f"did you mean {newer!r}?" in refused(two, 2, command, f"{newer[:-2]}zz")


@pytest.mark.parametrize(
    "arguments",
    [("runs",), ("tables",), ("plan",), ("rollback", "--previous"), ("expire", "--keep", "1", "--yes")],
)
def test_dataset_with_typo_is_refused_with_suggestion(two: Project, arguments: tuple[str, ...]) -> None:
    assert f"did you mean '{WIDE}'?" in refused(two, 2, *arguments, "infobase_atributes")


def test_expire_during_a_run_is_refused(two: Project) -> None:
    with Lease(f"{two.target}/_bucketwheel/{WIDE}", 3600):
        message = refused(two, 4, "expire", "--keep", "1", "--yes", "--set", "expire.min_age_hours=0", WIDE)
    assert "lease" in message


def test_expire_of_a_mix_keeps_every_live_run(published: Project) -> None:
    published.run("--tables-filter", "IBE_01")
    before, runs = published.content(), published.run_ids()
    result = published.cli("expire", "--keep", "1", "--yes", "--set", "expire.min_age_hours=0", WIDE)
    assert (result.exit_code, result.stdout) == (0, "nothing to delete\n")
    assert "kept every live run: the tables of infobase_attributes show 2 snapshots: 2025-10-22: ibe_01; " in (
        result.stderr
    )
    assert (published.content(), published.run_ids()) == (before, runs)
