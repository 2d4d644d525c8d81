"""Define the sections `shape` and `foreign`: a run against a copy on data of other shapes and other writers.

Every data set is a section of its own in the report, so that ratios are those to its own copy.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from .bench import Bench, run_task
from .data import Data
from .measure import OUT, Task, module, require_disk
from .shapes import FOREIGN, SHAPES, foreign_data, shape_data

SMALL_FILES = "256 buckets"
LARGE_FILES = "arrow"
SPARK = "spark"
BUDGET = "memory=512MB"
BUDGET_BYTES = 512 * 10**6
# A copy, and the files of each run: none is deleted before the end.
_COPIES = 5


def shape(bench: Bench) -> None:
    """Measure each shape: a copy, files of 50,000 rows or more with and without a small budget, and 256 buckets."""
    for name in bench.shapes:
        data = shape_data(name, bench.data.rows, bench.build)
        _prepare(bench, data)
        large = {"buckets.count": SHAPES[name].buckets(data.rows)}
        tasks = [_copy(data)]
        if "arrow" in bench.engines:
            tasks += [
                run_task(LARGE_FILES, data, **large),
                run_task(BUDGET, data, memory="512MB", **large),
                run_task(SMALL_FILES, data),
            ]
        if "spark" in bench.engines:
            tasks.append(run_task(SPARK, data, engine="spark", **large))
        bench.interleaved(f"shape-{name}", tasks)


def foreign(bench: Bench) -> None:
    """Measure Bucketwheel and other tools on data that `bucketwheel sample` did not make."""
    for name in FOREIGN:
        if missing := missing_tool(name):
            bench.notes.append(f"{FOREIGN[name]} was not measured: {missing} is not installed")
            print(bench.notes[-1], file=sys.stderr)
            continue
        data = foreign_data(name, bench.data.rows, bench.build)
        _prepare(bench, data)
        peers = [
            Task(peer, [*module(f"peer_{peer}"), data.directory, OUT], data.rows)
            for peer in ("polars", "duckdb")
            if find_spec(peer)
        ]
        bench.interleaved(f"foreign-{name}", [_copy(data), run_task("bucketwheel", data), *peers])


def _copy(data: Data) -> Task:
    return Task("copy", [*module("peer_copy"), data.directory, OUT], data.rows)


def _prepare(bench: Bench, data: Data) -> None:
    require_disk(bench.work, _COPIES * data.bytes + 10**9)
    data.warm()


def missing_tool(name: str) -> str | None:
    """Return what the data set needs and the environment does not have."""
    if name == "tpch":
        packages = [package for package in ("duckdb", "polars") if not find_spec(package)]
        program = Path(sys.executable).with_name("tpchgen-cli")
        return next(iter([*packages, *([] if program.exists() else ["tpchgen-cli"])]), None)
    return None if name == "pyarrow" or find_spec(name) else name
