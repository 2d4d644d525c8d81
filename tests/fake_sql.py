"""Execute the statements of Bucketwheel's executors on a catalog and a storage, with planned failures.

This is the engine behind the fakes of Athena and Trino. It copies the files of the source, which already are the
buckets that a CTAS of the same hash and count would write; the definition of the copy comes from the statement.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import Catalog, CatalogTable
from bucketwheel.storage import Storage, join

_CREATE = re.compile(r"CREATE TABLE (\S+)\nWITH \((.*?)\n\) AS\nSELECT\n(.*)\nFROM (\S+)", re.DOTALL)
_KEYS = re.compile(r"SELECT count\(\*\)(.*)\nFROM (\S+)", re.DOTALL)
_DROP = re.compile(r"DROP TABLE IF EXISTS (\S+)")
_NAMES = re.compile(r'"((?:[^"]|"")*)"|`((?:[^`]|``)*)`')


class SqlRefusedError(Exception):
    """An error of the engine; `name` is Trino's error name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


@dataclass(frozen=True)
class Plan:
    """Planned outcome of a statement: it fails with this name and message, or hangs until it is cancelled.

    `number` is Athena's error type. A copy writes its first file before it fails.
    """

    name: str = ""
    message: str = ""
    number: int | None = None
    retryable: bool = False
    hang: bool = False


@dataclass
class TinySql:
    """The engine of the suite `bucketwheel.testing.executor`, with more kinds of failures.

    `statements` lists all statements, `written` the files of failed copies.
    """

    catalog: Catalog
    storage: Storage
    enforced: str | None = None
    statements: list[str] = field(default_factory=list)
    written: dict[str, list[str]] = field(default_factory=dict)
    plans: list[tuple[str, Plan]] = field(default_factory=list)
    lose_rows: bool = False
    file_name: Callable[[str], str] = lambda name: name.replace("_0.snappy.parquet", "_0_made_by_sql")
    lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, part: str, plan: Plan, times: int = 1) -> None:
        """Apply the plan to the next statements that contain `part`."""
        self.plans += [(part, plan)] * times

    def fail_next_copy(self, name: str, message: str) -> None:
        """Make the next copy fail with this error name and message."""
        self.plan("CREATE TABLE", Plan(name, message))

    def hang_next_copy(self) -> None:
        """Make the next copy run until it is cancelled."""
        self.plan("CREATE TABLE", Plan(hang=True))

    def begin(self, text: str) -> Plan | None:
        """Record the statement and return its plan; for a copy, write the file that it leaves behind first."""
        with self.lock:
            self.statements.append(text)
            planned = next((entry for entry in self.plans if entry[0] in text), None)
            if planned is None:
                return None
            self.plans.remove(planned)
        if create := _CREATE.fullmatch(text):
            self.written[text] = self._copy_files(create, "", 1)[1]
        return planned[1]

    def execute(self, text: str, query_id: str) -> list[tuple[str | None, ...]]:
        """Execute a statement and return its rows.

        Raises:
            SqlRefusedError: the statement is not supported, or a table or location is missing or exists.
        """
        if create := _CREATE.fullmatch(text):
            return self._create(create, query_id)
        if keys := _KEYS.fullmatch(text):
            return [self._keys(self._table(keys[2]), names_in(keys[1]))]
        if drop := _DROP.fullmatch(text):
            dropped = self.catalog.get(names_in(drop[1])[-1])
            if dropped:
                self.catalog.remove(dropped)
            return []
        if text == "SHOW CATALOGS":
            return [("system",), ("hive",)]
        raise SqlRefusedError("SYNTAX_ERROR", f"line 1:1: mismatched input {text[:20]!r}")

    def _table(self, name: str) -> CatalogTable:
        table = self.catalog.get(names_in(name)[-1])
        if table is None:
            raise SqlRefusedError("TABLE_NOT_FOUND", f"line 1:15: Table {name} does not exist")
        return table

    def _create(self, create: re.Match[str], query_id: str) -> list[tuple[str | None, ...]]:
        name, source = names_in(create[1])[-1], self._table(create[4])
        if self.catalog.get(name):
            raise SqlRefusedError("TABLE_ALREADY_EXISTS", f"Table {name} already exists")
        if names_in(create[3]) != [column for column, _ in source.columns]:
            raise SqlRefusedError("COLUMN_NOT_FOUND", "line 1:1: columns differ")
        location, _ = self._copy_files(create, query_id, None)
        copy = replace(source, name=name, location=location, sorted=False, version=None, native={})
        self.catalog.put(replace(copy, **buckets_in(create[2])), None)
        return [("3",)]

    def _copy_files(self, create: re.Match[str], query_id: str, limit: int | None) -> tuple[str, list[str]]:
        external = re.search(r"external_location = '([^']*)/'", create[2])
        if external and self.enforced:
            raise SqlRefusedError("INVALID_TABLE_PROPERTY", "external_location is not allowed in this workgroup")
        location = external[1] if external else f"{self.enforced}/tables/{query_id}"
        if self.storage.list(location):
            raise SqlRefusedError(
                "HIVE_PATH_ALREADY_EXISTS", f"Target directory for table already exists: {location}"
            )
        written = []
        files = self.storage.list(self._table(create[4]).location)
        for entry in files[: len(files) - 1 if self.lose_rows else limit]:
            path = join(location, self.file_name(entry.name))
            self.storage.write(path, self.storage.read(entry.location))
            written.append(path)
        return location, written

    def _keys(self, table: CatalogTable, columns: Sequence[str]) -> tuple[str | None, ...]:
        rows, sums = 0, dict.fromkeys(columns, 0)
        for entry in self.storage.list(table.location):
            with self.storage.open(entry.location) as stream:
                read: pa.Table = pq.read_table(stream, columns=list(columns))
            rows += read.num_rows
            for column in columns:
                for value in read[column].to_pylist():
                    sums[column] += int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:8], "big")
        return (str(rows), *(f"{total % 2**64:016X}" for total in sums.values()))


def buckets_in(properties: str) -> dict[str, Any]:
    """Return the fields of a table definition that the properties of a CTAS set for its buckets."""
    columns = re.search(r"bucketed_by = ARRAY\[(.*)\]", properties)
    count = re.search(r"bucket_count = (\d+)", properties)
    version = re.search(r"bucketing_version = (\d+)", properties)
    if (columns is None) != (count is None):
        raise SqlRefusedError("INVALID_TABLE_PROPERTY", "bucketed_by and bucket_count must be specified together")
    return {
        "bucket_columns": tuple(re.findall(r"'([^']*)'", columns[1])) if columns else (),
        "bucket_count": int(count[1]) if count else 0,
        "parameters": {"bucketing_version": version[1]} if version else {},
    }


def names_in(text: str) -> list[str]:
    """Return the quoted names in a text."""
    return [(one or other).replace('""', '"').replace("``", "`") for one, other in _NAMES.findall(text)]
