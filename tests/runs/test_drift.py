"""A snapshot against the published one: what is recorded, when it is not known, and what refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from failures import BoomError, break_stage

from bucketwheel import plugins
from bucketwheel.contracts import CatalogTable, Services
from bucketwheel.errors import VerificationError
from bucketwheel.pipeline import reverify, rollback
from bucketwheel.pipeline.services import RunRequest, make_services, utc_now
from bucketwheel.runs.manifest import Drift, KeyCounts, KeyOverlap, Manifest, VerifyResult
from bucketwheel.runs.store import RunStore
from bucketwheel.stages import drift
from memory_catalog import MemoryCatalog
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, reports, warnings_in


def verified(manifest: Manifest) -> VerifyResult:
    return manifest.verify


def drift_of(manifest: Manifest) -> Drift:
    found = verified(manifest).drift
    assert found is not None
    return found


def grow(case: Case, date: str, rows: int, keys: int | None = None) -> None:
    case.rows = rows
    case.snapshot(date, keys=keys)


def test_the_first_run_has_nothing_to_be_compared_with(case: Case) -> None:
    done = verified(case.run().manifest)
    assert (done.drift, done.warnings) == (None, ())


@pytest.mark.parametrize("memory", ["256MB", "1kB"])
def test_rows_columns_nulls_and_keys_are_compared_with_those_published(case: Case, memory: str) -> None:
    before = case.run().manifest
    grow(case, FEBRUARY, 360)
    found = drift_of(case.run(memory=memory).manifest)
    assert (found.run_id, found.snapshot_dt) == (before.run_id, JANUARY)
    assert (found.rows_before, found.rows) == (300, 360)
    assert found.rows_changed_percent == pytest.approx(20)
    assert (found.new_columns, found.vanished_columns, found.changed_types) == ((), (), ())
    assert {(share.before, share.now) for share in found.null_shares} == {(0, 0)}
    assert len(found.null_shares) == 1 + 2 * case.tables
    assert found.keys == KeyOverlap(both=300, only_now=60, only_before=0, share=1.0)
    assert found.keys_not_compared is None


def test_keys_are_counted_once_and_fewer_rows_are_a_change_too(case: Case) -> None:
    case.run()
    grow(case, FEBRUARY, 150, keys=75)
    found = drift_of(case.run().manifest)
    assert found.rows_changed_percent == pytest.approx(50)
    assert found.keys == KeyOverlap(both=75, only_now=0, only_before=225, share=0.25)


def test_what_is_published_counts_and_not_what_was_run_last(case: Case) -> None:
    january = case.run().manifest
    grow(case, FEBRUARY, 400)
    case.run(["discover", "split", "size", "bucket", "verify"])
    grow(case, MARCH, 330)
    march = case.run().manifest
    assert drift_of(march).run_id == january.run_id
    rollback.rollback(case.settings(), january.run_id)
    again = case.run(buckets__sort=False).manifest
    assert drift_of(again).run_id == january.run_id
    rollback.rollback(case.settings(), march.run_id)
    assert drift_of(case.run(buckets__max_file_bytes=10**6).manifest).run_id == march.run_id


def test_a_rerun_changes_nothing_and_a_resumed_run_finds_the_same(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.run()
    grow(case, FEBRUARY, 360)
    with monkeypatch.context() as broken:
        break_stage(broken, "ctas")
        with pytest.raises(BoomError):
            case.run()
    first = case.manifests()[-1]
    # The staged tables show this run by now; what it differs from stays on record.
    resumed = case.run(resume="last").manifest
    assert resumed.stages["verify"] == first.stages["verify"]
    assert drift_of(resumed).keys is not None
    before = case.tree()
    assert not case.run().changed
    assert case.tree() == before


def test_a_run_is_not_compared_with_itself(case: Case) -> None:
    january = case.run().manifest
    shutil.rmtree(case.target / DATASET / case.names()[0] / january.run_id)
    with pytest.raises(VerificationError, match="is missing"):
        reverify.verify(case.settings(), january.run_id)
    store = case.store()
    kept = {name: january.stages[name] for name in ("discover", "split", "size")}
    store.load(DATASET, january.run_id)
    store.save(january.model_copy(update={"stages": kept, "status": "failed"}))
    resumed = case.run(resume=january.run_id).manifest
    assert verified(resumed).drift is None


def test_reading_a_run_back_says_nothing_of_what_is_published_now(case: Case) -> None:
    january = case.run().manifest
    grow(case, FEBRUARY, 600)
    case.run()
    settings = case.settings(quality__max_rows_changed_percent=1)
    assert reverify.verify(settings, january.run_id).drift is None


def test_off_looks_at_nothing_and_counts_reads_no_keys(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.run()
    grow(case, FEBRUARY, 360)

    def refuse(*_: object) -> None:
        raise AssertionError("keys were read")

    monkeypatch.setattr(drift, "compare_bucket", refuse)
    stages = ["discover", "split", "size", "bucket", "verify"]
    assert verified(case.run(stages, quality__drift="off").manifest).drift is None
    counts = drift_of(case.run(stages, quality__drift="counts", buckets__sort=False).manifest)
    assert (counts.rows_before, counts.keys, counts.keys_not_compared) == (300, None, None)


def without_files(case: Case, run: Manifest) -> None:
    for name in case.names():
        (case.target / DATASET / name / run.run_id / "000001_0.snappy.parquet").unlink()


def with_broken_files(case: Case, run: Manifest) -> None:
    for name in case.names():
        (case.target / DATASET / name / run.run_id / "000001_0.snappy.parquet").write_bytes(b"PAR1 not PAR1")


@pytest.mark.parametrize(
    ("changes", "damage", "reason"),
    [
        ({"buckets__count": 8}, None, "its bucket count is 4, that of this run 8"),
        ({"buckets__hash": "spark"}, None, "its bucket hash is hive_v1, that of this run spark"),
        ({"buckets__count": "none"}, None, "a layout without buckets has no bucket to compare"),
        (
            {"datasets__people__key": "people_1_value"},
            None,
            "its key is customer_user_id, that of this run people_1_value",
        ),
        ({}, without_files, "1 of its files are gone, the first is "),
        ({}, with_broken_files, "ArrowInvalid: "),
    ],
)
def test_where_keys_cannot_be_compared_the_run_goes_on_and_says_why(
    case: Case, changes: dict[str, Any], damage: Any, reason: str
) -> None:
    january = case.run().manifest
    grow(case, FEBRUARY, 360)
    if damage:
        damage(case, january)
    seen, report = reports()
    done = case.run(report=report, **changes)
    found = drift_of(done.manifest)
    assert (found.rows_before, found.keys) == (300, None)
    assert (found.keys_not_compared or "").startswith(reason)
    assert f"keys not compared with run {january.run_id}: {reason}" in warnings_in(seen)
    assert done.manifest.status == "finished"


def test_columns_that_come_go_and_change(case: Case) -> None:
    case.run()
    other = case.snapshot(FEBRUARY)
    for path in other.glob("*.parquet"):
        table = pq.ParquetFile(path).read()
        numbers = table["people_1_value"].cast("int32")
        some = pa.array([None if n % 3 == 0 else n for n in numbers.to_pylist()], pa.int32())
        table = table.set_column(1, "people_1_value", some).append_column("fresh", numbers)
        pq.write_table(table.drop_columns(["people_2_mark"]), path)
    lines = [line for line in case.mapping.read_text().splitlines() if "people_2_mark" not in line]
    case.mapping.write_text("\n".join([*lines, ""]))
    found = drift_of(case.run().manifest)
    assert (found.new_columns, found.vanished_columns) == (("fresh",), ("people_2_mark",))
    (change,) = found.changed_types
    assert (change.name, change.before, change.now) == ("people_1_value", "int64", "int32")
    shares = {share.name: (share.before, round(share.now, 3)) for share in found.null_shares}
    assert shares["people_1_value"] == (0.0, 0.333)
    assert found.null_shares_unknown == 0


def test_a_manifest_of_before_has_no_nulls_and_is_compared_all_the_same(case: Case) -> None:
    january = case.run().manifest
    path = case.manifest_file(january.run_id)
    document = json.loads(path.read_text())
    for column in document["stages"]["discover"]["result"]["columns"]:
        del column["null_count"]
    del document["stages"]["verify"]["result"]["drift"]
    path.write_text(json.dumps(document))
    grow(case, FEBRUARY, 360)
    found = drift_of(case.run().manifest)
    assert (found.null_shares, found.null_shares_unknown) == ((), 1 + 2 * case.tables)
    assert found.keys is not None


def shown(name: str, run_id: str, dataset: str = DATASET) -> CatalogTable:
    parameters = {"bucketwheel.run_id": run_id, "bucketwheel.dataset": dataset}
    return CatalogTable(name=name, location="", columns=(), parameters=parameters)


OLD, NEW, OTHER = (f"2025-0{n}-01-2025040{n}T120000Z-00000{n}" for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("tables", "prefixes", "expected"),
    [
        ([("bucketed_a", OLD), ("ext_a", NEW)], {}, OLD),
        ([("ext_a", OLD), ("ext_b", NEW)], {}, NEW),
        ([("bucketed_a", OLD), ("bucketed_b", NEW), ("ext_c", OTHER)], {}, NEW),
        ([("a", OLD), ("ext_a", NEW)], {"catalog__final_prefix": ""}, OLD),
        ([("EXT_FINAL_A", OLD), ("ext_a", NEW)], {"catalog__final_prefix": "ext_final_"}, OLD),
        ([("bucketed_a", "by hand")], {}, None),
        ([], {}, None),
    ],
)
def test_the_published_run_is_that_of_the_final_tables_else_of_the_staged_ones(
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    tables: list[tuple[str, str]],
    prefixes: dict[str, str],
    expected: str | None,
) -> None:
    catalog = MemoryCatalog()
    for name, run_id in tables:
        catalog.put(shown(name, run_id), None)
    catalog.put(shown("bucketed_z", OTHER, "others"), None)
    catalog.add_foreign("bucketed_of_somebody")
    monkeypatch.setattr(plugins, "catalog", lambda _: catalog)
    manifest = case.run(["discover"]).manifest
    monkeypatch.setattr(RunStore, "load", lambda *names: manifest.model_copy(update={"run_id": names[-1]}))
    services = drift_services(case, prefixes)
    found = drift.published_run(manifest, services)
    assert (found and found.run_id) == expected
    assert drift.published_run(manifest.model_copy(update={"run_id": expected or "x"}), services) is None


def drift_services(case: Case, changes: dict[str, str]) -> Services:
    return make_services(case.settings(**changes), RunRequest(DATASET), lambda _: None, utc_now)


def test_one_file_that_cannot_be_read_ends_the_comparison(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.buckets = 64
    case.run()
    grow(case, FEBRUARY, 360)
    asked: list[Path] = []

    def broken(now: Any, *_: object) -> KeyCounts:
        asked.append(now)
        raise OSError("the disk is gone")

    monkeypatch.setattr(drift, "compare_bucket", broken)
    assert drift_of(case.run().manifest).keys_not_compared == "OSError: the disk is gone"
    assert len(asked) < 64
