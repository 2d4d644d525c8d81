"""DuckDB: COPY … PARTITION_BY per table. Its hash is not Hive's, so the files are not Hive buckets."""

from __future__ import annotations

import os

import duckdb

from .work import BUCKETS, KEY, from_arguments


def main() -> None:
    work, out = from_arguments()
    with duckdb.connect(config={"threads": len(os.sched_getaffinity(0))}) as connection:
        # By default it holds 100 files open, and would write several small ones per partition.
        connection.execute(f"SET partitioned_write_max_open_files = {BUCKETS}")
        for name, columns in work.tables.items():
            names = ", ".join(f'"{column}"' for column in (KEY, *columns))
            connection.execute(
                f'COPY (SELECT {names}, hash("{KEY}") % {BUCKETS} AS bucket FROM read_parquet({list(work.files)})) '
                f"TO '{out / name}' (FORMAT parquet, PARTITION_BY (bucket), COMPRESSION snappy)"
            )


if __name__ == "__main__":
    main()
