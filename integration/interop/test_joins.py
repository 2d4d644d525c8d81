"""Trino joins the tables by key without an exchange between nodes."""

from __future__ import annotations

import json

import pytest

from .key_tables import FREE, KEY
from .lake import Lake, LakeProject
from .people_tables import TABLES, PeopleTables, joined, nodes
from .trino_server import UNLIMITED


def parts_with_joins(project: LakeProject, text: str) -> list[list[str]]:
    """Return the node names of every plan fragment that joins."""
    named = text.format(**{table: project.table(table) for table in TABLES})
    answer = project.ask(f"EXPLAIN (TYPE DISTRIBUTED, FORMAT JSON) {named}")
    parts = [[node["name"] for node in nodes(plan)] for plan in json.loads(answer.rows[0][0]).values()]
    return [part for part in parts if "InnerJoin" in part]


@pytest.mark.parametrize("count", [2, 5])
def test_join_needs_no_exchange_and_returns_source_rows(people: PeopleTables, count: int) -> None:
    text = joined(TABLES[:count])
    (part,) = parts_with_joins(people.bucketed, text)
    scans = [name for name in part if name in ("TableScan", "ScanFilter")]
    assert (len(scans), part.count("InnerJoin"), part.count("RemoteSource")) == (count, count - 1, 0)
    # What it looks like where it is not so.
    assert {"RemoteSource" in other for other in parts_with_joins(people.scattered, text)} == {True}
    assert people.in_trino(people.bucketed, text) == people.in_source(text)


def test_trino_writes_the_same_256_buckets(lake: Lake, people: PeopleTables) -> None:
    sample = people.sample
    dataset = {"source": str(sample.addressable_source), "key": "Customer_User_id"}
    project = lake.project("addressable_ids", {"addressable_ids": dataset}, buckets={"count": 256})
    project.publish("addressable_ids")
    ours, theirs = project.table("addressable_ids", UNLIMITED), f"{UNLIMITED}.addressable_ids.theirs"
    layout = f"bucketed_by = ARRAY['{KEY}'], bucket_count = 256, bucketing_version = 1"
    location = "external_location = 'local:///theirs/'"
    project.ask(f"CREATE TABLE {theirs} WITH ({layout}, {location}) AS SELECT {KEY} FROM {ours}", **FREE)
    compared = project.ask(
        f'SELECT count(*), count_if(o."$bucket" <> t."$bucket"), count(DISTINCT o."$bucket") '
        f"FROM {ours} o JOIN {theirs} t ON o.{KEY} = t.{KEY}",
        **FREE,
    )
    assert compared.rows == [[sample.rows, 0, 256]]
