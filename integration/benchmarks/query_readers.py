"""Query the same data with Spark and DuckDB in four layouts: unbucketed, sorted, in Hive's and in Spark's buckets.

python -m integration.benchmarks.query_readers DATA OUT ROUNDS

Publishes five tables in each layout on disk. Spark reads them from a Hive metastore with the definitions that Glue
would get. Prints one JSON object.
"""

from __future__ import annotations

import csv
import json
import math
import resource
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyspark
from pyspark.sql import SparkSession

from bucketwheel.catalogs.sql import quoted
from bucketwheel.kernel.layout import standard_name
from bucketwheel.pipeline.run import run
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.settings import Settings
from glue_inputs import table_inputs
from hive_metastore import METASTORE_SETTINGS, Metastore

WIDE = "infobase_attributes"
KEY = "customer_user_id"
JOINED = 5
# As many files as buckets, so that only their content differs.
FILES = 8
UNBUCKETED = "unbucketed"
_SOURCE = "source"
_NONE = {"count": "none"}
LAYOUTS: dict[str, dict[str, Any]] = {
    UNBUCKETED: {**_NONE, "sort": False},
    "sorted": _NONE,
    "hive_v1": {"count": FILES},
    "spark": {"count": FILES, "hash": "spark"},
}
# The layout `spark` once more, with a setting of the reader.
ORDERED = "spark, order used"
_ORDER = "spark.sql.legacy.bucketedTableScan.outputOrdering"
_SESSION = {
    **METASTORE_SETTINGS,
    # Broadcasts would hide the joins of small tables.
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.sql.shuffle.partitions": str(FILES),
    "spark.driver.memory": "3g",
    "spark.ui.showConsoleProgress": "false",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.compress": "false",
    "spark.eventLog.rolling.enabled": "false",
}
_GROUP = "spark.jobGroup.id"
_NUMBERS, _TEXT = ("BIGINT", "INTEGER", "SMALLINT", "TINYINT"), "VARCHAR"


def main() -> None:
    data, out, rounds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    tables = {name: list(published(name, data, out)) for name in LAYOUTS}
    duck = Duck(data, out, tables)
    texts = duck.queries()
    spark = Spark(out, tables)
    times = measured(texts, duck, spark, rounds)
    print(json.dumps({"readers": times, "tables": described(tables)}))


def published(layout: str, data: Path, out: Path) -> Iterator[dict[str, Any]]:
    """Publish the data in a layout and yield its tables as Glue would have them."""
    root = data / "opus" / WIDE
    source = {"source": str(root / "raw_input"), "mapping": str(root / "mapping.csv"), "key": "Customer_User_id"}
    place = out / layout.replace(" ", "_")
    settings = Settings.model_validate({
        "target": str(place),
        "catalog": {"path": str(place / "catalog.duckdb")},
        "buckets": LAYOUTS[layout],
        "size": {"files_per_gb": 1e6, "max_files": FILES},
        "datasets": {WIDE: source},
    })  # fmt: skip
    request = RunRequest(WIDE, tables_filter=tuple(mapping(data))[:JOINED])
    yield from table_inputs(run(settings, request, lambda _: None).manifest, settings)


def mapping(data: Path) -> dict[str, list[str]]:
    """Return the source columns of each table."""
    columns: dict[str, list[str]] = {}
    with (data / "opus" / WIDE / "mapping.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            columns.setdefault(row["OMC_FLYWHEEL_TABLE"], []).append(row["OMC_FLYWHEEL_COLUMN"])
    return columns


def described(tables: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, int]]:
    """Return number and size of the files of the first table in every layout."""
    first = {name: Path(inputs[0]["StorageDescriptor"]["Location"]) for name, inputs in tables.items()}
    sizes = {name: [path.stat().st_size for path in place.glob("*.parquet")] for name, place in first.items()}
    return {name: {"files": len(files), "bytes": sum(files)} for name, files in sizes.items()}


class Duck:
    """DuckDB with a schema for each layout and one for the source."""

    def __init__(self, data: Path, out: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
        self.connection = duckdb.connect()
        self.partner = out / "partner.parquet"
        self._names = [table["Name"] for table in tables[UNBUCKETED]]
        files = f"read_parquet('{next((data / 'opus' / WIDE / 'raw_input').glob('snapshot_dt=*'))}/*.parquet')"
        columns = {standard_name(name): columns for name, columns in mapping(data).items()}
        self.connection.execute(f"CREATE SCHEMA {_SOURCE}")
        for name in self._names:
            chosen = ", ".join(
                f"{quoted(c)} AS {quoted(standard_name(c))}" for c in ("Customer_User_id", *columns[name])
            )
            self.connection.execute(f"CREATE VIEW {_SOURCE}.{name} AS SELECT {chosen} FROM {files}")
        for layout, inputs in tables.items():
            self.connection.execute(f"CREATE SCHEMA {schema(layout)}")
            for table in inputs:
                files_of = f"read_parquet('{table['StorageDescriptor']['Location']}*.parquet')"
                self.connection.execute(f"CREATE VIEW {schema(layout)}.{table['Name']} AS SELECT * FROM {files_of}")
        self._write_partner()

    def _write_partner(self) -> None:
        """Write the keys of a partner: a tenth of ours, and as many others."""
        ours = f"SELECT {KEY} FROM {_SOURCE}.{self._names[0]} WHERE hash({KEY}) % 10 = 0"
        keys = f"{ours} UNION ALL SELECT 'other ' || {KEY} FROM ({ours})"
        self.connection.execute(f"COPY (SELECT * FROM ({keys}) ORDER BY hash({KEY})) TO '{self.partner}'")
        self.connection.execute(f"CREATE VIEW partner AS SELECT * FROM read_parquet('{self.partner}')")

    def queries(self) -> dict[str, str]:
        """Return the statements; `{{schema}}` in them stands for the layout."""
        names = self._names
        keys = self._column(f"SELECT {KEY} FROM {_SOURCE}.{names[0]} ORDER BY hash({KEY}) LIMIT 1000")
        numbers, texts = zip(*(self._sample_columns(name) for name in names), strict=True)
        named = [f"{{schema}}.{name} AS t{number}" for number, name in enumerate(names)]
        joins = [f"JOIN {name} ON t0.{KEY} = t{number}.{KEY}" for number, name in enumerate(named[1:], 1)]
        facts = [
            f"count(t{n}.{text}), sum(t{n}.{number})" if number else f"count(t{n}.{text}), max(t{n}.{text})"
            for n, (number, text) in enumerate(zip(numbers, texts, strict=True))
        ]
        group = f"t0.{texts[0]}"
        listed = ", ".join(f"'{key}'" for key in keys)
        missing = f"SELECT 1 FROM {named[1]} WHERE t1.{KEY} = t0.{KEY} AND t1.{texts[1]} IS NOT NULL"
        return {
            "look-up of one person": f"SELECT * FROM {named[0]} WHERE {KEY} = '{keys[0]}'",
            "look-up of 1,000 people": f"SELECT count(*), {facts[0]} FROM {named[0]} WHERE {KEY} IN ({listed})",
            "join of two tables": f"SELECT {group}, count(*), {facts[1]} FROM {named[0]} {joins[0]} GROUP BY {group}",
            "join of five tables": f"SELECT count(*), {', '.join(facts)} FROM {named[0]} {' '.join(joins)}",
            "overlap with a partner": f"SELECT count(*), {facts[0]} FROM {named[0]} JOIN partner AS p "
            f"ON t0.{KEY} = p.{KEY}",
            "anti join": f"SELECT count(*), {facts[0]} FROM {named[0]} WHERE NOT EXISTS ({missing})",
        }

    def _sample_columns(self, table: str) -> tuple[str | None, str]:
        """Return a column of numbers, if there is one, and one of text."""
        rows = self.connection.execute(f"DESCRIBE {_SOURCE}.{table}").fetchall()
        columns = [(row[0], row[1]) for row in rows if row[0] != KEY]
        number = next((name for name, kind in columns if kind in _NUMBERS), None)
        return number, next(name for name, kind in columns if kind == _TEXT)

    def _column(self, text: str) -> list[str]:
        return [str(value) for (value,) in self.connection.execute(text).fetchall()]

    def ask(self, text: str) -> tuple[list[tuple[Any, ...]], dict[str, float]]:
        """Return the rows and the time that they took."""
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        rows = self.connection.execute(text).fetchall()
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return rows, {"wall": wall, "cpu": cpu}


class Spark:
    """A session on a Hive metastore with a database for each layout; `end` reads the times from the event log."""

    def __init__(self, out: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
        self._log = out / "events"
        self._log.mkdir()
        builder: Any = SparkSession.builder
        places = {"spark.eventLog.dir": f"file://{self._log}", "spark.sql.warehouse.dir": str(out / "warehouse")}
        for name, value in {**_SESSION, **places}.items():
            builder = builder.config(name, value)
        self._session: SparkSession = builder.master("local[*]").getOrCreate()
        metastore = Metastore(self._session)
        for layout, inputs in tables.items():
            self._session.sql(f"CREATE DATABASE {schema(layout)}")
            for table in inputs:
                metastore.create(schema(layout), table)
        self._session.read.parquet(str(out / "partner.parquet")).createOrReplaceTempView("partner")

    def ask(self, label: str, text: str, ordered: bool) -> tuple[list[tuple[Any, ...]], dict[str, float]]:
        """Return the rows, and the time and the exchanges of the plan; `label` marks the jobs in the event log."""
        self._session.conf.set(_ORDER, str(ordered).lower())
        self._session.sparkContext.setJobGroup(label, label)
        started = time.perf_counter()
        frame: Any = self._session.sql(text)
        plan = frame._jdf.queryExecution().executedPlan().toString()
        rows = [tuple(row) for row in frame.collect()]
        return rows, {"wall": time.perf_counter() - started, "exchanges": plan.count("Exchange hashpartitioning")}

    def end(self) -> dict[str, dict[str, float]]:
        """Stop the session; return executor CPU, bytes read and bytes shuffled of each label."""
        self._session.stop()
        (log,) = self._log.iterdir()
        labels: dict[int, str] = {}
        taken: dict[str, dict[str, float]] = {}
        with log.open(encoding="utf-8") as lines:
            for event in map(json.loads, lines):
                if event["Event"] == "SparkListenerJobStart":
                    label = (event.get("Properties") or {}).get(_GROUP, "")
                    labels |= dict.fromkeys(event["Stage IDs"], label)
                elif event["Event"] == "SparkListenerTaskEnd" and event.get("Task Metrics"):
                    metrics = event["Task Metrics"]
                    sums = taken.setdefault(labels[event["Stage ID"]], {"cpu": 0, "bytes": 0, "shuffled": 0})
                    sums["cpu"] += metrics["Executor CPU Time"] / 1e9
                    sums["bytes"] += metrics["Input Metrics"]["Bytes Read"]
                    sums["shuffled"] += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"]
        return taken


def schema(layout: str) -> str:
    return f"layout_{layout.replace(' ', '_')}"


def measured(texts: dict[str, str], duck: Duck, spark: Spark, rounds: int) -> dict[str, Any]:
    """Return reader → query → layout → figures of each round; layouts alternate, after one warm-up round."""
    in_spark = f"Spark {pyspark.__version__}"
    times: dict[str, Any] = {in_spark: {}, f"DuckDB {duckdb.__version__}": {}}
    by_spark, by_duckdb = times.values()
    answers = {query: comparable(duck.ask(text.format(schema=_SOURCE))[0]) for query, text in texts.items()}
    labels: list[tuple[dict[str, float], str]] = []
    for number in range(rounds + 1):
        for query, text in texts.items():
            for name in (*LAYOUTS, ORDERED):
                layout = "spark" if name == ORDERED else name
                label = f"{query}, {name}, round {number}"
                question = text.format(schema=schema(layout))
                rows, figures = spark.ask(label, question, name == ORDERED)
                # A layout that loses rows would be fast.
                assert comparable(rows) == answers[query], label
                if number:
                    by_spark.setdefault(query, {}).setdefault(name, []).append(figures)
                    labels.append((figures, label))
                if name != ORDERED:
                    rows, figures = duck.ask(question)
                    assert comparable(rows) == answers[query], f"{label}, DuckDB"
                    if number:
                        by_duckdb.setdefault(query, {}).setdefault(name, []).append(figures)
                print(f"{label}: {figures['wall']:.2f} s", file=sys.stderr)
    taken = spark.end()
    for figures, label in labels:
        figures.update(taken.get(label, {"cpu": 0, "bytes": 0, "shuffled": 0}))
    return times


def comparable(rows: list[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    """Return sorted rows of text: readers differ in types and in the last digits of floating-point sums."""
    return sorted(tuple(map(_text, row)) for row in rows)


def _text(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return str(value.normalize() if isinstance(value, Decimal) else value)


if __name__ == "__main__":
    main()
