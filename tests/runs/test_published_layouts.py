"""Layouts of one run are published, undone, rolled back, rebuilt and expired together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bucketwheel import plugins
from bucketwheel.catalogs.journal import Journal
from bucketwheel.cli.live_text import tables_document, tables_text
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import CatalogError, ForeignTableError
from bucketwheel.monitoring.run_metrics import metric_values
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.live import tables
from bucketwheel.pipeline.rebuild import rebuild
from bucketwheel.pipeline.rollback import previous_run, rollback
from bucketwheel.report.render import render
from bucketwheel.runs.publications import publications
from bucketwheel.runs.summary import summarize
from memory_catalog import MemoryCatalog
from runs_support import DATASET, FEBRUARY, JANUARY, MARCH, Case, reports, warnings_in

HIVE: Any = {"name": "hive", "hash": "hive_v1"}
SPARK: Any = {"name": "spark", "hash": "spark", "buckets": 2}
LAYOUTS = [HIVE, SPARK]
FINAL = [f"{prefix}people_{number}" for prefix in ("bucketed_", "spark_") for number in (1, 2)]
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

    def runs_shown(self, prefixes: tuple[str, ...] = ("bucketed_", "spark_")) -> dict[str, str | None]:
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


def test_all_layouts_are_published_together(layouts: Layouts) -> None:
    run = layouts.manifests()[0]
    assert layouts.runs_shown() == dict.fromkeys(FINAL, run.run_id)
    assert [table.name for table in layouts.main.tables()] == [*FINAL[:2], *STAGED, *FINAL[2:]]
    record = json.loads((layouts.snapshot_file().parent / "tables.json").read_text())
    assert sorted(record["tables"]) == ["people_1", "people_2"]
    assert {layout: sorted(names) for layout, names in record["other_layouts"].items()} == {
        "spark": ["people_1", "people_2"]
    }
    (live,) = tables(layouts.settings(), DATASET)
    assert (live.warnings, live.problems) == ((), ())
    assert {table.missing_files for table in live.tables} == {0}
    assert [table.rows for table in live.published] == [60] * len(FINAL)


def test_run_that_is_published_in_all_layouts_is_up_to_date(layouts: Layouts) -> None:
    layouts.run()
    assert not layouts.run().changed
    spark = layouts.main.get("spark_people_2")
    assert spark is not None
    layouts.main.remove(spark)
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


@pytest.mark.parametrize("put", [2, 3, len(FINAL)])
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
    assert sorted(filter(None, layouts.runs_shown().values())) == [january] * (5 - put) + [february] * (put - 1)
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
    rollback(layouts.settings(), january)
    assert layouts.runs_shown() == dict.fromkeys(FINAL, january)


def test_tables_of_a_removed_layout_are_named_and_keep_their_run(layouts: Layouts) -> None:
    january = newest(layouts)
    layouts.changes["layouts"] = [HIVE]
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
    assert [(record.kind, record.database) for record in records] == [("memory", "tests")]


def test_summary_metrics_and_report_count_the_rows_of_one_layout(layouts: Layouts) -> None:
    manifest = layouts.manifests()[0]
    values = {metric.name: value for metric, value in metric_values(manifest, layouts.settings()).items()}
    summary = summarize(manifest, "test", manifest.created, None, values)
    assert [(table.name, table.rows) for table in summary.tables] == [
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
    assert "hive: 4 buckets, hive_v1, sorted; spark: 2 buckets, spark, sorted" in page
    assert "spark_&lt;table&gt;" in page
    assert "4 columns" in page


def test_tables_show_the_layout_where_there_are_several(layouts: Layouts) -> None:
    (live,) = tables(layouts.settings(), DATASET)
    text = tables_text(live)
    assert "people: 4 tables, snapshot 2025-01-31" in text
    assert ["spark_people_2", "spark"] in [line.split()[:2] for line in text.splitlines()]
    document = tables_document(live)
    assert [table["layout"] for table in document["tables"]] == ["hive", "hive", "spark", "spark", "hive", "hive"]
