"""Queries on the source, whose results every reader has to return, and the list of a partner."""

from __future__ import annotations

from pathlib import Path

import duckdb

from bucketwheel.catalogs.sql import quoted
from bucketwheel.kernel.layout import standard_name

from .reader_layouts import WIDE, mapping
from .reader_rounds import digest

KEY = "customer_user_id"
SOURCE = "source"
_NUMBERS, _TEXT = ("BIGINT", "INTEGER", "SMALLINT", "TINYINT"), "VARCHAR"


class Source:
    """The source in DuckDB, as tables of the names that Bucketwheel publishes."""

    def __init__(self, data: Path, names: list[str], partner: Path) -> None:
        self.connection = duckdb.connect()
        self._names = names
        files = f"read_parquet('{next((data / 'opus' / WIDE / 'raw_input').glob('snapshot_dt=*'))}/*.parquet')"
        columns = {standard_name(name): columns for name, columns in mapping(data).items()}
        self.connection.execute(f"CREATE SCHEMA {SOURCE}")
        for name in names:
            chosen = ", ".join(
                f"{quoted(c)} AS {quoted(standard_name(c))}" for c in ("Customer_User_id", *columns[name])
            )
            self.connection.execute(f"CREATE VIEW {SOURCE}.{name} AS SELECT {chosen} FROM {files}")
        self._write_partner(partner)

    def _write_partner(self, directory: Path) -> None:
        """Write the keys of a partner: a tenth of ours, and as many others."""
        directory.mkdir()
        file = directory / "partner.parquet"
        ours = f"SELECT {KEY} FROM {SOURCE}.{self._names[0]} WHERE hash({KEY}) % 10 = 0"
        keys = f"{ours} UNION ALL SELECT 'other ' || {KEY} FROM ({ours})"
        self.connection.execute(f"COPY (SELECT * FROM ({keys}) ORDER BY hash({KEY})) TO '{file}'")
        self.connection.execute(f"CREATE VIEW partner AS SELECT * FROM read_parquet('{file}')")

    def digests(self, queries: dict[str, str]) -> dict[str, str]:
        """Return the hash of the right rows of each query."""
        texts = {name: text.format(schema=SOURCE, partner="partner") for name, text in queries.items()}
        return {name: digest(self.connection.execute(text).fetchall()) for name, text in texts.items()}

    def queries(self) -> dict[str, str]:
        """Return the statements; see `Work.queries`."""
        names = self._names
        keys = self._column(f"SELECT {KEY} FROM {SOURCE}.{names[0]} ORDER BY hash({KEY}) LIMIT 1000")
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
            "overlap with a partner": f"SELECT count(*), {facts[0]} FROM {named[0]} JOIN {{partner}} AS p "
            f"ON t0.{KEY} = p.{KEY}",
            "anti join": f"SELECT count(*), {facts[0]} FROM {named[0]} WHERE NOT EXISTS ({missing})",
        }

    def _sample_columns(self, table: str) -> tuple[str | None, str]:
        """Return a column of numbers, if there is one, and one of text."""
        rows = self.connection.execute(f"DESCRIBE {SOURCE}.{table}").fetchall()
        columns = [(row[0], row[1]) for row in rows if row[0] != KEY]
        number = next((name for name, kind in columns if kind in _NUMBERS), None)
        return number, next(name for name, kind in columns if kind == _TEXT)

    def _column(self, text: str) -> list[str]:
        return [str(value) for (value,) in self.connection.execute(text).fetchall()]
