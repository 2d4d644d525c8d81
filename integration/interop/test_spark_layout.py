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
    assert "bucketed_by" in hive.ask(f"SHOW CREATE TABLE {theirs}").rows[0][0]
    assert "bucketed_by" not in spark.ask(f"SHOW CREATE TABLE {ours}").rows[0][0]
    assert sorted(number for (number,) in spark.ask(f"SELECT number FROM {ours}").rows) == numbers
    joined = f"SELECT one.number, other.number FROM {ours} AS one JOIN {theirs} AS other USING ({KEY})"
    (*pairs,) = map(tuple, spark.ask(joined).rows)
    keys = dict(zip(people["number"].to_pylist(), people[KEY].to_pylist(), strict=True))
    expected = [(a, b) for a in numbers for b in numbers if keys[a] is not None and keys[a] == keys[b]]
    assert sorted(pairs) == sorted(expected)
    for key in {key for key in keys.values() if key is not None}:
        found = spark.ask(f"SELECT number FROM {ours} WHERE {KEY} = '{key}'").rows
        assert sorted(number for (number,) in found) == sorted(n for n in numbers if keys[n] == key)
