from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from bucketwheel.catalogs.example_query import catalog_text, example_query
from bucketwheel.runs.manifest import Manifest, PublishedTable, PublishResult
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


@pytest.mark.parametrize(
    ("changes", "programs"),
    [
        ({"buckets__hash": "iceberg", "iceberg__catalog": "glue"}, "Athena, Trino or Spark"),
        ({"buckets__hash": "iceberg", "iceberg__catalog": "rest", "iceberg__uri": "https://x"}, "Trino or Spark"),
        ({"buckets__hash": "iceberg", "iceberg__uri": "postgresql://user:secret@host/x"}, "Trino or Spark"),
        ({"catalog__kind": "glue"}, "Athena, Trino or Spark"),
    ],
)
def test_query_for_a_shared_catalog_names_programs(changes: dict[str, Any], programs: str) -> None:
    settings = services(catalog__database="lake", target="s3://b/out", **changes).settings
    assert example_query(settings, published()) == f"SELECT * FROM lake.bucketed_t LIMIT 5 -- in {programs}"


@pytest.mark.parametrize(
    ("changes", "uri"),
    [
        ({}, "sqlite:///out/iceberg.db"),
        ({"iceberg__uri": "sqlite:////data/x.db", "target": "s3://b/out"}, "sqlite:////data/x.db"),
    ],
)
def test_query_of_iceberg_tables_alone_is_a_command(changes: dict[str, Any], uri: str) -> None:
    settings = services(catalog__database="lake", buckets__hash="iceberg", **changes).settings
    command = example_query(settings, published())
    assert command is not None
    assert re.match(r"\S*python\S* -c \"from pyiceberg", command)
    assert f"SqlCatalog('bucketwheel', uri='{uri}').load_table(('lake', 'bucketed_t'))" in command
    assert catalog_text(settings) == "Iceberg (sql), namespace lake"


@pytest.mark.parametrize(
    ("storage", "options"),
    [
        ({}, ""),
        ({"region": "eu-west-1"}, ", REGION 'eu-west-1'"),
        (
            {"endpoint_url": "http://s:9000/", "region": "r"},
            ", REGION 'r', ENDPOINT 's:9000', URL_STYLE 'path', USE_SSL false",
        ),
        (
            {"endpoint_url": "https://s.example.com", "path_style": False, "region": "r"},
            ", REGION 'r', ENDPOINT 's.example.com', URL_STYLE 'vhost', USE_SSL true",
        ),
    ],
)
def test_query_of_duckdb_file_names_the_endpoint_of_s3(storage: dict[str, Any], options: str) -> None:
    settings = services(target="s3://b/out", catalog__path="/data/c.duckdb", storage=storage).settings
    command = example_query(settings, published())
    assert command is not None
    assert f"CREATE SECRET (TYPE s3, PROVIDER credential_chain{options}); SELECT" in shlex.split(command)[-1]


def published() -> Manifest:
    """Return a run that published one table."""
    tables = (PublishedTable(name="bucketed_t", location="x", previous_location=None),)
    return manifest(ctas=PublishResult(tables=tables))
