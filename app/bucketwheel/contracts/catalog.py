"""Interface of catalogs, which hold table definitions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from bucketwheel.errors import ConcurrentPublishError
from bucketwheel.runs.column_statistics import ColumnStatistics

# Parameter of tables that may have statistics of columns; its value is the setting that they were collected with.
STATISTICS = "bucketwheel.column_statistics"
# Parameter and value of Iceberg tables.
TABLE_TYPE, ICEBERG = "table_type", "ICEBERG"


@dataclass(frozen=True)
class TableStatistics:
    """The number of rows of a table and the statistics of its columns, by their names in the table."""

    rows: int
    columns: Mapping[str, ColumnStatistics]


@dataclass(frozen=True)
class FileMetrics:
    """Statistics of the columns of a data file, for an Iceberg manifest; the keys are Iceberg field ids.

    A bound is the value in Iceberg's single-value serialization; text and binary are truncated as Iceberg truncates
    them. A column that lacks a statistic is not in its mapping.
    """

    column_sizes: Mapping[int, int] = field(default_factory=dict)
    value_counts: Mapping[int, int] = field(default_factory=dict)
    null_counts: Mapping[int, int] = field(default_factory=dict)
    nan_counts: Mapping[int, int] = field(default_factory=dict)
    lower_bounds: Mapping[int, bytes] = field(default_factory=dict)
    upper_bounds: Mapping[int, bytes] = field(default_factory=dict)
    split_offsets: tuple[int, ...] = ()


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of an Iceberg table.

    `path` is the complete address of the file. `bucket` is the partition value, None for rows without a key.
    """

    path: str
    bytes: int
    rows: int
    bucket: int | None
    metrics: FileMetrics


@dataclass(frozen=True)
class IcebergDefinition:
    """What a catalog needs, besides the `CatalogTable`, to publish a table in the Iceberg format.

    `schema` is an Iceberg schema in JSON, as table metadata has it, with the field ids that the files contain.
    `location` is the directory of the Iceberg table: `metadata/` and the directory of each run lie in it. The table
    is partitioned by `bucket[bucket_count]` of the field `key_id`, and sorted by it if `sorted` is set. `files`
    reads the records of the run's files, and raises StorageError if they are missing or damaged; call it only to
    add the files to the table.
    """

    schema: str
    location: str
    key_id: int
    bucket_count: int
    sorted: bool
    files: Callable[[], Sequence[DataFile]]


@dataclass(frozen=True)
class CatalogTable:
    """A table definition in a catalog; types are Hive type names, `version` is the catalog's own.

    `native` is the complete definition in the form of the catalog, so that putting the table back restores
    all of it. `statistics` are to be published with the table, `spark_schema` is the JSON form of its schema in
    Spark, for catalogs that Spark reads, and `iceberg` is for catalogs that hold Iceberg tables; `get` and `tables`
    return none of them.
    """

    name: str
    location: str
    columns: tuple[tuple[str, str], ...]
    bucket_columns: tuple[str, ...] = ()
    bucket_count: int = 0
    sorted: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None
    native: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    statistics: TableStatistics | None = field(default=None, compare=False, repr=False)
    spark_schema: str | None = field(default=None, compare=False, repr=False)
    iceberg: IcebergDefinition | None = field(default=None, compare=False, repr=False)

    @property
    def run_id(self) -> str | None:
        """The run that wrote the files, or None if Bucketwheel did not create the table."""
        return self.parameters.get("bucketwheel.run_id")

    @property
    def dataset(self) -> str | None:
        """The dataset that the table belongs to, or None if Bucketwheel did not create the table."""
        return self.parameters.get("bucketwheel.dataset")


@dataclass(frozen=True)
class TableChange:
    """A change of one table, as the arguments of `Catalog.put`; without `table`, the table is removed."""

    table: CatalogTable | None
    replacing: CatalogTable | None

    @property
    def name(self) -> str:
        """The name of the table."""
        return self.definition.name

    @property
    def definition(self) -> CatalogTable:
        """The table to put, or the one to remove."""
        table = self.table or self.replacing
        if table is None:
            raise ValueError("a change needs a table to put or to remove")
        return table


def is_iceberg(table: CatalogTable) -> bool:
    """Return whether a table is an Iceberg table; catalogs mark them as PyIceberg, Spark, Trino and Athena do."""
    return table.parameters.get(TABLE_TYPE, "").upper() == ICEBERG


def table_key(table: CatalogTable) -> tuple[str, bool]:
    """Return what tells the tables of a database apart: the name, of any letter case, and whether it is Iceberg's."""
    return table.name.lower(), is_iceberg(table)


def same_version(current: CatalogTable | None, expected: CatalogTable | None) -> bool:
    """Return whether both have the same version and location, or both are None."""
    return (current and (current.version, current.location)) == (expected and (expected.version, expected.location))


def same_location(one: str, other: str) -> bool:
    """Return whether two locations are the same directory; a trailing slash does not count."""
    return one.rstrip("/") == other.rstrip("/")


def same_definition(shown: CatalogTable, requested: CatalogTable) -> bool:
    """Return whether `shown`, which the catalog returned, matches the `requested` definition.

    The version, the letter case of the name, a trailing slash of the location and parameters that the catalog added
    do not count.
    """
    return (
        shown.name.lower() == requested.name.lower()
        and same_location(shown.location, requested.location)
        and shown.columns == requested.columns
        and (shown.bucket_columns, shown.bucket_count, shown.sorted)
        == (requested.bucket_columns, requested.bucket_count, requested.sorted)
        and requested.parameters.items() <= shown.parameters.items()
    )


def check_same_version(name: str, current: CatalogTable | None, expected: CatalogTable | None) -> None:
    """Raise ConcurrentPublishError if the table in the catalog is not the `expected` one."""
    if not same_version(current, expected):
        raise concurrent_publish(name, current, expected)


def concurrent_publish(
    name: str, current: CatalogTable | None, expected: CatalogTable | None
) -> ConcurrentPublishError:
    """Return the error of a table that another process changed concurrently."""
    return ConcurrentPublishError(
        f"{name}: the catalog has {_place(current)}, expected {_place(expected)}; another process published it. "
        "Check `bucketwheel runs`, then run again"
    )


def _place(table: CatalogTable | None) -> str:
    if table is None:
        return "no such table"
    version = f"version {table.version} at " if table.version else ""
    return f"{version}{table.location!r}"


class Catalog(Protocol):
    """A database of table definitions, each changed in one update.

    The attributes are declared on the class: Bucketwheel reads them without creating a catalog.

    What `get`, `tables` and `put` return follows these rules:

    * Names: letter case does not count. `get("T")` finds the table `t`, and a second table `T` cannot be created. A
      catalog may keep names in lower case.
    * Locations: a trailing slash may be added or removed. Nothing else of a location changes.
    * Columns, buckets and sorting come back as they were put, in the same order.
    * Parameters: every parameter that was put comes back with its value. A catalog may add its own, such as an owner
      or a time; they do not make a table look changed.
    * Versions: `put` returns a version that the table has not had before. A table that Bucketwheel did not write may
      have none. Two tables returned for the same version and location are the same.
    * `put` returns what `get` returns afterwards. A table that `get` returned can be put again.

    Attributes:
        typed: whether readers take the types of columns from the catalog; otherwise they take them from the files.
        longest_name: maximum number of characters of a table or column name, None for no limit.
        longest_type: maximum number of characters of a column's Hive type, None for no limit.
        shared: whether SQL engines read the tables of the catalog, so that a `SqlExecutor` can copy them.

    A catalog that cannot change several tables in one update (see `AtomicCatalog`) may declare `writers`, the number
    of tables that Bucketwheel changes in parallel; the default is 1.
    """

    typed: bool
    longest_name: int | None
    longest_type: int | None
    shared: bool

    def check(self) -> None:
        """Check whether publishing can work, without changing anything.

        Raises:
            ConfigError: a setting does not fit this catalog.
            CatalogError: the catalog cannot be reached, or denies access.
        """
        ...

    def get(self, name: str) -> CatalogTable | None:
        """Return the table, or None."""
        ...

    def put(self, table: CatalogTable, replacing: CatalogTable | None) -> CatalogTable:
        """Create the table, or replace the definition of the existing one, in one update.

        Raises:
            ConcurrentPublishError: the table is no longer the one in `replacing` (None: it exists).
            CatalogError: the catalog refused.
        """
        ...

    def remove(self, table: CatalogTable) -> None:
        """Remove the definition, never the files.

        Raises:
            ConcurrentPublishError: the table is no longer this one.
        """
        ...

    def tables(self) -> Sequence[CatalogTable]:
        """Return every table of the database, by name."""
        ...


@runtime_checkable
class AddressedCatalog(Protocol):
    """What a catalog offers, besides `Catalog`, if databases of one name can exist more than once."""

    def address(self) -> Mapping[str, str]:
        """Return what tells the database apart from others of its name; a value is empty if it is not known yet.

        `path` is a local file, for `catalog.path`; `region` is for `aws.region`; catalogs may add other names. It is
        called after `tables`.
        """
        ...


@runtime_checkable
class AtomicCatalog(Protocol):
    """What a catalog offers, besides `Catalog`, if it changes several tables in one update."""

    def put_all(self, changes: Sequence[TableChange]) -> Sequence[CatalogTable | None]:
        """Make all changes in one update, or none; return each new table, None for a removed one.

        Readers see all tables before the update or all after it.

        Raises:
            ConcurrentPublishError: a table is no longer the one in `replacing`; nothing changed.
            CatalogError: the catalog refused; nothing changed.
        """
        ...


@dataclass(frozen=True)
class TableHistory:
    """What earlier runs left in a table, for the files that a run adds to it.

    Attributes:
        field_ids: the field id of each column and nested field that the table has or had. Nested fields have a path
            with dots, such as `address.city` or `tags.element`. New files must have these ids, and larger ones for
            other columns and for `changed_columns`.
        changed_columns: the columns of the new schema that cannot be those of the table, because of their type: the
            path of the field that differs, and its Iceberg type before and now.
        bucket_counts: the number of buckets of each partition spec that the table has or had; 0 for a spec without
            partitions, -1 for one of another kind or by another column than the key.
    """

    field_ids: Mapping[str, int]
    changed_columns: Mapping[str, tuple[str, str, str]]
    bucket_counts: tuple[int, ...]


@runtime_checkable
class HistoryCatalog(Protocol):
    """What a catalog offers, besides `Catalog`, if its tables keep the files of earlier runs."""

    def forget(self, run_ids: Collection[str], before: datetime) -> Sequence[str]:
        """Remove these runs from the history of all tables; call it before their files are deleted.

        What a table shows now stays, whatever its run. Also delete files of the catalog below the target that are
        older than `before` and that no table needs, such as those of killed updates; return their paths.

        Raises:
            ConcurrentPublishError: another writer changed a table meanwhile.
            CatalogError: the catalog refused.
        """
        ...

    def history(self, name: str, schema: str) -> TableHistory | None:
        """Return what earlier runs left in a table, compared with an Iceberg schema; None without a table.

        Args:
            name: name of the table.
            schema: the new schema in JSON; the key is its first column.

        Raises:
            CatalogError: the catalog refused.
        """
        ...

    def check_change(self, table: CatalogTable) -> None:
        """Check without writing anything whether `put` could add the files of `table.iceberg` to an existing table.

        Raises:
            CatalogError: it could not, or the catalog refused.
        """
        ...


@runtime_checkable
class RepairableCatalog(Protocol):
    """What a catalog offers, besides `Catalog`, if it can be damaged.

    The methods of `Catalog` then raise `DamagedCatalogError`.
    """

    def set_aside(self) -> str:
        """Move a damaged catalog away, so that a new one can be made; return its new place.

        Return an empty text if the catalog is not damaged, or no longer.
        """
        ...


def put_all(catalog: Catalog, changes: Sequence[TableChange]) -> list[CatalogTable | None]:
    """Make all changes, in one update if the catalog can; otherwise one by one, up to the first that fails.

    Raises:
        ConcurrentPublishError: a table is no longer the one in `replacing`.
        CatalogError: the catalog refused.
    """
    if isinstance(catalog, AtomicCatalog):
        return list(catalog.put_all(changes))
    return [make_change(catalog, change) for change in changes]


def make_change(catalog: Catalog, change: TableChange) -> CatalogTable | None:
    """Put or remove one table; return the new table, None if it was removed. Raises as `put_all` does."""
    if change.table is not None:
        return catalog.put(change.table, change.replacing)
    if change.replacing is not None:
        catalog.remove(change.replacing)
    return None


@runtime_checkable
class StatisticsCatalog(Protocol):
    """What a catalog offers, besides `Catalog`, if it holds statistics of columns.

    An entry has the form of the catalog; it belongs to one column.
    """

    def column_entries(self, table: CatalogTable) -> list[dict[str, Any]]:
        """Return the entries to publish for a table, from its `statistics`."""
        ...

    def column_statistics(self, table: CatalogTable) -> list[dict[str, Any]]:
        """Return the entries that the catalog holds for the columns of a table; none if there is no such table.

        Raises:
            CatalogError: the catalog refused.
        """
        ...

    def put_column_statistics(self, name: str, columns: Sequence[dict[str, Any]]) -> list[str]:
        """Create or replace entries of a table; return what was refused, in words.

        Raises:
            CatalogError: the catalog refused all.
        """
        ...

    def delete_column_statistics(self, name: str, columns: Sequence[dict[str, Any]]) -> None:
        """Delete the entries of these columns; those that no longer exist do not count.

        Raises:
            CatalogError: the catalog refused.
        """
        ...

    def same_column_statistics(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Return whether two entries have the same column and values."""
        ...
