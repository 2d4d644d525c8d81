"""Final tables that Trino copies are the same as those that are promoted."""

from __future__ import annotations

import pytest

from .judge_keys import FREE
from .lake import Lake, LakeProject
from .tables_of_persons import TABLES, WIDE, Persons, joined
from .trino_server import CATALOG


@pytest.fixture(scope="module")
def copied(lake: Lake, persons: Persons) -> LakeProject:
    """The persons again, with final tables that are copies."""
    datasets = persons.bucketed.settings["datasets"]
    project = lake.project("by_trino", datasets, buckets={"count": persons.files}, ctas={"method": "trino"})
    project.publish(WIDE)
    return project


def test_copies_are_elsewhere_and_nothing_else_is_left(copied: LakeProject, persons: Persons) -> None:
    places = copied.locations()
    assert sorted(places) == sorted(f"{prefix}{table}" for prefix in ("ext_", "bucketed_") for table in TABLES)
    assert all("/ctas-" in place for name, place in places.items() if name.startswith("bucketed_"))
    promoted = persons.bucketed.locations()
    assert all(promoted[f"ext_{table}"] == promoted[f"bucketed_{table}"] for table in TABLES)
    # What Trino wrote for each table, and nothing of a try that failed.
    written = {key.rpartition("/")[0] for key in copied.lake.keys(f"{copied.name}/{WIDE}/") if "/ctas-" in key}
    assert len(written) == len(TABLES)


def test_copies_give_the_answers_of_promoted_tables(copied: LakeProject, persons: Persons) -> None:
    for table in TABLES:
        text = f"SELECT * FROM {{{table}}} ORDER BY customer_user_id"
        rows = persons.in_trino(copied, text)
        assert len(rows) == persons.sample.rows
        assert rows == persons.in_trino(persons.bucketed, text) == persons.in_source(text)
    text = joined(TABLES[:2])
    assert persons.in_trino(copied, text) == persons.in_trino(persons.bucketed, text)


def test_copies_are_in_the_same_buckets(copied: LakeProject, persons: Persons) -> None:
    (ours, theirs) = (project.table("ibe_01") for project in (persons.bucketed, copied))
    compared = copied.ask(
        f'SELECT count(*), count_if(o."$bucket" <> t."$bucket"), count(DISTINCT t."$bucket") '
        f"FROM {ours} o JOIN {theirs} t ON o.customer_user_id = t.customer_user_id",
        **FREE,
    )
    assert compared.rows == [[persons.sample.rows, 0, persons.files]]


def test_copies_and_promoted_tables_are_joined_where_they_are(copied: LakeProject, persons: Persons) -> None:
    (ours, theirs) = (persons.bucketed.table("ibe_01"), copied.table("ibe_02"))
    text = f"SELECT * FROM {ours} o JOIN {theirs} t ON o.customer_user_id = t.customer_user_id"
    plan = copied.ask(f"EXPLAIN (TYPE DISTRIBUTED) {text}").rows[0][0]
    assert f"{CATALOG}:HivePartitioningHandle{{buckets={persons.files}" in plan
    assert "RemoteSource" not in plan
