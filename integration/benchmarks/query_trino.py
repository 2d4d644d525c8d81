"""Query the same data with Trino in few, many and no buckets; promote final tables or copy them with Trino.

Publishes with the command line to S3 (moto, or the server at S3_ENDPOINT) and Glue. Prints one JSON object.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from integration.interop.aws_process import aws_process
from integration.interop.lake import Lake, LakeProject
from integration.interop.trino_server import Answer, trino_process

from aws_server import plain_client

WIDE = "infobase_attributes"
MEMORY = "3G"
# The first ones make as many files as there are without buckets.
BUCKETS = (8, 32, 256)
COPIED = 32
UNBUCKETED = "unbucketed"
# As many files as a plain copy of the source would have.
FILES = 8
JOINED = 5
_KEY = "customer_user_id"


def main() -> None:
    data, out, rounds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with ExitStack() as stack:
        glue = stack.enter_context(aws_process(out))
        s3 = os.environ.get("S3_ENDPOINT") or glue
        client = plain_client("s3", s3)
        bucket = f"bench-{os.getpid()}"
        client.create_bucket(Bucket=bucket)
        trino = stack.enter_context(trino_process(out, glue, s3, bucket, MEMORY))
        lake = Lake(trino, glue, s3, bucket, out, client)
        layouts, publishing = published(lake, data)
        times = measured(layouts, rounds)
        print(json.dumps({"queries": times, "publishing": publishing, "tables": described(layouts)}))


def published(lake: Lake, data: Path) -> tuple[dict[str, LakeProject], list[dict[str, Any]]]:
    """Publish the data in every layout; return the projects and the time to create the final tables."""
    root = data / "opus" / WIDE
    source = {"source": str(root / "raw_input"), "mapping": str(root / "mapping.csv"), "key": "Customer_User_id"}
    scattered = {"buckets": {"count": "none", "sort": False}, "size": {"files_per_gb": 1e6, "max_files": FILES}}
    options: dict[str, dict[str, Any]] = {UNBUCKETED: scattered}
    options |= {f"{count} buckets": {"buckets": {"count": count}} for count in BUCKETS}
    copied = {"buckets": {"count": COPIED}, "ctas": {"method": "trino", "concurrency": 1}}
    layouts, publishing = {}, []
    for name, settings in [*options.items(), ("copied", copied)]:
        project = lake.project(name.replace(" ", "_"), {WIDE: source}, **settings)
        project.publish(WIDE, "--tables-filter", ",".join(first_tables(root / "mapping.csv")))
        stages = json.loads(project.cli("show", "last", "--output", "json").stdout)["stages"]
        copies = stages["ctas"]["result"]["copies"]
        publishing.append(
            {
                "layout": f"{COPIED} buckets" if name == "copied" else name,
                "method": stages["ctas"]["result"]["method"],
                "seconds": stages["ctas"]["seconds"],
                "bytes": sum(copy["bytes"] for copy in copies),
                "bytes_read": sum(copy["bytes_scanned"] for copy in copies),
                "written_seconds": stages["bucket"]["seconds"],
            }
        )
        if name in options:
            layouts[name] = project
    return layouts, publishing


def first_tables(mapping: Path) -> list[str]:
    """Return the tables that queries join; more tables would only take time."""
    with mapping.open(encoding="utf-8", newline="") as stream:
        return list(dict.fromkeys(row["OMC_FLYWHEEL_TABLE"] for row in csv.DictReader(stream)))[:JOINED]


def described(layouts: dict[str, LakeProject]) -> dict[str, dict[str, int]]:
    """Return number and size of the files of the first table in every layout."""
    sizes_by_layout = {}
    for name, project in layouts.items():
        lake, keys = project.lake, project.data(tables_of(project)[0])
        sizes = [lake.client.head_object(Bucket=lake.bucket, Key=key)["ContentLength"] for key in keys]
        sizes_by_layout[name] = {"files": len(sizes), "bytes": sum(sizes)}
    return sizes_by_layout


def tables_of(project: LakeProject) -> list[str]:
    names = sorted(project.locations())
    return [name.removeprefix("bucketed_") for name in names if name.startswith("bucketed_")]


def columns_of(project: LakeProject, table: str, kinds: tuple[str, ...]) -> list[str]:
    rows = project.ask(f"DESCRIBE {project.table(table)}").rows
    return [row[0] for row in rows if row[1].startswith(kinds) and row[0] != _KEY]


def queries(project: LakeProject, key: str) -> dict[str, str]:
    """Return the statements; between layouts, only the table names differ."""
    tables = tables_of(project)[:JOINED]
    numbers = {
        table: columns_of(project, table, ("integer", "bigint", "smallint", "double", "tinyint")) for table in tables
    }
    texts = {table: columns_of(project, table, ("varchar",)) for table in tables}
    named = [f"{project.table(table)} AS t{number}" for number, table in enumerate(tables)]
    joins = [f"JOIN {name} ON t0.{_KEY} = t{number}.{_KEY}" for number, name in enumerate(named[1:], 1)]
    group = f"t0.{texts[tables[0]][0]}"
    sums = [
        f"sum(t{number}.{numbers[table][0]})" if numbers[table] else f"max(t{number}.{texts[table][-1]})"
        for number, table in enumerate(tables)
    ]
    counts = [f"count(t{number}.{texts[table][-1]})" for number, table in enumerate(tables)]
    return {
        "point look-up": f"SELECT * FROM {named[0]} WHERE {_KEY} = '{key}'",
        "two-table join, aggregated": f"SELECT {group}, count(*), {sums[1]}, {counts[1]} "
        f"FROM {named[0]} {joins[0]} GROUP BY {group} ORDER BY 1",
        "five-table join": f"SELECT count(*), {', '.join([*sums, *counts])} FROM {named[0]} {' '.join(joins)}",
    }


def measured(layouts: dict[str, LakeProject], rounds: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return query → layout → time of each round; layouts alternate, after one warm-up round."""
    some = layouts[UNBUCKETED]
    table = some.table(tables_of(some)[0])
    key = some.ask(f"SELECT {_KEY} FROM {table} LIMIT 1").rows[0][0]
    texts = {name: queries(project, key) for name, project in layouts.items()}
    times: dict[str, dict[str, list[dict[str, float]]]] = {}
    for number in range(rounds + 1):
        for query in texts[UNBUCKETED]:
            answers = {}
            for name, project in layouts.items():
                seconds, answer = timed(lambda project=project, text=texts[name][query]: project.ask(text))
                answers[name] = rounded(answer.rows)
                if number:
                    times.setdefault(query, {}).setdefault(name, []).append(taken(seconds, answer))
                print(f"{query}, {name}, round {number}: {seconds:.2f} s", file=sys.stderr)
            # A layout that loses rows would be fast.
            assert all(rows == answers[UNBUCKETED] for rows in answers.values()), query
    return times


def rounded(rows: list[list[Any]]) -> list[list[Any]]:
    """Return the rows with rounded floating-point sums, because the order of addition differs."""
    return [[f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows]


def timed(work: Callable[[], Answer]) -> tuple[float, Answer]:
    started = time.perf_counter()
    answer = work()
    return time.perf_counter() - started, answer


def taken(seconds: float, answer: Answer) -> dict[str, float]:
    statistics = answer.statistics
    return {
        "wall": seconds,
        "cpu": statistics["cpuTimeMillis"] / 1000,
        "bytes": statistics["physicalInputBytes"],
        "memory": statistics["peakMemoryBytes"],
    }


if __name__ == "__main__":
    main()
