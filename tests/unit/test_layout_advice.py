from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bucketwheel.pipeline.layout_advice import FAMILIES, EarlierRun, PlannedLayout, advise

GB = 10**9


def layout(scheme: str = "hive_v1", buckets: int = 256, largest: float = 34 * GB, **changes: Any) -> PlannedLayout:
    """Return a layout of 25 tables; the largest has `largest` bytes."""
    prefix = "bucketed_" if scheme.startswith("hive") else f"{scheme}_"
    values: dict[str, Any] = {"name": scheme.partition("_")[0], "prefix": prefix, "bucketed": True, "sort": True}
    values |= {"bytes": 25 * int(largest), "files": 25 * buckets, **changes}
    return PlannedLayout(hash=scheme, buckets=buckets, largest=int(largest), **values)


HIVE, SPARK, ICEBERG = layout(), layout("spark"), layout("iceberg")
MIXED = layout("iceberg", mixed=True)


@pytest.mark.parametrize(
    ("reader", "layouts", "tables", "uses", "words"),
    [
        ("trino", [HIVE], "bucketed_*", "buckets", "joins by key without an exchange"),
        ("trino", [SPARK], "spark_*", "order", "does not use Spark's buckets; skips row groups by key"),
        ("trino", [SPARK, ICEBERG], "iceberg_*", "buckets", "joins by key without an exchange"),
        ("trino", [HIVE, ICEBERG], "bucketed_*", "buckets", "joins by key without an exchange"),
        ("trino", [MIXED], "iceberg_*", "order", "does not use Iceberg's buckets after their partitioning changed"),
        ("trino", [MIXED, HIVE], "bucketed_*", "buckets", "joins by key without an exchange"),
        ("spark", [MIXED], "iceberg_*", "buckets", "joins by key without an exchange"),
        ("athena", [SPARK, HIVE], "bucketed_*", "buckets", "(documented by AWS, not tried)"),
        ("athena", [SPARK], "spark_*", "buckets", "reads one bucket in a look-up (documented by AWS, not tried)"),
        ("spark", [HIVE], "bucketed_*", "order", "does not use Hive's buckets"),
        ("spark", [HIVE, SPARK, ICEBERG], "spark_*", "buckets", "joins by key without an exchange"),
        ("spark", [HIVE, ICEBERG], "iceberg_*", "buckets", "if spark.sql.sources.v2.bucketing.enabled and "),
        ("clean_rooms", [HIVE, SPARK], "spark_*", "buckets", "(as in Spark, presumably; not tried)"),
        ("glue", [SPARK], "spark_*", "buckets", "not tried on AWS"),
        ("emr", [layout(sort=False)], "bucketed_*", "nothing", "does not use Hive's buckets"),
        ("duckdb", [HIVE, ICEBERG], "iceberg_*", "buckets", "reads one bucket in a look-up"),
        ("duckdb", [HIVE, SPARK], "bucketed_*", "order", "does not use Hive's buckets; skips row groups by key"),
        ("trino", [layout(bucketed=False, buckets=34)], "bucketed_*", "order", "the layout has no buckets; skips"),
    ],
)
def test_reader_gets_the_layout_that_serves_it(
    reader: str, layouts: Sequence[PlannedLayout], tables: str, uses: str, words: str
) -> None:
    (advice,) = advise(layouts, [reader], 374_000_000).readers
    assert (advice.reader, advice.tables, advice.uses) == (reader, tables, uses)
    assert words in advice.reason


@pytest.mark.parametrize(
    ("largest", "buckets", "recommended", "words"),
    [
        # Production: tables of 17 to 34 GB.
        (34 * GB, 256, 256, ""),
        (17 * GB, 256, 128, "128 buckets instead of 256, for files of 132.8 MB instead of 66.4 MB"),
        (17 * GB, 128, 128, ""),
        (34 * GB, 64, 64, ""),
        (34 * GB, 16, 256, "256 buckets instead of 16, for files of 132.8 MB instead of 2.1 GB, so that more tasks"),
        # Measured in Spark: 256 buckets of 0.26 MB, 64 of 1 MB, 16 of 4 MB.
        (
            67e6,
            256,
            1,
            "1 bucket instead of 256, for files of 67.0 MB instead of 261.7 kB (measured in Spark: with files of 0",
        ),
        (67e6, 64, 1, "with files of 1 MB, joins took 56 % of the CPU"),
        (67e6, 16, 1, "with files of 4 MB, joins took 25 % of the CPU"),
        (2 * GB, 64, 16, "16 buckets instead of 64, for files of 125.0 MB instead of 31.2 MB"),
        (1, 1, 1, ""),
        (0, 4, 1, "1 bucket instead of 4, for files of 0 B instead of 0 B"),
    ],
)
def test_bucket_count_is_recommended_by_size(largest: float, buckets: int, recommended: int, words: str) -> None:
    (advice,) = advise([layout(buckets=buckets, largest=largest)], [], 374_000_000).buckets
    assert (advice.buckets, advice.recommended) == (buckets, recommended)
    assert words in advice.reason
    assert bool(advice.reason) == (buckets != recommended)


def test_recommended_count_fits_the_writers_of_copies() -> None:
    # Athena writes at most 100 partitions or buckets per query.
    advice = advise([layout(buckets=100, largest=340 * GB), layout("spark", 64, 340 * GB)], [], 10**9, writers=100)
    assert [part.recommended for part in advice.buckets] == [100, 2048]
    advice = advise([layout(buckets=16, largest=34 * GB)], [], 10**9, writers=100)
    assert advice.buckets[0].recommended == 64


def test_unbucketed_layout_gets_no_bucket_count() -> None:
    (advice,) = advise([layout(buckets=34, largest=17 * GB, bucketed=False)], ["trino"], 374_000_000).buckets
    assert (advice.recommended, advice.reason) == (34, "")


@pytest.mark.parametrize(
    ("layouts", "note"),
    [
        ([layout(buckets=1, largest=5e6)], "tables of at most 5.0 MB gain little from buckets; one sorted file per"),
        (
            [layout(buckets=1, largest=5e6), layout("spark", 1, 6e6)],
            "tables of at most 6.0 MB gain little from buckets; one layout, sorted, serves all readers at less cost",
        ),
        ([layout(buckets=1, largest=5e6, sort=False)], ""),
        ([HIVE, SPARK], ""),
    ],
)
def test_small_tables_need_only_order(layouts: Sequence[PlannedLayout], note: str) -> None:
    assert note in "".join(advise(layouts, [], 20_000).notes)
    assert bool(advise(layouts, [], 20_000).notes) == bool(note)


def test_advice_for_several_layouts_is_said_once() -> None:
    advice = advise([layout(largest=17e9), layout("spark", largest=17e9), layout("iceberg", 64, 17e9)], [], 10**9)
    first, *others = advice.lines
    assert first == "layouts hive and spark: 128 buckets instead of 256, for files of 132.8 MB instead of 66.4 MB"
    assert not any("instead of" in line for line in others)
    (line,) = advise([layout(largest=17e9, name="")], [], 10**9).lines
    assert line.startswith("128 buckets instead of 256")


@pytest.mark.parametrize(
    ("layouts", "readers", "catalog", "note"),
    [
        (
            [HIVE],
            ["trino", "duckdb"],
            "duckdb",
            "only DuckDB reads the catalog duckdb; set catalog.kind=glue for trino",
        ),
        ([HIVE], ["trino"], "glue", ""),
        ([HIVE], ["duckdb"], "duckdb", ""),
        ([ICEBERG], ["trino"], "duckdb", ""),
    ],
)
def test_readers_of_another_catalog_are_named(
    layouts: Sequence[PlannedLayout], readers: Sequence[str], catalog: str, note: str
) -> None:
    assert "".join(advise(layouts, readers, 10**9, catalog=catalog).notes) == note


@pytest.mark.parametrize(
    ("layouts", "readers", "local", "said"),
    [
        ([HIVE, ICEBERG], ["trino"], True, True),
        ([HIVE, ICEBERG], ["trino"], False, False),
        ([ICEBERG], ["duckdb", "spark"], True, False),
        ([HIVE], ["trino"], True, False),
    ],
)
def test_trino_needs_iceberg_tables_on_s3(
    layouts: Sequence[PlannedLayout], readers: Sequence[str], local: bool, said: bool
) -> None:
    notes = "".join(advise(layouts, readers, 10**9, local=local).notes)
    assert ("trino cannot read Iceberg tables on a local disk; set target=s3://" in notes) is said


def test_readers_that_need_glue_for_iceberg_tables_are_named() -> None:
    (note,) = advise([ICEBERG], ["athena", "spark", "clean_rooms"], 10**9, sql=True).notes
    assert note == "athena and clean_rooms cannot read a SQL catalog of Iceberg tables; set iceberg.catalog=glue"
    assert not advise([ICEBERG], ["athena"], 10**9).notes
    assert not advise([ICEBERG], ["spark"], 10**9, sql=True).notes
    assert not advise([HIVE], ["athena"], 10**9, sql=True).notes


def test_second_layout_costs_bytes_and_seconds() -> None:
    (cost,) = advise([HIVE, SPARK], ["trino", "glue"], 374_000_000).costs
    assert cost == "layout spark adds 850.0 GB in 6,400 files, and about half of the CPU of a run with one layout"
    first, second = advise([HIVE, SPARK, ICEBERG], [], 374_000_000, seconds=3000).costs
    assert first.endswith("a run with one layout (750 s of 3,000 s)")
    assert second.startswith("layout iceberg adds")


KEYS = (("person_id", "bigint"),)
BEFORE = EarlierRun("people", "RUN", KEYS, (layout(buckets=128), layout("spark", 128)))
ORDERS = EarlierRun("orders", "RUN", KEYS, (layout(buckets=64), layout("spark", 64), layout("iceberg", 64)))


@pytest.mark.parametrize(
    ("layouts", "readers", "named", "words"),
    [
        ([HIVE], ["trino", "athena", "duckdb"], {}, []),
        ([HIVE, SPARK], ["athena", "clean_rooms", "duckdb"], {}, []),
        ([SPARK], ["athena"], {}, []),
        (
            [SPARK],
            ["trino"],
            {},
            ['trino does not use Spark\'s buckets (the column "$bucket" does not exist there), only'],
        ),
        (
            [HIVE],
            ["clean_rooms"],
            {},
            ["clean_rooms does not use Hive's buckets, only the order of rows; for joins "],
        ),
        (
            [HIVE, SPARK],
            ["glue"],
            {},
            ["no configured reader uses the buckets of layout hive, which takes 850.0 GB; remove it from layouts"],
        ),
        ([HIVE, SPARK], [], {}, []),
        ([layout(buckets=8)], [], {"rows": 3}, ["layout hive has 8 buckets for 3 rows, so most buckets are empty"]),
        ([ICEBERG], ["trino"], {"null_keys": 2}, ["2 rows have a NULL key, and Trino's joins by bucket can fail"]),
        ([ICEBERG], ["spark"], {"null_keys": 2}, []),
        ([HIVE], ["trino"], {"null_keys": 2}, []),
        (
            [HIVE, SPARK, ICEBERG],
            [],
            {"previous": BEFORE},
            ["tables bucketed_* and spark_* change from 128 buckets (run RUN) to 256 buckets; joins with tables"],
        ),
        (
            [layout(buckets=64), layout("spark", 32)],
            [],
            {"previous": BEFORE},
            [
                "bucketed_* change from 128 buckets (run RUN) to 64",
                "spark_* change from 128 buckets (run RUN) to 3",
            ],
        ),
        (
            [layout("hive_v2", 128)],
            [],
            {"previous": BEFORE},
            ["change from 128 buckets by hive_v1 (run RUN) to 128 b"],
        ),
        (
            [layout("iceberg", 128, mixed=True)],
            ["trino"],
            {"previous": ORDERS},
            ["trino reads the Iceberg tables iceberg_* as unbucketed, because", "change from 64 buckets (run RUN)"],
        ),
        ([HIVE, MIXED], ["trino"], {}, ["trino reads the Iceberg tables iceberg_* as unbucketed"]),
        ([MIXED], ["spark", "duckdb"], {}, []),
        # Another prefix would not give it buckets.
        ([layout("iceberg", bucketed=False, mixed=True)], ["trino"], {}, []),
        (
            [SPARK, layout("iceberg", bucketed=False, mixed=True)],
            ["trino"],
            {},
            ["trino does not use Spark's buckets", "no configured reader uses the buckets of layout spark"],
        ),
        ([layout(buckets=9, bucketed=False)], [], {"previous": BEFORE}, ["(run RUN) to no buckets; joins with"]),
        ([layout(buckets=128), layout("spark", 128)], [], {"previous": BEFORE}, []),
        ([layout(prefix="new_")], [], {"previous": BEFORE}, []),
        (
            [layout(buckets=64)],
            [],
            {"others": [ORDERS], "keys": [("person_id", "string")]},
            ["the key person_id has type string here and bigint in dataset orders (run RUN); joins of the two"],
        ),
        ([HIVE], [], {"others": [ORDERS]}, ["64 in dataset orders (run RUN); Trino joins them without an exchange"]),
        (
            [layout(buckets=96)],
            [],
            {"others": [ORDERS]},
            ["96 buckets here and 64 in dataset orders (run RUN); joins"],
        ),
        ([SPARK], [], {"others": [ORDERS]}, ["coalesceBucketsInJoin.enabled=true; set buckets.count"]),
        (
            [layout("spark", 512)],
            [],
            {"others": [ORDERS]},
            ["; joins of the two need an exchange; set buckets.count"],
        ),
        ([ICEBERG], [], {"others": [ORDERS]}, ["; joins of the two need an exchange; set buckets.count"]),
        # Tables with other keys are not joined by bucket anyway.
        ([HIVE], [], {"others": [ORDERS], "keys": [("order_id", "string")]}, []),
        ([HIVE], [], {"others": [ORDERS], "keys": [*KEYS, ("month", "date")]}, []),
    ],
)
def test_layouts_that_serve_no_join_cost_a_warning(
    layouts: Sequence[PlannedLayout], readers: Sequence[str], named: dict[str, Any], words: Sequence[str]
) -> None:
    warnings = advise(layouts, readers, **{"rows": 374_000_000, "keys": KEYS, **named}).warnings
    assert len(warnings) == len(words), warnings
    for warning, expected in zip(warnings, words, strict=True):
        assert expected in warning


def test_advice_is_shown_as_text_json_and_html() -> None:
    advice = advise([HIVE, SPARK], ["trino", "clean_rooms"], 374_000_000)
    assert advice.rows()[1][:3] == ("clean_rooms", "spark_*", "buckets")
    assert advice.document()["readers"][0]["uses"] == "buckets"
    assert "layout spark adds 850.0 GB" in advice._repr_html_()
    assert all(family in {"trino", "athena", "spark", "duckdb"} for family in FAMILIES.values())
