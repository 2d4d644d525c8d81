"""Cleanup of temporary files that a killed writer left; other files stay."""

from __future__ import annotations

from pathlib import Path

from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback
from runs_support import DATASET, Case, reports, warnings_in

LEFT = f"{'0123456789abcdef' * 2}.tmp"


def test_run_deletes_leftovers_beside_manifest_and_snapshot_file(case: Case) -> None:
    run_id = case.run().manifest.run_id
    run_directory = case.manifest_file(run_id).parent
    left = [
        run_directory / f"manifest.json.{LEFT}",
        run_directory / f"summary.json.{LEFT}",
        case.snapshot_file().parent / f"{case.snapshot_file().name}.{LEFT}",
    ]
    foreign = [
        run_directory / "mine.tmp",
        case.snapshot_file().parent / "notes.0123.tmp",
        case.snapshot_file().parent / LEFT[1:],
    ]
    for path in (*left, *foreign):
        path.write_text("x")
    case.run(resume="last")
    assert [path for path in left if path.exists()] == []
    assert [path for path in foreign if not path.exists()] == []


def test_run_deletes_empty_directory_of_run_killed_before_its_manifest(case: Case) -> None:
    run_directory = case.manifest_file(case.run().manifest.run_id).parent
    killed = run_directory.with_name("2025-01-31-20250201T000000Z-abcdef")
    killed.mkdir()
    case.run(resume="last")
    assert not killed.exists()
    assert case.manifest_file(run_directory.name).exists()


def test_rollback_deletes_leftovers_beside_snapshot_file(case: Case) -> None:
    run_id = case.run().manifest.run_id
    left = case.snapshot_file().parent / f"{case.snapshot_file().name}.{LEFT}"
    left.write_text("x")
    rollback(case.settings(), run_id)
    assert not left.exists()
    assert case.snapshot_file().exists()


def test_expire_names_and_keeps_unconfigured_datasets(case: Case) -> None:
    run_id = case.run().manifest.run_id
    run_directory = case.target / "_bucketwheel" / "former" / "runs"
    run_directory.mkdir(parents=True)
    steps, report = reports()
    assert expire(case.settings(), keep=1, report=report) == []
    assert warnings_in(steps) == "skipped, not in the configuration: former"
    assert case.store().ids(DATASET) == [run_id]
    assert Path(run_directory).exists()
    steps, report = reports()
    assert expire(case.settings(), keep=1, datasets=[DATASET], report=report) == []
    assert warnings_in(steps) == ""
