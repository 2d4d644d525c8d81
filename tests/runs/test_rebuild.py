"""The catalog made again from the manifests shows what it showed before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from cloud_support import Cloud

from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.errors import CatalogError, DamagedCatalogError, SelectionError
from bucketwheel.pipeline.live import tables
from bucketwheel.pipeline.rebuild import rebuild, rebuild_plan
from bucketwheel.pipeline.rollback import rollback, unmark
from bucketwheel.system import System, use
from bucketwheel.testing.clock import Clock
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case


def runs_shown(case: Case) -> dict[str, str | None]:
    return {table.name: table.run_id for table in DuckdbCatalog(case.settings()).tables()}


def three(case: Case) -> list[str]:
    """Publish three months after another; return the run ids."""
    run_ids = [case.run().manifest.run_id]
    for month in (FEBRUARY, MARCH):
        case.snapshot(month)
        run_ids.append(case.run().manifest.run_id)
    return run_ids


def roll_back_later(case: Case, run_id: str, minutes: int) -> None:
    """Roll back some minutes from now, because the order of publications is recorded in whole seconds."""
    with use(System(Clock(datetime.now(UTC) + timedelta(minutes=minutes)))):
        rollback(case.settings(), run_id)


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("history", ["newest", "rollback", "forward", "staged", "filtered"])
def test_rebuilt_catalog_shows_what_was_published_last(case: Case, history: str, record: bool) -> None:
    run_ids = three(case) if history in ("rollback", "forward") else [case.run().manifest.run_id]
    if history in ("rollback", "forward"):
        # The run in between was not live, so it is not marked.
        roll_back_later(case, run_ids[0], minutes=1)
    if history == "forward":
        unmark(case.settings(), run_ids[2])
        roll_back_later(case, run_ids[2], minutes=2)
    if history in ("staged", "filtered"):
        case.snapshot(FEBRUARY)
        names = [f"{DATASET}_2"] if history == "filtered" else []
        case.run(["discover", "split", "size", "bucket", "verify", "register"], tables=names)
    if history == "filtered":
        case.run(["ctas"])
    if not record:
        (case.snapshot_file().parent / "tables.json").unlink()
    before, marks = runs_shown(case), case.shown()
    case.catalog.unlink()
    (live,) = tables(case.settings(), DATASET)
    assert f"rebuild the catalog: bucketwheel catalog rebuild {DATASET}" in str(live.problems)
    result = rebuild(case.settings())
    assert {table.action for table in result.tables} == {"create"}
    assert runs_shown(case) == before
    assert case.shown() == marks
    (live,) = tables(case.settings(), DATASET)
    assert live.problems == ()


def test_following_the_message_of_a_damaged_catalog_works(case: Case) -> None:
    case.run()
    before, marks = runs_shown(case), case.shown()
    case.catalog.write_bytes(case.catalog.read_bytes()[:5000])
    with pytest.raises(DamagedCatalogError, match=r"rebuild it from the manifests.*: bucketwheel catalog rebuild"):
        tables(case.settings(), DATASET)
    plan = rebuild_plan(case.settings())
    assert "damaged" in plan.damaged
    assert plan.set_aside == ""
    assert len(list(case.catalog.parent.glob("*.damaged-*"))) == 0
    result = rebuild(case.settings())
    assert Path(result.set_aside).stat().st_size == 5000
    assert runs_shown(case) == before
    assert case.shown() == marks
    case.snapshot(FEBRUARY)
    assert case.run().changed


def test_rebuild_of_a_correct_catalog_changes_nothing(case: Case) -> None:
    case.run()
    before = case.catalog.read_bytes()
    result = rebuild(case.settings())
    assert {table.action for table in result.tables} == {"unchanged"}
    assert case.catalog.read_bytes() == before


def test_tables_that_show_another_run_are_changed_only_on_request(case: Case) -> None:
    case.run()
    catalog = DuckdbCatalog(case.settings())
    old = catalog.get(f"bucketed_{DATASET}_1")
    case.snapshot(FEBRUARY)
    february = case.run().manifest.run_id
    assert old is not None
    catalog.put(old, catalog.get(old.name))
    before = case.catalog.read_bytes()
    with pytest.raises(SelectionError, match=r"can be read, and 1 table in it.*people_1; nothing was changed"):
        rebuild(case.settings())
    (replaced,) = rebuild_plan(case.settings(), [DATASET]).replaced
    assert (replaced.run_id, replaced.shown) == (february, old.run_id)
    assert case.catalog.read_bytes() == before
    rebuild(case.settings(), replace=True)
    assert set(runs_shown(case).values()) == {february}


def test_table_without_its_files_is_left_out_and_named(case: Case) -> None:
    january = case.run().manifest.run_id
    case.catalog.unlink()
    next(Path(case.store().data_directory(DATASET, f"{DATASET}_1", january)).glob("*.parquet")).unlink()
    result = rebuild(case.settings())
    assert sorted(runs_shown(case)) == [f"bucketed_{DATASET}_2", f"ext_{DATASET}_2"]
    assert len(result.problems) == 2
    assert f"bucketed_{DATASET}_1: files of run {january}" in str(result.problems)


def test_withdrawn_run_is_not_shown_again(case: Case) -> None:
    january = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    case.run()
    rollback(case.settings(), january)
    case.catalog.unlink()
    (case.snapshot_file().parent / "tables.json").write_text("{")
    rebuild(case.settings())
    assert set(runs_shown(case).values()) == {january}


def test_tables_of_others_stay_as_they_are(case: Case) -> None:
    case.run()
    catalog = DuckdbCatalog(case.settings())
    foreign = catalog.get(f"ext_{DATASET}_1")
    assert foreign is not None
    catalog.remove(foreign)
    with duckdb.connect(str(case.catalog)) as connection:
        connection.execute(f'CREATE TABLE "{case.database}"."ext_{DATASET}_1" AS SELECT 1 AS one')
    with pytest.raises(CatalogError, match="not created by Bucketwheel"):
        rebuild(case.settings(), replace=True)


def test_rebuild_publishes_lost_tables_in_glue_again(cloud: Cloud) -> None:
    cloud.run()
    before = cloud.tables_shown()
    catalog = GlueCatalog(cloud.settings())
    for table in catalog.tables():
        catalog.remove(table)
    result = rebuild(cloud.settings())
    assert {table.action for table in result.tables} == {"create"}
    assert cloud.tables_shown() == before
    assert cloud.marks(f"bucketed_{DATASET}_1") == {JANUARY}
