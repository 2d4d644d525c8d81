"""A source that covers the difficult cases of an engine, and functions that run an engine on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bucketwheel.contracts import BucketJob, Engine, OtherLayout, TableLayout
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.testing.jobs import KEY, make_layout, numbered, write_files

Counts = list[tuple[int, int]]

ROWS = 3000
BUCKETS = 7
COLUMNS = {"codes": ["Code", "Flag", "Number"], "texts": ["Text", "Tags"], "keys": []}
CODED = frozenset(["Code", "Flag"])


def source(rows: int = ROWS, seed: int = 3) -> pa.Table:
    """Return rows with NULL keys, duplicate keys, dictionary columns, text and lists."""
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


def narrow_source(key: pa.DataType, rows: int = 240) -> pa.Table:
    """Return rows with a whole-number key and a column of each type that files of Iceberg have in a wider type."""
    random = np.random.default_rng(5)
    numbers = pa.array(random.permutation(rows) % 100, mask=random.random(rows) < 0.1)
    small, listed = pa.int8(), [None if number % 5 == 0 else [number % 100, None] for number in range(rows)]
    columns = {
        "Int8": numbers.cast(small),
        "Int16": numbers.cast(pa.int16()),
        "Unsigned8": numbers.cast(pa.uint8()),
        "Unsigned16": numbers.cast(pa.uint16()),
        "Unsigned32": numbers.cast(pa.uint32()),
        "Half": pa.array(np.arange(rows, dtype=np.float16)),
        "Date64": numbers.cast(pa.int32()).cast(pa.date32()).cast(pa.date64()),
        **{f"Time_{unit}": numbers.cast(pa.int32()).cast(pa.time32(unit)) for unit in ("s", "ms")},
        **{f"Stamp_{unit}": numbers.cast(pa.timestamp(unit)) for unit in ("s", "ms")},
        "Stamp_utc": numbers.cast(pa.timestamp("ms", "UTC")),
        "Small_list": pa.array(listed, pa.list_(small)),
        "Small_map": pa.array(
            [[(f"k{number % 3}", number % 100)] for number in range(rows)], pa.map_(pa.string(), small)
        ),
        "Small_struct": pa.array(
            [{"a": number % 100, "b": pair} for number, pair in enumerate(listed)],
            pa.struct({"a": pa.uint32(), "b": pa.list_(pa.int16())}),
        ),
    }
    return pa.table({KEY: pa.array([None, *(number % 120 for number in range(1, rows))], key), **columns})


def write_source(directory: Path) -> tuple[Path, ...]:
    """Write the source as three files, the last with row groups of another size."""
    table = source()
    first = write_files(directory, [table.slice(0, 1100), table.slice(1100, 1000)], 300)
    last = write_files(directory / "last", [table.slice(2100)], 170)
    return (*first, *last)


def ignore(_rows: int, _size: int) -> None:
    """Ignore progress."""


def bucket(
    engine: Engine, job: BucketJob, done: Sequence[int] = (), advance: Counts | None = None
) -> list[BucketOutcome]:
    """Run an engine on a job and return the outcomes by bucket; append each progress step to `advance`."""
    steps: Counts = [] if advance is None else advance
    return sorted(engine.bucket(job, done, lambda *step: steps.append(step)), key=job.number_of)


def with_target(job: BucketJob, name: str) -> BucketJob:
    """Return the same job with another target directory, next to its own."""
    tables: list[TableLayout] = []
    for table in job.tables:
        directory = Path(table.directory)
        tables.append(replace(table, directory=str(directory.parent.with_name(name) / directory.name)))
    scratch = Path(job.scratch).parent.with_name(name) / "_scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return replace(job, tables=tuple(tables), scratch=str(scratch))


def with_layout(job: BucketJob, name: str, bucket_count: int, scheme: str, *, sort: bool = True) -> BucketJob:
    """Return the same job with another layout after its own, with smaller row groups and files."""
    tables, files = [], [Path(job.slices[0].path)]
    keys = [key for key, _ in job.keys]
    for table in job.tables:
        directory, columns = Path(table.directory), [column for column, _ in table.columns]
        own = directory.with_name(f"{name}.{directory.name}")
        layout = make_layout(own, keys, columns, files, table.row_group_rows // 2, scheme)
        tables.append(replace(layout, name=table.name))
    other = OtherLayout(name, tuple(tables), bucket_count, scheme, sort, job.max_file_bytes // 2)
    return replace(job, others=(*job.others, other))
