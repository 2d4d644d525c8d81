"""Missing, incomplete, misnamed and empty snapshots."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bucketwheel.sample import Sample
from project import WIDE, Project, Result

Dirty = Callable[..., Sample]
Refused = Callable[..., Result]


@pytest.mark.parametrize("exists", [True, False])
def test_source_without_snapshots_is_refused(
    published: Project, dirty: Dirty, refused: Refused, exists: bool
) -> None:
    sample = dirty("no_snapshot")
    published.use(sample)
    if not exists:
        shutil.rmtree(sample.source)
    result = refused(published, 3)
    assert result.stderr.startswith(
        f"error: {sample.source}: no snapshot; expected directories snapshot_dt=YYYY-MM-DD. "
        f"Check datasets.{WIDE}.source\n"
    )


def test_incomplete_newest_snapshot_is_skipped_with_warning(published: Project, dirty: Dirty) -> None:
    published.use(dirty("newest_incomplete"))
    result = published.run()
    assert "warning: snapshot_dt 2025-11-21 is incomplete (_SUCCESS is missing); skipped" in result.stderr
    assert published.snapshot_dt() == "2025-10-22"
    assert set(published.published().values()) == {1200}


def test_requested_incomplete_snapshot_is_refused(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty("newest_incomplete")
    published.use(sample)
    result = refused(published, 3, "--snapshot-dt", "2025-11-21")
    assert "snapshot_dt 2025-11-21 is incomplete: _SUCCESS is missing in" in result.stderr
    assert "wait until the snapshot is completely loaded" in result.stderr


def test_without_complete_snapshot_newest_is_named(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty("newest_incomplete")
    published.use(sample)
    (sample.snapshot / "_SUCCESS").unlink()
    result = refused(published, 3)
    assert f"{sample.source}: none of 2 snapshots is complete: each lacks _SUCCESS" in result.stderr
    assert "newest: 2025-11-21" in result.stderr
    assert f"datasets.{WIDE}.complete_marker" in result.stderr


def test_unexpected_directories_are_skipped_with_warning(current: Project, dirty: Dirty) -> None:
    before = current.content()
    current.use(dirty("odd_directories"))
    result = current.run()
    assert (
        "skipped SNAPSHOT_DATE=2099-01-01, backup, snapshot_dt=, snapshot_dt=2025-13-40, snapshot_dt=latest: "
        "not of the form snapshot_dt=YYYY-MM-DD\n"
    ) in result.stderr
    assert "_temporary" not in result.stderr
    assert current.content() == before


@pytest.mark.parametrize("asked", ["2025-13-40", "latest"])
def test_requested_invalid_directory_is_named(published: Project, dirty: Dirty, refused: Refused, asked: str) -> None:
    published.use(dirty("odd_directories"))
    result = refused(published, 2, "--snapshot-dt", asked)
    assert result.stderr.startswith(
        f"error: snapshot_dt {asked!r} is not a date of the form YYYY-MM-DD; the directory snapshot_dt={asked} "
        "exists but is not a snapshot; available: 2025-10-22\n"
    )


@pytest.mark.parametrize("asked", ["20251022", "2025-10-22 ", "2025-W43-3"])
def test_date_in_other_format_is_refused(published: Project, refused: Refused, asked: str) -> None:
    result = refused(published, 2, "--snapshot-dt", asked)
    assert f"snapshot_dt {asked!r} is not a date of the form YYYY-MM-DD; available: 2025-10-22" in result.stderr
    assert f"Fix --snapshot-dt, then run again: bucketwheel run {WIDE} --snapshot-dt " in result.stderr


def test_missing_snapshot_error_lists_existing_ones(published: Project, clean: Sample, refused: Refused) -> None:
    result = refused(published, 2, "--snapshot-dt", "2025-10-23")
    assert result.stderr.startswith(
        f"error: snapshot_dt 2025-10-23 does not exist in {clean.source}; available: 2025-10-22\n"
    )


def test_snapshot_without_files_is_refused(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty("zero_files")
    published.use(sample)
    result = refused(published, 3)
    assert f"{sample.snapshot}: contains no Parquet files; load the snapshot again" in result.stderr


def test_snapshot_without_rows_is_refused(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty("zero_rows")
    published.use(sample)
    result = refused(published, 3)
    assert f"{sample.snapshot}: 3 files, no rows; load the snapshot again" in result.stderr


@pytest.mark.parametrize("flat", [False, True])
def test_files_without_suffix_are_named_and_readable(project: Project, dirty: Dirty, flat: bool) -> None:
    sample = dirty(None)
    for number, path in enumerate(sorted(sample.snapshot.glob("*.parquet"))):
        path.rename(sample.snapshot / f"20251022_111{number}")
    project.use(sample)
    if flat:
        project.set(
            datasets={
                WIDE: {**project.settings["datasets"][WIDE], "source": str(sample.snapshot), "partition": "none"}
            }
        )
    result = project.cli("run", WIDE)
    assert result.exit_code == 3
    assert f"{sample.snapshot}: no file is named .parquet or .parq; Parquet by content" in result.stderr
    assert f"20251022_1110, 20251022_1111, 20251022_1112; set datasets.{WIDE}.files=all" in result.stderr
    # The advice works as printed, and readers find the same rows.
    command = shlex.split(result.stderr.splitlines()[-1].partition(": ")[2])
    assert command[:2] == ["bucketwheel", "run"]
    again = project.cli(*command[1:])
    assert again.exit_code == 0, again.stderr
    assert set(project.published().values()) == {1200}
    assert "already up to date" in project.cli(*command[1:]).stdout


def test_empty_files_beside_others_are_accepted(current: Project, dirty: Dirty, tmp_path: Path) -> None:
    before = current.content()
    good, empty = dirty(None), dirty("zero_rows")
    shutil.copy(empty.snapshot / "part-00000.parquet", good.snapshot / "part-00001a.parquet")
    current.use(good)
    current.run()
    assert current.content() == before


def test_hidden_and_marker_files_are_ignored(current: Project, dirty: Dirty) -> None:
    before = current.content()
    current.use(dirty("hidden_files"))
    result = current.run()
    assert "ignored" not in result.stderr
    assert current.content() == before
    assert len(current.run_ids()) == 2


def test_visible_non_parquet_file_is_ignored_with_warning(project: Project, dirty: Dirty) -> None:
    sample = dirty(None)
    (sample.snapshot / "README.txt").write_text("hello")
    project.use(sample)
    result = project.run()
    assert f"warning: {sample.snapshot}: ignored 1 file: README.txt: not named .parquet" in result.stderr
    assert set(project.published().values()) == {1200}
