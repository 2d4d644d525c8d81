"""Iceberg catalogs, and tables with the records that a run collects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.conversions import to_bytes
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, LongType, NestedField, StringType

from bucketwheel.catalogs.iceberg import IcebergCatalog
from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import DataFile, FileMetrics, IcebergDefinition
from bucketwheel.settings import AwsSettings, CatalogSettings, IcebergSettings, Settings

TYPES = {"string": StringType(), "int": IntegerType(), "bigint": LongType()}
ARROW = {"string": pa.string(), "int": pa.int32(), "bigint": pa.int64()}


def field_ids(catalog: IcebergCatalog, name: str) -> Mapping[str, int] | None:
    """Return the field ids of a table; None if there is none."""
    history = catalog.history(name, Schema().model_dump_json())
    return history.field_ids if history else None


class FillingCatalog(IcebergCatalog):
    """Adds the records of the files to tables without any, as runs do."""

    def put(self, table: CatalogTable, replacing: CatalogTable | None) -> CatalogTable:
        if table.iceberg is None and table.run_id is not None:
            known = dict(field_ids(self, table.name) or {})
            for name, _ in table.columns:
                known.setdefault(name, max(known.values(), default=0) + 1)
            table = with_records(table, known)
        return super().put(table, replacing)


def settings_in(target: Path | str, aws: Mapping[str, Any] | None = None, **iceberg: Any) -> Settings:
    """Return settings of a catalog, and of the database `db`."""
    return Settings(
        target=str(target),
        aws=AwsSettings(**(aws or {})),
        catalog=CatalogSettings(kind="iceberg", database="db"),
        iceberg=IcebergSettings(**iceberg),
    )


@contextmanager
def connected(target: Path) -> Iterator[Catalog]:
    """Yield PyIceberg's own catalog of a target, as other programs use it."""
    client = SqlCatalog("bucketwheel", uri=f"sqlite:///{target}/iceberg.db", warehouse=f"file://{target}/warehouse")
    try:
        yield client
    finally:
        client.close()


def with_records(table: CatalogTable, ids: Mapping[str, int] | None = None) -> CatalogTable:
    """Return a table with a record of each of its files; the first column is the key."""
    ids = ids or {name: number for number, (name, _) in enumerate(table.columns, 1)}
    fields = [NestedField(ids[name], name, TYPES[kind], required=False) for name, kind in table.columns]
    directory = Path(table.location)

    def files() -> Sequence[DataFile]:
        return [_record(path, number, ids) for number, path in enumerate(sorted(directory.glob("*.parquet")))]

    definition = IcebergDefinition(
        schema=Schema(*fields).model_dump_json(),
        location=str(directory.parent),
        key_id=ids[table.columns[0][0]],
        bucket_count=table.bucket_count,
        sorted=table.sorted,
        files=files,
    )
    return replace(table, iceberg=definition)


def _record(path: Path, number: int, ids: Mapping[str, int]) -> DataFile:
    data = pq.read_table(path)
    counts = {ids[name]: data.num_rows for name in data.column_names if name in ids}
    texts = {ids[name]: data.column(name).drop_null().to_pylist() for name in data.column_names if name in ids}
    bounds = {
        field_id: (min(values), max(values))
        for field_id, values in texts.items()
        if values and isinstance(values[0], str)
    }
    metrics = FileMetrics(
        value_counts=counts,
        null_counts={ids[name]: data.column(name).null_count for name in data.column_names if name in ids},
        lower_bounds={field_id: to_bytes(StringType(), low) for field_id, (low, _) in bounds.items()},
        upper_bounds={field_id: to_bytes(StringType(), high) for field_id, (_, high) in bounds.items()},
        split_offsets=(4,),
    )
    return DataFile(str(path), path.stat().st_size, data.num_rows, number, metrics)


def run_of(
    directory: Path, name: str, run: str, columns: Mapping[str, tuple[str, list[Any]]], buckets: int = 2, **more: Any
) -> CatalogTable:
    """Write the file of a run, and return the definition of its table.

    `columns` has type and values of each column. `more` are field `ids`, the `month` and parameters.
    """
    ids = more.pop("ids", None) or {column: number for number, column in enumerate(columns, 1)}
    location = directory / name / run
    location.mkdir(parents=True)
    schema = pa.schema(
        [
            pa.field(column, ARROW[kind], metadata={"PARQUET:field_id": str(ids[column])})
            for column, (kind, _) in columns.items()
        ]
    )
    data = pa.table([pa.array(values, ARROW[kind]) for kind, values in columns.values()], schema=schema)
    pq.write_table(data, location / "000000_0.snappy.parquet")
    table = CatalogTable(
        name=name,
        location=str(location),
        columns=tuple((column, kind) for column, (kind, _) in columns.items()),
        bucket_columns=(next(iter(columns)),),
        bucket_count=buckets,
        sorted=True,
        parameters={
            "bucketwheel.run_id": run,
            "bucketwheel.dataset": "people",
            "bucketwheel.snapshot_dt": more.pop("month", "2026-10-31"),
            "comment": f"of {run}",
            **more,
        },
    )
    return with_records(table, ids)
