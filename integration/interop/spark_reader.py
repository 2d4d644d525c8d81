"""Read Iceberg tables of a SQL catalog, and tables of a Hive metastore, with Spark 3.5 or 4.1."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from project import environment

from .iceberg_disk import CATALOG
from .maven import ROOT, NotInstalledError, jar

_ICEBERG = "1.12.0"
_SQLITE = "org.xerial:sqlite-jdbc:3.50.3.0"
_RUNTIME = {"3.5": "iceberg-spark-runtime-3.5_2.12", "4.1": "iceberg-spark-runtime-4.1_2.13"}
_PYTHON = {"3.5": Path(sys.executable), "4.1": ROOT / ".venv-readers" / "bin" / "python"}
REST = "rest"
VERSIONS = tuple(_RUNTIME)
_TESTS = ROOT / "tests"
_SECONDS = 540

_V2 = "spark.sql.sources.v2.bucketing"
_GROUPS = {"spark.sql.iceberg.planning.preserve-data-grouping": "true"}
# The least settings with which Spark joins Iceberg tables by their buckets, without moving rows.
BY_BUCKET = {
    "3.5": {**_GROUPS, f"{_V2}.enabled": "true", f"{_V2}.pushPartValues.enabled": "true"},
    "4.1": _GROUPS,
}
# Joins of tables with different bucket counts: Spark 4 only.
COMPATIBLE = {f"{_V2}.allowCompatibleTransforms.enabled": "true"}
# Joins with unbucketed rows, which alone are moved: Spark 4 only.
ONE_SIDED = {f"{_V2}.shuffle.enabled": "true"}


def query(sql: str, **settings: str) -> dict[str, Any]:
    return {"sql": sql, "settings": settings}


def ask(
    version: str,
    work: Path,
    database: Path,
    queries: Mapping[str, Mapping[str, Any]],
    tables: Sequence[Mapping[str, Any]] = (),
    rest: str = "",
) -> dict[str, dict[str, Any]]:
    """Return rows, plan and number of files for each query.

    Args:
        version: of Spark.
        work: an existing directory.
        database: SQLite file of the catalog.
        queries: each made by `query`.
        tables: definitions for the Hive metastore, in the form of Glue's `TableInput`.
        rest: address of a REST catalog, which is then the catalog `REST` of Spark.

    Raises:
        NotInstalledError: a program is missing and cannot be installed.
    """
    python = _PYTHON[version]
    if not python.exists():
        raise NotInstalledError(f"there is no Spark {version} for tests: make it with `make readers`")
    jars = [jar(f"org.apache.iceberg:{_RUNTIME[version]}:{_ICEBERG}"), jar(_SQLITE)]
    catalog = f"spark.sql.catalog.{CATALOG}"
    settings = {
        "spark.jars": ",".join(map(str, jars)),
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "jdbc",
        f"{catalog}.uri": f"jdbc:sqlite:{database}",
        f"{catalog}.warehouse": str(database.parent),
        f"{catalog}.jdbc.schema-version": "V1",
    }
    if rest:
        rest_catalog = f"spark.sql.catalog.{REST}"
        settings |= {rest_catalog: settings[catalog], f"{rest_catalog}.type": "rest", f"{rest_catalog}.uri": rest}
    questions, answers = work / "questions", work / "answers"
    questions.write_text(json.dumps({"tables": tables, "queries": queries, "settings": settings}))
    process = subprocess.run(
        [python, _TESTS / "spark" / "metastore_script.py", questions, answers],
        env=environment(TZ="UTC"),
        cwd=work,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, dict[str, Any]] = pickle.loads(answers.read_bytes())["queries"]
    return found
