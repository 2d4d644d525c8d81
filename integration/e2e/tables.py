"""Compare the tables in the catalog with the source, row by row, and check the bucket of each row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from bucketwheel import api
from bucketwheel.kernel.hashing import key_buckets
from bucketwheel.kernel.layout import standard_name

KEY = "customer_user_id"
_KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


class DifferenceError(Exception):
    """A table differs from the source."""


@dataclass(frozen=True)
class Account:
    """The endpoints of the two servers."""

    s3_url: str
    glue_url: str

    def files(self) -> fs.S3FileSystem:
        """Return S3 as a file system."""
        address = urlsplit(self.s3_url)
        return fs.S3FileSystem(
            access_key="test",
            secret_key="test",
            region="us-east-1",
            endpoint_override=address.netloc,
            scheme=address.scheme,
        )

    def tables(self, database: str) -> Mapping[str, Mapping[str, Any]]:
        """Return Glue's definition of every table, by name."""
        glue = boto3.client("glue", endpoint_url=self.glue_url, **_KEYS)
        pages = glue.get_paginator("get_tables").paginate(DatabaseName=database)
        return {table["Name"]: table for page in pages for table in page["TableList"]}


def compare(account: Account) -> Iterator[str]:
    """Compare every table and yield a line for each.

    Raises:
        DifferenceError: names the table, its content and the expected content.
    """
    settings = api.load("compose", "conf").settings
    files = account.files()
    expected = {
        **_wide(files, settings.datasets["infobase_attributes"]),
        "addressable_ids": _source(files, settings.datasets["addressable_ids"].source),
    }
    published = account.tables(settings.catalog.database)
    prefixes = (settings.catalog.staged_prefix, settings.catalog.final_prefix)
    _equal("the database", sorted(published), sorted(f"{prefix}{name}" for prefix in prefixes for name in expected))
    for name, definition in sorted(published.items()):
        source = expected[name.removeprefix(prefixes[0]).removeprefix(prefixes[1])]
        yield _compare_table(files, name, definition, source)


def _compare_table(files: fs.FileSystem, name: str, definition: Mapping[str, Any], source: pa.Table) -> str:
    descriptor = definition["StorageDescriptor"]
    _equal(f"{name}: bucket columns", descriptor["BucketColumns"], [KEY])
    columns = [column["Name"] for column in descriptor["Columns"]]
    _equal(f"{name}: columns", sorted(columns), sorted(source.column_names))
    location = urlsplit(descriptor["Location"])
    entries = files.get_file_info(fs.FileSelector(location.netloc + location.path.rstrip("/")))
    paths = sorted(info.path for info in entries)
    _equal(f"{name}: files", len(paths), descriptor["NumberOfBuckets"])
    parts = [_checked_bucket(files, path, number, len(paths)) for number, path in enumerate(paths)]
    written = pa.concat_tables([part.select(source.column_names) for part in parts])
    rows = _sorted(written)
    if not rows.equals(_sorted(source)):
        differing = [column for column in source.column_names if not rows[column].equals(_sorted(source)[column])]
        raise DifferenceError(f"{name}: columns {differing} are not those of the source")
    return f"{name}: {written.num_rows:,} rows in {len(paths)} buckets, {len(columns)} columns, equal to the source"


def _checked_bucket(files: fs.FileSystem, path: str, number: int, count: int) -> pa.Table:
    part = _plain(pq.read_table(path, filesystem=files))
    keys = part[KEY].combine_chunks()
    buckets = set(key_buckets([keys], "hive_v1", count).tolist())
    _equal(f"{path}: buckets of its keys", buckets, {number})
    if not keys.equals(keys.take(pc.sort_indices(keys))):
        raise DifferenceError(f"{path}: not sorted by {KEY}")
    return part


def _wide(files: fs.FileSystem, dataset: api.DatasetSettings) -> dict[str, pa.Table]:
    """Return the expected content of each table of the mapping."""
    source = _source(files, dataset.source)
    with files.open_input_stream(_path(str(dataset.mapping))) as stream:
        rows = list(csv.DictReader(io.StringIO(stream.read().decode())))
    tables: dict[str, list[str]] = {}
    for row in rows:
        tables.setdefault(row["OMC_FLYWHEEL_TABLE"].lower(), [KEY]).append(standard_name(row["OMC_FLYWHEEL_COLUMN"]))
    return {name: source.select(columns) for name, columns in tables.items()}


def _source(files: fs.FileSystem, location: str) -> pa.Table:
    entries = files.get_file_info(fs.FileSelector(_path(location), recursive=True))
    paths = sorted(info.path for info in entries if info.path.endswith(".parquet"))
    table = pa.concat_tables([_plain(pq.read_table(path, filesystem=files, partitioning=None)) for path in paths])
    return table.rename_columns([standard_name(name) for name in table.column_names])


def _path(location: str) -> str:
    return location.partition("://")[2]


def _plain(table: pa.Table) -> pa.Table:
    """Return the table without dictionary encoding, which is only a property of the file."""
    types = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(list(zip(table.column_names, types, strict=True))))


def _sorted(table: pa.Table) -> pa.Table:
    return table.take(pc.sort_indices(table[KEY])).combine_chunks()


def _equal(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise DifferenceError(f"{what}: {found}, not {wanted}")
