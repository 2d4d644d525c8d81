from __future__ import annotations

from typing import Any

import pytest

from bucketwheel.catalogs.example_query import catalog_text, example_query
from bucketwheel.runs.manifest import PublishedTable, PublishResult
from stage_support import manifest, services

ICEBERG = {"name": "ice", "hash": "iceberg"}


@pytest.mark.parametrize(
    ("changes", "tables", "text", "query"),
    [
        ({}, ["bucketed_t"], "out/catalog.duckdb, schema lake", "lake.bucketed_t"),
        (
            {"layouts": [{"name": "hive"}, ICEBERG]},
            ["bucketed_t", "ice_t"],
            "out/catalog.duckdb, schema lake and Iceberg (sql), namespace lake",
            "lake.bucketed_t",
        ),
        (
            {"layouts": [ICEBERG, {"name": "hive"}], "iceberg__namespace": "ns"},
            ["bucketed_t", "hive_t"],
            "out/catalog.duckdb, schema lake and Iceberg (sql), namespace ns",
            "lake.hive_t",
        ),
    ],
)
def test_query_of_duckdb_file_names_a_table_that_it_has(
    changes: dict[str, Any], tables: list[str], text: str, query: str
) -> None:
    settings = services(catalog__database="lake", **changes).settings
    published = tuple(PublishedTable(name=name, location="x", previous_location=None) for name in tables)
    command = example_query(settings, manifest(ctas=PublishResult(tables=published)))
    assert command is not None
    assert f"SELECT * FROM {query} LIMIT 5" in command
    assert "out/catalog.duckdb" in command
    assert catalog_text(settings) == text


def test_query_of_iceberg_tables_alone_is_sql() -> None:
    settings = services(catalog__database="lake", buckets__hash="iceberg").settings
    published = (PublishedTable(name="bucketed_t", location="x", previous_location=None),)
    run = manifest(ctas=PublishResult(tables=published))
    assert example_query(settings, run) == "SELECT * FROM lake.bucketed_t LIMIT 5"
    assert catalog_text(settings) == "Iceberg (sql), namespace lake"
