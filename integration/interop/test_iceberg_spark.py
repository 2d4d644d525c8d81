"""Spark joins and prunes Iceberg tables by their buckets, and finds every value and every month in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from runs_support import DATASET, FEBRUARY, JANUARY, Case
from spark_values import as_spark_has_it

from . import key_tables
from .iceberg_disk import (
    BUCKETS,
    CATALOG,
    KINDS,
    LAYOUTS,
    MONTHS,
    NAMESPACE,
    PUBLISHED,
    ROWS,
    WITHDRAWN,
    IcebergDisk,
    evolved,
    key,
    people,
    spark_types,
)
from .maven import NotInstalledError
from .spark_reader import BY_BUCKET, COMPATIBLE, ONE_SIDED, REST, VERSIONS, ask, query

pytestmark = [pytest.mark.spark, pytest.mark.slow]

Answers = dict[str, dict[str, Any]]
REST_NAMESPACE, REST_ROWS = "lake_in_rest", 40
MANY = {"spark.sql.shuffle.partitions": "200"}


def table(name: str, prefix: str = LAYOUTS["iceberg"]) -> str:
    return f"{CATALOG}.{NAMESPACE}.{prefix}{name}"


def other(name: str) -> str:
    """Return the name of a table that is only an Iceberg table."""
    return table(name, LAYOUTS["hive"])


def joined(one: str, two: str, **settings: str) -> dict[str, Any]:
    return query(f"SELECT id, one.number FROM {one} AS one JOIN {two} AS two USING (id)", **settings)


ONE, TWO, FEWER, SPARSE = table("one"), table("two"), other("fewer"), other("sparse")
PARTNER = "(SELECT concat('person ', id, ' é') AS id FROM range(1, 20))"


def queries(version: str) -> dict[str, dict[str, Any]]:
    by_bucket = BY_BUCKET[version]
    left = f"SELECT one.id, one.number, two.added FROM {ONE} AS one LEFT JOIN {TWO} AS two USING (id)"
    types = f"SELECT types.*, number FROM {table('types')} AS types JOIN {ONE} AS one ON one.id <=> types.id"
    found = {
        "plain join": joined(ONE, TWO),
        "join": joined(ONE, TWO, **by_bucket),
        "join of three": query(
            f"SELECT id, one.number FROM {ONE} AS one JOIN {TWO} USING (id) JOIN {table('types')} USING (id)",
            **by_bucket,
        ),
        "left join": query(left, **by_bucket),
        "group": query(f"SELECT id, count(*) FROM {ONE} GROUP BY id", **by_bucket),
        "join with missing buckets": joined(ONE, SPARSE, **by_bucket),
        "join of other count": joined(ONE, FEWER, **by_bucket),
        "compatible join": joined(ONE, FEWER, **by_bucket, **COMPATIBLE),
        "join with unbucketed rows": joined(ONE, PARTNER, **by_bucket, **ONE_SIDED, **MANY),
        "look-up": query(f"SELECT number FROM {ONE} WHERE id = '{key(17)}'"),
        "look-up of NULL": query(f"SELECT number FROM {ONE} WHERE id IS NULL"),
        "all": query(f"SELECT number FROM {ONE}"),
        "types": query(types),
        "now": query(f"SELECT id, added FROM {TWO}"),
        f"evolved {MONTHS[0]}": query(f"SELECT * FROM {other('evolved')} VERSION AS OF '{MONTHS[0]}'"),
        f"evolved {MONTHS[1]}": query(f"SELECT * FROM {other('evolved')}"),
        "layout hive": query("SELECT * FROM bucketed_two"),
        "layout spark": query("SELECT * FROM spark_two"),
        "layout iceberg": query(f"SELECT * FROM {TWO}"),
        "join in Spark's buckets": joined("spark_one", "spark_two"),
    }
    found |= {f"month {month}": query(f"SELECT id, added FROM {TWO} VERSION AS OF '{month}'") for month in MONTHS}
    for kind in KINDS:
        computed = f"{CATALOG}.system.bucket({BUCKETS}, {key_tables.KEY})"
        found[f"buckets by {kind}"] = query(f"SELECT _partition, {computed}, number FROM {other(f'by_{kind}')}")
    in_rest = f"{REST}.{REST_NAMESPACE}.bucketed_{DATASET}_1"
    columns = f"{DATASET}_1_mark, {DATASET}_1_value"
    found["rest"] = query(f"SELECT {columns} FROM {in_rest}")
    found["rest by tag"] = query(f"SELECT {columns} FROM {in_rest} VERSION AS OF '{JANUARY}'")
    return found


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def published_in_rest(rest: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Publish two months in a REST catalog, and return its address."""
    changes = {
        "buckets__hash": "iceberg",
        "catalog__kind": "iceberg",
        "iceberg__catalog": "rest",
        "iceberg__uri": rest,
        "iceberg__namespace": REST_NAMESPACE,
    }
    case = Case(tmp_path_factory.mktemp("in-rest"), rows=REST_ROWS, changes=changes)
    for month in (JANUARY, FEBRUARY):
        case.snapshot(month)
        case.run()
    return rest


@pytest.fixture(scope="module")
def answers(
    version: str,
    published_in_rest: str,
    java: None,
    disk: IcebergDisk,
    tmp_path_factory: pytest.TempPathFactory,
    cannot: Callable[[str], NoReturn],
) -> Answers:
    try:
        return ask(
            version,
            tmp_path_factory.mktemp("spark"),
            disk.database_file(),
            queries(version),
            disk.glue_tables(),
            published_in_rest,
        )
    except NotInstalledError as missing:
        cannot(str(missing))


def plan(answers: Answers, name: str) -> str:
    return str(answers[name]["plan"])


def test_join_by_buckets_needs_no_exchange(answers: Answers) -> None:
    for name in (
        "join",
        "join of three",
        "left join",
        "group",
        "join with missing buckets",
        "join in Spark's buckets",
    ):
        assert "Exchange" not in plan(answers, name), name
    assert plan(answers, "plain join").count("Exchange") == 2


def test_join_with_other_layout_needs_spark_4(answers: Answers, version: str) -> None:
    assert plan(answers, "join of other count").count("Exchange") == 2
    assert plan(answers, "compatible join").count("Exchange") == (2 if version == "3.5" else 0)
    assert plan(answers, "join with unbucketed rows").count("Exchange") == (2 if version == "3.5" else 1)


def test_look_up_reads_the_files_of_one_bucket(answers: Answers) -> None:
    assert [answers[name]["files"] for name in ("look-up", "look-up of NULL", "all")] == [1, 1, BUCKETS + 1]


def test_queries_return_rows_of_source(answers: Answers) -> None:
    rows = {name: answer["rows"] for name, answer in answers.items()}
    source = people(PUBLISHED).select(["id", "number", "added"]).to_pylist()
    everyone = sorted((row["id"], row["number"]) for row in source if row["id"])
    for name in ("plain", "compatible", "join", "join of three", "join of other count", "join in Spark's buckets"):
        assert sorted(rows[name if "join" in name else f"{name} join"]) == everyone, name
    left = [(row["id"], row["number"], row["added"] if row["id"] else None) for row in source]
    assert sorted(rows["left join"], key=str) == sorted(left, key=str)
    assert sorted(rows["join with missing buckets"]) == [(key(number), number) for number in (1, 2, 3)]
    assert sorted(rows["join with unbucketed rows"]) == sorted((key(number), number) for number in range(1, 20))
    assert dict(rows["group"]) == dict.fromkeys([row["id"] for row in source], 1)
    assert (rows["look-up"], rows["look-up of NULL"]) == ([(17,)], [(0,)])


def test_values_of_all_types_equal_source(answers: Answers) -> None:
    answer, source = answers["types"], people(PUBLISHED)
    assert isinstance(answer["rows"], list), answer["rows"]
    rows = {row[-1]: dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]}
    assert sorted(rows) == source["number"].to_pylist()
    for name in spark_types():
        column = source[name].combine_chunks()
        expected = [as_spark_has_it(value, column.type) for value in column.to_pylist()]
        assert [rows[number][name] for number in sorted(rows)] == expected, name


def test_tags_show_every_month(answers: Answers) -> None:
    for month in MONTHS:
        assert sorted(answers[f"month {month}"]["rows"], key=str) == rows_of(month), month
    assert sorted(answers["now"]["rows"], key=str) == rows_of(PUBLISHED) != rows_of(WITHDRAWN)


@pytest.mark.parametrize("month", MONTHS[:2])
def test_each_month_has_its_own_columns(answers: Answers, month: str) -> None:
    """A column was added, one dropped, one got a larger type, and a struct changed its fields."""
    answer, source = answers[f"evolved {month}"], evolved(month)
    columns = [[as_spark_has_it(value, column.type) for value in column.to_pylist()] for column in source.columns]
    assert answer["columns"] == source.column_names
    assert sorted(answer["rows"]) == sorted(zip(*columns, strict=True))


def rows_of(month: str) -> list[tuple[Any, ...]]:
    source = people(month)
    return sorted(zip(source["id"].to_pylist(), source["added"].to_pylist(), strict=True), key=str)


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_in_the_bucket_that_spark_computes(answers: Answers, kind: str) -> None:
    rows = answers[f"buckets by {kind}"]["rows"]
    assert sorted(number for *_, number in rows) == list(range(key_tables.rows(kind).num_rows))
    assert [row for row in rows if row[0] != (row[1],)] == []
    assert len({row[1] for row in rows}) > BUCKETS / 2


def test_tables_in_all_layouts_have_the_same_rows(answers: Answers) -> None:
    first, *others = (sorted(answers[f"layout {name}"]["rows"], key=str) for name in LAYOUTS)
    assert len(first) > ROWS
    assert others == [first, first]


def test_tables_of_a_rest_catalog_show_every_month(answers: Answers) -> None:
    for name, month in (("rest", FEBRUARY), ("rest by tag", JANUARY)):
        assert sorted(answers[name]["rows"]) == [(month, number) for number in range(REST_ROWS)], name
