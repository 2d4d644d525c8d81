"""Resuming a failed run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from failures import UNPUBLISHED, BoomError, break_stage, counting, failed_in_bucket

from bucketwheel.errors import SelectionError, VerificationError
from bucketwheel.settings import STAGES
from runs_support import DATASET, FEBRUARY, JANUARY, Case, notes_of, reports


def test_manifest_is_saved_after_every_stage(case: Case) -> None:
    seen: list[tuple[str, tuple[str, ...], str]] = []

    def observe(step: object) -> None:
        for manifest in case.manifests():
            if getattr(step, "state", "") == "finished":
                seen.append((getattr(step, "stage", ""), tuple(manifest.stages), manifest.status))

    case.run(report=observe)
    expected = [(stage, STAGES[: number + 1], "running") for number, stage in enumerate(STAGES)]
    assert seen == expected


def test_resume_skips_finished_stages(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(BoomError):
            case.run(UNPUBLISHED)
    (manifest,) = case.manifests()
    before = case.hashes(manifest.run_id)
    for stage in ("discover", "split", "size", "bucket"):
        break_stage(monkeypatch, stage)
    outcome = case.run(resume=manifest.run_id)
    assert case.hashes(manifest.run_id) == before
    assert len(manifest.stages) >= 4
    assert all(outcome.manifest.stages[name] == record for name, record in manifest.stages.items())


def test_resume_writes_only_missing_buckets(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = failed_in_bucket(case, after=3)
    files = sorted(Path(case.target, DATASET).glob(f"*/{manifest.run_id}/*"))
    times = {path: path.stat().st_mtime_ns for path in files}
    engines = counting(monkeypatch)
    outcome = case.run(resume="last")
    (engine,) = engines
    assert len(engine.written) == case.buckets - 3
    assert engine.requested == sorted(engine.written)
    assert sum(path.stat().st_mtime_ns == time for path, time in times.items()) >= 3 * case.tables
    case.run(
        UNPUBLISHED,
        snapshot_dt=JANUARY,
        target=str(case.root / "undisturbed"),
        catalog__path=str(case.root / "other.duckdb"),
    )
    undisturbed = Case(case.root, changes={"target": str(case.root / "undisturbed")})
    (other,) = undisturbed.manifests()
    plain = {path.name for path in (case.root / "undisturbed" / DATASET).rglob("*.parquet")}
    assert len(case.hashes(outcome.manifest.run_id)) == len(plain) * case.tables
    assert outcome.manifest.bucket == other.bucket


@pytest.mark.parametrize("damage", ["emptied", "cut", "nonsense"])
def test_resume_rewrites_bucket_with_damaged_record(case: Case, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    manifest = failed_in_bucket(case, after=3)
    record = sorted(case.manifest_file(manifest.run_id).parent.glob("buckets/*.json"))[0]
    record.write_text({"emptied": "", "cut": record.read_text()[:40], "nonsense": "[]"}[damage])
    engines = counting(monkeypatch)
    case.run(resume="last")
    assert len(engines[0].written) == case.buckets - 2


def test_resume_rewrites_bucket_with_missing_or_cut_file(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = failed_in_bucket(case, after=3)
    buckets = sorted(int(path.stem) for path in case.manifest_file(manifest.run_id).parent.glob("buckets/*.json"))
    directory = case.target / DATASET / case.names()[0] / manifest.run_id
    (directory / f"{buckets[0]:06d}_0.snappy.parquet").unlink()
    os.truncate(directory / f"{buckets[1]:06d}_0.snappy.parquet", 10)
    engines = counting(monkeypatch)
    case.run(resume="last")
    assert {buckets[0], buckets[1]} <= set(engines[0].written)
    assert buckets[2] not in engines[0].written


def test_resume_deletes_unfinished_files_of_bucket_stage(case: Case) -> None:
    manifest = failed_in_bucket(case)
    run_directory = case.manifest_file(manifest.run_id).parent
    (run_directory / "unfinished").mkdir(exist_ok=True)
    (run_directory / "unfinished" / "0123.tmp").write_text("half a file")
    case.run(resume="last")
    assert [path.name for path in run_directory.iterdir()] == ["manifest.json"]


def test_resume_deletes_leftovers_of_finished_bucket_stage(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(BoomError):
            case.run(UNPUBLISHED)
    run_directory = case.manifest_file(case.manifests()[-1].run_id).parent
    for name in ("buckets", "unfinished"):
        (run_directory / name).mkdir(exist_ok=True)
        (run_directory / name / "000001.json").write_text("{}")
    case.run(resume="last")
    assert [path.name for path in run_directory.iterdir()] == ["manifest.json"]


def test_resume_finishes_run_without_final_status(case: Case) -> None:
    manifest = case.run(UNPUBLISHED).manifest
    case.store().save(manifest.model_copy(update={"status": "running"}))
    outcome = case.run(resume="last")
    assert outcome.manifest == manifest
    assert case.manifests() == [manifest]


def test_resumed_run_has_status_running(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(BoomError):
            case.run(UNPUBLISHED)
    states: list[tuple[str, str | None]] = []

    def observe(_: object) -> None:
        states.extend((manifest.status, manifest.error) for manifest in case.manifests())

    case.run(resume="last", report=observe)
    assert set(states) == {("running", None)}


def test_resume_last_is_newest_run_not_older_failed_one(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "register")
        with pytest.raises(BoomError):
            case.run()
    case.snapshot(FEBRUARY)
    newest = case.run().manifest
    outcome = case.run(resume="last")
    assert outcome.manifest.run_id == newest.run_id
    assert not outcome.changed
    assert set().union(*case.shown().values()) == {FEBRUARY}


def test_run_ids_within_one_second_are_ordered(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    break_stage(monkeypatch, "bucket")
    for _ in range(4):
        with pytest.raises(BoomError):
            case.run()
    ids = case.store().ids(DATASET)
    assert len(ids) == 4
    assert [manifest.run_id for manifest in case.manifests()] == ids
    assert len({run_id[11:27] for run_id in ids}) == 4


def test_resume_of_unknown_run_lists_latest_runs(case: Case) -> None:
    run_id = case.run(["discover"]).manifest.run_id
    with pytest.raises(SelectionError, match=f"no run '2025-01-31-nope' below .*latest: {run_id}"):
        case.run(resume="2025-01-31-nope")


def test_resume_of_finished_run_changes_nothing(case: Case) -> None:
    run_id = case.run().manifest.run_id
    before = case.tree()
    assert not case.run(resume=run_id).changed
    assert case.tree() == before


def test_resume_after_failed_verify_rewrites_files(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(BoomError):
            case.run(UNPUBLISHED)
    (manifest,) = case.manifests()
    whole = case.hashes(manifest.run_id)
    file = sorted((case.target / DATASET).glob(f"*/{manifest.run_id}/*"))[1]
    content = bytearray(file.read_bytes())
    content[20:40] = bytes(20)
    file.write_bytes(content)
    with pytest.raises(VerificationError) as caught:
        case.run(resume="last")
    assert f"--resume {manifest.run_id}" in notes_of(caught.value)
    assert not case.catalog.exists()
    case.run(resume="last")
    assert case.hashes(manifest.run_id) == whole


def test_progress_of_resumed_bucket_stage_counts_finished_rows(case: Case) -> None:
    failed_in_bucket(case, after=3)
    steps, report = reports()
    case.run(resume="last", report=report)
    moved = [step for step in steps if step.stage == "bucket" and step.state == "advanced"]
    started = next(step for step in steps if step.stage == "bucket" and step.state == "started")
    assert started.total_rows == 2 * case.rows
    assert sum(step.rows for step in moved) == started.total_rows
