"""Comparison of a snapshot with the published one: recorded values, unknown values and refusals."""

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
from bucketwheel.catalogs.live import live_runs
from bucketwheel.contracts import CatalogTable, Services
from bucketwheel.errors import VerificationError
from bucketwheel.pipeline import reverify, rollback
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.runs.drift_records import Drift, KeyCounts, KeyOverlap
from bucketwheel.runs.manifest import Manifest, VerifyResult
from bucketwheel.runs.store import RunStore
from bucketwheel.stages import drift
from memory_catalog import MemoryCatalog
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, reports, warnings_in


def verified(manifest: Manifest) -> VerifyResult:
    return manifest.verify


def drift_of(manifest: Manifest) -> Drift:
    result = verified(manifest).drift
    assert result is not None
    return result


def grow(case: Case, date: str, rows: int, keys: int | None = None) -> None:
    case.rows = rows
    case.snapshot(date, keys=keys)


def test_drift_of_first_run_is_none(case: Case) -> None:
    outcome = verified(case.run().manifest)
    assert (outcome.drift, outcome.warnings) == (None, ())


@pytest.mark.parametrize("memory", ["256MB", "1kB"])
def test_drift_compares_rows_columns_nulls_and_keys(case: Case, memory: str) -> None:
    before = case.run().manifest
    grow(case, FEBRUARY, 360)
    result = drift_of(case.run(memory=memory).manifest)
    assert (result.run_id, result.snapshot_dt) == (before.run_id, JANUARY)
    assert (result.rows_before, result.rows) == (300, 360)
    assert result.rows_changed_percent == pytest.approx(20)
    assert (result.new_columns, result.vanished_columns, result.changed_types) == ((), (), ())
    assert {(share.before, share.now) for share in result.null_shares} == {(0, 0)}
    assert len(result.null_shares) == 1 + 2 * case.tables
    assert result.keys == KeyOverlap(both=300, only_now=60, only_before=0, share=1.0)
    assert result.keys_not_compared is None


def test_drift_counts_distinct_keys_and_fewer_rows(case: Case) -> None:
    case.run()
    grow(case, FEBRUARY, 150, keys=75)
    result = drift_of(case.run().manifest)
    assert result.rows_changed_percent == pytest.approx(50)
    assert result.keys == KeyOverlap(both=75, only_now=0, only_before=225, share=0.25)


def test_drift_compares_with_published_not_newest_run(case: Case) -> None:
    january = case.run().manifest
    grow(case, FEBRUARY, 400)
    case.run(["discover", "split", "size", "bucket", "verify"])
    grow(case, MARCH, 330)
    march = case.run().manifest
    assert drift_of(march).run_id == january.run_id
    rollback.rollback(case.settings(), january.run_id)
    again = case.run(buckets__sort=False, force=True).manifest
    assert drift_of(again).run_id == january.run_id
    rollback.rollback(case.settings(), march.run_id, force=True)
    assert drift_of(case.run(buckets__max_file_bytes=10**6, force=True).manifest).run_id == march.run_id


def test_drift_is_same_after_resume_and_rerun(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.run()
    grow(case, FEBRUARY, 360)
    with monkeypatch.context() as broken:
        break_stage(broken, "ctas")
        with pytest.raises(BoomError):
            case.run()
    first = case.manifests()[-1]
    # The staged tables belong to this run by now; the recorded comparison stays.
    resumed = case.run(resume="last").manifest
    assert resumed.stages["verify"] == first.stages["verify"]
    assert drift_of(resumed).keys is not None
    before = case.tree()
    assert not case.run().changed
    assert case.tree() == before


def test_run_is_not_compared_with_itself(case: Case) -> None:
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


def test_reverify_does_not_compare_with_published_run(case: Case) -> None:
    january = case.run().manifest
    grow(case, FEBRUARY, 600)
    case.run(quality__max_rows_changed_percent=None)
    settings = case.settings(quality__max_rows_changed_percent=1)
    assert reverify.verify(settings, january.run_id).drift is None


def test_drift_off_compares_nothing_and_counts_reads_no_keys(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ({"buckets__count": "none"}, None, "at least one of the two runs has no buckets"),
        (
            {"datasets__people__key": "people_1_value", "quality__schema_changes": "warn"},
            None,
            "its key is customer_user_id, that of this run people_1_value",
        ),
        ({}, without_files, "1 of its files are missing, the first is "),
        ({}, with_broken_files, "ArrowInvalid: "),
    ],
)
def test_incomparable_keys_give_warning_with_reason(
    case: Case, changes: dict[str, Any], damage: Any, reason: str
) -> None:
    january = case.run().manifest
    grow(case, FEBRUARY, 360)
    if damage:
        damage(case, january)
    seen, report = reports()
    outcome = case.run(report=report, **changes)
    result = drift_of(outcome.manifest)
    assert (result.rows_before, result.keys) == (300, None)
    assert (result.keys_not_compared or "").startswith(reason)
    assert f"keys not compared with run {january.run_id}: {reason}" in warnings_in(seen)
    assert outcome.manifest.status == "finished"


def test_drift_lists_new_vanished_and_changed_columns(case: Case) -> None:
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
    result = drift_of(case.run(quality__schema_changes="allow").manifest)
    assert (result.new_columns, result.vanished_columns) == (("fresh",), ("people_2_mark",))
    (change,) = result.changed_types
    assert (change.name, change.before, change.now) == ("people_1_value", "int64", "int32")
    shares = {share.name: (share.before, round(share.now, 3)) for share in result.null_shares}
    assert shares["people_1_value"] == (0.0, 0.333)
    assert [change.text for change in result.schema_changes] == [
        "people_1.people_1_value changed from bigint to int",
        "people_2.people_2_mark was removed",
    ]
    assert result.null_shares_unknown == 0


def test_old_manifest_without_null_counts_is_compared(case: Case) -> None:
    january = case.run().manifest
    path = case.manifest_file(january.run_id)
    document = json.loads(path.read_text())
    for column in document["stages"]["discover"]["result"]["columns"]:
        del column["null_count"]
    del document["stages"]["verify"]["result"]["drift"]
    path.write_text(json.dumps(document))
    grow(case, FEBRUARY, 360)
    result = drift_of(case.run().manifest)
    assert (result.null_shares, result.null_shares_unknown) == ((), 1 + 2 * case.tables)
    assert result.keys is not None


def shown(name: str, run_id: str, dataset: str = DATASET) -> CatalogTable:
    parameters = {"bucketwheel.run_id": run_id, "bucketwheel.dataset": dataset}
    return CatalogTable(name=name, location="", columns=(), parameters=parameters)


OLD, NEW, OTHER = (f"2025-0{n}-01-2025040{n}T120000Z-00000{n}" for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("tables", "prefixes", "expected"),
    [
        ([("bucketed_a", OLD), ("ext_a", NEW)], {}, {"a": OLD}),
        ([("ext_a", OLD), ("ext_b", NEW)], {}, {"a": OLD, "b": NEW}),
        ([("bucketed_a", OLD), ("bucketed_b", NEW), ("ext_c", OTHER)], {}, {"a": OLD, "b": NEW}),
        ([("a", OLD), ("ext_a", NEW)], {"catalog__final_prefix": ""}, {"a": OLD}),
        ([("EXT_FINAL_A", OLD), ("ext_a", NEW)], {"catalog__final_prefix": "ext_final_"}, {"a": OLD}),
        ([("bucketed_a", "by hand")], {}, {}),
        ([], {}, {}),
    ],
)
def test_published_runs_prefer_final_over_staged_tables(
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    tables: list[tuple[str, str]],
    prefixes: dict[str, str],
    expected: dict[str, str],
) -> None:
    catalog = MemoryCatalog()
    for name, run_id in tables:
        catalog.put(shown(name, run_id), None)
    catalog.put(shown("bucketed_z", OTHER, "others"), None)
    catalog.add_foreign("bucketed_foreign")
    monkeypatch.setattr(plugins, "catalog", lambda _: catalog)
    manifest = case.run(["discover"]).manifest
    monkeypatch.setattr(RunStore, "load", lambda *names: manifest.model_copy(update={"run_id": names[-1]}))
    services = drift_services(case, prefixes)
    published = live_runs(catalog.tables(), manifest, services.runs, services.settings)
    assert {name: run.run_id for name, run in published.items()} == expected
    own = manifest.model_copy(update={"run_id": next(iter(expected.values()), "x")})
    others = live_runs(catalog.tables(), own, services.runs, services.settings)
    assert own.run_id not in {run.run_id for run in others.values()}


def test_drift_ignores_table_that_an_earlier_run_dropped(case: Case) -> None:
    case.run()
    case.mapping.write_text("\n".join(case.mapping.read_text().splitlines()[:3]) + "\n")
    case.snapshot(FEBRUARY)
    case.snapshot(MARCH)
    case.changes["quality__schema_changes"] = "allow"
    assert drift_of(case.run(snapshot_dt=FEBRUARY).manifest).removed_tables == ("people_2",)
    assert drift_of(case.run(snapshot_dt=MARCH).manifest).removed_tables == ()


def drift_services(case: Case, changes: dict[str, str]) -> Services:
    return make_services(case.settings(**changes), RunRequest(DATASET), lambda _: None)


def test_unreadable_file_stops_key_comparison(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.buckets = 64
    case.run()
    grow(case, FEBRUARY, 360)
    compared: list[Path] = []

    def broken(now: Any, *_: object) -> KeyCounts:
        compared.append(now)
        raise OSError("the disk is gone")

    monkeypatch.setattr(drift, "compare_bucket", broken)
    assert drift_of(case.run().manifest).keys_not_compared == "OSError: the disk is gone"
    assert len(compared) < 64
