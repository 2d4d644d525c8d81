"""Run queries with DuckDB and its Iceberg extension: duckdb_script.py QUERIES DIRECTORY.

QUERIES is JSON. Writes a Parquet file for each result, and `plans`, JSON with what each query has read. Imports only
DuckDB and its extensions.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import duckdb


def main() -> None:
    connection = duckdb.connect()
    for name in ("avro", "iceberg"):
        spec = find_spec(f"duckdb_extension_{name}")
        assert spec is not None
        assert spec.origin is not None
        (file,) = Path(spec.origin).parent.rglob(f"{name}.duckdb_extension")
        connection.execute(f"LOAD '{file}'")
    queries, directory, plans = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), {}
    for name, query in queries.items():
        connection.execute(f"COPY ({query}) TO '{directory / name}.parquet' (FORMAT parquet)")
        plans[name] = connection.execute(f"EXPLAIN ANALYZE {query}").fetchall()[0][1]
    (directory / "plans").write_text(json.dumps(plans))


if __name__ == "__main__":
    main()
