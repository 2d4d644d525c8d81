"""Build jobs for the kernel and for engines without a run, and read the files that they write."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketJob, Slice, TableLayout
from bucketwheel.kernel.dictionaries import UnifiedDictionaries
from bucketwheel.kernel.gather import gather, gather_buckets
from bucketwheel.kernel.layout import bucket_of_file, standard_name
from bucketwheel.kernel.passes import column_groups
from bucketwheel.kernel.scatter import READ_OPTIONS, Scattered, scatter
from bucketwheel.kernel.schema import planned_iceberg_schema, planned_schema
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import StorageSettings

KEY = "Customer_User_id"
WHOLE = 10**9


def write_files(
    directory: Path, files: Iterable[pa.Table], row_group_rows: int = 50, **options: Any
) -> tuple[Path, ...]:
    """Write one Parquet file per table below `directory` and return the paths; `options` go to pyarrow."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, table in enumerate(files):
        paths.append(directory / f"part-{number:05d}.parquet")
        pq.write_table(table, paths[-1], row_group_size=row_group_rows, **options)
    return tuple(paths)


def make_slices(files: Iterable[Path], groups_per_slice: int = 1) -> tuple[Slice, ...]:
    """Return slices of at most `groups_per_slice` row groups that cover the files."""
    slices: list[Slice] = []
    for path in files:
        footer = pq.read_metadata(path)
        rows = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        for first in range(0, len(rows), groups_per_slice):
            groups = tuple(range(len(rows)))[first : first + groups_per_slice]
            slices.append(Slice(len(slices), str(path), groups, sum(rows[group] for group in groups)))
    return tuple(slices)


def make_job(
    target: Path,
    files: Sequence[Path],
    tables: Mapping[str, Sequence[str]],
    *,
    keys: Sequence[str] = (KEY,),
    row_group_rows: int = 1000,
    groups_per_slice: int = 1,
    **changes: Any,
) -> BucketJob:
    """Return a job with small defaults; `changes` are fields of `BucketJob`."""
    scratch = target / "_scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    job = BucketJob(
        storage=StorageSettings(),
        slices=make_slices(files, groups_per_slice),
        keys=tuple((key, standard_name(key)) for key in keys),
        tables=tuple(
            make_layout(target / name, keys, columns, files, row_group_rows, changes.get("hash", "hive_v1"))
            for name, columns in tables.items()
        ),
        bucket_count=4,
        hash="hive_v1",
        sort=True,
        max_file_bytes=2**30,
        page_bytes=2**18,
        dictionary_columns=frozenset(),
        decoded_bytes_per_row=100,
        scratch=str(scratch),
    )
    return replace(job, **changes)


def make_layout(
    directory: Path,
    keys: Sequence[str],
    columns: Sequence[str],
    files: Sequence[Path],
    row_group_rows: int,
    scheme: str = "hive_v1",
) -> TableLayout:
    """Return the layout of a table with the types of the first file."""
    key_pairs, pairs = (tuple((name, standard_name(name)) for name in names) for names in (keys, columns))
    source = pq.ParquetFile(files[0], **READ_OPTIONS).schema_arrow
    planned = planned_iceberg_schema if scheme == "iceberg" else planned_schema
    schema = planned(source, key_pairs + pairs)
    return TableLayout(directory.name, str(directory), pairs, row_group_rows, schema)


def numbered(count: int, start: int = 0) -> pa.Array:
    """Return `count` different text keys in no order; the same ones for the same arguments."""
    return pa.array([f"U{(number * 7919) % 100_003:06d}" for number in range(start, start + count)])


class MemoryBlocks:
    """Holds every scattered part in memory, in order."""

    def __init__(self) -> None:
        self.dictionaries = UnifiedDictionaries()
        self.parts: list[Scattered] = []
        self._groups: list[list[str]] = []

    def scan(self, job: BucketJob, max_rows: int = WHOLE, skip: Collection[int] = ()) -> MemoryBlocks:
        """Scatter every slice of the job and return this object."""
        self._groups = column_groups(job)
        for part in job.slices:
            self.parts += scatter(job, part, max_rows, self.dictionaries, skip)
        return self

    def read(self, bucket: int, columns: Sequence[str], last: int | None = None) -> list[pa.RecordBatch]:
        """Return the rows of a bucket, or of the buckets from `bucket` to `last`."""
        blocks = []
        group = self._groups.index(list(columns))
        for part in (part for part in self.parts if group in part.groups):
            start, end = int(part.offsets[bucket]), int(part.offsets[(bucket if last is None else last) + 1])
            if end > start:
                blocks.append(part.batch.select(list(columns)).slice(start, end - start))
        return blocks

    def gather(self, job: BucketJob, bucket: int) -> BucketOutcome:
        """Write the files of a bucket."""
        return gather(job, bucket, lambda columns: self.read(bucket, columns), self.dictionaries)

    def gather_group(self, job: BucketJob, buckets: Sequence[int]) -> list[BucketOutcome]:
        """Write the files of neighboring buckets together."""
        first, last = buckets[0], buckets[-1]
        return gather_buckets(job, buckets, lambda columns: self.read(first, columns, last), self.dictionaries)


def run_kernel(job: BucketJob, max_rows: int = WHOLE, skip: Collection[int] = ()) -> list[BucketOutcome]:
    """Run the kernel on a job without an engine and return the outcome of each bucket."""
    blocks = MemoryBlocks().scan(job, max_rows, skip)
    return [blocks.gather(job, bucket) for bucket in range(job.buckets) if bucket not in skip]


def files_of(job: BucketJob, table: str) -> list[Path]:
    """Return the files of a table, shortest name first."""
    directory = next(Path(layout.directory) for layout in job.tables if layout.name == table)
    return sorted(directory.glob("*.parquet"), key=lambda path: (len(path.name), path.name))


def read_buckets(job: BucketJob, table: str) -> dict[int, pa.Table]:
    """Return the rows of each bucket that has files, by the bucket number in the file name."""
    parts_of: dict[int, list[pa.Table]] = {}
    for path in files_of(job, table):
        bucket = bucket_of_file(path.name, job.hash)
        assert bucket is not None
        parts_of.setdefault(bucket, []).append(pq.ParquetFile(path).read())
    return {bucket: pa.concat_tables(parts) for bucket, parts in sorted(parts_of.items())}


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    """Return the rows of a table as tuples."""
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def digests(job: BucketJob) -> dict[str, str]:
    """Return the SHA-256 of every file of the job, by table and name."""
    return {
        f"{table.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for table in job.tables
        for path in files_of(job, table.name)
    }


def leftovers(job: BucketJob) -> list[Path]:
    """Return the files that are left in the scratch directory of the job."""
    return [path for path in Path(job.scratch).glob("*") if path.is_file()]
