"""Run the tasks of a series of measurements, and describe runs of Bucketwheel as tasks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .data import Data, sample
from .measure import OUT, ROOT, Run, Task, bucketwheel, measure, require_disk


@dataclass
class Bench:
    """A series of measurements: its directory, number of rounds, and the runs so far.

    `shapes` are those of the section `shape`, which runs on these `engines`.
    """

    data: Data
    build: Path
    work: Path
    rounds: int
    timeout: float
    scales: tuple[int, ...]
    shapes: tuple[str, ...] = ()
    engines: tuple[str, ...] = ("arrow",)
    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def scaled(self, factor: int) -> Data:
        """Return data with `factor` times the rows."""
        return self.data if factor == 1 else sample(self.data.rows * factor, self.build)

    def interleaved(self, section: str, tasks: Sequence[Task], rounds: int | None = None) -> None:
        """Run A B C A B C …, so that a change in machine speed affects all tasks."""
        for number in range(1, (rounds or self.rounds) + 1):
            for task in tasks:
                run = measure(section, task, number, self.work, self.timeout)
                self.runs.append(run)
                print(_line(run), file=sys.stderr)

    def prepare(self, data: Data) -> None:
        """Check that the disk has room for output and spill of a run on this data, and read the data once."""
        require_disk(self.work, 3 * data.bytes + 10**9)
        data.warm()


def _line(run: Run) -> str:
    taken = f"cpu {run.cpu_seconds:.2f} s, wall {run.wall_seconds:.2f} s, peak {run.peak_rss_bytes / 1e6:.0f} MB"
    failed = f", failed: {run.error}" if run.error else ""
    return f"{run.section}: {run.name}, round {run.round}: {taken}, {run.bytes_written / 1e6:.1f} MB written{failed}"


def run_task(name: str, data: Data, **settings: object) -> Task:
    """Return the task of a whole `run` of one dataset, with some settings changed."""
    values: dict[str, object] = {
        "engine": "arrow",
        "memory": "auto",
        "threads": "auto",
        "buckets.count": 256,
        "buckets.sort": "true",
        "target": OUT,
        "catalog.path": f"{OUT}/catalog.duckdb",
        "datasets.infobase_attributes.source": data.source,
        "datasets.infobase_attributes.mapping": data.mapping,
        "datasets.infobase_attributes.key": "Customer_User_id",
        **settings,
    }
    flags = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    command = [*bucketwheel(), "run", "infobase_attributes", "--output", "json", "--conf", str(ROOT / "conf")]
    return Task(name, [*command, *flags], data.rows)
