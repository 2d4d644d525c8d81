"""One wide snapshot, published with and without buckets, and the same tables read from the source by DuckDB."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb

from bucketwheel.catalogs.sql import quoted
from bucketwheel.kernel.layout import standard_name
from bucketwheel.sample import Sample

from .lake import LakeProject

WIDE = "people"
TABLES = ("ibe_01", "ibe_02", "ibe_04", "miacs_01", "ibe_05")


@dataclass(frozen=True)
class PeopleTables:
    """The two projects, with `files` files per table."""

    sample: Sample
    bucketed: LakeProject
    scattered: LakeProject
    files: int

    def key(self) -> str:
        """Return the median key: file statistics exclude no file for it."""
        text = f"SELECT quantile_disc(Customer_User_id, 0.5) FROM {self._files()}"
        with closing(duckdb.connect()) as connection:
            return str(connection.execute(text).fetchall()[0][0])

    def in_source(self, text: str) -> list[tuple[Any, ...]]:
        """Return DuckDB's result of a query on the table names of the mapping."""
        with closing(duckdb.connect()) as connection:
            for table, columns in self._mapping().items():
                chosen = ", ".join(f"{quoted(name)} AS {quoted(standard_name(name))}" for name in columns)
                connection.execute(f"CREATE VIEW {quoted(table)} AS SELECT {chosen} FROM {self._files()}")
            return connection.execute(text.format(**{table: quoted(table) for table in TABLES})).fetchall()

    def in_trino(self, project: LakeProject, text: str) -> list[tuple[Any, ...]]:
        """Return Trino's result of the same query."""
        named = text.format(**{table: project.table(table) for table in TABLES})
        return [tuple(row) for row in project.ask(named, hive__timestamp_precision="MICROSECONDS").rows]

    def _files(self) -> str:
        return f"read_parquet('{self.sample.snapshot}/*.parquet')"

    def _mapping(self) -> dict[str, list[str]]:
        columns: dict[str, list[str]] = {}
        with self.sample.mapping.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                table = columns.setdefault(standard_name(row["OMC_FLYWHEEL_TABLE"]), ["Customer_User_id"])
                table.append(row["OMC_FLYWHEEL_COLUMN"])
        return columns


def joined(tables: Sequence[str]) -> str:
    """Return the query for all columns of some tables, joined by the key."""
    first, *others = (f"{{{table}}} AS t{number}" for number, table in enumerate(tables))
    joins = (
        f"JOIN {table} ON t0.customer_user_id = t{number}.customer_user_id" for number, table in enumerate(others, 1)
    )
    return f"SELECT * FROM {first} {' '.join(joins)} ORDER BY t0.customer_user_id"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of one fragment of a plan."""
    yield plan
    for child in plan["children"]:
        yield from nodes(child)
