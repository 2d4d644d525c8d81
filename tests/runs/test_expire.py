"""Expiry of old runs: whole runs only, never a published one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from bucketwheel import plugins
from bucketwheel.errors import CatalogError, LeaseError, SelectionError, StorageError
from bucketwheel.lease import Lease
from bucketwheel.pipeline.expire import expirable, expire
from bucketwheel.pipeline.rollback import rollback, unmark
from bucketwheel.settings import STAGES
from bucketwheel.storage import Storage
from bucketwheel.system import System, SystemClock, use
from bucketwheel.testing.clock import Clock
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, reports, warnings_in


@pytest.fixture
def three(tmp_path: Path) -> tuple[Case, list[str]]:
    """A case with runs of January, February and March; the last one is published."""
    case = Case(tmp_path, tables=1, rows=60)
    ids = []
    for date in (JANUARY, FEBRUARY, MARCH):
        case.snapshot(date)
        ids.append(case.run(STAGES[:6]).manifest.run_id)
    return case, ids


def run_ids(case: Case) -> list[str]:
    return case.store().ids(DATASET)


def paths_of(case: Case, run_id: str) -> list[Path]:
    return [path for path in case.target.rglob("*") if run_id in path.parts]


def test_expire_keeps_newest_runs_and_deletes_others(three: tuple[Case, list[str]]) -> None:
    case, ids = three
    sizes = sum(file.stat().st_size for file in (case.target / DATASET).glob(f"*/{ids[0]}/*"))
    (expired,) = expire(case.settings(), keep=2)
    assert (expired.dataset, expired.run_id, expired.bytes) == (DATASET, ids[0], sizes)
    assert run_ids(case) == ids[1:]
    assert paths_of(case, ids[0]) == []
    assert set().union(*case.shown().values()) == {MARCH}


def test_expire_keeps_published_run_of_any_age(three: tuple[Case, list[str]]) -> None:
    case, ids = three
    rollback(case.settings(), ids[0])
    unmark(case.settings(), ids[2])
    assert [run.run_id for run in expire(case.settings(), keep=1)] == [ids[1]]
    assert run_ids(case) == [ids[0], ids[2]]
    assert set().union(*case.shown().values()) == {JANUARY}


def test_expire_keeps_run_published_in_one_table(case: Case) -> None:
    first = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    second = case.run(tables=["people_1"]).manifest.run_id
    assert expire(case.settings(), keep=1) == []
    assert run_ids(case) == [first, second]
    assert case.shown()["ext_people_2"] == {JANUARY}


def test_expire_does_not_count_runs_without_files(three: tuple[Case, list[str]]) -> None:
    case, ids = three
    for count in (8, 16):
        case.run(["discover"], buckets__count=count)
    without_files = run_ids(case)[3:]
    assert [run.run_id for run in expire(case.settings(), keep=2)] == [ids[0], without_files[0]]
    assert run_ids(case) == [ids[1], ids[2], without_files[1]]


def test_expire_keeps_newest_failed_run_for_resume(
    three: tuple[Case, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, ids = three
    with monkeypatch.context() as patch:
        patch.setattr(type(plugins.stage("verify")), "run", lambda *_: 1 / 0)
        for count in (8, 16):
            with pytest.raises(ZeroDivisionError):
                case.run(STAGES[:6], buckets__count=count)
    failed = run_ids(case)[3:]
    assert [run.run_id for run in expire(case.settings(), keep=3)] == [failed[0]]
    assert run_ids(case) == [*ids, failed[1]]
    case.run(resume="last", buckets__count=16)


def test_expire_keeps_foreign_files(three: tuple[Case, list[str]]) -> None:
    case, ids = three
    table = case.target / DATASET / "people_1"
    foreign = [
        table / "backup" / "file.parquet",
        table / f"{ids[0]}.bak" / "file.parquet",
        table / "notes.txt",
        case.target / DATASET / "metadata" / "snapshot_dt.txt",
        case.target / "_bucketwheel" / DATASET / "runs" / "readme.txt",
        case.target / "_bucketwheel" / DATASET / "runs" / "old" / "manifest.json",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("foreign content")
    expire(case.settings(), keep=1)
    assert run_ids(case) == ids[2:]
    assert all(path.read_text() == "foreign content" for path in foreign)


@pytest.mark.parametrize("calls", range(3))
def test_interrupted_expire_is_completed_by_next_expire(
    three: tuple[Case, list[str]], monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    case, ids = three
    deleted: list[str] = []

    def limited(name: str) -> Callable[[Storage, str], None]:
        real: Callable[[Storage, str], None] = getattr(Storage, name)

        def delete(storage: Storage, location: str) -> None:
            if len(deleted) == calls:
                raise KeyboardInterrupt
            deleted.append(location)
            real(storage, location)

        return delete

    with monkeypatch.context() as patch:
        for name in ("delete", "delete_directory"):
            patch.setattr(Storage, name, limited(name))
        with pytest.raises(KeyboardInterrupt):
            expire(case.settings(), keep=2)
    assert [manifest.run_id for manifest in case.manifests()] == (ids if calls == 0 else ids[1:])
    assert not case.run(STAGES[:6]).changed
    assert [run.run_id for run in expire(case.settings(), keep=2)] == ids[:1]
    assert paths_of(case, ids[0]) == []
    assert expire(case.settings(), keep=2) == []


def test_expire_keeps_run_with_unreadable_manifest(three: tuple[Case, list[str]]) -> None:
    case, ids = three
    case.manifest_file(ids[0]).write_text("{")
    steps, report = reports()
    assert [run.run_id for run in expire(case.settings(), keep=1, report=report)] == [ids[1]]
    assert run_ids(case) == [ids[0], ids[2]]
    assert case.hashes(ids[0])
    assert f"kept: {case.manifest_file(ids[0])}: is not a manifest" in warnings_in(steps)


def test_expire_is_refused_while_lease_is_held(three: tuple[Case, list[str]]) -> None:
    case, ids = three
    with Lease(case.store().metadata_directory(DATASET), 60), pytest.raises(LeaseError) as caught:
        expire(case.settings(), keep=1)
    assert caught.value.exit_code == 4
    assert run_ids(case) == ids


def test_expire_refuses_catalog_without_published_run(
    three: tuple[Case, list[str]],
) -> None:
    case, ids = three
    for change in ({"catalog__path": str(case.root / "other.duckdb")}, {"catalog__database": "other"}):
        with pytest.raises(CatalogError, match=f"has no table of any run, although run {ids[2]} was published"):
            expire(case.settings(**change), keep=1)
    assert run_ids(case) == ids


def test_expire_keep_zero_is_refused(case: Case) -> None:
    with pytest.raises(SelectionError, match="--keep 0: keep at least 1 run"):
        expire(case.settings(), keep=0)


def test_expire_covers_all_or_selected_datasets(tmp_path: Path) -> None:
    cases = [Case(tmp_path, tables=1, dataset=name) for name in ("people", "others")]
    for case in cases:
        for date in (JANUARY, FEBRUARY):
            case.snapshot(date)
            case.run(STAGES[:6])
    both = {**cases[0].settings().model_dump()["datasets"], **cases[1].settings().model_dump()["datasets"]}
    settings = cases[0].settings(datasets=both)
    assert [run.dataset for run in expire(settings, keep=1, datasets=["others"])] == ["others"]
    assert [run.dataset for run in expire(settings, keep=1)] == ["people"]
    with pytest.raises(SelectionError, match="did you mean 'others'"):
        expire(settings, keep=1, datasets=["other"])


def test_expire_keeps_run_that_was_shown_recently(three: tuple[Case, list[str]]) -> None:
    case, ids = three
    settings = case.settings(expire__min_age_hours=24)
    seen, report = reports()
    assert expire(settings, keep=1, report=report) == []
    (first, second) = [step.message for step in seen if step.state == "skipped"]
    assert first.startswith(f"kept: {ids[0]} was live until ")
    assert first.endswith("; expire.min_age_hours is 24")
    assert ids[1] in second
    later = SystemClock().now() + timedelta(hours=25)
    with use(System(Clock(later))):
        assert [run.run_id for run in expire(settings, keep=1)] == ids[:2]


def test_run_of_earlier_version_is_kept_after_last_publication(three: tuple[Case, list[str]]) -> None:
    case, ids = three
    settings = case.settings(expire__min_age_hours=24)
    for path in case.target.rglob("replaced_at.txt"):
        path.unlink()
    assert expire(settings, keep=1) == []
    later = SystemClock().now() + timedelta(hours=25)
    with use(System(Clock(later))):
        assert [run.run_id for run in expire(settings, keep=1)] == ids[:2]


@pytest.mark.parametrize("text", ["2026-11-29T10:0", "2026-11-29T10:00:00", "", "yesterday"])
def test_expire_names_damaged_times_and_deletes_nothing(three: tuple[Case, list[str]], text: str) -> None:
    case, ids = three
    settings = case.settings(expire__min_age_hours=24)
    replaced = case.manifest_file(ids[0]).with_name("replaced_at.txt")
    replaced.write_text(text)
    with pytest.raises(StorageError, match=f"{replaced}: expected a time with a time zone"):
        expire(settings, keep=1)
    replaced.unlink()
    for run_id in ids:
        manifest = case.manifest_file(run_id)
        changed = re.sub(r'"started": "[^"]+"', f'"started": "{text}"', manifest.read_text())
        manifest.write_text(changed)
    with pytest.raises(StorageError, match=r"run .*: the start of a publication in its manifest"):
        expire(settings, keep=1)
    assert run_ids(case) == ids


def test_expirable_deletes_nothing_and_only_limits_expire(three: tuple[Case, list[str]]) -> None:
    case, ids = three
    before = case.tree()
    runs = expirable(case.settings(), keep=1)
    assert case.tree() == before
    assert [run.run_id for run in runs] == ids[:2]
    assert expire(case.settings(), keep=1, only=[ids[1]]) == [runs[1]]
    assert run_ids(case) == [ids[0], ids[2]]


def test_expire_counts_whole_runs_only(case: Case) -> None:
    whole = case.run().manifest.run_id
    filtered = []
    for date in (FEBRUARY, MARCH):
        case.snapshot(date)
        filtered.append(case.run(tables=["people_1"]).manifest.run_id)
    steps, report = reports()
    assert [run.run_id for run in expire(case.settings(), keep=1, report=report)] == [filtered[0]]
    assert run_ids(case) == [whole, filtered[1]]
    assert case.shown()["bucketed_people_2"] == {JANUARY}
    assert f"{MARCH}: people_1; {JANUARY}: people_2" in warnings_in(steps)


def test_expire_keeps_last_run_of_table_that_catalog_lost(case: Case) -> None:
    first = case.run(STAGES[:5], tables=["people_1"]).manifest.run_id
    second = case.run(STAGES[:5], tables=["people_2"]).manifest.run_id
    third = case.run(STAGES[:5], tables=["people_2"], buckets__count=2).manifest.run_id
    assert [run.run_id for run in expire(case.settings(), keep=1)] == [second]
    assert run_ids(case) == [first, third]


def test_expire_deletes_last_run_of_dropped_table(case: Case) -> None:
    first = case.run(STAGES[:5]).manifest.run_id
    case.mapping.write_text("\n".join(case.mapping.read_text().splitlines()[:3]) + "\n")
    second = case.run(STAGES[:5]).manifest.run_id
    assert [run.run_id for run in expire(case.settings(), keep=1)] == [first]
    assert run_ids(case) == [second]
