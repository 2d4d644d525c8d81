"""Show Spark tables of a Hive metastore, run queries on them, and write plans, rows and definitions to a file.

metastore_script.py QUESTIONS ANSWERS

QUESTIONS is JSON: `tables` in the form of Glue's `TableInput`, `queries` with their SQL and settings, and optionally
`settings` of the session. ANSWERS is a pickled dictionary. The metastore is Hive's own, in the memory of this
process.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import Row, SparkSession

from hive_metastore import METASTORE_SETTINGS, Metastore

DATABASE = "db"
_OPTIONS = "spark.driver.extraJavaOptions"
_SETTINGS = {
    **METASTORE_SETTINGS,
    # Spark would broadcast tables as small as these instead of joining them.
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.sql.session.timeZone": "America/New_York",
    "spark.sql.shuffle.partitions": "2",
    # It ends before the JVM's thorough compiler has paid for itself.
    _OPTIONS: f"{METASTORE_SETTINGS[_OPTIONS]} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
}


def plain(value: Any) -> Any:
    """Convert a value of Spark to one of Python."""
    if isinstance(value, Row):
        return tuple(map(plain, value))
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return bytes(value) if isinstance(value, bytearray) else value


def ask(session: SparkSession, sql: str, settings: dict[str, str]) -> dict[str, Any]:
    for name, value in settings.items():
        session.conf.set(name, value)
    frame: Any = session.sql(sql)
    plan = frame._jdf.queryExecution().executedPlan().toString()
    files = None
    try:
        rows = plain(frame.collect())
        files = files_read(frame)
    except Exception as error:  # noqa: BLE001 the test looks at it
        rows = str(error)
    for name in settings:
        session.conf.unset(name)
    return {"columns": frame.columns, "plan": plan, "rows": rows, "files": files}


def files_read(frame: Any) -> int | None:
    """Return how many data files of an Iceberg table a query without exchange has read; None for other tables."""
    metric = frame._jdf.queryExecution().executedPlan().collectLeaves().apply(0).metrics().get("resultDataFiles")
    return int(metric.get().value()) if metric.isDefined() else None


def main() -> None:
    questions = json.loads(Path(sys.argv[1]).read_text())
    builder: Any = SparkSession.builder
    for name, value in {**_SETTINGS, **questions.get("settings", {})}.items():
        builder = builder.config(name, value)
    session: SparkSession = builder.master("local[1]").getOrCreate()
    session.sql(f"CREATE DATABASE {DATABASE}")
    session.catalog.setCurrentDatabase(DATABASE)
    metastore = Metastore(session)
    answers: dict[str, Any] = {"queries": {}, "schemas": {}, "copied_parameters": {}}
    for table in questions["tables"]:
        name = table["Name"]
        metastore.create(DATABASE, table)
        answers["schemas"][name] = session.table(name).schema.jsonValue()
        # Spark writes its own definition, with what it has read of this one.
        session.sql(f"CREATE TABLE copy_of_{name} LIKE {name} LOCATION '{table['StorageDescriptor']['Location']}'")
        answers["copied_parameters"][name] = metastore.parameters(DATABASE, f"copy_of_{name}")
    for name, query in questions["queries"].items():
        answers["queries"][name] = ask(session, query["sql"], query["settings"])
    Path(sys.argv[2]).write_bytes(pickle.dumps(answers))


if __name__ == "__main__":
    main()
