"""What is live if a dataset has several layouts, also after the configuration of layouts has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from live_support import NEW, NEWEST, OLD, look, made, shown

from bucketwheel.catalogs.live import LiveCount, count_live, live_runs
from runs_support import Case

TWO: Any = [{"name": "athena"}, {"name": "spark"}]
PREFIXES = {"athena": "bucketed_", "spark": "spark_"}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_final_tables_of_all_layouts_are_published(case: Case) -> None:
    catalog = [
        shown("spark_a", OLD, "spark"),
        shown("bucketed_a", OLD, "athena"),
        shown("bucketed_b", OLD, "athena"),
        shown("ext_a", NEW, "athena"),
    ]
    live = look(case, catalog, made(OLD, "ab", layouts=PREFIXES), layouts=TWO)
    tables = [(table.layout, table.table, table.kind, live.other_layout(table)) for table in live.tables]
    assert tables == [
        ("athena", "a", "final", ""),
        ("athena", "b", "final", ""),
        ("spark", "a", "final", "spark"),
        ("athena", "a", "staged", ""),
    ]
    assert len(live.published) == 3
    assert live.has_several_layouts
    assert live.unconfigured == {}


@pytest.mark.parametrize(
    ("name", "recorded", "layouts", "expected"),
    [
        # Published before layouts had names, or before they were configured otherwise.
        ("bucketed_a", None, TWO, ("final", "athena", "a")),
        ("bucketed_a", "hive", [], ("final", "hive", "a")),
        ("bucketed_a", "athena", [{"name": "spark"}], ("final", "athena", "a")),
        ("spark_a", "spark", [{"name": "athena"}], ("other", "spark", "a")),
        ("spark_a", "spark", [], ("other", "spark", "a")),
        ("spark_a", "spark", [{"name": "athena"}, {"name": "spark", "prefix": "s_"}], ("other", "spark", "a")),
        # Several prefixes fit: the tables of the run decide, then the recorded layout.
        ("spark_a", "spark", [{"name": "athena", "prefix": ""}], ("other", "spark", "a")),
        ("spark_a", "athena", [{"name": "athena", "prefix": ""}, {"name": "spark"}], ("final", "athena", "spark_a")),
        ("spark_a", "spark", [{"name": "athena", "prefix": ""}, {"name": "spark"}], ("final", "spark", "a")),
        ("ext_a", "athena", [{"name": "athena", "prefix": ""}, {"name": "spark"}], ("staged", "athena", "a")),
    ],
)
def test_changed_layouts_do_not_make_tables_unknown(
    case: Case, name: str, recorded: str | None, layouts: Any, expected: tuple[str, str, str]
) -> None:
    names = ["a", "spark_a"] if recorded == "athena" else ["a"]
    run = made(OLD, names, layouts={recorded: PREFIXES.get(recorded, "bucketed_")} if recorded else None)
    (table,) = look(case, [shown(name, OLD, recorded)], run, layouts=layouts).tables
    assert (table.kind, table.layout, table.table) == expected


def test_tables_of_a_removed_layout_are_named_and_not_published(case: Case) -> None:
    catalog = [shown("bucketed_a", NEW, "athena"), shown("spark_a", OLD, "spark")]
    runs = made(OLD, "a", layouts=PREFIXES), made(NEW, "a", layouts={"athena": "bucketed_"})
    live = look(case, catalog, *runs, layouts=[{"name": "athena"}])
    assert {layout: [table.name for table in tables] for layout, tables in live.unconfigured.items()} == {
        "spark": ["spark_a"]
    }
    assert live.snapshot_dt == NEW[:10]
    assert live.run_ids == {OLD, NEW}


def test_layout_that_a_newer_run_lacks_is_retired(case: Case) -> None:
    catalog = [shown("bucketed_a", NEW, "athena"), shown("spark_a", OLD, "spark")]
    runs = made(OLD, "a", layouts=PREFIXES), made(NEW, "a", layouts={"athena": "bucketed_"})
    live = look(case, catalog, *runs, layouts=TWO)
    assert [table.name for table in live.current] == ["bucketed_a"]
    assert live.mix_text() == ""


def test_mix_names_the_tables_of_each_layout(case: Case) -> None:
    catalog = [shown("bucketed_a", OLD, "athena"), shown("spark_a", NEW, "spark")]
    live = look(case, catalog, layouts=TWO)
    assert live.mix_text() == (
        "the tables of people show 2 snapshots: 2025-02-01: spark_a; 2025-01-01: bucketed_a; "
        "metadata/snapshot_dt.txt names the oldest"
    )
    assert {table.name: table.differs for table in live.tables} == {"bucketed_a": "snapshot", "spark_a": None}


@pytest.mark.parametrize(
    ("catalog", "layouts", "expected"),
    [
        (["bucketed_a", "bucketed_b", "spark_a", "spark_b"], TWO, LiveCount(4, 4, "final")),
        (["bucketed_a", "bucketed_b"], TWO, LiveCount(2, 4, "final")),
        (["bucketed_a", "bucketed_b", "spark_a"], TWO[:1], LiveCount(2, 2, "final")),
        (["ext_a"], TWO, LiveCount(1, 2, "staged")),
    ],
)
def test_live_count_is_of_all_configured_layouts(
    case: Case, catalog: list[str], layouts: Any, expected: LiveCount
) -> None:
    run = made(OLD, "ab", layouts=PREFIXES)
    tables = [shown(name, OLD, "spark" if name.startswith("spark") else "athena") for name in catalog]
    assert count_live(run, look(case, tables, run, layouts=layouts)) == expected


def test_published_run_of_a_table_is_that_of_the_first_layout(case: Case) -> None:
    runs = {run_id: made(run_id, "ab", layouts=PREFIXES) for run_id in (OLD, NEW)}
    catalog = [
        shown("bucketed_a", OLD, "athena"),
        shown("spark_a", NEW, "spark"),
        shown("spark_b", NEW, "spark"),
    ]
    for run in runs.values():
        case.store().save(run)
    draft = made(NEWEST, "ab", layouts=PREFIXES)
    published = live_runs(catalog, draft, case.store(), case.settings(layouts=TWO))
    assert {name: run.run_id for name, run in published.items()} == {"a": OLD, "b": NEW}
