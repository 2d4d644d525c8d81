"""Trino's Iceberg connector uses the buckets of Iceberg tables in Glue, and reads the same rows in every layout."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from .iceberg_disk import (
    LAYOUTS,
    MONTHS,
    PUBLISHED,
    key,
    known_types,
    layouts,
    people,
    spark_types,
    write_mapping,
)
from .lake import Lake, LakeProject, write_snapshot
from .test_types import as_trino_has_it
from .trino_server import CATALOG, ICEBERG

NAME = "iceberg_lake"
# Few, because each is an object for every table and layout.
BUCKETS = 4
# Trino would send a table as small as these to all nodes.
PARTITIONED = {"join_distribution_type": "PARTITIONED"}
TABLES = ("one", "two", "types", "clocks")


@pytest.fixture(scope="module")
def published(lake: Lake) -> LakeProject:
    root = lake.root / NAME
    root.mkdir()
    dataset = {"source": str(root / "in"), "mapping": str(write_mapping(root)), "key": "id"}
    project = lake.project(
        NAME,
        {"people": dataset},
        layouts=layouts(),
        buckets={"count": BUCKETS},
        # The test of times of day needs them as such.
        types={"times": "keep"},
        iceberg={"catalog": "glue", "null_keys": "partition"},
    )
    for month in MONTHS[: MONTHS.index(PUBLISHED) + 1]:
        write_snapshot(root / "in", people(month), month)
        project.publish("people")
    return project


def name_of(project: LakeProject, table: str, layout: str = "iceberg") -> str:
    return project.table(table, ICEBERG if layout == "iceberg" else CATALOG, LAYOUTS[layout])


def in_files(columns: list[str], month: str = PUBLISHED) -> list[tuple[Any, ...]]:
    source = people(month)
    return sorted(zip(*(source[name].to_pylist() for name in columns), strict=True), key=str)


def returned(project: LakeProject, text: str, **session: object) -> list[tuple[Any, ...]]:
    return sorted(map(tuple, project.ask(text, **session).rows), key=str)


def test_join_uses_buckets_and_returns_source_rows(published: LakeProject) -> None:
    one, two = name_of(published, "one"), name_of(published, "two")
    text = f"SELECT id, number, added FROM {one} JOIN {two} USING (id)"
    plan = published.ask(f"EXPLAIN (TYPE DISTRIBUTED) {text}", **PARTITIONED).rows[0][0]
    assert "IcebergPartitioningHandle" in plan
    assert "RemoteSource" not in plan
    unaware = {**PARTITIONED, "iceberg__bucket_execution_enabled": False}
    assert published.ask(f"EXPLAIN (TYPE DISTRIBUTED) {text}", **unaware).rows[0][0].count("RemoteSource") == 2
    expected = [row for row in in_files(["id", "number", "added"]) if row[0] is not None]
    assert returned(published, text, **PARTITIONED) == expected


@pytest.mark.parametrize("kind", ["LEFT", "RIGHT", "FULL"])
def test_outer_joins_by_bucket_keep_rows_without_key(published: LakeProject, kind: str) -> None:
    one, two = name_of(published, "one"), name_of(published, "two")
    text = f"SELECT one.id, number, added FROM {one} AS one {kind} JOIN {two} AS two ON one.id = two.id"
    assert (
        "IcebergPartitioningHandle" in published.ask(f"EXPLAIN (TYPE DISTRIBUTED) {text}", **PARTITIONED).rows[0][0]
    )
    source = in_files(["id", "number", "added"])
    ours = [(None, 0, None)] if kind != "RIGHT" else []
    theirs = [(None, None, source_row[2]) for source_row in source if source_row[0] is None and kind != "LEFT"]
    expected = [row for row in source if row[0] is not None] + ours + theirs
    assert returned(published, text, **PARTITIONED) == sorted(expected, key=str)


def test_rows_without_key_count_in_anti_joins_and_groups(published: LakeProject) -> None:
    one, two = name_of(published, "one"), name_of(published, "two")
    anti = f"SELECT number FROM {one} AS one WHERE NOT EXISTS (SELECT 1 FROM {two} AS two WHERE one.id = two.id)"
    assert returned(published, anti, **PARTITIONED) == [(0,)]
    groups = returned(published, f"SELECT id, count(*) FROM {one} GROUP BY id")
    assert groups == [(name, 1) for (name,) in in_files(["id"])]


def test_look_up_reads_one_file(published: LakeProject) -> None:
    one = name_of(published, "one")
    found = [published.ask(f"SELECT number FROM {one} WHERE {text}") for text in (f"id = '{key(17)}'", "id IS NULL")]
    assert [(answer.rows, answer.scans) for answer in found] == [([[17]], 1), ([[0]], 1)]


@pytest.mark.parametrize("table", ["types", "clocks"])
def test_values_of_all_types_equal_source(published: LakeProject, table: str) -> None:
    columns = spark_types() if table == "types" else sorted(known_types().keys() - {*spark_types()})
    rows = published.ask(f"SELECT id, {', '.join(columns)} FROM {name_of(published, table)}").rows
    read, source = {row[0]: row[1:] for row in rows}, people(PUBLISHED)
    assert len(read) == source.num_rows
    for number, name in enumerate(columns):
        column = source[name]
        if pa.types.is_timestamp(column.type) and column.type.tz:
            column = column.cast(pa.timestamp(column.type.unit, "UTC"))
        expected = [as_trino_has_it(value, column.type) for value in column.to_pylist()]
        assert [without_zone(read[person][number]) for person in source["id"].to_pylist()] == expected, name


def without_zone(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) and value.tzinfo else value


def test_metadata_tables_show_partitions_and_statistics(published: LakeProject) -> None:
    name, source = name_of(published, "one"), people(PUBLISHED)
    partitions, files = (f'{name[:-1]}${kind}"' for kind in ("partitions", "files"))
    rows = published.ask(f"SELECT partition, record_count, file_count FROM {partitions}").rows
    numbers = {partition[0]: (records, count) for partition, records, count in rows}
    assert numbers.keys() == {None, *range(BUCKETS)}
    assert numbers[None] == (1, 1)
    assert sum(records for records, _ in numbers.values()) == source.num_rows
    assert published.ask(f"SELECT count(*), sum(record_count) FROM {files}").rows == [[BUCKETS + 1, source.num_rows]]
    shown = {row[0]: row[1:] for row in published.ask(f"SHOW STATS FOR {name}").rows}
    assert [float(shown["number"][4]), float(shown["number"][5])] == [0, source.num_rows - 1]
    assert shown["id"][2] == pytest.approx(1 / source.num_rows)
    assert shown[None][3] == source.num_rows


def test_tags_show_every_month(published: LakeProject) -> None:
    two = name_of(published, "two")
    for month in MONTHS[:2]:
        rows = returned(published, f"SELECT id, added, text_2 FROM {two} FOR VERSION AS OF '{month}'")
        assert rows == in_files(["id", "added", "text_2"], month)


@pytest.mark.parametrize("table", ["one", "two"])
def test_tables_in_all_layouts_have_the_same_rows(published: LakeProject, table: str) -> None:
    hive, spark, iceberg = (
        returned(published, f"SELECT * FROM {name_of(published, table, layout)}") for layout in LAYOUTS
    )
    assert hive == spark == iceberg
    assert len(iceberg) == people(PUBLISHED).num_rows
