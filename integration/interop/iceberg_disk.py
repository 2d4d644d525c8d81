"""Iceberg tables on local disk, in a SQL catalog, that Bucketwheel publishes beside tables in other layouts."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from all_types import all_types
from bucketwheel.runs.store import RunStore
from glue_inputs import table_inputs
from project import Project, Result
from workspace import Workspace

from . import key_tables
from .lake import write_snapshot

ROWS, BUCKETS = 300, 8
# The catalog of Iceberg's SQL catalog that holds the tables, and its namespace.
CATALOG, NAMESPACE = "bucketwheel", "lake"
# The second month is the published one: the third was published, and withdrawn.
MONTHS = ("2026-08-22", "2026-09-22", "2026-10-22")
PUBLISHED, WITHDRAWN = MONTHS[1], MONTHS[2]
LAYOUTS = {"hive": "bucketed_", "spark": "spark_", "iceberg": "iceberg_"}
KINDS = ("string", "int", "bigint", "smallint", "tinyint", "date")
# Iceberg has no type for these.
_UNKNOWN = {"time_ns", "at_ns", "instant_ns", "span_s", "span_ms", "span_us", "span_ns"}
# Spark has no type for Iceberg's time of day, and reads no table that has a column of it.
_TIME = "time_us"


def key(number: int) -> str | None:
    return f"person {number} é" if number else None


@cache
def people(month: str) -> pa.Table:
    """Return a month's rows, with a NULL key among them and three values of each type in turns."""
    rows = ROWS + MONTHS.index(month)
    numbers = list(range(rows))
    types = {name: column.take(pa.array([n % 3 for n in numbers])) for name, column in known_types().items()}
    added = [MONTHS.index(month) * 1000 + n for n in numbers]
    texts = [f"text {n}" for n in numbers]
    return pa.table({"id": list(map(key, numbers)), "number": numbers, "added": added, "text_2": texts, **types})


def evolved(month: str) -> pa.Table:
    """Return the rows of a table whose columns, types and nested fields change in the second month."""
    numbers = range(10)
    keys, parts = [f"id {n}" for n in numbers], [{"x": n, "y": f"y{n}"} for n in numbers]
    if month == MONTHS[0]:
        small = pa.array(numbers, pa.int32())
        return pa.table({"id": keys, "number": small, "dropped": [f"text {n}" for n in numbers], "parts": parts})
    larger = [{"z": n / 2, "x": n} for n in numbers]
    return pa.table({"id": keys, "added": parts, "number": [n + 2**40 for n in numbers], "parts": larger})


def known_types() -> dict[str, pa.Array]:
    return {name: column for name, column in all_types().items() if name not in _UNKNOWN}


def spark_types() -> list[str]:
    """Return the columns of the table `types`."""
    return [name for name in known_types() if name != _TIME]


def layouts() -> list[dict[str, str]]:
    """Return the setting of this name."""
    hashes = {"hive": "hive_v1", "spark": "spark", "iceberg": "iceberg"}
    return [{"name": name, "hash": hashes[name], "prefix": prefix} for name, prefix in LAYOUTS.items()]


def write_mapping(directory: Path) -> Path:
    """Write the mapping of the columns of `people` to four tables, and return its path."""
    tables = {"one": ["number"], "two": ["added", "text_2"], "types": spark_types(), "clocks": [_TIME]}
    lines = [f"{table},{column}\n" for table, columns in tables.items() for column in columns]
    mapping = directory / "mapping.csv"
    mapping.write_text("OMC_FLYWHEEL_TABLE,OMC_FLYWHEEL_COLUMN\n" + "".join(lines))
    return mapping


class IcebergDisk(Project):
    """Published tables: `one`, `two`, `types` and `clocks` in three layouts, others as Iceberg tables only.

    The others are `fewer`, which has half the buckets, `sparse`, which lacks most of them, `evolved`, and a table for
    each kind of key.
    """

    def __init__(self, root: Path) -> None:
        Workspace.__init__(self, root, NAMESPACE, "people")
        self.conf = root / "conf"
        self._tables: list[dict[str, Any]] = []
        mapping = write_mapping(root)
        self.settings = {
            "threads": 2,
            "target": str(self.target),
            "quality": {"null_keys": "allow", "duplicate_keys": "allow", "schema_changes": "allow"},
            "catalog": {"path": str(self.catalog), "database": NAMESPACE},
            "iceberg": {"null_keys": "partition"},
            "buckets": {"count": BUCKETS},
            "types": {"times": "keep"},
        }
        self.set(layouts=layouts(), datasets={"people": {**self._source("people"), "mapping": str(mapping)}})

    def publish_all(self) -> None:
        """Publish three months and withdraw the last one; then publish the other tables."""
        for month in MONTHS:
            write_snapshot(self.root / "people", people(month), month)
            self.command("run", "people", "--snapshot-dt", month)
        published = self.run_ids("people")[-2]
        self.command("rollback", published)
        settings = self.configuration().settings
        self._tables = list(table_inputs(RunStore.of(settings).load("people", published), settings))
        del self.settings["layouts"]
        self.settings["catalog"] = {"kind": "iceberg", "database": NAMESPACE}
        rows = people(PUBLISHED).select(["id", "number"])
        self._publish("sparse", rows.slice(1, 3), BUCKETS, "id")
        for kind in KINDS:
            self._publish(f"by_{kind}", key_tables.rows(kind), BUCKETS, key_tables.KEY)
        self._publish("fewer", rows, BUCKETS // 2, "id")
        for month in MONTHS[:2]:
            self._publish("evolved", evolved(month), BUCKETS // 2, "id", month)

    def glue_tables(self) -> list[dict[str, Any]]:
        """Return the published tables in layouts for Hive and Spark as Glue would have them."""
        return [table for table in self._tables if table["Parameters"].get("table_type") != "ICEBERG"]

    def command(self, *arguments: str) -> Result:
        """Run a command and expect it to succeed."""
        result = self.cli(*arguments)
        assert result.exit_code == 0, result.stderr
        return result

    def metadata(self, table: str) -> Path:
        """Return the current metadata file of an Iceberg table."""
        return Path(self.iceberg().load_table((NAMESPACE, table)).metadata_location.removeprefix("file://"))

    def iceberg(self) -> Any:
        """Return PyIceberg's catalog."""
        from pyiceberg.catalog.sql import SqlCatalog

        return SqlCatalog(CATALOG, uri=f"sqlite:///{self.database_file()}")

    def database_file(self) -> Path:
        return self.target / "iceberg.db"

    def _source(self, name: str, key_column: str = "id") -> dict[str, Any]:
        return {"source": str(self.root / name), "key": key_column}

    def _publish(self, name: str, rows: pa.Table, count: int, key_column: str, month: str = PUBLISHED) -> None:
        write_snapshot(self.root / name, rows, month)
        self.set(buckets={"count": count, "hash": "iceberg"}, datasets={name: self._source(name, key_column)})
        self.command("run", name)
