"""A run that failed goes on where it stopped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from failures import UNPUBLISHED, BoomError, break_stage, counting, failed_in_bucket

from bucketwheel.errors import SelectionError, VerificationError
from bucketwheel.settings import STAGES
from runs_support import DATASET, FEBRUARY, JANUARY, Case, notes_of, reports


def test_the_manifest_is_written_after_every_stage(case: Case) -> None:
    seen: list[tuple[str, tuple[str, ...], str]] = []

    def look(step: object) -> None:
        for manifest in case.manifests():
            if getattr(step, "state", "") == "finished":
                seen.append((getattr(step, "stage", ""), tuple(manifest.stages), manifest.status))

    case.run(report=look)
    expected = [(stage, STAGES[: number + 1], "running") for number, stage in enumerate(STAGES)]
    assert seen == expected


def test_stages_that_are_done_are_not_done_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(BoomError):
            case.run(UNPUBLISHED)
    (manifest,) = case.manifests()
    before = case.data(manifest.run_id)
    for stage in ("discover", "split", "size", "bucket"):
        break_stage(monkeypatch, stage)
    outcome = case.run(resume=manifest.run_id)
    assert case.data(manifest.run_id) == before
    assert len(manifest.stages) >= 4
    assert all(outcome.manifest.stages[name] == record for name, record in manifest.stages.items())


def test_only_missing_buckets_are_written_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = failed_in_bucket(case, after=3)
    files = sorted(Path(case.target, DATASET).glob(f"*/{manifest.run_id}/*"))
    times = {path: path.stat().st_mtime_ns for path in files}
    made = counting(monkeypatch)
    outcome = case.run(resume="last")
    (engine,) = made
    assert len(engine.written) == case.buckets - 3
    assert engine.asked == sorted(engine.written)
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
    assert len(case.data(outcome.manifest.run_id)) == len(plain) * case.tables
    assert outcome.manifest.bucket == other.bucket


@pytest.mark.parametrize("damage", ["emptied", "cut", "nonsense"])
def test_a_bucket_whose_record_was_damaged_by_a_power_cut_is_written_again(
    case: Case, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    manifest = failed_in_bucket(case, after=3)
    record = sorted(case.manifest_file(manifest.run_id).parent.glob("buckets/*.json"))[0]
    record.write_text({"emptied": "", "cut": record.read_text()[:40], "nonsense": "[]"}[damage])
    made = counting(monkeypatch)
    case.run(resume="last")
    assert len(made[0].written) == case.buckets - 2


def test_a_bucket_whose_file_is_gone_or_cut_is_written_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = failed_in_bucket(case, after=3)
    done = sorted(int(path.stem) for path in case.manifest_file(manifest.run_id).parent.glob("buckets/*.json"))
    directory = case.target / DATASET / case.names()[0] / manifest.run_id
    (directory / f"{done[0]:06d}_0.snappy.parquet").unlink()
    os.truncate(directory / f"{done[1]:06d}_0.snappy.parquet", 10)
    made = counting(monkeypatch)
    case.run(resume="last")
    assert {done[0], done[1]} <= set(made[0].written)
    assert done[2] not in made[0].written


def test_what_a_killed_bucket_stage_left_unfinished_is_gone_in_the_end(case: Case) -> None:
    manifest = failed_in_bucket(case)
    books = case.manifest_file(manifest.run_id).parent
    (books / "unfinished").mkdir(exist_ok=True)
    (books / "unfinished" / "0123.tmp").write_text("half a file")
    case.run(resume="last")
    assert [path.name for path in books.iterdir()] == ["manifest.json"]


def test_what_was_left_by_a_kill_just_after_the_bucket_stage_is_gone_in_the_end(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(BoomError):
            case.run(UNPUBLISHED)
    books = case.manifest_file(case.manifests()[-1].run_id).parent
    for name in ("buckets", "unfinished"):
        (books / name).mkdir(exist_ok=True)
        (books / name / "000001.json").write_text("{}")
    case.run(resume="last")
    assert [path.name for path in books.iterdir()] == ["manifest.json"]


def test_a_run_killed_before_its_last_note_is_finished_by_resuming(case: Case) -> None:
    manifest = case.run(UNPUBLISHED).manifest
    case.store().save(manifest.model_copy(update={"status": "running"}))
    outcome = case.run(resume="last")
    assert outcome.manifest == manifest
    assert case.manifests() == [manifest]


def test_while_it_goes_on_a_failed_run_counts_as_running(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(BoomError):
            case.run(UNPUBLISHED)
    states: list[tuple[str, str | None]] = []

    def look(_: object) -> None:
        states.extend((manifest.status, manifest.error) for manifest in case.manifests())

    case.run(resume="last", report=look)
    assert set(states) == {("running", None)}


def test_last_is_the_newest_run_and_never_an_older_one_that_failed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_runs_begun_within_one_second_are_in_order(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    break_stage(monkeypatch, "split")
    for _ in range(4):
        with pytest.raises(BoomError):
            case.run()
    ids = case.store().ids(DATASET)
    assert len(ids) == 4
    assert [manifest.run_id for manifest in case.manifests()] == ids
    assert len({run_id[11:27] for run_id in ids}) == 4


def test_a_run_that_does_not_exist_is_refused_with_those_that_do(case: Case) -> None:
    run_id = case.run(["discover"]).manifest.run_id
    with pytest.raises(SelectionError, match=f"no run '2025-01-31-nope' below .*latest: {run_id}"):
        case.run(resume="2025-01-31-nope")


def test_a_finished_run_that_is_resumed_has_nothing_to_do(case: Case) -> None:
    run_id = case.run().manifest.run_id
    before = case.tree()
    assert not case.run(resume=run_id).changed
    assert case.tree() == before


def test_a_run_that_verify_refused_writes_its_files_again_when_it_is_resumed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(BoomError):
            case.run(UNPUBLISHED)
    (manifest,) = case.manifests()
    whole = case.data(manifest.run_id)
    file = sorted((case.target / DATASET).glob(f"*/{manifest.run_id}/*"))[1]
    content = bytearray(file.read_bytes())
    content[20:40] = bytes(20)
    file.write_bytes(content)
    with pytest.raises(VerificationError) as caught:
        case.run(resume="last")
    assert f"--resume {manifest.run_id}" in notes_of(caught.value)
    assert not case.catalog.exists()
    case.run(resume="last")
    assert case.data(manifest.run_id) == whole


def test_progress_of_a_resumed_bucket_stage_counts_what_was_done_before(case: Case) -> None:
    failed_in_bucket(case, after=3)
    steps, report = reports()
    case.run(resume="last", report=report)
    moved = [step for step in steps if step.stage == "bucket" and step.state == "advanced"]
    started = next(step for step in steps if step.stage == "bucket" and step.state == "started")
    assert started.total_rows == 2 * case.rows
    assert sum(step.rows for step in moved) == started.total_rows
