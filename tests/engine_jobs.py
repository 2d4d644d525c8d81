"""A source with what makes the work of an engine hard, and ways to run an engine on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bucketwheel.contracts import BucketJob, Engine, TableLayout
from bucketwheel.runs.manifest import BucketOutcome
from kernel_jobs import KEY, numbered, write_files

Counts = list[tuple[int, int]]

ROWS = 3000
BUCKETS = 7
COLUMNS = {"codes": ["Code", "Flag", "Number"], "texts": ["Text", "Tags"], "keys": []}
CODED = frozenset(["Code", "Flag"])


def source(rows: int = ROWS, seed: int = 3) -> pa.Table:
    random = np.random.default_rng(seed)
    keys = numbered(rows).to_pylist()
    keys[5::97] = [None] * len(keys[5::97])
    keys[1::50] = keys[::50]
    codes = random.integers(0, 300, rows)
    return pa.table(
        {
            KEY: keys,
            "Code": [None if code > 280 else f"C{code}" for code in codes],
            "Flag": [("Y", "N", "", None)[code % 4] for code in codes],
            "Number": random.integers(0, 10**9, rows),
            "Text": [random.bytes(int(size)).hex() for size in random.integers(0, 40, rows)],
            "Tags": [None if code % 5 == 0 else [f"t{code % 3}"] * int(code % 4) for code in codes],
        }
    )


def files_in(directory: Path) -> tuple[Path, ...]:
    """Three files, the last with row groups of another size and no rows in one of them."""
    table = source()
    first = write_files(directory, [table.slice(0, 1100), table.slice(1100, 1000)], 300)
    last = write_files(directory / "last", [table.slice(2100)], 170)
    return (*first, *last)


def ignore(_rows: int, _size: int) -> None:
    pass


def bucket(
    engine: Engine, job: BucketJob, done: Sequence[int] = (), advance: Counts | None = None
) -> list[BucketOutcome]:
    steps: Counts = [] if advance is None else advance
    return sorted(engine.bucket(job, done, lambda *step: steps.append(step)), key=lambda outcome: outcome.bucket)


def elsewhere(job: BucketJob, name: str) -> BucketJob:
    """The same job with another target beside its own."""
    tables: list[TableLayout] = []
    for table in job.tables:
        place = Path(table.directory)
        tables.append(replace(table, directory=str(place.parent.with_name(name) / place.name)))
    scratch = Path(job.scratch).parent.with_name(name) / "_scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return replace(job, tables=tuple(tables), scratch=str(scratch))
