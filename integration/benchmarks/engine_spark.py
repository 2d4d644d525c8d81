"""Answer the queries of the readers' benchmark with Spark: engine_spark WORK RESULTS.

Spark reads the tables from a Hive metastore with the definitions that Glue would get. Imports nothing that an
environment with PySpark alone does not have.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyspark
from pyspark.sql import SparkSession

from hive_metastore import METASTORE_SETTINGS, Metastore

from .reader_plans import spark_plan
from .reader_rounds import Figures, Results, Row, Variant, Work, process_cpu, run_rounds

MEMORY = "4g"
# As `reader_iceberg` names it.
_ICEBERG_CATALOG = "bucketwheel"
_SETTINGS = {
    **METASTORE_SETTINGS,
    # Broadcasts would hide the joins of small tables.
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.driver.memory": MEMORY,
    "spark.ui.showConsoleProgress": "false",
    # Hadoop does not count what such reads take from a local file. The default differs between versions of Spark.
    "spark.hadoop.parquet.hadoop.vectored.io.enabled": "false",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.compress": "false",
    "spark.eventLog.rolling.enabled": "false",
}


class Spark:
    """A session with a database for each layout."""

    def __init__(self, work: Work) -> None:
        place = Path(work.out, f"spark-{pyspark.__version__}")
        log = place / "events"
        log.mkdir(parents=True)
        builder: Any = SparkSession.builder
        given = {
            "spark.eventLog.dir": f"file://{log}",
            "spark.sql.warehouse.dir": str(place / "warehouse"),
            "spark.sql.shuffle.partitions": str(work.files),
            "spark.local.dir": str(place / "local"),
        }
        more = work.spark_settings
        for name, value in {**_SETTINGS, **given, **more}.items():
            builder = builder.config(name, value)
        self.session: SparkSession = builder.master("local[*]").getOrCreate()
        context: Any = self.session.sparkContext
        self._bus = context._jsc.sc().listenerBus()
        self._pid = int(context._jvm.java.lang.ProcessHandle.current().pid())
        metastore = Metastore(self.session)
        for variant in work.variants:
            if variant.name in work.tables and not variant.is_iceberg:
                self.session.sql(f"CREATE DATABASE {variant.schema}")
                for table in work.tables[variant.name]:
                    metastore.create(variant.schema, table)
        self.session.read.parquet(work.partner).createOrReplaceTempView("partner")
        self._events = next(log.iterdir()).open(encoding="utf-8")

    def ask(self, variant: Variant, text: str) -> tuple[Sequence[Row], Figures]:
        """Return the rows, and what the query took."""
        for name, value in variant.settings.items():
            self.session.conf.set(name, value)
        try:
            before, begun = process_cpu(self._pid), time.perf_counter()
            schema = f"{_ICEBERG_CATALOG}.{variant.schema}" if variant.is_iceberg else variant.schema
            frame: Any = self.session.sql(text.format(schema=schema, partner="partner"))
            plan = frame._jdf.queryExecution().executedPlan().toString()
            rows = [tuple(row) for row in frame.collect()]
            figures = {"wall": time.perf_counter() - begun, "process_cpu": process_cpu(self._pid) - before}
        finally:
            for name in variant.settings:
                self.session.conf.unset(name)
        return rows, {**figures, **self._tasks(), **spark_plan(plan)}

    def _tasks(self) -> Figures:
        """Return what the tasks since the last call took, from the event log."""
        self._bus.waitUntilEmpty()
        sums = {"cpu": 0.0, "bytes": 0, "shuffled": 0}
        for event in map(json.loads, self._events):
            if event["Event"] == "SparkListenerTaskEnd" and event.get("Task Metrics"):
                metrics = event["Task Metrics"]
                sums["cpu"] += metrics["Executor CPU Time"] / 1e9
                sums["bytes"] += metrics["Input Metrics"]["Bytes Read"]
                sums["shuffled"] += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"]
        return sums


def main() -> None:
    started = time.monotonic()
    work = Work.read(Path(sys.argv[1]))
    with Results.at(Path(sys.argv[2])) as results:
        spark = Spark(work)
        results.write(engine=f"Spark {pyspark.__version__}")
        run_rounds(work, spark.ask, results, started=started)
        spark.session.stop()


if __name__ == "__main__":
    main()
