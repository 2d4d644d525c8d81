"""Run stage `discover` on one file under many names; prints one JSON object with its seconds of CPU and peak memory.

python -m integration.benchmarks.wide_footers COLUMNS FILES
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel import api
from bucketwheel.pipeline.services import RunRequest, draft_manifest, make_services
from bucketwheel.stages.discover import Discover

ROWS = 10
DATASET = "people"


def main() -> None:
    columns, files = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory:
        write(columns, files, Path(directory, "in", "snapshot_dt=2026-01-31"))
        print(json.dumps(discover(columns, files, directory)))


def discover(columns: int, files: int, directory: str) -> dict[str, list[float]]:
    """Run the stage and return what it took."""
    settings = {"target": f"{directory}/out", f"datasets.{DATASET}": {"source": f"{directory}/in", "key": "id"}}
    configuration = api.load("local", None, settings, {})
    services = make_services(configuration.settings, RunRequest(DATASET), lambda _: None)
    before = cpu_seconds()
    result = Discover().run(draft_manifest(services, ("discover",)), services)
    if (len(result.files), len(result.columns), result.rows) != (files, columns, files * ROWS):
        raise SystemExit(f"{len(result.files)} files, {len(result.columns)} columns, {result.rows} rows")
    return {
        "cpu_seconds": [cpu_seconds() - before],
        "driver_peak_rss_bytes": [peak(resource.RUSAGE_SELF)],
        "parser_peak_rss_bytes": [peak(resource.RUSAGE_CHILDREN)],
    }


def write(columns: int, files: int, directory: Path) -> None:
    """Write a file with this many columns of four kinds, and give it other names."""
    directory.mkdir(parents=True)
    numbers = np.arange(ROWS)
    kinds: list[Any] = [
        pa.array(numbers, pa.int32()),
        pa.array([f"value {number % 3}" for number in numbers]),
        pa.array(numbers / 7),
        pa.array([None if number % 3 == 0 else number for number in numbers.tolist()], pa.int64()),
    ]
    values = {f"attribute_{number:05d}": kinds[number % len(kinds)] for number in range(columns - 1)}
    pq.write_table(pa.table({"id": pa.array(numbers), **values}), directory / "part-00000.parquet")
    for number in range(1, files):
        # A link, because thousands of footers would fill the disk.
        os.link(directory / "part-00000.parquet", directory / f"part-{number:05d}.parquet")


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak(who: int) -> int:
    """Return the peak memory of this process, or of the largest of those that it waited for, in bytes."""
    return resource.getrusage(who).ru_maxrss * 1024


if __name__ == "__main__":
    main()
