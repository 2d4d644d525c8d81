"""A small dataset whose snapshots are distinguishable, its runs, and the tables that readers see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketCheck, BucketJob, Engine, EngineStatistics, Progress
from bucketwheel.pipeline import run as run_module
from bucketwheel.pipeline.run import RunOutcome
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.runs.manifest import BucketOutcome, Manifest
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import STAGES, Settings
from workspace import Workspace, view_names

DATASET = "people"
DATABASE = "tests"
JANUARY, FEBRUARY, MARCH = "2025-01-31", "2025-02-28", "2025-03-31"


@dataclass
class Case(Workspace):
    """A workspace with one dataset of `tables` tables; the columns `..._mark` contain the date of the snapshot."""

    root: Path
    tables: int = 2
    rows: int = 300
    buckets: int = 4
    dataset: str = DATASET
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.root, DATABASE, self.dataset)
        lines = [f"{name},{column}" for name in self.names() for column in (f"{name}_value", f"{name}_mark")]
        self.mapping.parent.mkdir(parents=True, exist_ok=True)
        if not self.mapping.exists():
            self.mapping.write_text("\n".join(["OMC_FLYWHEEL_TABLE,OMC_FLYWHEEL_COLUMN", *lines, ""]))

    @property
    def mapping(self) -> Path:
        return self.root / "in" / self.dataset / "mapping.csv"

    def names(self) -> list[str]:
        return [f"{self.dataset}_{number}" for number in range(1, self.tables + 1)]

    def snapshot(self, date: str, files: int = 2, keys: int | None = None) -> Path:
        """Write a snapshot; `keys` is the number of distinct keys, by default the number of rows."""
        directory = self.root / "in" / self.dataset / f"snapshot_dt={date}"
        directory.mkdir(parents=True)
        numbers = np.random.default_rng(self.rows).permutation(self.rows) % (keys or self.rows)
        for file, part in enumerate(np.array_split(numbers, files)):
            columns: dict[str, Any] = {"Customer_User_id": [f"person {number:08d}" for number in part]}
            for place, name in enumerate(self.names()):
                columns[f"{name}_value"] = part * (place + 1)
                columns[f"{name}_mark"] = [date] * len(part)
            pq.write_table(pa.table(columns), directory / f"part-{file}.parquet", row_group_size=len(part) // 2 + 1)
        return directory

    def settings(self, **changes: Any) -> Settings:
        """Return the settings; `changes` names nested settings with `__` for the dot."""
        values: dict[str, Any] = {
            **self.base_settings(self.buckets),
            "memory": "256MB",
            "datasets": {
                self.dataset: {
                    "source": str(self.mapping.parent),
                    "mapping": str(self.mapping),
                    "key": "Customer_User_id",
                }
            },
        }
        for name, value in {**self.changes, **changes}.items():
            *parents, last = name.split("__")
            section = values
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = value
        return Settings.model_validate(values)

    def run(
        self,
        stages: Sequence[str] = (),
        *,
        resume: str | None = None,
        snapshot_dt: str | None = None,
        tables: Sequence[str] = (),
        report: Callable[[Progress], None] = lambda _: None,
        configured: Sequence[str] = STAGES,
        force: bool = False,
        later: tuple[str, ...] | None = None,
        **changes: Any,
    ) -> RunOutcome:
        """Run some of the `configured` stages, all by default; `changes` are settings."""
        request = RunRequest(
            self.dataset, tuple(stages), snapshot_dt, tuple(tables), resume, force=force, later_stages=later
        )
        return run_module.run(self.settings(stages=tuple(configured), **changes), request, report)

    def store(self) -> RunStore:
        return RunStore.of(self.settings())

    def manifests(self) -> list[Manifest]:
        return self.store().manifests(self.dataset)

    def manifest_file(self, run_id: str) -> Path:
        return Path(self.store().path(self.dataset, run_id))

    def shown(self) -> dict[str, set[str]]:
        """Return the dates of the snapshots in every table of the catalog."""
        return {name: marks for name, (marks, _) in self.shown_rows().items()}

    def shown_rows(self) -> dict[str, tuple[set[str], int]]:
        """Return the dates of the snapshots and the number of rows of every table of the catalog."""
        with duckdb.connect(str(self.catalog), read_only=True) as connection:
            return read_tables(connection)


def read_tables(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[set[str], int]]:
    """Return the dates of the snapshots and the number of rows of every published table."""
    tables = {}
    for name in view_names(connection, DATABASE):
        mark = f"{name.removeprefix('ext_').removeprefix('bucketed_')}_mark"
        rows = connection.execute(f'SELECT "{mark}", count(*) FROM "{DATABASE}"."{name}" GROUP BY ALL').fetchall()
        tables[name] = ({mark for mark, _ in rows}, sum(count for _, count in rows))
    return tables


class CountingEngine:
    """An engine that records the buckets it wrote, and can fail after a number of them."""

    def __init__(self, engine: Engine, fail_after: int | None = None, error: Exception | None = None) -> None:
        self._engine = engine
        self._fail_after = fail_after
        self._error = error or RuntimeError("the power went")
        self.written: list[int] = []
        self.requested: list[int] = []

    def bucket(
        self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        self.requested = [number for number in range(job.buckets) if number not in done]
        for outcome in self._engine.bucket(job, done, advance):
            if len(self.written) == self._fail_after:
                raise self._error
            self.written.append(job.number_of(outcome))
            yield outcome

    def verify(
        self, job: BucketJob, outcomes: Sequence[BucketOutcome], advance: Callable[[int, int], None]
    ) -> Iterator[BucketCheck]:
        return self._engine.verify(job, outcomes, advance)

    def statistics(self) -> EngineStatistics:
        return self._engine.statistics()


def reports() -> tuple[list[Progress], Callable[[Progress], None]]:
    """Return a list and the callback that appends to it."""
    events: list[Progress] = []
    return events, events.append


def warnings_in(events: Sequence[Progress]) -> str:
    return "\n".join(event.message for event in events if event.state == "warning")


def notes_of(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def frozen(values: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())
