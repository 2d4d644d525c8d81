"""Repeated runs, and the selection of snapshot and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from failures import UNPUBLISHED

from bucketwheel import plugins
from bucketwheel.errors import CatalogError
from bucketwheel.pipeline.rollback import rollback
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case


def prefixed(prefix: str, names: Sequence[str]) -> set[str]:
    return {f"{prefix}_{name}" for name in names}


def test_rerun_changes_nothing_and_reports_unchanged(case: Case) -> None:
    first = case.run()
    before = case.tree()
    again = case.run()
    assert (first.changed, again.changed) == (True, False)
    assert again.manifest == first.manifest
    assert case.tree() == before


def test_rerun_of_finished_stages_of_failed_run_is_not_up_to_date(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CatalogError("the catalog is away")

    with monkeypatch.context() as patch:
        patch.setattr(type(plugins.stage("register")), "run", fail)
        with pytest.raises(CatalogError):
            case.run()
    again = case.run(UNPUBLISHED)
    assert (again.changed, again.state) == (False, "has already finished these stages")
    assert case.run().state == "finished"
    assert case.run(UNPUBLISHED).state == "is already up to date"
    case.run(["discover"], buckets__count=8)
    assert case.run(resume="last", buckets__count=8).state == "has already finished these stages"


def test_rerun_returns_run_that_is_not_newest(case: Case) -> None:
    january = case.run().manifest
    case.snapshot(FEBRUARY)
    case.run(["discover"])
    before = case.tree()
    outcome = case.run(snapshot_dt=JANUARY)
    assert outcome.manifest == january
    assert not outcome.changed
    assert case.tree() == before


def test_run_bytes_do_not_depend_on_threads_and_memory(case: Case) -> None:
    plain = case.run(UNPUBLISHED, threads=1, memory=2**30).manifest
    expected = case.hashes(plain.run_id)
    assert len(expected) == case.tables * case.buckets
    assert not plain.bucket.spilled_bytes
    (case.target / DATASET).rename(case.root / "kept")
    (case.target / "_bucketwheel").rename(case.root / "kept metadata")
    tight = case.run(UNPUBLISHED, threads=4, memory=1).manifest
    assert tight.bucket.spilled_bytes
    assert case.hashes(tight.run_id) == expected


def test_changed_setting_starts_new_run(case: Case) -> None:
    first = case.run().manifest
    second = case.run(buckets__count=8).manifest
    assert first.run_id != second.run_id
    assert len(case.hashes(second.run_id)) == 8 * case.tables


def test_rerun_with_missing_files_starts_new_run(case: Case) -> None:
    first = case.run().manifest
    next((case.target / DATASET).glob(f"*/{first.run_id}/*")).unlink()
    second = case.run().manifest
    assert first.run_id != second.run_id
    assert case.hashes(second.run_id).keys() > case.hashes(first.run_id).keys()


def test_rerun_after_lost_catalog_publishes_again(case: Case) -> None:
    first = case.run().manifest
    case.catalog.unlink()
    outcome = case.run()
    assert outcome.changed
    assert outcome.manifest.run_id == first.run_id
    assert outcome.manifest.stages["bucket"] == first.stages["bucket"]
    assert set(case.shown()) == prefixed("ext", case.names()) | prefixed("bucketed", case.names())


def test_forced_rerun_after_rollback_publishes_later_run_again(case: Case) -> None:
    january = case.run().manifest
    case.snapshot(FEBRUARY)
    february = case.run().manifest
    rollback(case.settings(), january.run_id)
    assert set().union(*case.shown().values()) == {JANUARY}
    files = case.hashes(february.run_id)
    outcome = case.run(force=True)
    assert outcome.changed
    assert outcome.manifest.run_id == february.run_id
    assert case.hashes(february.run_id) == files
    assert set().union(*case.shown().values()) == {FEBRUARY}
    assert case.snapshot_dt() == FEBRUARY
    assert not case.run().changed


def test_run_continues_run_that_failed_to_publish(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(plugins.stage("register")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run()
    (failed,) = case.manifests()
    outcome = case.run()
    assert outcome.manifest.run_id == failed.run_id
    assert outcome.manifest.status == "finished"


def test_changed_prefix_publishes_under_new_names(case: Case) -> None:
    case.run()
    assert case.run(catalog__final_prefix="final_").changed
    assert prefixed("final", case.names()) <= set(case.view_names())


def test_rerun_rewrites_deleted_snapshot_file(case: Case) -> None:
    case.run()
    case.snapshot_file().unlink()
    assert case.run().changed
    assert case.snapshot_dt() == JANUARY


def test_requested_snapshot_is_published_instead_of_latest(case: Case) -> None:
    case.snapshot(FEBRUARY)
    case.snapshot(MARCH)
    manifest = case.run(snapshot_dt=FEBRUARY).manifest
    assert manifest.snapshot_dt == FEBRUARY
    assert manifest.run_id.startswith(f"{FEBRUARY}-")
    assert set().union(*case.shown().values()) == {FEBRUARY}
    assert case.snapshot_dt() == FEBRUARY
    case.run()
    assert case.snapshot_dt() == MARCH


def test_table_filter_writes_only_selected_tables(case: Case) -> None:
    manifest = case.run(tables=["people_2"]).manifest
    assert manifest.tables_filter == ("people_2",)
    assert {name.split("/")[1] for name in case.hashes(manifest.run_id)} == {"people_2"}
    assert set(case.shown()) == {"ext_people_2", "bucketed_people_2"}
    assert not case.run(tables=["people_2"]).changed
    assert case.run().manifest.run_id != manifest.run_id


def test_resume_keeps_table_filter(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(plugins.stage("bucket")), "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            case.run(tables=["people_2"])
    case.run(resume="last")
    assert set(case.shown()) == {"ext_people_2", "bucketed_people_2"}


def test_bucket_without_rows_has_no_file(tmp_path: Path) -> None:
    case = Case(tmp_path, rows=5, buckets=64)
    case.snapshot(JANUARY)
    manifest = case.run().manifest
    record = manifest.stages["bucket"].result
    filled = 64 - record["empty_buckets"]
    assert 1 <= filled <= 5
    assert len(case.hashes(manifest.run_id)) == filled * case.tables
    assert {name for name, marks in case.shown().items() if marks == {JANUARY}} == set(case.shown())
