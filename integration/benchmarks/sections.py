"""Define the sections of the benchmarks: each is a function that runs interleaved tasks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from integration.interop.maven import NotInstalledError
from integration.interop.trino_install import java, trino_home

from .bench import Bench, run_task
from .data_sets import foreign, shape
from .footer_tasks import footer_tasks
from .measure import OUT, ROOT, Task, bucketwheel, environment, last_line, module, require_disk
from .spark_shapes import SPARK_SHAPES

BUDGET = "512MB"
MEMORY_SCALES = (1, 4)
LARGEST_READER_SCALE = 4
BUCKET_COUNTS = (32, 1024)
HELP_RUNS = 5
# Five layouts of five of eight tables, the one that Spark writes, and what Spark and Trino write for an exchange.
_READER_COPIES = 7
# The rest is for what ends late.
_READERS_SHARE = 0.9
QUERY_RUNS = 5
_SERVER_SECONDS = 60
# Bytes of the source and the tables that a round of section `spark-shape` writes, for each shape at most.
_SPARK_SHAPE_BYTES = 10**9


def peers(bench: Bench) -> None:
    """Measure Bucketwheel and other tools on the same work."""
    data = bench.data
    bench.prepare(data)
    tasks = [
        Task("copy", [*module("peer_copy"), data.directory, OUT], data.rows),
        run_task("bucketwheel", data),
        Task("polars", [*module("peer_polars"), data.directory, OUT], data.rows),
        Task("duckdb", [*module("peer_duckdb"), data.directory, OUT], data.rows),
    ]
    with _s3(bench) as address:
        if address:
            fractions = [str(max(data.rows // part, 1)) for part in (40, 10)]
            command = [*module("peer_awswrangler"), data.directory, OUT, address, *fractions]
            tasks.append(Task("awswrangler", command, data.rows, reports=True))
        bench.interleaved("peers", tasks)


@contextmanager
def _s3(bench: Bench) -> Iterator[str | None]:
    """Start moto on loopback and yield its address; record the reason if it does not start."""
    with tempfile.TemporaryDirectory(dir=bench.work) as place:
        address, log = Path(place, "address"), Path(place, "log")
        with log.open("wb") as stream:
            server = subprocess.Popen(
                [*module("moto_server"), str(address)],
                stdin=subprocess.PIPE, stdout=stream, stderr=stream, cwd=ROOT, env=environment(),
            )  # fmt: skip
        try:
            deadline = time.monotonic() + _SERVER_SECONDS
            while not address.exists() and server.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            if address.exists():
                yield address.read_text(encoding="utf-8")
            else:
                why = last_line(log) or f"no address after {_SERVER_SECONDS} s"
                bench.notes.append(f"awswrangler was not measured, moto does not start: {why}")
                print(bench.notes[-1], file=sys.stderr)
                yield None
        finally:
            server.kill()
            server.communicate()


def spark(bench: Bench) -> None:
    """Measure the spark engine, the arrow engine, the previous pipeline, and Spark's own Hive buckets.

    Compare wall time: the CPU time covers the driver only. `session` and `start` measure the start-up of the two
    engines; `watched` is one more run on Spark that samples the memory of its Python workers.
    """
    data = bench.data
    bench.prepare(data)
    peer = module("spark_peers")
    tasks = [
        run_task("arrow", data),
        run_task("spark", data, engine="spark"),
        Task("session", [*module("spark_start"), "spark"]),
        Task("start", [*module("spark_start"), "arrow"]),
        Task("replaced", [*peer, "replaced", data.directory, OUT], data.rows),
        Task("hive", [*peer, "hive", data.directory, OUT], data.rows),
    ]
    bench.interleaved("spark", tasks)
    watched = run_task("watched", data, engine="spark")
    command = [*module("spark_watched"), OUT, *watched.command]
    bench.interleaved("spark", [Task("watched", command, data.rows, reports=True)], 1)


def spark_shape(bench: Bench) -> None:
    """Measure the tasks of the spark engine without Spark: a miniature of production and the standard shape."""
    require_disk(bench.work, len(SPARK_SHAPES) * _SPARK_SHAPE_BYTES)
    tasks = [
        Task(name, [*module("spark_tasks"), name, OUT], shape.slices * shape.rows, reports=True)
        for name, shape in SPARK_SHAPES.items()
    ]
    bench.interleaved("spark-shape", tasks)


def workers(bench: Bench) -> None:
    """Measure a cluster with one and with two workers of one core each, without the start of the cluster."""
    data = bench.data
    bench.prepare(data)
    names = {1: "one worker", 2: "two workers"}
    tasks = [
        Task(name, [*module("spark_workers"), str(count), data.directory, OUT], data.rows, reports=True)
        for count, name in names.items()
    ]
    bench.interleaved("workers", tasks)


def memory(bench: Bench) -> None:
    """Measure a small memory budget and no budget, on the data and on four times as much."""
    for factor in MEMORY_SCALES:
        data = bench.scaled(factor)
        bench.prepare(data)
        tasks = [run_task(f"{factor}x auto", data), run_task(f"{factor}x {BUDGET}", data, memory=BUDGET)]
        bench.interleaved("memory", tasks)


def scale(bench: Bench) -> None:
    """Measure the cost per row for increasing numbers of rows."""
    sets = [(factor, bench.scaled(factor)) for factor in bench.scales]
    bench.prepare(max((data for _, data in sets), key=lambda data: data.bytes))
    for _, data in sets:
        data.warm()
    bench.interleaved("scale", [run_task(f"{factor}x", data) for factor, data in sets])


def buckets(bench: Bench) -> None:
    """Compare many buckets with few."""
    bench.prepare(bench.data)
    tasks = [run_task(f"{count} buckets", bench.data, **{"buckets.count": count}) for count in BUCKET_COUNTS]
    bench.interleaved("buckets", tasks)


def layouts(bench: Bench) -> None:
    """Compare one layout with two from one scan."""
    bench.prepare(bench.data)
    count = {"buckets.count": BUCKET_COUNTS[0]}
    both = "[{name: hive}, {name: spark, hash: spark}]"
    tasks = [run_task("one", bench.data, **count), run_task("two", bench.data, layouts=both, **count)]
    bench.interleaved("layouts", tasks)


def discover(bench: Bench) -> None:
    """Measure stage `discover` on footers of many columns; each process measures itself."""
    bench.interleaved("discover", footer_tasks())


def hashing(bench: Bench) -> None:
    """Measure keys hashed per second on one core; the process repeats the measurement five times."""
    bench.interleaved("hashing", [Task("hash_keys", module("hash_rate"), reports=True)], rounds=1)


def help_text(bench: Bench) -> None:
    """Measure `bucketwheel --help`, including the start of the process."""
    bench.interleaved("help", [Task("--help", [*bucketwheel(), "--help"])], rounds=HELP_RUNS)


def query(bench: Bench) -> None:
    """Measure Trino on tables of 8, 32, 256 and no buckets; the process measures itself."""
    try:
        java()
        trino_home()
    except NotInstalledError as missing:
        bench.notes.append(f"queries were not measured: {missing}")
        print(bench.notes[-1], file=sys.stderr)
        return
    data = bench.data
    bench.prepare(data)
    command = [*module("query_trino"), data.directory, OUT, str(QUERY_RUNS)]
    bench.interleaved("query", [Task("trino", command, data.rows, reports=True)], rounds=1)


def readers(bench: Bench) -> None:
    """Measure Spark, Trino and DuckDB on the layouts, at sizes up to the largest; the process measures itself.

    Its time is that of one run; what fails in it makes the run fail, with the figures of the rest.
    """
    sizes = [(factor, bench.scaled(factor)) for factor in bench.scales if factor <= LARGEST_READER_SCALE]
    for factor, data in sizes:
        require_disk(bench.work, _READER_COPIES * data.bytes + 10**9)
        data.warm()
        seconds = bench.timeout * _READERS_SHARE
        command = [*module("query_readers"), data.directory, OUT, str(bench.rounds), f"{seconds:.0f}"]
        bench.interleaved("readers", [Task(f"{factor}x", command, data.rows, reports=True)], rounds=1)
        run = bench.runs[-1]
        if run.report and run.report["failed"]:
            bench.runs[-1] = replace(run, error="; ".join(run.report["failed"]))


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "peers": peers,
    "spark": spark,
    "spark-shape": spark_shape,
    "workers": workers,
    "memory": memory,
    "scale": scale,
    "buckets": buckets,
    "layouts": layouts,
    "discover": discover,
    "hashing": hashing,
    "help": help_text,
    "query": query,
    "readers": readers,
    "shape": shape,
    "foreign": foreign,
}
