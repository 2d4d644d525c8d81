"""Spark finds the buckets of published tables in a Hive metastore, and every value in their files."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from all_types import all_types, as_written
from bucketwheel.pipeline.run import run
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.settings import Settings
from glue_inputs import table_inputs
from project import environment
from spark_values import as_spark_has_it

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.xdist_group("metastore")]

ROWS, BUCKETS = 300, 8
SCHEMA = "spark.sql.sources.schema"
# Spark uses the order of files only with this setting.
ORDERED = {"spark.sql.legacy.bucketedTableScan.outputOrdering": "true"}
# Otherwise Spark hides the buckets that it reads from the plan of a query that only filters.
PLAIN = {"spark.sql.sources.bucketing.autoBucketedScan.enabled": "false"}
COALESCED = {"spark.sql.bucketing.coalesceBucketsInJoin.enabled": "true"}
MANY = {"spark.sql.shuffle.partitions": "200"}
PARTNER = "(SELECT concat('person ', id, ' é') AS id FROM range(20)) AS partner"
WIDE = [f"w{number:03d}" for number in range(150)]
# Columns of all types that a key can have, besides `id`.
KEYS = ["text", "boolean", "int_8", "int_16", "int_32", "int_64", "date_32"]
Answers = dict[str, Any]


def key(number: int) -> str | None:
    return f"person {number} é" if number else None


def people() -> pa.Table:
    """Return rows with a NULL key among them, with three values of each type in turns."""
    numbers = list(range(ROWS))
    types = {name: column.take(pa.array([n % len(column) for n in numbers])) for name, column in all_types().items()}
    wide = {name: pa.array(numbers, pa.int32()) for name in WIDE}
    parts = {"a": pa.array([n % 20 for n in numbers], pa.int32()), "b": [n % 30 % 7 == 0 for n in numbers]}
    return pa.table({"id": list(map(key, numbers)), "number": numbers, **parts, **types, **wide})


def settings(root: Path, keys: list[str], tables: dict[str, list[str]], **changes: Any) -> Settings:
    mapping = root / f"{'_'.join(tables)}.csv"
    lines = [f"{table},{column}\n" for table, columns in tables.items() for column in columns]
    mapping.write_text("OMC_FLYWHEEL_TABLE,OMC_FLYWHEEL_COLUMN\n" + "".join(lines))
    return Settings.model_validate({
        "threads": 2,
        "target": str(root / "out"),
        "buckets": {"count": BUCKETS, "hash": "spark", **changes},
        "quality": {"null_keys": "allow", "duplicate_keys": "allow"},
        "catalog": {"path": str(root / "catalog.duckdb")},
        "datasets": {mapping.stem: {"source": str(root / "in"), "mapping": str(mapping), "key": keys}},
    })  # fmt: skip


def published(given: Settings) -> list[dict[str, Any]]:
    """Run the dataset and return its tables as Glue would have them."""
    (dataset,) = given.datasets
    return list(table_inputs(run(given, RunRequest(dataset), lambda _: None).manifest, given))


def inputs(root: Path) -> list[dict[str, Any]]:
    """Publish the tables of all tests, which differ in keys, order and number of files."""
    source = root / "in" / "snapshot_dt=2025-10-22"
    source.mkdir(parents=True)
    pq.write_table(people(), source / "part-0.parquet")
    found = published(settings(root, ["id"], {"one": ["number"], "types": [*all_types()], "wide": WIDE}))
    found += published(settings(root, ["a", "b"], {"pairs": ["number"], "pairs_too": ["w000"]}))
    found += published(settings(root, ["id", *KEYS], {"all_keys": ["number"]}))
    found += published(settings(root, ["int_64", "id"], {"ints": ["number"]}))
    found += published(settings(root, ["id"], {"unsorted": ["number"]}, sort=False))
    found += published(settings(root, ["id"], {"half": ["number"]}, count=BUCKETS // 2))
    found += published(settings(root, ["id"], {"split": ["number"]}, max_file_bytes=1000))
    earlier = json.loads(json.dumps(found[0] | {"Name": "earlier"}))
    for name in list(earlier["Parameters"]):
        if name.startswith(SCHEMA):
            del earlier["Parameters"][name]
    return [*found, earlier]


def strays(table: str, *keys: str) -> dict[str, Any]:
    """Return a query for the rows that Spark would place in another bucket than that of their file."""
    bucket = "int(regexp_extract(input_file_name(), '_([0-9]+)[.]', 1))"
    rows = f"SELECT pmod(hash({', '.join(keys)}), {BUCKETS}) AS computed, {bucket} AS bucket FROM {table}"
    return query(f"SELECT count(*), count_if(computed <> bucket) FROM ({rows})")


def query(sql: str, **settings: str) -> dict[str, Any]:
    return {"sql": sql, "settings": settings}


QUERIES = {
    "join": query("SELECT id, number, w007 FROM one JOIN wide USING (id)"),
    "ordered join": query("SELECT id, number, w007 FROM one JOIN wide USING (id)", **ORDERED),
    "join by two keys": query("SELECT a, b, number, w000 FROM pairs JOIN pairs_too USING (a, b)", **ORDERED),
    "unsorted join": query("SELECT id, unsorted.number FROM unsorted JOIN one USING (id)", **ORDERED),
    "join of split buckets": query("SELECT id, split.number FROM split JOIN one USING (id)", **ORDERED),
    "join of earlier table": query("SELECT id, earlier.number FROM earlier JOIN one USING (id)"),
    "join of other count": query("SELECT id, half.number FROM half JOIN one USING (id)"),
    "coalesced join": query("SELECT id, half.number FROM half JOIN one USING (id)", **COALESCED),
    "join with unbucketed rows": query(f"SELECT id, number FROM one JOIN {PARTNER} USING (id)", **MANY),
    "group": query("SELECT id, count(*) FROM one GROUP BY id"),
    "look-up": query(f"SELECT number FROM one WHERE id = '{key(17)}'"),
    "plain look-up": query(f"SELECT number FROM one WHERE id = '{key(17)}'", **PLAIN),
    "look-up of NULL": query("SELECT number FROM one WHERE id IS NULL", **PLAIN),
    "look-up by two keys": query("SELECT count(*) FROM pairs WHERE a = 3 AND NOT b", **PLAIN),
    "types": query("SELECT types.*, number FROM types JOIN one ON one.id <=> types.id"),
    "strays by id": strays("one", "id"),
    "strays by a, b": strays("pairs", "a", "b"),
    "strays by int_64, id": strays("ints", "int_64", "id"),
    "strays by all types": strays("all_keys", "id", *KEYS),
    "join of all keys": query(
        f"SELECT one.number, o.number FROM all_keys AS one JOIN all_keys AS o USING (id, {', '.join(KEYS)})",
        **ORDERED,
    ),
    "text of times": query(f"SELECT string(at_s), string(instant_s) FROM types WHERE id = '{key(3)}'"),
}


@pytest.fixture(scope="module")
def all_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    root = tmp_path_factory.mktemp("metastore")
    tables = inputs(root)
    (root / "questions").write_text(json.dumps({"tables": tables, "queries": QUERIES}))
    script = Path(__file__).with_name("metastore_script.py")
    process = subprocess.run(
        [sys.executable, str(script), str(root / "questions"), str(root / "answers")],
        env=environment(TZ="UTC"),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    answers: Answers = pickle.loads((root / "answers").read_bytes())
    return {**answers, "tables": {table["Name"]: table for table in tables}}


@pytest.fixture
def answers(java: None, request: pytest.FixtureRequest) -> Answers:
    """What Spark says of the tables."""
    # Not before it is known that there is a Java.
    all_of_them: Answers = request.getfixturevalue("all_answers")
    return all_of_them


def plan(answers: Answers, name: str) -> str:
    text: str = answers["queries"][name]["plan"]
    return text


@pytest.mark.parametrize(
    "name", ["join", "ordered join", "join by two keys", "unsorted join", "coalesced join", "group"]
)
def test_plan_of_bucketed_tables_has_no_exchange(answers: Answers, name: str) -> None:
    assert "Bucketed: true" in plan(answers, name)
    assert "Exchange" not in plan(answers, name)


@pytest.mark.parametrize("name", ["join with unbucketed rows", "join of other count"])
def test_join_with_other_layout_moves_only_the_other_side(answers: Answers, name: str) -> None:
    assert plan(answers, name).count("Exchange") == 1
    assert plan(answers, name).count("Bucketed: true") == 1


def test_plan_of_earlier_table_has_exchange(answers: Answers) -> None:
    assert "Exchange" in plan(answers, "join of earlier table")
    assert len(answers["queries"]["join of earlier table"]["rows"]) == ROWS - 1


@pytest.mark.parametrize(
    ("name", "sorts"),
    [
        ("join", 2),
        ("ordered join", 0),
        ("join by two keys", 0),
        ("unsorted join", 1),
        ("join of split buckets", 1),
    ],
)
def test_plan_sorts_only_files_without_order(answers: Answers, name: str, sorts: int) -> None:
    assert plan(answers, name).count("Sort [") == sorts
    assert "Exchange" not in plan(answers, name)


@pytest.mark.parametrize(
    ("name", "read"),
    # Spark chooses buckets by a key of one column only.
    [("plain look-up", 1), ("look-up of NULL", 1), ("look-up by two keys", BUCKETS)],
)
def test_look_up_by_one_column_reads_one_bucket(answers: Answers, name: str, read: int) -> None:
    assert f"SelectedBucketsCount: {read} out of {BUCKETS}" in plan(answers, name)


def test_queries_return_rows_of_source(answers: Answers) -> None:
    rows = {name: answers["queries"][name]["rows"] for name in QUERIES}
    numbers = range(1, ROWS)
    joined = [(key(number), number, number) for number in numbers]
    assert sorted(rows["join"]) == sorted(rows["ordered join"]) == sorted(joined)
    source = people()
    pairs = list(zip(*(source[name].to_pylist() for name in ("a", "b", "number")), strict=True))
    by_two = [(a, b, one, two) for a, b, one in pairs for c, d, two in pairs if (a, b) == (c, d)]
    assert sorted(rows["join by two keys"]) == sorted(by_two)
    assert rows["look-up by two keys"] == [(sum(1 for a, b, _ in pairs if a == 3 and not b),)]
    for name in ("unsorted join", "join of split buckets", "join of other count", "coalesced join"):
        assert sorted(rows[name]) == sorted((key(number), number) for number in numbers)
    assert sorted(rows["join with unbucketed rows"]) == sorted((key(number), number) for number in range(1, 20))
    assert dict(rows["group"]) == dict.fromkeys(map(key, range(ROWS)), 1)
    assert (rows["look-up"], rows["plain look-up"], rows["look-up of NULL"]) == ([(17,)], [(17,)], [(0,)])


@pytest.mark.parametrize("keys", ["id", "a, b", "int_64, id", "all types"])
def test_every_row_is_in_the_bucket_that_spark_computes(answers: Answers, keys: str) -> None:
    assert answers["queries"][f"strays by {keys}"]["rows"] == [(ROWS, 0)]


def test_join_by_keys_of_all_types_loses_no_rows(answers: Answers) -> None:
    # NULL equals nothing; the third value of each type is NULL.
    assert sorted(answers["queries"]["join of all keys"]["rows"]) == [(n, n) for n in range(1, ROWS) if n % 3 != 2]
    assert "Exchange" not in plan(answers, "join of all keys")
    assert "Sort [" not in plan(answers, "join of all keys")


def test_values_of_all_types_equal_source(answers: Answers) -> None:
    answer = answers["queries"]["types"]
    assert isinstance(answer["rows"], list), answer["rows"]
    rows = {row[-1]: dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]}
    assert sorted(rows) == list(range(ROWS))
    source = people()
    for name in all_types():
        column = as_written(source[name].combine_chunks())
        expected = [as_spark_has_it(value, column.type) for value in column.to_pylist()]
        assert [rows[number][name] for number in range(ROWS)] == expected, name


def test_session_time_zone_shifts_only_instants(answers: Answers) -> None:
    ((wall_clock, instant),) = answers["queries"]["text of times"]["rows"]
    assert datetime.fromisoformat(wall_clock).hour - datetime.fromisoformat(instant).hour == 4


def test_spark_reads_published_schema(answers: Answers) -> None:
    for name, table in answers["tables"].items():
        if name != "earlier":
            parameters = table["Parameters"]
            parts = range(int(parameters.get(f"{SCHEMA}.numParts", 0)))
            text = parameters.get(SCHEMA) or "".join(parameters[f"{SCHEMA}.part.{number}"] for number in parts)
            assert answers["schemas"][name] == json.loads(text)
    assert f"{SCHEMA}.numParts" in answers["tables"]["wide"]["Parameters"]


def test_spark_writes_same_parameters_for_same_table(answers: Answers) -> None:
    def for_spark(parameters: dict[str, str]) -> dict[str, str]:
        # The version is that of the program that wrote the table.
        return {name: value for name, value in parameters.items() if name.startswith("spark.sql.sources.")}

    for name, table in answers["tables"].items():
        if name != "earlier":
            written = answers["copied_parameters"][name]
            assert for_spark(written) == for_spark(table["Parameters"])
            assert "spark.sql.create.version" in written.keys() & table["Parameters"].keys()
