"""Trino reads tables in Spark's buckets as tables without buckets, and joins them with tables in Hive's."""

from __future__ import annotations

from .key_tables import KEY, rows
from .lake import Lake

COUNT = 8


def test_trino_reads_tables_in_spark_buckets_as_unbucketed(lake: Lake) -> None:
    people = rows("string")
    numbers = sorted(people["number"].to_pylist())
    spark, hive = (
        lake.publish(f"in_{scheme}_buckets", people, [KEY], buckets={"count": COUNT, "hash": scheme})
        for scheme in ("spark", "hive_v1")
    )
    ours, theirs = spark.table(spark.name), hive.table(hive.name)
    for project, bucketed in ((hive, True), (spark, False)):
        table = project.table(project.name)
        text = f"SELECT count(*) FROM {table} AS one JOIN {table} AS other USING ({KEY})"
        plan = project.ask(f"EXPLAIN (TYPE DISTRIBUTED) {text}").rows[0][0]
        assert (f"HivePartitioningHandle{{buckets={COUNT}" in plan) == bucketed
    assert sorted(number for (number,) in spark.ask(f"SELECT number FROM {ours}").rows) == numbers
    joined = f"SELECT one.number, other.number FROM {ours} AS one JOIN {theirs} AS other USING ({KEY})"
    (*pairs,) = map(tuple, spark.ask(joined).rows)
    keys = dict(zip(people["number"].to_pylist(), people[KEY].to_pylist(), strict=True))
    expected = [(a, b) for a in numbers for b in numbers if keys[a] is not None and keys[a] == keys[b]]
    assert sorted(pairs) == sorted(expected)
    for key in {key for key in keys.values() if key is not None}:
        found = spark.ask(f"SELECT number FROM {ours} WHERE {KEY} = '{key}'").rows
        assert sorted(number for (number,) in found) == sorted(n for n in numbers if keys[n] == key)
