"""The record of what is live beside the data: the rule of the snapshot date, times, failures and rollbacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cloud_support import Cloud

from bucketwheel.errors import StorageError
from bucketwheel.pipeline import live, rollback
from bucketwheel.runs.manifest import Manifest
from bucketwheel.settings import STAGES
from bucketwheel.storage import Storage
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, reports, warnings_in

MIX = f"the tables of people show 2 snapshots: {FEBRUARY}: people_1; {JANUARY}: people_2; metadata/snapshot_dt.txt"


def snapshot_file(case: Case) -> Path:
    return Path(case.store().snapshot_file(DATASET))


def tables_file(case: Case) -> Path:
    return snapshot_file(case).with_name("tables.json")


def recorded(case: Case) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(tables_file(case).read_text())
    return document


def snapshots(case: Case) -> dict[str, str]:
    return {name: table["snapshot_dt"] for name, table in recorded(case)["tables"].items()}


def run_of(case: Case, date: str, *tables: str) -> Manifest:
    if not (case.mapping.parent / f"snapshot_dt={date}").exists():
        case.snapshot(date)
    return case.run(snapshot_dt=date, tables=tables).manifest


def test_whole_run_records_its_snapshot_for_every_table(case: Case) -> None:
    run_id = run_of(case, JANUARY).run_id
    assert snapshot_file(case).read_bytes() == JANUARY.encode()
    document = recorded(case)
    assert {name: document[name] for name in ("schema_version", "dataset", "snapshot_dt")} == {
        "schema_version": 1,
        "dataset": DATASET,
        "snapshot_dt": JANUARY,
    }
    table = document["tables"]["people_1"]
    assert (table["name"], table["run_id"], table["retired"]) == ("bucketed_people_1", run_id, False)
    assert table["location"] == str(case.target / DATASET / "people_1" / run_id)
    before = case.tree()
    assert not case.run().changed
    assert {path: stat for path, stat in case.tree().items() if "lease" not in path} == {
        path: stat for path, stat in before.items() if "lease" not in path
    }


def test_filtered_run_of_newer_snapshot_keeps_oldest_date_and_warns(case: Case) -> None:
    run_of(case, JANUARY)
    case.snapshot(FEBRUARY)
    steps, report = reports()
    manifest = case.run(tables=["people_1"], report=report).manifest
    assert manifest.status == "finished"
    assert (snapshot_file(case).read_text(), snapshots(case)) == (
        JANUARY,
        {"people_1": FEBRUARY, "people_2": JANUARY},
    )
    assert MIX in warnings_in(steps)
    assert [warning.startswith(MIX) for warning in manifest.ctas.warnings] == [True]
    assert not case.run(tables=["people_1"]).changed
    rest = run_of(case, FEBRUARY, "people_2")
    assert (snapshot_file(case).read_text(), rest.ctas.warnings) == (FEBRUARY, ())


def test_filtered_run_of_older_snapshot_names_the_older_date(case: Case) -> None:
    run_of(case, FEBRUARY)
    run_of(case, JANUARY, "people_2")
    assert (snapshot_file(case).read_text(), snapshots(case)) == (
        JANUARY,
        {"people_1": FEBRUARY, "people_2": JANUARY},
    )


def test_first_run_with_filter_records_its_tables_only(case: Case) -> None:
    run_of(case, JANUARY, "people_2")
    assert (snapshot_file(case).read_text(), snapshots(case)) == (JANUARY, {"people_2": JANUARY})


def test_table_dropped_from_mapping_does_not_hold_back_the_date(case: Case) -> None:
    run_of(case, JANUARY)
    case.mapping.write_text("\n".join(case.mapping.read_text().splitlines()[:3]) + "\n")
    run_of(case, FEBRUARY)
    assert (snapshot_file(case).read_text(), snapshots(case)) == (
        FEBRUARY,
        {"people_1": FEBRUARY, "people_2": JANUARY},
    )
    assert {name: table["retired"] for name, table in recorded(case)["tables"].items()} == {
        "people_1": False,
        "people_2": True,
    }
    assert not case.run().changed


def test_rollback_records_its_time_and_mix(case: Case) -> None:
    first = run_of(case, JANUARY).run_id
    filtered = run_of(case, FEBRUARY, "people_1").run_id
    before = recorded(case)["tables"]
    rollback.rollback(case.settings(), first)
    after = recorded(case)["tables"]
    assert (snapshot_file(case).read_text(), snapshots(case)) == (JANUARY, {"people_1": JANUARY, "people_2": JANUARY})
    assert after["people_2"] == before["people_2"]
    (tables,) = live.tables(case.settings())
    published = {table.table: table.published for table in tables.published}
    assert published == {name: table["published"] for name, table in after.items()}
    rollback.rollback(case.settings(), filtered, force=True)
    assert (snapshot_file(case).read_text(), snapshots(case)["people_1"]) == (JANUARY, FEBRUARY)


@pytest.mark.parametrize("content", [None, "{", '{"schema_version": 9}'])
def test_rerun_writes_missing_or_damaged_record_again(case: Case, content: str | None) -> None:
    run_of(case, JANUARY)
    before = recorded(case)
    if content is None:
        tables_file(case).unlink()
    else:
        tables_file(case).write_text(content)
    (tables,) = live.tables(case.settings())
    assert tables.problems == ()
    case.run()
    assert snapshots(case) == {name: table["snapshot_dt"] for name, table in before["tables"].items()}
    assert not case.run().changed


@pytest.mark.parametrize("earlier", [True, False])
def test_failed_snapshot_date_restores_record(case: Case, monkeypatch: pytest.MonkeyPatch, earlier: bool) -> None:
    if earlier:
        run_of(case, JANUARY)
    before = tables_file(case).read_bytes() if earlier else None
    case.snapshot(MARCH)
    replace = Storage.replace

    def fail(storage: Storage, location: str, content: bytes, version: str | None) -> str:
        if location.endswith("snapshot_dt.txt"):
            raise StorageError("disk full")
        return replace(storage, location, content, version)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "replace", fail)
        with pytest.raises(StorageError, match="disk full"):
            case.run()
    assert (tables_file(case).read_bytes() if tables_file(case).exists() else None) == before
    case.run(resume="last")
    assert (snapshot_file(case).read_text(), set(snapshots(case).values())) == (MARCH, {MARCH})


def test_stages_without_ctas_write_no_record(case: Case) -> None:
    case.run(STAGES[:6])
    assert not snapshot_file(case).exists()
    assert not tables_file(case).exists()


def test_record_on_s3_with_glue_catalog(cloud: Cloud) -> None:
    cloud.run()
    run_of(cloud, FEBRUARY, "people_1")
    store = cloud.store()
    record = store.published(DATASET)
    assert record is not None
    assert store.published_snapshot(DATASET) == record.snapshot_dt == JANUARY
    assert {name: table.snapshot_dt for name, table in record.tables.items()} == {
        "people_1": FEBRUARY,
        "people_2": JANUARY,
    }
    assert not cloud.run(tables=["people_1"]).changed
