"""Write sample data: a monthly snapshot of invented people, laid out as the source systems deliver it.

::

    <directory>/opus/infobase_attributes/raw_input/snapshot_dt=2025-10-22/part-00000.parquet …, _SUCCESS
    <directory>/opus/infobase_attributes/mapping.csv
    <directory>/opus/addressable_ids/raw_input/snapshot_dt=2025-10-22/part-00000.parquet …, _SUCCESS
    <directory>/conf/base.yaml

The same specification gives the same data, and the same bytes with the pyarrow writer.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.errors import ConfigError, MissingDependencyError, did_you_mean
from bucketwheel.formatting import counted
from bucketwheel.sample.columns import KEY, Column, addressable_columns, wide_columns
from bucketwheel.sample.dirty import DIRTY, CleanSample, add_defect, mapping_csv
from bucketwheel.settings.writing import BASE, base_text, write_new
from bucketwheel.storage import wrap_os_errors

__all__ = ["DIRTY", "WRITERS", "Sample", "SampleSpec", "write_sample"]

_COMMENTS = "# Configuration of the sample; relative paths start at the directory above this one.\n"
WRITERS = ("pyarrow", "duckdb", "polars")

_Writer = Callable[[Path, Sequence[Column], Iterator[pa.Table], int], None]


@dataclass(frozen=True)
class SampleSpec:
    """Specification of a sample.

    Attributes:
        rows: People; each has one row in both datasets.
        tables: Tables in the mapping.
        columns: Columns of each table, without the key.
        files: Parquet files of each snapshot.
        row_group_rows: Rows of a full row group.
        seed: Seed of the random values.
        snapshot_dt: Date of the snapshot, ``YYYY-MM-DD``.
        writer: Library that writes the files, one of ``WRITERS``.
        dirty: Name of a defect, one of ``DIRTY``; None for clean data.
    """

    rows: int = 1_000_000
    tables: int = 8
    columns: int = 15
    files: int = 4
    row_group_rows: int = 125_000
    seed: int = 7
    snapshot_dt: str = "2025-10-22"
    writer: str = "pyarrow"
    dirty: str | None = None


@dataclass(frozen=True)
class Sample:
    """Paths and sizes of a written sample.

    Attributes:
        directory: Root directory of the sample.
        source: ``raw_input`` of infobase_attributes, the source to configure for the dataset.
        snapshot: The snapshot inside ``source``; a defect may have removed it.
        mapping: The mapping CSV.
        addressable_source: ``raw_input`` of addressable_ids.
        configuration: The configuration file; commands work in ``directory``.
        rows: Number of people.
        bytes: Size of the files of the wide snapshot.
        addressable_bytes: Size of the files of the addressable ids.
        description: One line about the data and its defect, if any.
    """

    directory: Path
    source: Path
    snapshot: Path
    mapping: Path
    addressable_source: Path
    configuration: Path
    rows: int
    bytes: int
    addressable_bytes: int
    description: str


def write_sample(directory: Path, spec: SampleSpec) -> Sample:
    """Write both datasets and the mapping under ``directory``.

    Args:
        directory: Output directory; created if it does not exist.
        spec: Specification. A dirty sample has at least two files, so that one can differ from the others.

    Returns:
        The paths, sizes and description of the sample.

    Raises:
        ConfigError: A value of ``spec`` is unknown or out of range, or the snapshot exists.
        MissingDependencyError: The chosen writer is not installed.
        StorageError: The directory is not writable.
    """
    _check(spec)
    writer = _WRITERS[spec.writer]()
    with wrap_os_errors(str(directory), "write to"):
        return _write(directory, spec, writer)


def _write(directory: Path, spec: SampleSpec, writer: _Writer) -> Sample:
    if spec.dirty is not None:
        spec = replace(spec, files=max(spec.files, 2), rows=max(spec.rows, 2))
    source = directory / "opus" / "infobase_attributes" / "raw_input"
    addressable_source = directory / "opus" / "addressable_ids" / "raw_input"
    partition = f"snapshot_dt={spec.snapshot_dt}"
    _check_absent(source / partition, addressable_source / partition)
    wide = wide_columns(spec.tables, spec.columns, spec.seed)
    narrow = addressable_columns(spec.seed)
    files = _write_snapshot(source / partition, wide, 0, spec, writer)
    narrow_files = _write_snapshot(addressable_source / partition, narrow, 1, spec, writer)
    mapping = source.parent / "mapping.csv"
    mapped = [(c.table, c.name) for c in wide if c.table is not None]
    mapping.write_text(mapping_csv(mapped), encoding="utf-8")
    configuration = _configure(directory, source, mapping, addressable_source)
    defect = ""
    if spec.dirty is not None:
        clean = CleanSample(
            source, source / partition, tuple(files), mapping, tuple(mapped), KEY, spec.row_group_rows
        )
        defect = f"; {spec.dirty}: {add_defect(spec.dirty, clean)}"
    size = sum(f.stat().st_size for f in files if f.exists())
    return Sample(
        directory=directory,
        source=source,
        snapshot=source / partition,
        mapping=mapping,
        addressable_source=addressable_source,
        configuration=configuration,
        rows=spec.rows,
        bytes=size,
        addressable_bytes=sum(f.stat().st_size for f in narrow_files),
        description=f"{spec.rows:,} people, {counted(spec.tables, 'table')} of {counted(spec.columns, 'column')}, "
        f"{counted(len(files), 'file')}, {size / 1e6:,.1f} MB, written by {spec.writer}{defect}",
    )


def _configure(directory: Path, source: Path, mapping: Path, addressable_source: Path) -> Path:
    """Write the configuration of the sample; keep one that exists."""
    common = {"key": KEY, "complete_marker": "_SUCCESS"}
    wide = {"source": str(source.relative_to(directory)), "mapping": str(mapping.relative_to(directory)), **common}
    narrow = {"source": str(addressable_source.relative_to(directory)), **common}
    datasets = {"infobase_attributes": wide, "addressable_ids": narrow}
    path = directory / BASE
    if not path.exists():
        write_new({path: base_text({"datasets": datasets}, _COMMENTS)})
    return path


def _check(spec: SampleSpec) -> None:
    for name in ("rows", "tables", "columns", "files", "row_group_rows"):
        if getattr(spec, name) < 1:
            raise ConfigError(f"{name} is {getattr(spec, name)}: it must be at least 1")
    if spec.seed < 0:
        raise ConfigError(f"seed is {spec.seed}: it must be at least 0")
    try:
        valid = date.fromisoformat(spec.snapshot_dt).isoformat() == spec.snapshot_dt
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"snapshot_dt is {spec.snapshot_dt!r}: write a date as YYYY-MM-DD")
    _check_choice("writer", spec.writer, WRITERS)
    if spec.dirty is not None:
        _check_choice("dirty", spec.dirty, DIRTY)


def _check_absent(*snapshots: Path) -> None:
    for snapshot in snapshots:
        if any(snapshot.glob("*.parquet")):
            raise ConfigError(f"{snapshot} already holds Parquet files: choose another directory or remove it")


def _check_choice(setting: str, value: str, known: Collection[str]) -> None:
    if value in known:
        return
    hint = did_you_mean(value, known)
    raise ConfigError(f"{setting} is {value!r}, which is unknown: {hint}choose one of: {', '.join(known)}")


def _write_snapshot(
    snapshot: Path, columns: Sequence[Column], dataset: int, spec: SampleSpec, writer: _Writer
) -> list[Path]:
    snapshot.mkdir(parents=True, exist_ok=True)
    count = min(spec.files, spec.rows)
    bounds = [spec.rows * i // count for i in range(count + 1)]
    paths = [snapshot / f"part-{i:05d}.parquet" for i in range(count)]

    def write(number: int) -> None:
        groups = _row_groups(columns, dataset, number, range(bounds[number], bounds[number + 1]), spec)
        writer(paths[number], columns, groups, spec.row_group_rows)

    # The other writers have their own threads and hold a whole file, so write one file at a time to bound memory.
    workers = min(count, os.cpu_count() or 1, 4) if spec.writer == "pyarrow" else 1
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(write, range(count)))
    (snapshot / "_SUCCESS").touch()
    return paths


def _row_groups(
    columns: Sequence[Column], dataset: int, file_number: int, rows: range, spec: SampleSpec
) -> Iterator[pa.Table]:
    streams = [np.random.default_rng((spec.seed, dataset, file_number, number)) for number in range(len(columns))]
    for start in range(rows.start, rows.stop, spec.row_group_rows):
        numbers = np.arange(start, min(start + spec.row_group_rows, rows.stop), dtype=np.uint64)
        arrays = [column.generate(stream, numbers) for column, stream in zip(columns, streams, strict=True)]
        yield pa.table(arrays, names=[column.name for column in columns])


def _pyarrow_writer() -> _Writer:
    def write(path: Path, columns: Sequence[Column], groups: Iterator[pa.Table], row_group_rows: int) -> None:
        first = next(groups)
        # Store no Arrow schema: Spark, which writes the real files, stores none either.
        with pq.ParquetWriter(
            path,
            first.schema,
            compression="snappy",
            use_dictionary=[_leaf(c, first) for c in columns if c.dictionary],
            store_schema=False,
        ) as out:
            out.write_table(first, row_group_size=row_group_rows)
            for group in groups:
                out.write_table(group, row_group_size=row_group_rows)

    return write


def _leaf(column: Column, table: pa.Table) -> str:
    kind = table.schema.field(column.name).type
    return f"{column.name}.list.element" if pa.types.is_list(kind) else column.name


def _whole(groups: Iterator[pa.Table]) -> pa.Table:
    table = pa.concat_tables(groups)
    decoded = [
        pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in table.schema
    ]
    return table.cast(pa.schema(decoded))


def _duckdb_writer() -> _Writer:
    duckdb = _import("duckdb", "duckdb")

    def write(path: Path, _columns: Sequence[Column], groups: Iterator[pa.Table], row_group_rows: int) -> None:
        target = str(path).replace("'", "''")
        with duckdb.connect() as connection:
            connection.register("people", _whole(groups))
            try:
                connection.execute(
                    f"COPY (SELECT * FROM people) TO '{target}' "  # noqa: S608
                    f"(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {row_group_rows})"
                )
            except duckdb.IOException as error:
                raise OSError(str(error)) from error

    return write


def _polars_writer() -> _Writer:
    polars = _import("polars", "bench")

    def write(path: Path, _columns: Sequence[Column], groups: Iterator[pa.Table], row_group_rows: int) -> None:
        frame = polars.from_arrow(_whole(groups))
        frame.write_parquet(path, compression="snappy", row_group_size=row_group_rows)

    return write


def _import(package: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as exc:
        raise MissingDependencyError(
            f"writer {package!r} is not installed: pip install 'bucketwheel[{extra}]'"
        ) from exc


_WRITERS: dict[str, Callable[[], _Writer]] = {
    "pyarrow": _pyarrow_writer,
    "duckdb": _duckdb_writer,
    "polars": _polars_writer,
}
