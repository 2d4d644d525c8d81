"""Manifest of a run: the result of each stage, written after every stage.

Stages read the results of earlier stages only from the manifest.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any, Final, Literal, Self, TypeVar, cast

import pyarrow as pa
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from bucketwheel.errors import SelectionError, StorageError
from bucketwheel.runs.column_statistics import ColumnStatistics
from bucketwheel.runs.drift_records import Drift, SchemaChange
from bucketwheel.runs.record import Record
from bucketwheel.settings import PROMOTE
from bucketwheel.settings.names import TableName

SCHEMA_VERSION: Final = 1

# Files are many, so their names are checked by one pattern.
PathPart = Annotated[str, Field(pattern=r"^[^./\\][^/\\]*$")]


class SourceFile(Record):
    """One Parquet file of the snapshot, as its footer describes it.

    `partition_values` are the values of the snapshot's `partition_columns`, from the names of directories.
    """

    path: str
    bytes: int
    modified: str
    row_group_rows: tuple[int, ...]
    version: str = ""
    partition_values: tuple[str | None, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows of the file."""
        return sum(self.row_group_rows)


class SourceColumn(Record):
    """One source column, summed over all files; sizes in bytes.

    `dictionary_bytes` is the largest compressed dictionary page, or None if a column chunk has none or has data pages
    that do not use it.
    `null_count` is the number of rows in which the column is NULL, or None if the footers lack it.
    """

    name: str
    type: str
    compressed_bytes: int
    uncompressed_bytes: int
    dictionary_bytes: int | None
    null_count: int | None = None


class TypeConversion(Record):
    """A type that changes: the name of the Parquet column, its type in the snapshot, and the type that is written."""

    column: str
    stored: str
    written: str


class IgnoredFiles(Record):
    """Files of the snapshot that are not read for one reason, with the names of the first."""

    reason: str
    files: int
    bytes: int
    names: tuple[str, ...]


class DiscoverResult(Record):
    """Result of `discover`: the snapshot to read.

    `partition_columns` are the columns that are in no file, but in the names of directories. `conversions` are the
    types that change; `columns` and `schema_ipc` have the types that are written. `unsupported` says of columns that
    cannot be written why.
    """

    snapshot_dt: str
    location: str
    rows: int
    bytes: int
    keys: tuple[str, ...]
    key_types: tuple[str, ...]
    files: tuple[SourceFile, ...]
    columns: tuple[SourceColumn, ...]
    schema_ipc: str
    warnings: tuple[str, ...] = ()
    partition_columns: tuple[str, ...] = ()
    ignored: tuple[IgnoredFiles, ...] = ()
    conversions: tuple[TypeConversion, ...] = ()
    unsupported: Mapping[str, str] = {}

    def schema(self) -> pa.Schema:  # type: ignore[override]  # deprecated in Pydantic
        """Return the Arrow schema of all files, in the types that are written."""
        return _schema(self.schema_ipc)


@lru_cache(maxsize=8)
def _schema(text: str) -> pa.Schema:
    """Return the schema of a manifest; a plan needs it many times, and decoding 5,000 columns takes 30 ms."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


class ColumnMapping(Record):
    """A source column and its standardized name."""

    source: str
    name: str


class TableColumns(Record):
    """A table and its value columns; the key is not among them."""

    name: TableName
    columns: tuple[ColumnMapping, ...]


class SplitResult(Record):
    """Result of `split`: the columns of each table.

    `field_ids` has, for tables that exist in Iceberg, by `layout_table`, the id of each field by its full name; the
    empty name has the largest id if `replaced_columns` need new ones. These are columns whose type Iceberg cannot
    change, with their Iceberg types. `bucket_counts` has the number of buckets of each partition spec that such a
    table has or had: 0 for a spec without partitions, -1 for one of another kind or by another column.
    """

    keys: tuple[ColumnMapping, ...]
    tables: tuple[TableColumns, ...]
    unmapped: tuple[str, ...]
    mapping_sha256: str | None
    warnings: tuple[str, ...] = ()
    field_ids: Mapping[str, Mapping[str, int]] = {}
    replaced_columns: tuple[SchemaChange, ...] = ()
    bucket_counts: Mapping[str, tuple[int, ...]] = {}


def layout_table(layout: str, table: str) -> str:
    """Return the name of a table of one layout, in paths and records; `layout` is empty for the first layout."""
    # No table has a dot in its name.
    return f"{layout}.{table}" if layout else table


class TableSize(Record):
    """Layout of a table: from the footers, except `bytes` and `files`, which are estimated from a sample."""

    name: str
    columns: int
    bytes: int
    files: int
    row_group_rows: int


class LayoutSize(Record):
    """One layout of the tables."""

    name: str
    prefix: str | None = None
    bucket_count: int
    bucketed: bool
    hash: str
    sort: bool
    max_file_bytes: int
    tables: tuple[TableSize, ...]
    _is_first: bool = PrivateAttr(default=False)

    @property
    def id(self) -> str:
        """The name in outcomes, verified tables and directories: empty for the first layout."""
        return "" if self._is_first else self.name


class SliceRecord(Record):
    """Consecutive row groups of one source file."""

    index: int
    file: int
    first_row_group: int
    row_groups: int
    rows: int


class SizeResult(Record):
    """Result of `size`: the layouts of the files and the slices of the scan.

    `bucket_count` to `max_file_bytes`, `tables`, `name` and `prefix` describe the first layout.
    """

    bucket_count: int
    bucketed: bool
    hash: str
    sort: bool
    max_file_bytes: int
    page_bytes: int
    bytes_to_read: int
    decoded_bytes_per_row: int
    dictionary_columns: tuple[str, ...]
    tables: tuple[TableSize, ...]
    slices: tuple[SliceRecord, ...]
    warnings: tuple[str, ...] = ()
    name: str = ""
    prefix: str | None = None
    other_layouts: tuple[LayoutSize, ...] = ()

    @property
    def layouts(self) -> tuple[LayoutSize, ...]:
        """All layouts; the engine numbers buckets consecutively over them."""
        first = LayoutSize(
            name=self.name,
            prefix=self.prefix,
            bucket_count=self.bucket_count,
            bucketed=self.bucketed,
            hash=self.hash,
            sort=self.sort,
            max_file_bytes=self.max_file_bytes,
            tables=self.tables,
        )
        first._is_first = True
        return (first, *self.other_layouts)


class FileRecord(Record):
    """One written file."""

    table: PathPart
    name: PathPart
    rows: int
    bytes: int


class BucketOutcome(Record):
    """One written bucket: its files and counts of its keys.

    `bucket` is its number in its layout; `layout` is empty for the first layout.
    """

    bucket: int
    rows: int
    null_keys: int
    duplicate_keys: int
    smallest_key: str | None
    largest_key: str | None
    key_checksum: int
    files: tuple[FileRecord, ...]
    layout: str = ""


class BucketResult(Record):
    """Result of `bucket`: all buckets in order, layout after layout; a bucket without rows has no files.

    `column_statistics` covers the mapped columns that are not nested; it is empty if `catalog.column_statistics` is
    `none`, or if a resumed run had no bucket left to write.
    """

    rows: int
    empty_buckets: int
    spilled_bytes: int
    outcomes: tuple[BucketOutcome, ...]
    shuffled_bytes: int = 0
    warnings: tuple[str, ...] = ()
    column_statistics: tuple[ColumnStatistics, ...] = ()

    @property
    def first_layout(self) -> tuple[BucketOutcome, ...]:
        """The buckets of the first layout: every layout has the same rows and keys."""
        return tuple(outcome for outcome in self.outcomes if not outcome.layout)

    def of_layout(self, layout: LayoutSize) -> tuple[BucketOutcome, ...]:
        """Return the buckets of one layout, in order."""
        return tuple(outcome for outcome in self.outcomes if outcome.layout == layout.id)


class VerifiedTable(Record):
    """One table as read back; `layout` is empty for the first layout."""

    name: str
    rows: int
    files: int
    bytes: int
    layout: str = ""

    @property
    def label(self) -> str:
        """The name with that of the layout, if it is not the first."""
        return layout_table(self.layout, self.name)


class VerifyResult(Record):
    """Result of `verify`; `drift` is None if nothing was published before."""

    rows: int
    key_checksum: int
    null_keys: int
    duplicate_keys: int
    tables: tuple[VerifiedTable, ...]
    warnings: tuple[str, ...] = ()
    drift: Drift | None = None

    def of_layout(self, layout: LayoutSize) -> tuple[VerifiedTable, ...]:
        """Return the tables of one layout."""
        return tuple(table for table in self.tables if table.layout == layout.id)


class PublishedTable(Record):
    """A catalog table and its previous location."""

    name: str
    location: str
    previous_location: str | None


class CopiedTable(Record):
    """A table that a SQL engine copied: its location and size, and the cost of the statement."""

    table: str
    location: str
    rows: int
    files: int
    bytes: int
    sorted: bool
    query_id: str
    bytes_scanned: int
    seconds: float


class PublishResult(Record):
    """Result of `register` and `ctas`: the published tables, and the copies that a SQL engine made."""

    tables: tuple[PublishedTable, ...]
    method: str = PROMOTE
    copies: tuple[CopiedTable, ...] = ()
    warnings: tuple[str, ...] = ()


ResultT = TypeVar("ResultT", bound=BaseModel)


class StageRecord(Record):
    """A finished stage."""

    started: str
    seconds: float
    result: dict[str, Any]
    peak_memory_bytes: int | None = None

    @cached_property
    def parsed(self) -> dict[type[BaseModel], BaseModel]:
        """Return the cache of `parse`; it is not a field, so dumps and comparisons ignore it."""
        return {}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy without the cache, as `update` may replace the result."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("parsed", None)
        return copy

    def parse(self, kind: type[ResultT]) -> ResultT:
        """Return the result as `kind`; validate it on the first call only.

        Raises:
            ValidationError: the result is not a `kind`.
        """
        if kind not in self.parsed:
            self.parsed[kind] = kind.model_validate(self.result)
        return cast("ResultT", self.parsed[kind])


RESULTS: Mapping[str, type[Record]] = {
    "discover": DiscoverResult,
    "split": SplitResult,
    "size": SizeResult,
    "bucket": BucketResult,
    "verify": VerifyResult,
    "register": PublishResult,
    "ctas": PublishResult,
}


class Manifest(Record):
    """One run of one dataset.

    `notes` adds details to the failure in `error`, such as why Spark tasks failed.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    dataset: str
    created: str
    status: Literal["running", "failed", "finished"] = "running"
    error: str | None = None
    notes: tuple[str, ...] = ()
    snapshot_dt: str | None = None
    tables_filter: tuple[str, ...] = ()
    planned_stages: tuple[str, ...]
    fingerprint: dict[str, str]
    versions: dict[str, str]
    runtime: str
    stages: dict[str, StageRecord] = Field(default_factory=dict)

    def result(self, stage: str, kind: type[ResultT]) -> ResultT:
        """Return the result of `stage` as `kind`; the built-in stages have a property each.

        Raises:
            SelectionError: the stage has not finished in this run.
            StorageError: the manifest holds another kind of result under this name.
        """
        record = self.stages.get(stage)
        if record is None:
            raise SelectionError(
                f"run {self.run_id}: stage {stage!r} has not finished; run it first: "
                f"bucketwheel run {self.dataset} --stages {stage} --resume {self.run_id}"
            )
        try:
            return record.parse(kind)
        except ValidationError as error:
            raise StorageError(
                f"run {self.run_id}: the manifest holds no result of stage {stage!r}; it may be damaged: {error}"
            ) from error

    @property
    def discover(self) -> DiscoverResult:
        """Result of `discover`; raises as `result` does."""
        return self.result("discover", DiscoverResult)

    @property
    def split(self) -> SplitResult:
        """Result of `split`; raises as `result` does."""
        return self.result("split", SplitResult)

    @property
    def size(self) -> SizeResult:
        """Result of `size`; raises as `result` does."""
        return self.result("size", SizeResult)

    @property
    def bucket(self) -> BucketResult:
        """Result of `bucket`; raises as `result` does."""
        return self.result("bucket", BucketResult)

    @property
    def verify(self) -> VerifyResult:
        """Result of `verify`; raises as `result` does."""
        return self.result("verify", VerifyResult)

    @property
    def register(self) -> PublishResult:
        """Result of `register`; raises as `result` does."""
        return self.result("register", PublishResult)

    @property
    def ctas(self) -> PublishResult:
        """Result of `ctas`; raises as `result` does."""
        return self.result("ctas", PublishResult)

    def with_stage(self, name: str, record: StageRecord) -> Manifest:
        """Return a copy in which stage `name` has finished."""
        return self.model_copy(update={"stages": {**self.stages, name: record}, "error": None, "notes": ()})

    def results(self) -> dict[str, Record]:
        """Return the results of the finished built-in stages by name."""
        return {name: self.result(name, kind) for name, kind in RESULTS.items() if name in self.stages}
