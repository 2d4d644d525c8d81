"""What the catalog shows: runs, rows, bytes, files, mixes of snapshots and retired tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cloud_support import Cloud
from copies_support import Copying
from live_support import NEW, OLD, look, made

from bucketwheel.catalogs.live import LiveCount, LiveDataset, LiveTable, count_live
from bucketwheel.errors import SelectionError
from bucketwheel.pipeline import live, rollback
from bucketwheel.settings import STAGES
from runs_support import DATASET, FEBRUARY, JANUARY, Case


def tables(case: Case, **changes: Any) -> LiveDataset:
    (dataset_tables,) = live.tables(case.settings(**changes))
    return dataset_tables


def by_name(live_tables: LiveDataset) -> dict[str, LiveTable]:
    return {table.name: table for table in live_tables.tables}


def test_tables_show_run_rows_bytes_and_files(case: Case) -> None:
    manifest = case.run().manifest
    live_tables = tables(case)
    assert [table.name for table in live_tables.tables] == [
        "bucketed_people_1",
        "bucketed_people_2",
        "ext_people_1",
        "ext_people_2",
    ]
    assert (live_tables.snapshot_dt, live_tables.snapshots, live_tables.warnings, live_tables.problems) == (
        JANUARY,
        [JANUARY],
        (),
        (),
    )
    written = {table.name: (table.rows, table.bytes, table.files) for table in manifest.verify.tables}
    for table in live_tables.tables:
        assert (table.run_id, table.snapshot_dt) == (manifest.run_id, JANUARY)
        assert (table.rows, table.bytes, table.files) == written[table.table]
        assert (table.missing_files, table.differs, table.retired) == (0, None, False)
    last = manifest.stages["ctas"]
    assert by_name(live_tables)["bucketed_people_1"].published >= last.started  # type: ignore[operator]


def test_filtered_run_of_another_snapshot_is_a_mix(case: Case) -> None:
    case.run()
    case.snapshot(FEBRUARY)
    second = case.run(tables=["people_1"]).manifest.run_id
    live_tables = tables(case)
    assert (live_tables.snapshot_dt, live_tables.snapshots) == (JANUARY, [JANUARY, FEBRUARY])
    assert live_tables.warnings == (
        f"the tables of people show 2 snapshots: {FEBRUARY}: people_1; {JANUARY}: people_2; "
        "metadata/snapshot_dt.txt names the oldest",
    )
    assert live_tables.problems == ()
    assert {table.table: table.snapshot_dt for table in live_tables.published} == {
        "people_1": FEBRUARY,
        "people_2": JANUARY,
    }
    assert by_name(live_tables)["bucketed_people_1"].run_id == second


def test_filtered_run_of_same_snapshot_is_no_mix(tmp_path: Path) -> None:
    case = Case(tmp_path, tables=3)
    case.snapshot(JANUARY)
    case.run()
    case.run(tables=["people_1"])
    live_tables = tables(case)
    assert (live_tables.snapshots, live_tables.warnings) == ([JANUARY], ())
    assert [table.differs for table in live_tables.published] == ["run", None, None]


def test_missing_files_are_counted_and_reported(case: Case) -> None:
    run_id = case.run().manifest.run_id
    directory = case.target / DATASET / "people_2" / run_id
    first, second, *_ = sorted(directory.iterdir())
    first.unlink()
    second.write_bytes(b"short")
    live_tables = tables(case)
    assert [table.missing_files for table in live_tables.tables] == [0, 2, 0, 2]
    assert live_tables.problems == (
        f"bucketed_people_2, ext_people_2: 2 of 4 files in {directory} are missing or have another size; write them "
        f"again: bucketwheel run people --snapshot-dt {JANUARY}",
    )
    case.run(snapshot_dt=JANUARY)
    assert tables(case).problems == ()


@pytest.mark.parametrize("change", ["path", "database"])
def test_published_run_without_tables_is_a_problem(case: Case, change: str) -> None:
    assert tables(case).problems == ()
    run_id = case.run().manifest.run_id
    other = str(case.root / "other.duckdb") if change == "path" else "other"
    live_tables = tables(case, **{f"catalog__{change}": other})
    place = f"{other}, which does not exist" if change == "path" else f"{case.catalog}, database other"
    assert live_tables.tables == ()
    assert live_tables.problems == (
        f"people: the catalog ({place}) has no table of its runs, although {run_id} was published. Correct the "
        f"settings, or rebuild the catalog: bucketwheel catalog rebuild {DATASET}",
    )
    case.catalog.unlink()
    rollback.rollback(case.settings(), run_id)
    assert tables(case).problems == ()


def test_table_of_run_without_manifest_has_unknown_rows(case: Case) -> None:
    run_id = case.run().manifest.run_id
    case.manifest_file(run_id).write_text("{")
    live_tables = tables(case)
    assert {(table.rows, table.bytes, table.files, table.missing_files) for table in live_tables.tables} == {
        (None, None, None, None)
    }
    assert {(table.run_id, table.snapshot_dt) for table in live_tables.tables} == {(run_id, JANUARY)}
    (warning,) = live_tables.warnings
    assert warning.startswith(f"{case.manifest_file(run_id)}: is not a manifest")


def test_copied_table_shows_size_of_copy(copying: Copying) -> None:
    copying.run()
    by_table = by_name(tables(copying))
    copies = {copy.table: copy for copy in copying.result(copying.manifests()[0].run_id).copies}
    for name, copy in copies.items():
        table = by_table[f"bucketed_{name}"]
        assert (table.location, table.rows, table.bytes) == (copy.location, copy.rows, copy.bytes)
        assert (table.files, table.missing_files) == (copy.files, 0)
    next(iter((copying.target / DATASET / "people_1").glob("ctas-*/*"))).unlink()
    assert by_name(tables(copying))["bucketed_people_1"].missing_files == 1


def test_tables_of_glue_catalog_and_target_on_s3(cloud: Cloud) -> None:
    cloud.run()
    cloud.snapshot(FEBRUARY)
    cloud.run(tables=["people_2"])
    live_tables = tables(cloud)
    assert [(table.table, table.snapshot_dt, table.rows, table.missing_files) for table in live_tables.published] == [
        ("people_1", JANUARY, 60, 0),
        ("people_2", FEBRUARY, 60, 0),
    ]
    assert (live_tables.snapshots, live_tables.problems) == ([JANUARY, FEBRUARY], ())


@pytest.mark.parametrize(
    ("catalog", "prefixes", "expected"),
    [
        ({"bucketed_a": OLD, "ext_a": NEW}, {}, {"a": OLD}),
        ({"ext_a": OLD, "ext_b": NEW}, {}, {"a": OLD, "b": NEW}),
        ({"a": OLD, "ext_a": NEW}, {"catalog__final_prefix": ""}, {"a": OLD}),
        ({"EXT_FINAL_A": OLD, "ext_a": NEW}, {"catalog__final_prefix": "ext_final_"}, {"A": OLD}),
        ({"old_a": OLD}, {}, {}),
    ],
)
def test_published_tables_are_final_or_else_staged(
    case: Case, catalog: dict[str, str], prefixes: dict[str, str], expected: dict[str, str]
) -> None:
    live_tables = look(case, catalog, **prefixes)
    assert {table.table: table.run_id for table in live_tables.published} == expected


def test_table_that_newer_whole_run_lacks_is_retired(case: Case) -> None:
    catalog = {"bucketed_a": NEW, "bucketed_b": OLD}
    dropped = look(case, catalog, made(OLD, "ab"), made(NEW, "a"))
    assert [table.table for table in dropped.current] == ["a"]
    assert (dropped.snapshot_dt, dropped.mix_text()) == (NEW[:10], "")
    filtered = look(case, catalog, made(OLD, "ab"), made(NEW, "a", ["a"]))
    assert [table.table for table in filtered.current] == ["a", "b"]
    assert filtered.snapshot_dt == OLD[:10]


def test_differing_tables_are_those_of_the_minority(case: Case) -> None:
    catalog = {"bucketed_a": OLD, "bucketed_b": NEW, "bucketed_c": NEW, "ext_a": OLD}
    live_tables = look(case, catalog, made(OLD, "abc"), made(NEW, "bc", ["b", "c"]))
    assert {table.name: table.differs for table in live_tables.tables} == {
        "bucketed_a": "snapshot",
        "bucketed_b": None,
        "bucketed_c": None,
        "ext_a": "snapshot",
    }
    assert live_tables.newest_run() == NEW


@pytest.mark.parametrize(
    ("catalog", "expected"),
    [
        ({"bucketed_a": OLD, "bucketed_b": OLD, "ext_a": NEW}, LiveCount(2, 2, "final")),
        ({"bucketed_a": OLD, "bucketed_b": NEW, "ext_a": OLD, "ext_b": OLD}, LiveCount(1, 2, "final")),
        ({"bucketed_a": NEW, "ext_a": OLD}, LiveCount(1, 2, "staged")),
        ({"ext_a": OLD}, LiveCount(1, 2, "staged")),
        ({"bucketed_a": NEW}, LiveCount(0, 2, "final")),
        ({}, LiveCount(0, 2, "final")),
    ],
)
def test_shown_counts_tables_of_a_run(case: Case, catalog: dict[str, str], expected: LiveCount) -> None:
    run = made(OLD, "ab")
    assert count_live(run, look(case, catalog, run)) == expected


def test_shown_of_run_without_tables_is_none(case: Case) -> None:
    manifest = case.run(STAGES[:1]).manifest
    assert count_live(manifest, look(case, {})) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pe_ople", "no dataset 'pe_ople'; did you mean 'people'? known: people"),
        ("people_1", "no dataset 'people_1'; 'bucketed_people_1' is a table of dataset 'people'; known: people"),
        ("zzz", "no dataset 'zzz'; known: people"),
    ],
)
def test_unknown_dataset_is_refused_with_hint(case: Case, name: str, message: str) -> None:
    case.run()
    with pytest.raises(SelectionError) as caught:
        live.tables(case.settings(), name)
    assert str(caught.value) == message
