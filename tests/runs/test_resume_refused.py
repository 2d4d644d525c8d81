"""Resuming requires that nothing that determines the output bytes has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from failures import UNPUBLISHED, failed_in_bucket

from bucketwheel.errors import QualityError, ResumeError
from runs_support import DATASET, FEBRUARY, JANUARY, Case, notes_of


def refused(case: Case, **changes: object) -> str:
    before = case.tree()
    with pytest.raises(ResumeError, match="cannot be resumed") as caught:
        case.run(resume="last", **changes)  # type: ignore[arg-type]
    assert case.tree() == before
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("buckets__count", 8, "buckets.count was 4, is now 8"),
        ("buckets__hash", "hive_v2", "buckets.hash was hive_v1, is now hive_v2"),
        ("buckets__sort", False, "buckets.sort was True, is now False"),
        ("buckets__max_file_bytes", 1000, "buckets.max_file_bytes was 1073741824, is now 1000"),
        ("size__page_bytes", 1000, "size.page_bytes was 262144, is now 1000"),
        ("split__columns_over_limit", "allow", "split.columns_over_limit was error, is now allow"),
    ],
)
def test_resume_is_refused_when_setting_changed(case: Case, setting: str, value: object, text: str) -> None:
    failed_in_bucket(case)
    assert text in refused(case, **{setting: value})


def test_advice_after_refused_stages_starts_with_discover(case: Case) -> None:
    failed_in_bucket(case)
    with pytest.raises(ResumeError) as caught:
        case.run(["bucket", "verify"], buckets__count=8)
    assert notes_of(caught.value) == f"To start a new run: bucketwheel run {DATASET}"


def test_later_stages_start_over_when_setting_changed(case: Case) -> None:
    run_id = case.run(["discover"]).manifest.run_id
    assert list(case.run(["split", "size"], split__column_limit=9).manifest.stages) == ["discover", "split", "size"]
    assert [run.run_id for run in case.manifests()] == [run_id]


def test_resume_is_refused_when_key_changed(case: Case) -> None:
    failed_in_bucket(case)
    changed = case.settings().datasets[DATASET].model_dump() | {"key": "people_1_value"}
    assert "key was Customer_User_id, is now people_1_value" in refused(case, datasets={DATASET: changed})


def test_resume_is_refused_when_mapping_changed(case: Case) -> None:
    failed_in_bucket(case)
    case.mapping.write_text(case.mapping.read_text().replace("people_2,people_2_value\n", ""))
    assert "content of the mapping was " in refused(case)


def test_resume_is_refused_when_input_file_changed(case: Case) -> None:
    failed_in_bucket(case)
    file = next((case.root / "in").rglob("part-1.parquet"))
    size = file.stat().st_size
    os.utime(file, (1_000_000_000, 1_000_000_000))
    message = refused(case)
    assert f"{file} was changed: {size} bytes of 20" in message
    assert f"now {size} bytes of 2001-09-09" in message


def test_resume_is_refused_when_input_files_added_and_deleted(case: Case) -> None:
    failed_in_bucket(case)
    file = next((case.root / "in").rglob("part-1.parquet"))
    file.rename(file.with_name("part-7.parquet"))
    message = refused(case)
    assert f"{file} was deleted" in message
    assert "part-7.parquet was added" in message


def test_resume_refusal_names_first_changed_files(case: Case) -> None:
    case.snapshot(FEBRUARY, files=9)
    failed_in_bucket(case)
    for file in (case.root / "in").rglob(f"*{FEBRUARY}/*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    assert "and 4 more files" in refused(case)


def test_resume_is_refused_for_another_snapshot(case: Case) -> None:
    failed_in_bucket(case)
    case.snapshot(FEBRUARY)
    assert f"snapshot_dt was {JANUARY}, is now {FEBRUARY}" in refused(case, snapshot_dt=FEBRUARY)


def test_resume_is_refused_for_other_tables(case: Case) -> None:
    failed_in_bucket(case)
    assert "tables filter was none, is now people_2" in refused(case, tables=["people_2"])


def test_resume_is_refused_by_another_version(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    failed_in_bucket(case)
    monkeypatch.setattr("bucketwheel.__version__", "99.0")
    assert ", is now 99.0" in refused(case)


def test_resume_ignores_newer_snapshot(case: Case) -> None:
    failed_in_bucket(case)
    case.snapshot(FEBRUARY)
    manifest = case.run(resume="last").manifest
    assert (manifest.status, manifest.snapshot_dt) == ("finished", JANUARY)


@pytest.mark.parametrize("change", [{"threads": 1}, {"memory": "64MB"}, {"lease__ttl_seconds": 5.0}])
def test_resume_accepts_settings_that_do_not_change_bytes(case: Case, change: dict[str, object]) -> None:
    failed_in_bucket(case)
    assert case.run(resume="last", **change).manifest.status == "finished"  # type: ignore[arg-type]


def test_resume_accepts_changed_quality_policy(tmp_path: Path) -> None:
    case = Case(tmp_path, changes={"quality__duplicate_keys": "error"})
    case.snapshot(JANUARY, keys=290)
    with pytest.raises(QualityError, match="10 rows repeat a key"):
        case.run(UNPUBLISHED)
    (manifest,) = case.manifests()
    assert manifest.status == "failed"
    outcome = case.run(resume="last", quality__duplicate_keys="warn")
    assert outcome.manifest.stages["bucket"] == manifest.stages["bucket"]
    assert outcome.manifest.status == "finished"
