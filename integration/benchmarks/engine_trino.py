"""Answer the queries of the readers' benchmark with Trino: engine_trino WORK RESULTS.

Trino reads the tables from the local disk, as the other readers do, and their definitions from moto's Glue.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from integration.interop.aws_process import aws_process
from integration.interop.trino_install import VERSION
from integration.interop.trino_server import CATALOG, ICEBERG, Trino, trino_process

from aws_server import plain_client

from .reader_plans import trino_plan
from .reader_rounds import Figures, Results, Row, Variant, Work, process_cpu, run_rounds

MEMORY = "6G"
_PARTNER = "partner"


def define(glue: str, work: Work) -> None:
    """Create a database for each layout in Glue, and one for the partner's list."""
    databases = {variant.schema: work.tables[variant.layout] for variant in work.variants}
    with closing(plain_client("glue", glue)) as client:
        for database, tables in {**databases, _PARTNER: [work.partner_table]}.items():
            client.create_database(DatabaseInput={"Name": database})
            for table in tables:
                client.create_table(DatabaseName=database, TableInput=_local(table))


def _local(table: dict[str, Any]) -> dict[str, Any]:
    """Return a definition whose location is as Trino addresses it."""
    storage = table["StorageDescriptor"]
    return (
        {**table, "StorageDescriptor": {**storage, "Location": storage["Location"].replace("/", "local:///", 1)}}
        if storage["Location"].startswith("/")
        else table
    )


class Asker:
    """Asks a server; every query is planned before it is measured."""

    def __init__(self, trino: Trino) -> None:
        self._trino = trino

    def ask(self, variant: Variant, text: str) -> tuple[Sequence[Row], Figures]:
        """Return the rows, and what the query took."""
        schema = f"{ICEBERG if variant.is_iceberg else CATALOG}.{variant.schema}"
        statement = text.format(schema=schema, partner=f"{CATALOG}.{_PARTNER}.{_PARTNER}")
        plan = self._trino.rows(f"EXPLAIN (TYPE DISTRIBUTED) {statement}")[0][0]
        before, begun = process_cpu(self._trino.pid), time.perf_counter()
        answer = self._trino.ask(statement)
        wall, statistics = time.perf_counter() - begun, answer.statistics
        figures = {
            "wall": wall,
            "cpu": statistics["cpuTimeMillis"] / 1000,
            "process_cpu": process_cpu(self._trino.pid) - before,
            "bytes": statistics["physicalInputBytes"],
        }
        return answer.rows, {**figures, **trino_plan(plan)}


def main() -> None:
    started = time.monotonic()
    work = Work.read(Path(sys.argv[1]))
    out = Path(work.out)
    with Results.at(Path(sys.argv[2])) as results, aws_process(out) as glue:
        with closing(plain_client("s3", glue)) as client:
            client.create_bucket(Bucket="bench")
        define(glue, work)
        with trino_process(out, glue, glue, "bench", MEMORY, disk=Path("/")) as trino:
            results.write(engine=f"Trino {VERSION}")
            run_rounds(work, Asker(trino).ask, results, started=started)


if __name__ == "__main__":
    main()
