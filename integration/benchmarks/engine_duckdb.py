"""Answer the queries of the readers' benchmark with DuckDB: engine_duckdb WORK RESULTS."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import duckdb

from .reader_rounds import Figures, Results, Row, Variant, Work, run_rounds


def cpu() -> float:
    """Return the CPU seconds of this process; the kernel counts them more finely here than for other processes."""
    taken = resource.getrusage(resource.RUSAGE_SELF)
    return taken.ru_utime + taken.ru_stime


def load_extensions(connection: duckdb.DuckDBPyConnection) -> None:
    """Load what reads Iceberg tables from Python packages: DuckDB itself would download it."""
    for name in ("avro", "iceberg"):
        spec = find_spec(f"duckdb_extension_{name}")
        assert spec is not None, f"the package duckdb-extension-{name} is missing: make readers"
        assert spec.origin is not None
        (file,) = Path(spec.origin).parent.rglob(f"{name}.duckdb_extension")
        connection.execute(f"LOAD '{file}'")


def main() -> None:
    started = time.monotonic()
    work = Work.read(Path(sys.argv[1]))
    with Results.at(Path(sys.argv[2])) as results:
        connection = duckdb.connect()
        if any(variant.is_iceberg for variant in work.variants):
            load_extensions(connection)
        for variant in work.variants:
            connection.execute(f"CREATE SCHEMA {variant.schema}")
            for table in work.tables[variant.layout]:
                if variant.is_iceberg:
                    files = f"iceberg_scan('{table['Parameters']['metadata_location']}')"
                else:
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
