"""A run that failed goes on where it stopped, and only if nothing it depends on has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from runs_support import DATASET, FEBRUARY, JANUARY, Case, CountingEngine, notes_of, reports

from bucketwheel import backends
from bucketwheel.contracts import Services
from bucketwheel.errors import LeaseError, QualityError, ResumeError, SelectionError, StorageError, VerificationError
from bucketwheel.manifest import Manifest
from bucketwheel.settings import STAGES, Settings
from bucketwheel.stages.register import Register
from bucketwheel.stages.size import Size
from bucketwheel.storage import Storage


class Boom(Exception):
    pass


def break_stage(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException | None = None) -> None:
    """Let a stage raise instead of doing its work."""
    stage_class = type(backends.stage(name))

    def fail(_stage: object, _manifest: Manifest, _services: Services) -> None:
        raise error or Boom(f"{name} broke")

    monkeypatch.setattr(stage_class, "run", fail)


def break_bucket(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the engine fail after a number of buckets."""
    make = backends.engine

    def limited(settings: Settings) -> CountingEngine:
        return CountingEngine(make(settings), after)

    monkeypatch.setattr(backends, "engine", limited)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[CountingEngine]:
    """Count what the engines that are made from here on write."""
    make, made = backends.engine, list[CountingEngine]()

    def counted(settings: Settings) -> CountingEngine:
        made.append(CountingEngine(make(settings)))
        return made[-1]

    monkeypatch.setattr(backends, "engine", counted)
    return made


def failed_in_bucket(case: Case, after: int = 2) -> Manifest:
    with pytest.MonkeyPatch.context() as patch:
        break_bucket(patch, after)
        with pytest.raises(RuntimeError, match="the power went"):
            case.run()
    return case.manifests()[-1]


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_failure_is_noted_with_its_text_and_the_command_that_resumes(
    case: Case, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    break_stage(monkeypatch, stage)
    with pytest.raises(Boom) as caught:
        case.run()
    (manifest,) = case.manifests()
    assert (manifest.status, manifest.error) == ("failed", f"{stage} broke")
    assert tuple(manifest.stages) == STAGES[: STAGES.index(stage)]
    assert notes_of(caught.value) == f"To go on from here: bucketwheel run {DATASET} --resume {manifest.run_id}"
    monkeypatch.undo()
    outcome = case.run(resume="last")
    assert outcome.changed
    assert (outcome.manifest.run_id, outcome.manifest.status) == (manifest.run_id, "finished")
    assert outcome.manifest.error is None
    assert tuple(outcome.manifest.stages) == STAGES
    assert set(case.shown()) == {f"{prefix}_{name}" for prefix in ("ext", "bucketed") for name in case.names()}


def test_a_failure_before_a_run_was_begun_leaves_no_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    break_stage(monkeypatch, "discover")
    with pytest.raises(Boom) as caught:
        case.run()
    assert notes_of(caught.value) == ""
    assert case.manifests() == []
    with pytest.raises(SelectionError, match="--resume last: people has no run"):
        case.run(resume="last")


def test_the_command_that_was_given_is_the_one_that_resumes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.run(["discover", "split", "size"])
    break_stage(monkeypatch, "verify")
    with pytest.raises(Boom) as caught:
        case.run(["bucket", "verify"])
    (manifest,) = case.manifests()
    assert f"bucketwheel run {DATASET} --stages bucket,verify --resume {manifest.run_id}" in notes_of(caught.value)


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
        with pytest.raises(Boom):
            case.run()
    (manifest,) = case.manifests()
    before = case.data(manifest.run_id)
    for stage in ("discover", "split", "size", "bucket"):
        break_stage(monkeypatch, stage)
    outcome = case.run(resume=manifest.run_id)
    assert case.data(manifest.run_id) == before
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
    case.run(snapshot_dt=JANUARY, target=str(case.root / "undisturbed"), catalog__path=str(case.root / "other.duckdb"))
    undisturbed = Case(case.root, changes={"target": str(case.root / "undisturbed")})
    (other,) = undisturbed.manifests()
    plain = {path.name for path in (case.root / "undisturbed" / DATASET).rglob("*.parquet")}
    assert len(case.data(outcome.manifest.run_id)) == len(plain) * case.tables
    assert outcome.manifest.result("bucket", type_of_bucket()) == other.result("bucket", type_of_bucket())


def type_of_bucket() -> type:
    from bucketwheel.manifest import BucketResult

    return BucketResult


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
        with pytest.raises(Boom):
            case.run()
    books = case.manifest_file(case.manifests()[-1].run_id).parent
    for name in ("buckets", "unfinished"):
        (books / name).mkdir(exist_ok=True)
        (books / name / "000001.json").write_text("{}")
    case.run(resume="last")
    assert [path.name for path in books.iterdir()] == ["manifest.json"]


def test_a_run_killed_before_its_last_note_is_finished_by_resuming(case: Case) -> None:
    manifest = case.run().manifest
    case.store().save(manifest.model_copy(update={"status": "running"}))
    outcome = case.run(resume="last")
    assert outcome.manifest == manifest
    assert case.manifests() == [manifest]


def test_while_it_goes_on_a_failed_run_counts_as_running(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(Boom):
            case.run()
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
        with pytest.raises(Boom):
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
        with pytest.raises(Boom):
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


def refused(case: Case, **changes: object) -> str:
    before = case.tree()
    with pytest.raises(ResumeError, match="cannot go on") as caught:
        case.run(resume="last", **changes)  # type: ignore[arg-type]
    assert case.tree() == before
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("buckets__count", 8, "buckets.count was 4, is 8"),
        ("buckets__hash", "hive_v2", "buckets.hash was hive_v1, is hive_v2"),
        ("buckets__sort", False, "buckets.sort was True, is False"),
        ("buckets__max_file_bytes", 1000, "buckets.max_file_bytes was 1073741824, is 1000"),
        ("size__page_bytes", 1000, "size.page_bytes was 262144, is 1000"),
        ("split__columns_over_limit", "allow", "split.columns_over_limit was error, is allow"),
    ],
)
def test_resuming_is_refused_when_a_setting_changed(case: Case, setting: str, value: object, text: str) -> None:
    failed_in_bucket(case)
    assert text in refused(case, **{setting: value})


def test_resuming_is_refused_when_the_key_changed(case: Case) -> None:
    failed_in_bucket(case)
    changed = case.settings().datasets[DATASET].model_dump() | {"key": "people_1_value"}
    assert "key was Customer_User_id, is people_1_value" in refused(case, datasets={DATASET: changed})


def test_resuming_is_refused_when_the_mapping_changed(case: Case) -> None:
    failed_in_bucket(case)
    case.mapping.write_text(case.mapping.read_text().replace("people_3,people_3_value\n", ""))
    assert "content of the mapping was " in refused(case)


def test_resuming_is_refused_when_an_input_file_changed(case: Case) -> None:
    failed_in_bucket(case)
    file = next((case.root / "in").rglob("part-1.parquet"))
    size = file.stat().st_size
    os.utime(file, (1_000_000_000, 1_000_000_000))
    message = refused(case)
    assert f"{file} was {size} bytes of 20" in message
    assert f"is {size} bytes of 2001-09-09" in message


def test_resuming_is_refused_when_input_files_came_and_went(case: Case) -> None:
    failed_in_bucket(case)
    file = next((case.root / "in").rglob("part-1.parquet"))
    file.rename(file.with_name("part-7.parquet"))
    message = refused(case)
    assert f"{file} was there, is gone" in message
    assert "part-7.parquet was not there, is now" in message


def test_when_many_input_files_changed_a_few_are_named(case: Case) -> None:
    case.snapshot(FEBRUARY, files=9)
    failed_in_bucket(case)
    for file in (case.root / "in").rglob(f"*{FEBRUARY}/*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    assert "and 4 more files" in refused(case)


def test_resuming_is_refused_for_another_snapshot(case: Case) -> None:
    failed_in_bucket(case)
    case.snapshot(FEBRUARY)
    assert f"snapshot_dt was {JANUARY}, is {FEBRUARY}" in refused(case, snapshot_dt=FEBRUARY)


def test_resuming_is_refused_for_other_tables(case: Case) -> None:
    failed_in_bucket(case)
    assert "tables filter was none, is people_2" in refused(case, tables=["people_2"])


def test_resuming_is_refused_with_another_version(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    failed_in_bucket(case)
    monkeypatch.setattr("bucketwheel.__version__", "99.0")
    assert ", is 99.0" in refused(case)


def test_a_newer_snapshot_does_not_keep_a_run_from_going_on(case: Case) -> None:
    failed_in_bucket(case)
    case.snapshot(FEBRUARY)
    case.run(resume="last")
    assert set().union(*case.shown().values()) == {JANUARY}


@pytest.mark.parametrize("change", [{"threads": 1}, {"memory": "64MB"}, {"lease__ttl_seconds": 5.0}])
def test_what_the_bytes_do_not_depend_on_may_change(case: Case, change: dict[str, object]) -> None:
    failed_in_bucket(case)
    assert case.run(resume="last", **change).manifest.status == "finished"  # type: ignore[arg-type]


def test_a_quality_policy_may_change_between(tmp_path: Path) -> None:
    case = Case(tmp_path, changes={"quality__duplicate_keys": "error"})
    case.snapshot(JANUARY, keys=290)
    with pytest.raises(QualityError, match="10 rows repeat a key"):
        case.run()
    (manifest,) = case.manifests()
    assert manifest.status == "failed"
    assert not case.catalog.exists()
    outcome = case.run(resume="last", quality__duplicate_keys="warn")
    assert outcome.manifest.stages["bucket"] == manifest.stages["bucket"]
    assert outcome.manifest.status == "finished"


def test_a_run_that_verify_refused_writes_its_files_again_when_it_is_resumed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_stage(patch, "verify")
        with pytest.raises(Boom):
            case.run()
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


def test_files_that_vanish_after_verify_are_not_published(case: Case) -> None:
    case.run(["discover", "split", "size", "bucket", "verify"])
    (manifest,) = case.manifests()
    next((case.target / DATASET).glob(f"*/{manifest.run_id}/*")).unlink()
    with pytest.raises(VerificationError, match=f"is gone or has another size than when run {manifest.run_id} wrote"):
        case.run(["register"])
    assert not case.catalog.exists()


def test_a_run_that_lost_its_lease_writes_nothing_into_the_books_of_its_follower(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = case.target / "_bucketwheel" / DATASET / "lease.json"
    run = Size.run

    def lose(stage: Size, manifest: Manifest, services: Services) -> object:
        result = run(stage, manifest, services)
        lease.write_text(lease.read_text().replace('"token": "', '"token": "x'))
        case.store().save(manifest.model_copy(update={"error": "written by the follower"}))
        return result

    monkeypatch.setattr(Size, "run", lose)
    with pytest.raises(LeaseError, match="lost the lease") as caught:
        case.run()
    (manifest,) = case.manifests()
    assert manifest.error == "written by the follower"
    assert "the failure could not be noted in the manifest" in notes_of(caught.value)


def test_a_disk_that_is_full_while_the_failure_is_noted_does_not_hide_the_failure(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Register.run
    full = StorageError("manifest.json: cannot write: no space left on the device")

    def fail(stage: Register, manifest: Manifest, services: Services) -> object:
        def refuse(*_: object, **__: object) -> None:
            raise full

        monkeypatch.setattr(Storage, "write", refuse)
        run(stage, manifest, services)
        raise Boom("the first failure")

    monkeypatch.setattr(Register, "run", fail)
    with pytest.raises(Boom, match="the first failure") as caught:
        case.run()
    assert "could not be noted in the manifest: manifest.json: cannot write: no space left" in notes_of(caught.value)
    assert "To go on from here" in notes_of(caught.value)


def test_an_interrupt_is_noted_like_any_failure(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    break_stage(monkeypatch, "bucket", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        case.run()
    assert [(manifest.status, manifest.error) for manifest in case.manifests()] == [("failed", "KeyboardInterrupt")]
    assert "--resume" in notes_of(caught.value)


def test_progress_of_a_resumed_bucket_stage_counts_what_was_done_before(case: Case) -> None:
    failed_in_bucket(case, after=3)
    steps, report = reports()
    case.run(resume="last", report=report)
    moved = [step for step in steps if step.stage == "bucket" and step.state == "advanced"]
    started = next(step for step in steps if step.stage == "bucket" and step.state == "started")
    assert started.total_rows == 2 * case.rows
    assert sum(step.rows for step in moved) == started.total_rows
