"""Copy the staged tables of a run with a SQL engine and verify each copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from threading import Event, Lock

import pyarrow as pa

from bucketwheel.catalogs.definitions import definitions
from bucketwheel.contracts import CatalogTable, Progress, Services, SqlExecutor, Statement, TableCopy
from bucketwheel.contracts.catalog import same_location
from bucketwheel.errors import (
    BucketwheelError,
    ConfigError,
    ExecutorBusyError,
    ExecutorError,
    SelectionError,
    StorageError,
    VerificationError,
)
from bucketwheel.executors.copy_checks import CopyChecks
from bucketwheel.executors.copy_store import (
    CopyStore,
    check_copies,
    check_writers,
    count_files,
    is_temporary,
    temporary_prefix,
)
from bucketwheel.runs.manifest import CopiedTable, Manifest, SizeResult
from bucketwheel.settings import Settings
from bucketwheel.storage.locations import is_inside
from bucketwheel.system import system

_PAUSE_SECONDS = 5.0
_UNITS = ("s", "ms", "us", "ns")


def copy_tables(manifest: Manifest, services: Services) -> tuple[tuple[CopiedTable, ...], tuple[str, ...]]:
    """Return the copies of all tables of a run, in mapping order, and warnings; reuse recorded copies.

    Raises:
        ConfigError: the engine cannot write this layout.
        SelectionError: the staged tables belong to another run.
        ExecutorError: a statement failed, or a copy differs from its source; finished copies are kept for the
            next attempt.
    """
    executor, size = services.executor(), manifest.size
    executor.check()
    _check_layout(services.settings, executor, size)
    work = _Work(manifest, services, executor)
    work.sweep()
    return tuple(work.copies()), tuple(_warnings(manifest, executor, size))


def _check_layout(settings: Settings, executor: SqlExecutor, size: SizeResult) -> None:
    if not size.bucketed:
        return
    check_writers(settings.ctas.method, size.bucket_count, executor.writers)
    if size.hash not in executor.hashes:
        raise ConfigError(
            f"ctas.method is {settings.ctas.method}, which buckets by {' or '.join(executor.hashes)}, but "
            f"buckets.hash is {size.hash}; set ctas.method=promote, or buckets.hash={executor.hashes[0]}"
        )


def _warnings(manifest: Manifest, executor: SqlExecutor, size: SizeResult) -> Iterator[str]:
    if size.sort and size.bucketed and not executor.sorts:
        yield "copies are not sorted within their buckets; ctas.method=promote keeps the order"
    schema = manifest.discover.schema()
    coarser = _UNITS[: _UNITS.index(executor.timestamp_unit) + 1]
    finer = [
        column.source
        for table in manifest.split.tables
        for column in table.columns
        if pa.types.is_timestamp(kind := schema.field(column.source).type) and kind.unit not in coarser
    ]
    if finer:
        yield (
            f"copies store times in {executor.timestamp_unit} and lose the finer digits of {', '.join(finer[:5])}; "
            "ctas.method=promote keeps them"
        )


@dataclass(frozen=True)
class _Table:
    """A table of the run: its name and its staged definition."""

    name: str
    source: CatalogTable


class _Work:
    """The copies of one run."""

    def __init__(self, manifest: Manifest, services: Services, executor: SqlExecutor) -> None:
        settings = services.settings
        self._manifest = manifest
        self._services = services
        self._executor = executor
        self._ctas = settings.ctas
        self._size = manifest.size
        self._checks = CopyChecks(manifest, services)
        self._copies = CopyStore(services.storage, services.runs, manifest.dataset, manifest.run_id)
        self._tables = self._staged(settings)
        self._stop = Event()
        self._failing = Lock()
        self._cause: BaseException | None = None

    def _staged(self, settings: Settings) -> list[_Table]:
        names = [table.name for table in self._manifest.split.tables]
        staged = definitions(self._manifest, self._services, "register")
        shown = {table.name.lower(): table for table in self._services.catalog().tables()}
        for table in staged:
            published = shown.get(table.name.lower())
            if published is None or not same_location(published.location, table.location):
                raise SelectionError(
                    f"ctas.method is {settings.ctas.method}, which copies {table.name}, but in the catalog this "
                    f"table is not from run {self._manifest.run_id}; publish it first: --stages register,ctas "
                    f"--resume {self._manifest.run_id}"
                )
        return [_Table(name, table) for name, table in zip(names, staged, strict=True)]

    def sweep(self) -> None:
        """Delete the remains of a killed attempt: temporary tables and unused files."""
        prefix, used = temporary_prefix(self._manifest.run_id), set()
        for table in self._services.catalog().tables():
            if is_temporary(table) and table.name.startswith(prefix):
                self._executor.drop(table.name, self._stop)
                self._delete(table.location)
            else:
                used.add(table.location)
        used |= {record.copy_.location for record in self._copies.recorded().values()}
        for name in (table.name for table in self._tables):
            for location in self._copies.directories(name):
                if location not in used:
                    self._delete(location)

    def copies(self) -> list[CopiedTable]:
        """Return the copies, in the order of the tables."""
        done = self._done()
        todo = [table for table in self._tables if table.name not in done]
        if todo:
            # Stage verify checked that all tables of the run have the same keys, so one source is enough.
            keys = [key.name for key in self._manifest.split.keys]
            expected = self._executor.keys(self._tables[0].source.name, keys, self._stop)
            done |= self._copy_all(todo, keys, expected)
        return [done[table.name] for table in self._tables]

    def _done(self) -> dict[str, CopiedTable]:
        done = {}
        for name, record in self._copies.recorded().items():
            if record.method != self._ctas.method:
                continue
            try:
                check_copies(self._services.storage, [record.copy_])
            except VerificationError:
                continue
            done[name] = record.copy_
        return done

    def _copy_all(self, todo: Sequence[_Table], keys: Sequence[str], expected: Statement) -> dict[str, CopiedTable]:
        with system().pool(min(self._ctas.concurrency, len(todo))) as pool:
            futures = {pool.submit(self._copy, table, keys, expected): table.name for table in todo}
            try:
                copies = {}
                for future in as_completed(futures):
                    copy = copies[futures[future]] = future.result()
                    done = Progress(self._services.dataset, "ctas", "advanced", rows=copy.rows, bytes=copy.bytes)
                    self._services.report(done)
                    self._services.report(
                        replace(done, state="done", table=copy.table, files=copy.files, seconds=copy.seconds)
                    )
                return copies
            except BaseException as error:
                # This includes interrupts. Each thread cancels its own running statement.
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                if isinstance(error, ExecutorError) and self._cause:
                    # The root cause, not an error of a statement that was cancelled because of it.
                    raise self._cause from None
                raise

    def _copy(self, table: _Table, keys: Sequence[str], expected: Statement) -> CopiedTable:
        if self._stop.is_set():
            raise ExecutorError(f"copy of {table.source.name} was not started because another copy failed")
        try:
            return self._copy_with_retries(table, keys, expected)
        except BaseException as error:
            with self._failing:
                self._cause = self._cause or error
            self._stop.set()
            raise

    def _copy_with_retries(self, table: _Table, keys: Sequence[str], expected: Statement) -> CopiedTable:
        left = self._ctas.attempts
        while True:
            left -= 1
            try:
                copy = self._attempt(table, keys, expected)
            except ExecutorBusyError:
                if not left or self._stop.wait(_PAUSE_SECONDS):
                    raise
            else:
                self._copies.record(self._ctas.method, copy)
                return copy

    def _attempt(self, table: _Table, keys: Sequence[str], expected: Statement) -> CopiedTable:
        attempt_id = system().new_id()[:6]
        location = None if self._executor.chooses_location else self._copies.directory(table.name, attempt_id)
        copy = TableCopy(table.source, self._copies.temporary_name(table.name, attempt_id), location, self._size.hash)
        try:
            statement = self._executor.copy(copy, self._stop)
            shown = self._checks.definition(copy)
            actual = self._executor.keys(copy.name, keys, self._stop)
            self._checks.keys(table.source.name, actual, expected)
            self._checks.buckets(copy, shown.location, self._check_stop)
            files, size = count_files(self._services.storage, shown.location)
            self._executor.drop(copy.name, self._stop)
        except BaseException as error:
            self._clean(copy, error)
            raise
        return CopiedTable(
            table=table.name,
            location=shown.location,
            rows=int(actual.rows[0][0] or 0),
            files=files,
            bytes=size,
            sorted=self._executor.sorts and table.source.sorted,
            query_id=statement.query_id,
            bytes_scanned=statement.bytes_scanned + actual.bytes_scanned,
            seconds=statement.seconds,
        )

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise ExecutorError("the copy was not verified because the run is being stopped")

    def _clean(self, copy: TableCopy, cause: BaseException) -> None:
        """Delete a failed copy; add a note to the cause if that fails."""
        try:
            table = self._services.catalog().get(copy.name)
            if table is not None:
                self._services.catalog().remove(table)
            for location in {copy.location, table.location if table else None} - {None}:
                self._delete(str(location))
        except BucketwheelError as error:
            cause.add_note(f"parts of the failed copy {copy.name} may remain until expire deletes them: {error}")

    def _delete(self, location: str) -> None:
        # An engine may be configured to write outside the target; never delete anything there.
        if not is_inside(location, self._services.storage.absolute(self._services.settings.target)):
            return
        try:
            self._services.storage.delete_directory(location)
        except StorageError:
            # The engine may delete files at the same time.
            if self._services.storage.list(location):
                raise
