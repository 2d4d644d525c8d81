"""Tables in the Iceberg format, in a SQL, REST or Glue catalog.

A table is published by one commit that replaces all of its files. The snapshots of earlier runs stay in the table:
putting back the definition of such a run sets the main branch to its snapshot. The tag `YYYY-MM-DD` names the
snapshot of the run that was published last for this `snapshot_dt`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NamedTuple, cast

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError,
    NoSuchIcebergTableError,
    NoSuchNamespaceError,
    NoSuchPropertyException,
    NoSuchTableError,
)
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from bucketwheel.catalogs.iceberg_commit import (
    Change,
    check_replaceable,
    first_of_ours,
    replace_files,
    restore,
    return_to,
)
from bucketwheel.catalogs.iceberg_create import create, requirements, staged
from bucketwheel.catalogs.iceberg_database import sql_uri, sqlite_path
from bucketwheel.catalogs.iceberg_errors import DAMAGED, is_conflict, is_refusal, lacks_metadata, wrap_iceberg_errors
from bucketwheel.catalogs.iceberg_expire import delete_unreferenced, remove_snapshots
from bucketwheel.catalogs.iceberg_io import StorageIO, connect
from bucketwheel.catalogs.iceberg_schema import changed_columns, ids_by_name, known_schemas
from bucketwheel.catalogs.iceberg_snapshot import FORMAT
from bucketwheel.catalogs.iceberg_tables import as_table, known_bucket_count, unreadable
from bucketwheel.catalogs.local_file import check_writable
from bucketwheel.contracts import CatalogTable, TableHistory
from bucketwheel.contracts.catalog import check_same_version, concurrent_publish, same_definition, same_version
from bucketwheel.errors import BucketwheelError, CatalogError, ConfigError, ForeignTableError
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage, is_s3
from bucketwheel.storage.locations import is_below
from bucketwheel.system import system

_READERS = 8


class _Loaded(NamedTuple):
    """A table of the catalog; `table` is None if its metadata file is missing or damaged."""

    name: str
    table: Table | None

    @property
    def shown(self) -> CatalogTable:
        return as_table(self.name.lower(), self.table) if self.table else unreadable(self.name.lower())


class IcebergCatalog:
    """Tables of one namespace of an Iceberg catalog."""

    # The types are in the metadata of the table.
    typed = True
    longest_name: int | None = 255
    longest_type: int | None = None
    shared = True
    # A commit changes one table.
    writers = 8

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._storage = Storage.of(settings)
        self.target = self._storage.absolute(settings.target)
        namespace = settings.iceberg.namespace or settings.catalog.database
        self._connecting, self._connected = Lock(), cast(Catalog | None, None)
        self.namespace = namespace.lower() if settings.iceberg.catalog == "glue" else namespace
        # Only REST catalogs have namespaces in namespaces; in others a dot is a part of the name.
        parts = self.namespace.split(".") if settings.iceberg.catalog == "rest" else [self.namespace]
        self._path = tuple(parts)

    def address(self) -> Mapping[str, str]:
        """See `contracts.AddressedCatalog.address`."""
        given = self._settings.iceberg
        if given.catalog == "rest":
            return {"uri": given.uri or "", "warehouse": given.warehouse or "", "namespace": self.namespace}
        if given.catalog == "glue":
            return {"region": self._settings.aws.region or "", "namespace": self.namespace}
        uri = sql_uri(self._settings)
        path = sqlite_path(uri)
        database = {"path": path, "host": platform.node() if is_s3(self._settings.target) else ""}
        plain = make_url(uri).render_as_string(hide_password=True)
        return {**(database if path else {"uri": plain}), "namespace": self.namespace}

    def check(self) -> None:
        """See `contracts.Catalog.check`."""
        kind = self._settings.iceberg.catalog
        if kind == "glue" and not is_s3(self._settings.target):
            raise ConfigError(
                f"target {self._settings.target} is a local path, which readers of Glue cannot read; set "
                "target=s3://bucket/prefix, or iceberg.catalog=sql"
            )
        path = sqlite_path(sql_uri(self._settings)) if kind == "sql" else ""
        if path not in ("", ":memory:"):
            check_writable(Path(path), "iceberg.uri", "iceberg.db")
        self.tables()

    def get(self, name: str) -> CatalogTable | None:
        """See `contracts.Catalog.get`."""
        loaded = self._load(name)
        return loaded.shown if loaded else None

    def tables(self) -> Sequence[CatalogTable]:
        """See `contracts.Catalog.tables`; a namespace that the first run will create has no tables."""
        with system().pool(_READERS) as pool:
            loaded = list(pool.map(self._read, self._names()))
        return sorted((each.shown for each in loaded if each), key=lambda table: table.name)

    def put(self, table: CatalogTable, replacing: CatalogTable | None) -> CatalogTable:
        """See `contracts.Catalog.put`."""
        name = table.name.lower()
        loaded = self._load(name)
        check_same_version(name, loaded.shown if loaded else None, replacing)
        if loaded and loaded.table is None:
            # It cannot be read, so there is nothing to keep: the run's files make a new table.
            with self._wrapped(name):
                self._catalog.drop_table((*self._path, loaded.name))
            loaded = None
        if loaded is None or loaded.table is None:
            return self._create(table)
        metadata = loaded.table.metadata
        self._check_format(name, metadata)
        change = self._change(table, metadata)
        return self._commit(loaded.table, table, replacing, change)

    def remove(self, table: CatalogTable) -> None:
        """See `contracts.Catalog.remove`; no catalog can exclude a writer between the check and the deletion."""
        loaded = self._load(table.name)
        check_same_version(table.name, loaded.shown if loaded else None, table)
        with self._wrapped(table.name), suppress(NoSuchTableError):
            self._catalog.drop_table((*self._path, loaded.name if loaded else table.name))

    def history(self, name: str, schema: str) -> TableHistory | None:
        """See `contracts.HistoryCatalog.history`."""
        loaded = self._load(name)
        if not loaded or not loaded.table:
            return None
        metadata, wanted = loaded.table.metadata, Schema.model_validate_json(schema)
        schemas = known_schemas(metadata)
        ids = ids_by_name(schemas)
        changed = changed_columns(schemas, wanted)
        key = wanted.fields[0].name if wanted.fields else ""
        # A key of another type becomes another column, with partitions of its own.
        known = None if key in changed else ids.get(key)
        counts = tuple(known_bucket_count(spec, known) for spec in metadata.partition_specs)
        return TableHistory(ids, changed, counts)

    def check_change(self, table: CatalogTable) -> None:
        """See `contracts.HistoryCatalog.check_change`."""
        loaded = self._load(table.name)
        if loaded and loaded.table:
            self._check_format(table.name, loaded.table.metadata)
            with self._wrapped(table.name):
                check_replaceable(loaded.table.metadata, table)

    def forget(self, run_ids: Collection[str], before: datetime) -> Sequence[str]:
        """See `contracts.HistoryCatalog.forget`."""
        deleted: list[str] = []
        for name in self._names():
            loaded = self._read(name)
            if not loaded or not loaded.table or not is_below(loaded.table.metadata.location, self.target):
                continue
            if self._remove_snapshots(loaded, run_ids):
                loaded = self._read(name)
            if loaded and loaded.table:
                with self._wrapped(name):
                    deleted += delete_unreferenced(self._storage, self._io, loaded.table, before)
        return deleted

    def _remove_snapshots(self, loaded: _Loaded, run_ids: Collection[str]) -> bool:
        if loaded.table is None:
            return False
        try:
            with self._wrapped(loaded.name):
                return remove_snapshots(self._catalog, loaded.table, run_ids, self._settings.iceberg.catalog)
        except CatalogError as error:
            if is_conflict(error.__cause__):
                raise concurrent_publish(loaded.name, self.get(loaded.name), loaded.shown) from error
            raise

    @property
    def _catalog(self) -> Catalog:
        with self._connecting, self._wrapped(""):
            if self._connected is None:
                self._connected = connect(self._settings)
            return self._connected

    @cached_property
    def _io(self) -> FileIO:
        return StorageIO(self._catalog.properties)

    def _wrapped(self, name: str) -> AbstractContextManager[None]:
        where = f"{self._settings.iceberg.catalog} catalog, namespace {self.namespace}"
        return wrap_iceberg_errors(f"table {name!r} ({where})" if name else f"Iceberg tables ({where})")

    def _names(self) -> list[str]:
        """Return the names of all tables.

        Raises:
            CatalogError: the namespace does not exist, and `catalog.create_database` is off.
        """
        with self._wrapped(""):
            try:
                if self._is_missing():
                    raise NoSuchNamespaceError
                # A view of Spark is no table.
                return [identifier[-1] for identifier in self._catalog.list_tables(self._path)]
            except NoSuchNamespaceError as error:
                if self._settings.catalog.create_database:
                    return []
                raise CatalogError(self._no_namespace()) from error

    def _no_namespace(self) -> str:
        kind = self._settings.iceberg.catalog
        return (
            f"namespace {self.namespace!r} does not exist in the {kind} catalog; create it, correct "
            "iceberg.namespace or catalog.database, or set catalog.create_database=true"
        )

    def _load(self, name: str) -> _Loaded | None:
        """Return a table by its name, in any letter case."""
        loaded = self._read(name.lower())
        if loaded or self._settings.iceberg.catalog == "glue":
            return loaded
        other = next((each for each in self._names() if each.lower() == name.lower() and each != name.lower()), None)
        return self._read(other) if other else None

    def _is_missing(self) -> bool:
        """Return whether the SQLite file of the catalog does not exist yet; to connect would create it."""
        if self._connected is not None or self._settings.iceberg.catalog != "sql":
            return False
        path = sqlite_path(sql_uri(self._settings))
        return path not in ("", ":memory:") and not Path(path).exists()

    def _read(self, name: str) -> _Loaded | None:
        if self._is_missing():
            return None
        with self._wrapped(name):
            try:
                return _Loaded(name, self._catalog.load_table((*self._path, name)))
            except (NoSuchIcebergTableError, NoSuchPropertyException) as error:
                raise self._no_iceberg_table(name) from error
            except (NoSuchTableError, NoSuchNamespaceError) as error:
                return _Loaded(name, None) if lacks_metadata(error) else None
            except DAMAGED:
                return _Loaded(name, None)
            except ValueError as error:
                # PyIceberg's error for a table in Glue without any parameter.
                if "missing Parameters" not in str(error):
                    raise
                raise self._no_iceberg_table(name) from error

    def _no_iceberg_table(self, name: str) -> ForeignTableError:
        return ForeignTableError(
            f"table {name!r} of database {self.namespace} exists in Glue and is not an Iceberg table; rename it, or "
            "change the prefix of the layout"
        )

    def _check_format(self, name: str, metadata: TableMetadata) -> None:
        if metadata.format_version != FORMAT:
            raise CatalogError(
                f"{name}: the Iceberg table has format version {metadata.format_version}; Bucketwheel writes version "
                f"{FORMAT}. Rename the table, or drop it and publish again"
            )

    def _change(self, table: CatalogTable, metadata: TableMetadata) -> Change:
        """Return the commit that makes a table show `table`."""
        if table.run_id is None:
            if table.native.get("uuid") != str(metadata.table_uuid):
                raise CatalogError(f"{table.name}: cannot restore it: the table was dropped and created again")
            return restore(metadata, table)
        snapshot = first_of_ours(metadata, table)
        if snapshot:
            return return_to(metadata, table, snapshot)
        self._refuse_outside(table)
        return self._written(table, lambda change: replace_files(metadata, table, self._io, change))

    def _create(self, table: CatalogTable) -> CatalogTable:
        if table.iceberg is None:
            raise CatalogError(
                f"{table.name}: the Iceberg table was dropped, and its snapshot of run {table.run_id} with it; "
                f"publish it again: bucketwheel rollback {table.run_id}"
            )
        self._refuse_outside(table)
        self._ensure_namespace()
        change = self._written(table, lambda change: create(table, self._io, change))
        new = staged((*self._path, table.name.lower()), change, self._io, self._catalog)
        return self._commit(new, table, None, change)

    def _written(self, table: CatalogTable, write: Callable[[Change], None]) -> Change:
        """Return a commit whose files `write` writes; delete them if that fails."""
        change = Change()
        try:
            with self._wrapped(table.name):
                write(change)
        except BaseException:
            self._delete(change.files)
            raise
        return change

    def _ensure_namespace(self) -> None:
        with self._wrapped(""):
            if self._catalog.namespace_exists(self._path):
                return
            if not self._settings.catalog.create_database:
                raise CatalogError(self._no_namespace())
            try:
                self._catalog.create_namespace(self._path)
            except (NamespaceAlreadyExistsError, SQLAlchemyError):
                # Another writer may have created it meanwhile.
                if not self._catalog.namespace_exists(self._path):
                    raise

    def _commit(
        self, base: Table, table: CatalogTable, replacing: CatalogTable | None, change: Change
    ) -> CatalogTable:
        """Commit a change of `base`, and return the new table.

        After an error that does not tell whether the commit was made, look at the table. The files of a commit that
        was surely not made are deleted; otherwise `expire` finds them.
        """
        needed = requirements(base, self._settings.iceberg.catalog)
        try:
            with self._wrapped(table.name):
                self._catalog.commit_table(base, needed, tuple(change.updates))
        except BucketwheelError as error:
            shown = self.get(table.name)
            if shown and self._made(shown, replacing, change) and same_definition(shown, table):
                return shown
            if is_refusal(error.__cause__):
                self._delete(change.files)
            if is_conflict(error.__cause__):
                raise concurrent_publish(table.name, shown, replacing) from error
            raise
        shown = self.get(table.name)
        if shown is None or not same_definition(shown, table):
            raise concurrent_publish(table.name, shown, table)
        return shown

    def _made(self, shown: CatalogTable, replacing: CatalogTable | None, change: Change) -> bool:
        """Return whether a commit was made although its response was lost."""
        return shown.native.get("snapshot") == change.snapshot_id and not same_version(shown, replacing)

    def _delete(self, files: Sequence[str]) -> None:
        for path in files:
            with suppress(BucketwheelError):
                self._storage.delete(path)

    def _refuse_outside(self, table: CatalogTable) -> None:
        location = table.iceberg.location if table.iceberg else table.location
        for each in (table.location, location):
            if not is_below(each, self.target):
                raise CatalogError(
                    f"table {table.name!r}: its location {each} is outside the target {self.target}, where expire "
                    "would never find it; set target to a directory above it"
                )
