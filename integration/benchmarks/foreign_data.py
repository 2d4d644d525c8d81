"""Write data as other tools do: foreign_data NAME ROWS DIRECTORY, in the layout of `bucketwheel sample`."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .work import KEY

TABLES, FILES = 8, 8
NULL_SHARE = 0.3
_DAY = "2025-10-22"
# Rows of the table lineitem at scale factor 1, at least.
_LINES = 5_900_000
_SMALLEST_SCALE = 0.001
_TPCH = {"l": "lineitem", "o": "orders", "c": "customer", "p": "part", "s": "supplier", "ps": "partsupp"}
_JOINED = """
    SELECT l_orderkey * 8 + l_linenumber AS "{key}", * FROM lineitem
    JOIN orders ON o_orderkey = l_orderkey JOIN customer ON c_custkey = o_custkey
    JOIN part ON p_partkey = l_partkey JOIN supplier ON s_suppkey = l_suppkey
    JOIN partsupp ON ps_partkey = l_partkey AND ps_suppkey = l_suppkey
    ORDER BY l_orderkey, l_linenumber LIMIT {rows}
"""

Values = Callable[[np.random.Generator, int], Any]


def _codes(distinct: int) -> Values:
    values = pa.array([f"Code {number:04d}" for number in range(distinct)])
    return lambda random, count: values.take(pa.array(random.integers(0, distinct, count)))


def _numbers(distinct: int, divisor: int = 1) -> Values:
    def values(random: np.random.Generator, count: int) -> Any:
        numbers = random.integers(0, distinct, count)
        return pa.array(numbers if divisor == 1 else numbers / divisor)

    return values


def _dates(random: np.random.Generator, count: int) -> Any:
    return pa.array(random.integers(7_000, 20_000, count, dtype=np.int32), pa.int32()).cast(pa.date32())


def _timestamps(random: np.random.Generator, count: int) -> Any:
    return pa.array(random.integers(10**15, 2 * 10**15, count)).cast(pa.timestamp("us"))


# The columns of a table: half of the numbers are wide, and the writer gives up their dictionaries.
_KINDS: Sequence[tuple[str, Values]] = (
    *((f"code_{distinct}", _codes(distinct)) for distinct in (3, 12, 50, 200, 800)),
    *((f"count_{distinct}", _numbers(distinct)) for distinct in (10, 1_000)),
    *((f"amount_{distinct}", _numbers(distinct, 100)) for distinct in (500, 9_000)),
    ("id", _numbers(2**60)),
    ("balance", _numbers(10**12)),
    ("score", _numbers(2**50, 2**50)),
    ("price", _numbers(10**10, 100)),
    ("born", _dates),
    ("updated", _timestamps),
)
# The same for DuckDB; `{h}` is a hash of row and column.
_SQL_KINDS: Mapping[str, str] = {
    **{f"code_{distinct}": f"'Code ' || ({{h}} % {distinct})" for distinct in (3, 50, 800)},
    "name": "'Name ' || ({h} % 100_000)",
    "comment": "md5({h}::varchar)",
    "flag": "{h} % 3 = 0",
    "count_10": "({h} % 10)::tinyint",
    "count_1000": "({h} % 1_000)::integer",
    "id": "({h} // 2)::bigint",
    "amount": "(({h} % 100_000) / 100)::decimal(12, 2)",
    "score": "({h} // 2048) / 2.0**53",
    "rate": "(({h} % 400) / 4)::double",
    "born": "date '1950-01-01' + ({h} % 20_000)::integer",
    "updated": "make_timestamp(({h} % 2_000_000_000_000_000)::bigint)",
    "real": "(({h} % 5_000) / 10)::float",
}


def write_foreign(name: str, rows: int, directory: Path) -> None:
    """Write a snapshot of this many rows and its mapping."""
    dataset = directory / "opus" / "infobase_attributes"
    snapshot = dataset / "raw_input" / f"snapshot_dt={_DAY}"
    snapshot.mkdir(parents=True)
    tables = {"pyarrow": _with_pyarrow, "duckdb": _with_duckdb, "tpch": _tpch}[name](rows, snapshot)
    with (dataset / "mapping.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("OMC_FLYWHEEL_TABLE", "OMC_FLYWHEEL_COLUMN"))
        writer.writerows((table, column) for table, columns in tables.items() for column in columns)


def _parts(rows: int, snapshot: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield first row, end and path of each file."""
    count = min(FILES, rows)
    for number, (start, end) in enumerate(pairwise(rows * number // count for number in range(count + 1))):
        yield start, end, snapshot / f"part-{number:05d}.parquet"


def _with_pyarrow(rows: int, snapshot: Path) -> dict[str, list[str]]:
    tables = {f"table_{table}": [f"t{table}_{name}" for name, _ in _KINDS] for table in range(TABLES)}
    for start, end, path in _parts(rows, snapshot):
        random, count = np.random.default_rng(start), end - start
        # Multiplication by an odd number permutes 64-bit numbers.
        mixed = np.arange(start, end, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        columns: dict[str, Any] = {KEY: pa.array([f"U{number:016X}" for number in mixed.tolist()])}
        for names in tables.values():
            for column, (_, values) in zip(names, _KINDS, strict=True):
                nulls = pa.array(random.random(count) < NULL_SHARE)
                content = values(random, count)
                columns[column] = pc.if_else(nulls, pa.scalar(None, content.type), content)
        pq.write_table(pa.table(columns), path)
    return tables


def _with_duckdb(rows: int, snapshot: Path) -> dict[str, list[str]]:
    import duckdb

    tables = {f"table_{table}": [f"t{table}_{name}" for name in _SQL_KINDS] for table in range(TABLES)}
    names = [column for columns in tables.values() for column in columns]
    selected = [f"format('{{:020d}}', hash(i)) AS \"{KEY}\""]
    for place, column in enumerate(names):
        value = _SQL_KINDS[column.split("_", 1)[1]].format(h=f"hash(i, {place})")
        is_null = f"hash(i, {place}, 1) % 10 < {NULL_SHARE * 10:.0f}"
        selected.append(f"CASE WHEN {is_null} THEN NULL ELSE {value} END AS {column}")
    with duckdb.connect() as connection:
        for start, end, path in _parts(rows, snapshot):
            query = f"SELECT {', '.join(selected)} FROM range({start}, {end}) AS numbers(i)"
            connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return tables


def _tpch(rows: int, snapshot: Path) -> dict[str, list[str]]:
    import duckdb
    import polars

    scale = max(rows / _LINES, _SMALLEST_SCALE)
    with tempfile.TemporaryDirectory(dir=snapshot.parent.parent) as place, duckdb.connect() as connection:
        program = Path(sys.executable).with_name("tpchgen-cli")
        command = [str(program), "parquet", f"--scale-factor={scale:.4f}", f"--tables={','.join(_TPCH.values())}"]
        subprocess.run([*command, f"--output-dir={place}"], check=True, stdout=subprocess.DEVNULL)
        for table in _TPCH.values():
            connection.execute(f"CREATE VIEW {table} AS SELECT * FROM '{place}/{table}.parquet'")
        frame: Any = polars.from_arrow(connection.sql(_JOINED.format(key=KEY, rows=rows)).to_arrow_table())
    for start, end, path in _parts(frame.height, snapshot):
        frame.slice(start, end - start).write_parquet(path)
    columns = [name for name in frame.columns if name != KEY]
    return {table: [name for name in columns if name.split("_", 1)[0] == prefix] for prefix, table in _TPCH.items()}


def main() -> None:
    name, rows, directory = sys.argv[1:4]
    write_foreign(name, int(rows), Path(directory))


if __name__ == "__main__":
    main()
