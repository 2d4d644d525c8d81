"""Layouts of one run are published, undone, rolled back, rebuilt and expired together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bucketwheel import plugins
from bucketwheel.catalogs.journal import Journal
from bucketwheel.cli.live_text import tables_document, tables_text
from bucketwheel.cli.summary import published_part
from bucketwheel.contracts import CatalogTable
from bucketwheel.doctor import inputs
from bucketwheel.errors import CatalogError, ForeignTableError
from bucketwheel.monitoring.run_metrics import metric_values
from bucketwheel.pipeline.expire import expirable, expire
from bucketwheel.pipeline.live import tables
from bucketwheel.pipeline.plan import plan
from bucketwheel.pipeline.rebuild import rebuild
from bucketwheel.pipeline.rollback import previous_run, rollback
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.report.render import render
from bucketwheel.runs.publications import publications
from bucketwheel.runs.summary import summarize
from memory_catalog import MemoryCatalog
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, reports, warnings_in

HIVE: Any = {"name": "hive", "hash": "hive_v1"}
SPARK: Any = {"name": "spark", "hash": "spark", "buckets": 2}
ICEBERG: Any = {"name": "ice", "hash": "iceberg", "buckets": 2}
LAYOUTS = [HIVE, SPARK, ICEBERG]
PREFIXES = ("bucketed_", "spark_", "ice_")
FINAL = [f"{prefix}people_{number}" for prefix in PREFIXES for number in (1, 2)]
STAGED = ["ext_people_1", "ext_people_2"]


class Killed(BaseException):
    """The process is gone: no later call succeeds."""


class Layouts(Case):
    """A case whose catalogs are in memory and can refuse or be killed at a put; puts count over both catalogs."""

    main = MemoryCatalog()
    iceberg = MemoryCatalog()
    puts = 0
    dead = False

    def stop_at(self, put: int, error: Callable[[], BaseException], forever: bool = False) -> None:
        """Fail at this put, counted from now on; `forever`: also at all later calls."""

        def stop(_: int, __: CatalogTable) -> None:
            self.puts += 1
            self.dead = self.dead or (forever and self.puts == put)
            if self.dead or self.puts == put:
                raise error()

        self.puts, self.dead = 0, False
        for catalog in (self.main, self.iceberg):
            catalog.before_put = stop

    def revive(self) -> None:
        self.dead = False
        for catalog in (self.main, self.iceberg):
            catalog.before_put = lambda _number, _table: None

    def runs_shown(self, prefixes: tuple[str, ...] = PREFIXES) -> dict[str, str | None]:
        """Return the run of each table whose name has one of the prefixes."""
        shown = [*self.main.tables(), *self.iceberg.tables()]
        return {table.name: table.run_id for table in shown if table.name.startswith(prefixes)}


@pytest.fixture
def layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layouts:
    """A case that published January in all layouts, and has a snapshot of February."""
    case = Layouts(tmp_path, rows=60, changes={"catalog__kind": "memory", "layouts": LAYOUTS})
    case.main, case.iceberg = MemoryCatalog(), MemoryCatalog()
    members = {"memory": case.main, "iceberg": case.iceberg}
    for kind in members:
        monkeypatch.setitem(plugins._BUILT_IN["catalogs"], kind, "memory_catalog:MemoryCatalog")
    monkeypatch.setattr(plugins, "catalog_of_kind", lambda _, kind: members[kind])
    end = Journal.end
    monkeypatch.setattr(Journal, "end", lambda journal: end(journal) if not case.dead else _gone())
    case.snapshot(JANUARY)
    case.run()
    case.snapshot(FEBRUARY)
    return case


def _gone() -> list[str]:
    raise Killed


def newest(case: Case) -> str:
    return case.store().all_run_ids(DATASET)[-1]


def has_files(case: Case, run_id: str) -> bool:
    return any(case.target.glob(f"{DATASET}/*/{run_id}/*"))


def test_all_layouts_are_published_together(layouts: Layouts) -> None:
    run = layouts.manifests()[0]
    assert layouts.runs_shown() == dict.fromkeys(FINAL, run.run_id)
    assert [table.name for table in layouts.main.tables()] == [*FINAL[:2], *STAGED, *FINAL[2:4]]
    assert [table.name for table in layouts.iceberg.tables()] == FINAL[4:]
    record = json.loads((layouts.snapshot_file().parent / "tables.json").read_text())
    assert sorted(record["tables"]) == ["people_1", "people_2"]
    assert {layout: sorted(names) for layout, names in record["other_layouts"].items()} == {
        "spark": ["people_1", "people_2"],
        "ice": ["people_1", "people_2"],
    }
    (live,) = tables(layouts.settings(), DATASET)
    assert (live.warnings, live.problems) == ((), ())
    assert {table.missing_files for table in live.tables} == {0}
    assert [table.rows for table in live.published] == [60] * len(FINAL)


def test_run_that_is_published_in_all_layouts_is_up_to_date(layouts: Layouts) -> None:
    layouts.run()
    assert not layouts.run().changed
    ice = layouts.iceberg.get("ice_people_2")
    assert ice is not None
    layouts.iceberg.remove(ice)
    assert layouts.run().changed
    assert layouts.runs_shown() == dict.fromkeys(FINAL, newest(layouts))


@pytest.mark.parametrize("put", range(1, len(FINAL) + 1))
def test_failed_update_of_any_layout_undoes_all(layouts: Layouts, put: int) -> None:
    january = newest(layouts)
    layouts.stop_at(len(STAGED) + put, lambda: CatalogError("access denied"))
    with pytest.raises(CatalogError, match="access denied"):
        layouts.run()
    assert layouts.runs_shown() == dict.fromkeys(FINAL, january)
    assert layouts.snapshot_dt() == JANUARY


@pytest.mark.parametrize("put", [2, 3, 5, len(FINAL)])
@pytest.mark.parametrize("finished", [True, False])
def test_publication_killed_between_layouts_is_settled_by_the_next_command(
    layouts: Layouts, put: int, finished: bool
) -> None:
    january = newest(layouts)
    layouts.stop_at(len(STAGED) + put, Killed, forever=True)
    with pytest.raises(Killed):
        layouts.run()
    layouts.revive()
    february = newest(layouts)
    assert sorted(filter(None, layouts.runs_shown().values())) == [january] * (len(FINAL) + 1 - put) + [february] * (
        put - 1
    )
    if not finished:
        next(Path(layouts.store().data_directory(DATASET, "people_2", february, "spark")).glob("*")).unlink()
    events, report = reports()
    expire(layouts.settings(), 5, report=report)
    assert layouts.runs_shown() == dict.fromkeys(FINAL, february if finished else january)
    assert f"the publication of run {february}" in warnings_in(events)


def test_rollback_returns_all_layouts(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.run()
    assert previous_run(layouts.settings(), DATASET) == january
    events, report = reports()
    rollback(layouts.settings(), january, report)
    assert layouts.runs_shown(("",)) == dict.fromkeys([*FINAL, *STAGED], january)
    assert "not rolled back" not in warnings_in(events)


def test_rollback_before_a_layout_was_added_names_its_tables(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.changes["layouts"] = [*LAYOUTS, {"name": "late", "hash": "hive_v2"}]
    february = layouts.run().manifest.run_id
    events, report = reports()
    rollback(layouts.settings(), january, report)
    assert layouts.runs_shown() == dict.fromkeys(FINAL, january)
    assert layouts.runs_shown(("late_",)) == dict.fromkeys(["late_people_1", "late_people_2"], february)
    assert (
        f"run {january} has no layout 'late', so 2 tables of that layout still show {february}: late_people_1, "
        "late_people_2; to show snapshot 2025-01-31 in all layouts: bucketwheel run people --snapshot-dt 2025-01-31"
    ) in warnings_in(events)
    # The advice works, and nothing is left of February.
    run = layouts.run(snapshot_dt=JANUARY).manifest.run_id
    assert set(layouts.runs_shown(("",)).values()) == {run}


def test_rollback_publishes_a_layout_that_was_removed_since(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.changes["layouts"] = [HIVE]
    february = layouts.run().manifest.run_id
    assert layouts.runs_shown() == {**dict.fromkeys(FINAL, january), **dict.fromkeys(FINAL[:2], february)}
    events, report = reports()
    rollback(layouts.settings(), january, report)
    assert layouts.runs_shown() == dict.fromkeys(FINAL, january)
    # Without an Iceberg layout, no Iceberg catalog is configured.
    assert f"layouts of run {january} that were not published again" in warnings_in(events)
    assert "no prefix for them: ice" in warnings_in(events)


def test_tables_of_a_removed_layout_are_named_and_keep_their_run(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.changes["layouts"] = [HIVE, ICEBERG]
    for month in (FEBRUARY, MARCH):
        layouts.snapshot(month) if month == MARCH else None
        layouts.run()
    text = (
        f"people: layout 'spark' is not configured, but 2 tables of it still show {january}: spark_people_1, "
        "spark_people_2; no run updates them: configure the layout again, or remove them from the catalog"
    )
    (live,) = tables(layouts.settings(), DATASET)
    assert live.warnings == (text,)
    assert live.snapshot_dt == MARCH
    events, report = reports()
    deleted = expire(layouts.settings(), 1, report=report)
    assert january not in [run.run_id for run in deleted]
    assert text in warnings_in(events)
    assert january in layouts.store().ids(DATASET)


def test_expire_deletes_the_files_of_all_layouts(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.run()
    metadata = layouts.target / DATASET / "spark.people_1" / "metadata"
    metadata.mkdir()
    (metadata / "v1.metadata.json").write_text("{}")
    (expired,) = expire(layouts.settings(), 1)
    assert expired.run_id == january
    assert not layouts.hashes(january)
    assert [path.name for path in metadata.iterdir()] == ["v1.metadata.json"]


def test_rebuild_makes_the_tables_of_all_layouts_again(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.run()
    rollback(layouts.settings(), january)
    shown = layouts.runs_shown(("",))
    for catalog in (layouts.main, layouts.iceberg):
        for table in catalog.tables():
            catalog.remove(table)
    rebuild(layouts.settings())
    assert layouts.runs_shown(("",)) == shown
    assert set(shown.values()) == {january}


def test_table_of_another_program_in_any_layout_is_refused_before_the_data(layouts: Layouts) -> None:
    layouts.changes["layouts"] = [HIVE, {**SPARK, "name": "glue"}]
    layouts.main.add_foreign("glue_people_2")
    with pytest.raises(ForeignTableError, match="table 'glue_people_2' exists in the catalog"):
        layouts.run()
    assert not layouts.hashes(newest(layouts))


def test_records_name_every_catalog_of_a_run(layouts: Layouts) -> None:
    records = publications(layouts.store(), DATASET, newest(layouts))
    assert sorted((record.kind, record.database) for record in records) == [("iceberg", "tests"), ("memory", "tests")]


def test_summary_metrics_and_report_count_the_rows_of_one_layout(layouts: Layouts) -> None:
    manifest = layouts.manifests()[0]
    values = {metric.name: value for metric, value in metric_values(manifest, layouts.settings()).items()}
    summary = summarize(manifest, "test", manifest.created, None, values)
    assert [(table.name, table.rows) for table in summary.tables] == [
        ("ice.people_1", 60),
        ("ice.people_2", 60),
        ("people_1", 60),
        ("people_2", 60),
        ("spark.people_1", 60),
        ("spark.people_2", 60),
    ]
    assert (values["Rows"], values["NullKeys"], values["DuplicateKeys"]) == (60, 0, 0)
    assert values["BytesWritten"] == summary.bytes == sum(table.bytes for table in manifest.verify.tables)
    largest = max(outcome.rows for outcome in manifest.bucket.first_layout) * layouts.buckets
    assert values["Skew"] >= round(largest / 60, 4)
    page = render(manifest)
    assert "hive: 4 buckets, hive_v1, sorted; spark: 2 buckets, spark, sorted; ice: 2 buckets, iceberg" in page
    assert "spark_&lt;table&gt;" in page
    assert "4 columns" in page
    for name, count in (("hive", 4), ("spark", 2), ("ice", 2)):
        part = page.partition(f"Layout {name}.")[2].partition(f"Largest buckets of layout {name}</summary>")
        assert f"{count} buckets, {60 // count} rows on average" in part[0]
    assert page.count("Files by size") == 1


def test_tables_show_the_layout_where_there_are_several(layouts: Layouts) -> None:
    (live,) = tables(layouts.settings(), DATASET)
    text = tables_text(live)
    assert "people: 6 tables, snapshot 2025-01-31" in text
    assert ["spark_people_2", "spark"] in [line.split()[:2] for line in text.splitlines()]
    document = tables_document(live)
    assert [table["layout"] for table in document["tables"]] == [
        *["hive"] * 2,
        *["spark"] * 2,
        *["ice"] * 2,
        *["hive"] * 2,
    ]


def test_catalog_of_a_removed_iceberg_layout_protects_its_run(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.changes["layouts"] = [HIVE, SPARK]
    for month in (FEBRUARY, MARCH):
        layouts.snapshot(month) if month == MARCH else None
        layouts.run()
    events, report = reports()
    assert january not in [run.run_id for run in expire(layouts.settings(), 1, report=report)]
    assert any(f"{january} is published in catalog iceberg, database tests" in step.message for step in events)
    (live,) = tables(layouts.settings(), DATASET)
    text = "catalog iceberg, database tests is no longer configured, but 2 tables in it still show"
    assert any(
        f"people: {text} {january}: ice_people_1, ice_people_2; no run updates" in each for each in live.warnings
    )
    (check,) = inputs.checks(layouts.settings(), "local", remote_only=False)
    result = check.look()
    assert (result.state, text in result.found) == ("warning", True)
    assert result.todo == "no run updates them: configure the layout again, or remove them from that catalog"


def test_catalog_that_is_gone_and_no_longer_configured_is_named(tmp_path: Path) -> None:
    case = Case(tmp_path, tables=1, rows=60, changes={"layouts": [HIVE, ICEBERG]})
    case.snapshot(JANUARY)
    case.run()
    case.changes["layouts"] = [HIVE]
    case.snapshot(FEBRUARY)
    case.run()
    (live,) = tables(case.settings(), DATASET)
    assert any("no longer configured, but 1 table in it still shows" in each for each in live.warnings)
    (case.target / "iceberg.db").unlink()
    (live,) = tables(case.settings(), DATASET)
    (text,) = (each for each in live.warnings if "no longer configured" in each)
    assert "iceberg.db does not exist" in text
    catalog_id = text.partition("--forget-catalog ")[2].split()[0]
    expire(case.settings(), 1, forget_catalogs=[catalog_id])
    assert tables(case.settings(), DATASET)[0].warnings == ()


def test_swapped_layouts_are_refused_by_plan_and_work_with_another_prefix(layouts: Layouts) -> None:
    swapped = [ICEBERG | {"prefix": "bucketed_"}, SPARK, HIVE | {"prefix": "ice_"}]
    layouts.changes["layouts"] = swapped
    (obstacle,) = plan(layouts.settings(), RunRequest(DATASET)).obstacles
    for name, kinds in (("bucketed", "a Hive table, .* an Iceberg"), ("ice", "an Iceberg table, .* a Hive")):
        assert re.search(f"table '{name}_people_1' exists as {kinds} table", obstacle)
    text = "Give each of these layouts another prefix: its prefix in layouts, or catalog.final_prefix if the first"
    assert text in obstacle
    layouts.changes["layouts"] = [each | {"prefix": f"new_{each['name']}_"} for each in swapped]
    assert plan(layouts.settings(), RunRequest(DATASET)).obstacles == ()
    run = layouts.run().manifest
    assert set(layouts.runs_shown(("new_",)).values()) == {run.run_id}
    layouts.changes["layouts"] = [ICEBERG, SPARK, HIVE | {"prefix": "new_hive_"}]
    (obstacle,) = plan(layouts.settings(), RunRequest(DATASET)).obstacles
    assert text in obstacle
    assert plan(layouts.settings(catalog__final_prefix="newer_"), RunRequest(DATASET)).obstacles == ()


def test_iceberg_table_with_the_name_of_a_hive_table_is_refused_before_the_data(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.changes["layouts"] = [HIVE, {**ICEBERG, "prefix": "spark_"}]
    text = "table 'spark_people_1' exists as a Hive table, but would be published as an Iceberg table"
    with pytest.raises(ForeignTableError, match=text):
        layouts.run()
    assert not layouts.hashes(newest(layouts))
    assert layouts.runs_shown() == dict.fromkeys(FINAL, january)


def test_staged_tables_are_left_out_if_the_first_layout_is_icebergs(layouts: Layouts) -> None:
    layouts.changes["layouts"] = [{**ICEBERG, "prefix": "first_"}, HIVE | {"prefix": "bucketed_"}]
    run = layouts.run().manifest
    assert run.register.tables == ()
    assert layouts.runs_shown(("first_",)) == dict.fromkeys(["first_people_1", "first_people_2"], run.run_id)
    assert not layouts.run().changed


def test_views_of_duckdb_and_iceberg_tables_follow_the_same_runs(tmp_path: Path) -> None:
    case = Case(tmp_path, tables=1, rows=60, changes={"layouts": [HIVE, ICEBERG]})
    case.snapshot(JANUARY)
    january = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    february = case.run().manifest.run_id

    def shown() -> dict[str, str | None]:
        return {table.name: table.run_id for table in plugins.catalog(case.settings()).tables()}

    names = ["bucketed_people_1", "ext_people_1", "ice_people_1"]
    assert shown() == dict.fromkeys(names, february)
    assert not case.run().changed
    rollback(case.settings(), january)
    assert shown() == dict.fromkeys(names, january)
    case.catalog.unlink()
    actions = {table.name: table.action for table in rebuild(case.settings()).tables}
    assert actions == {"bucketed_people_1": "create", "ext_people_1": "create", "ice_people_1": "unchanged"}
    case.snapshot(MARCH)
    march = case.run().manifest.run_id
    assert [run.run_id for run in expire(case.settings(), 1)] == [january, february]
    assert shown() == dict.fromkeys(names, march)
    directories = {path.name for path in (case.target / DATASET / "ice.people_1").iterdir()}
    assert directories == {"metadata", march}


@pytest.fixture
def mixed(tmp_path: Path) -> Case:
    """A case that published January and February in DuckDB and in an Iceberg catalog."""
    case = Case(tmp_path, tables=1, rows=60, changes={"layouts": [HIVE, ICEBERG]})
    for month in (JANUARY, FEBRUARY):
        case.snapshot(month)
        case.run()
    return case


@pytest.mark.parametrize("lost", ["iceberg.db", "catalog.duckdb"])
def test_expire_refuses_if_one_of_two_configured_catalogs_is_missing(mixed: Case, lost: str) -> None:
    january, february = mixed.store().all_run_ids(DATASET)
    (path,) = mixed.root.rglob(lost)
    path.rename(path.with_suffix(".moved"))
    for command in (expire, expirable):
        with pytest.raises(CatalogError, match=rf"run {february} was published in .*{lost} does not exist") as caught:
            command(mixed.settings(), 1)
    assert has_files(mixed, january)
    catalog_id = str(caught.value).rpartition(" --forget-catalog ")[2]
    planned = expirable(mixed.settings(), 1, forget_catalogs=[catalog_id])
    assert [run.run_id for run in planned] == [january]
    rebuild(mixed.settings())
    assert [run.run_id for run in expire(mixed.settings(), 1)] == [january]


def test_expire_refuses_if_a_configured_catalog_shows_no_run(layouts: Layouts) -> None:
    january, february = newest(layouts), layouts.run().manifest.run_id
    for table in layouts.iceberg.tables():
        layouts.iceberg.remove(table)
    with pytest.raises(CatalogError, match=rf"run {february} was published in catalog iceberg.* has no table of any"):
        expire(layouts.settings(), 1)
    assert has_files(layouts, january)


def test_expire_ignores_catalogs_in_which_no_table_was_published(tmp_path: Path) -> None:
    # DuckDB stays configured, but an Iceberg layout has no staged tables.
    case = Case(tmp_path, tables=1, rows=60, changes={"layouts": [ICEBERG]})
    for month in (JANUARY, FEBRUARY):
        case.snapshot(month)
        case.run()
    january = case.store().all_run_ids(DATASET)[0]
    assert [run.run_id for run in expire(case.settings(), 1)] == [january]


@pytest.mark.parametrize("damage", ["catalog", "table", "metadata"])
def test_tables_name_the_tables_of_a_layout_that_are_gone(mixed: Case, damage: str) -> None:
    february = mixed.store().all_run_ids(DATASET)[-1]
    if damage == "catalog":
        next(mixed.root.rglob("iceberg.db")).unlink()
    elif damage == "metadata":
        for path in mixed.target.glob(f"{DATASET}/ice.people_1/metadata/*.metadata.json"):
            path.unlink()
    else:
        iceberg = plugins.catalog_of_kind(mixed.settings(), "iceberg")
        (table,) = iceberg.tables()
        iceberg.remove(table)
    (live,) = tables(mixed.settings(), DATASET)
    (problem,) = live.problems
    what, _, fix = problem.partition("; ")
    text = f"people: 1 table of layout 'ice' that run {february} published is not in the catalog: ice_people_1"
    assert what == text
    # A table whose metadata is gone keeps its name.
    adopt = damage == "metadata"
    options = " --yes --set catalog.adopt=true" if adopt else ""
    assert fix.endswith(f"bucketwheel catalog rebuild people{options}")
    rebuild(mixed.settings(catalog__adopt=adopt), replace=adopt)
    (live,) = tables(mixed.settings(), DATASET)
    assert live.problems == ()


def test_tables_of_a_layout_whose_prefix_changed_are_not_gone(layouts: Layouts) -> None:
    layouts.changes["layouts"] = [HIVE | {"prefix": "now_"}, SPARK]
    (live,) = tables(layouts.settings(), DATASET)
    assert live.problems == ()


def test_rollback_before_the_hash_of_a_layout_changed_says_why(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.changes["layouts"] = [HIVE, {**ICEBERG, "hash": "spark"}]
    february = layouts.run().manifest.run_id
    events, report = reports()
    result = rollback(layouts.settings(), january, report)
    text = warnings_in(events)
    counted = published_part(layouts.store().find(january), result).verify.tables
    # The layout of Spark is published although it was removed.
    assert sorted(table.layout for table in counted) == ["", "", "spark", "spark"]
    assert (
        f"layout 'ice' of run {january} was not published again, because its hash is iceberg and the configuration "
        f"has no catalog for it (the hash is spark now), so 2 tables of that layout still show {february}: "
        "ice_people_1, ice_people_2; to show"
    ) in text
    assert "has no layout" not in text
    assert "layouts of run" not in text
