"""Answer the queries of the readers' benchmark with DuckDB: engine_duckdb WORK RESULTS."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb

from .reader_rounds import Figures, Results, Row, Variant, Work, run_rounds


def cpu() -> float:
    """Return the CPU seconds of this process; the kernel counts them more finely here than for other processes."""
    taken = resource.getrusage(resource.RUSAGE_SELF)
    return taken.ru_utime + taken.ru_stime


def main() -> None:
    started = time.monotonic()
    work = Work.read(Path(sys.argv[1]))
    with Results.at(Path(sys.argv[2])) as results:
        connection = duckdb.connect()
        for variant in work.variants:
            connection.execute(f"CREATE SCHEMA {variant.schema}")
            for table in work.tables[variant.layout]:
                files = f"read_parquet('{table['StorageDescriptor']['Location']}*.parquet')"
                connection.execute(f"CREATE VIEW {variant.schema}.{table['Name']} AS SELECT * FROM {files}")
        connection.execute(f"CREATE VIEW partner AS SELECT * FROM read_parquet('{work.partner}/*.parquet')")

        def ask(variant: Variant, text: str) -> tuple[Sequence[Row], Figures]:
            before, begun = cpu(), time.perf_counter()
            rows = connection.execute(text.format(schema=variant.schema, partner="partner")).fetchall()
            return rows, {"wall": time.perf_counter() - begun, "cpu": cpu() - before}

        results.write(engine=f"DuckDB {duckdb.__version__}")
        run_rounds(work, ask, results, started=started)


if __name__ == "__main__":
    main()
