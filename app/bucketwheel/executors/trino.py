"""Run statements on Trino with the Hive connector through its DB-API client."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from threading import Event
from typing import Any

import requests
import trino
from trino.exceptions import DatabaseError, HttpError, OperationalError, TrinoQueryError

from bucketwheel.catalogs import sql
from bucketwheel.contracts import Statement, TableCopy
from bucketwheel.errors import ConfigError, ExecutorBusyError, ExecutorError, ExecutorResourcesError
from bucketwheel.executors.error_mapping import failure
from bucketwheel.settings import Settings
from bucketwheel.system import system

_POLL_SECONDS = 0.2
_STOP_SECONDS = 30.0
_VERSIONS = {"hive_v1": "1", "hive_v2": "2"}


class TrinoExecutor:
    """SQL executor on one Trino catalog, which must show the tables of Bucketwheel's catalog."""

    # Trino chooses the number of writers per query, and each has its own limit.
    writers: int | None = None
    hashes: tuple[str, ...] = ("hive_v1", "hive_v2")
    timestamp_unit = "us"
    chooses_location = False
    catalogs: tuple[str, ...] | None = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trino = settings.trino
        self._database = settings.catalog.database.lower()
        self.sorts = settings.trino.sorted

    def check(self) -> None:
        """See `contracts.SqlExecutor.check`; reads the names of Trino's catalogs."""
        if os.environ.get("TRINO_PASSWORD") and not self._trino.https:
            raise ConfigError(
                "trino.https: TRINO_PASSWORD is set, which Trino accepts over TLS only; set trino.https=true"
            )
        catalogs = [str(row[0]) for row in self._execute("SHOW CATALOGS", "catalogs", Event()).rows]
        if self._trino.catalog not in catalogs:
            raise ConfigError(
                f"trino.catalog: Trino at {self._address} has no catalog {self._trino.catalog!r}; known: "
                f"{', '.join(catalogs)}. Trino leaves out a catalog with an invalid property: check its log"
            )

    def copy(self, copy: TableCopy, stop: Event) -> Statement:
        """See `contracts.SqlExecutor.copy`; files of a failed statement are below `copy.location`."""
        text = copy_statement(copy, self._trino.catalog, self._database, self.sorts)
        return self._execute(text, f"copy of {copy.source.name}", stop)

    def keys(self, table: str, columns: Sequence[str], stop: Event) -> Statement:
        """See `contracts.SqlExecutor.keys`."""
        return self._execute(sql.key_facts(self._named(table), columns), f"keys of {table}", stop)

    def drop(self, table: str, stop: Event) -> None:
        """See `contracts.SqlExecutor.drop`."""
        self._execute(sql.drop_table(self._named(table)), f"drop of {table}", stop)

    @property
    def _address(self) -> str:
        return f"{self._trino.host}:{self._trino.port}"

    def _named(self, table: str) -> str:
        return sql.name_of(self._trino.catalog, self._database, table)

    def _connect(self) -> Any:
        password, user = os.environ.get("TRINO_PASSWORD"), self._trino.user
        catalog = self._trino.catalog
        # trino has no type annotations here.
        connect: Any = trino.dbapi.connect
        return connect(
            host=self._trino.host,
            port=self._trino.port,
            user=user,
            http_scheme="https" if self._trino.https else "http",
            auth=trino.auth.BasicAuthentication(user, password) if password else None,
            catalog=catalog,
            schema=self._database,
            source="bucketwheel",
            request_timeout=self._settings.aws.read_seconds,
            session_properties={
                f"{catalog}.compression_codec": "SNAPPY",
                # By default Trino reads times in milliseconds and would truncate copies.
                f"{catalog}.timestamp_precision": "MICROSECONDS",
            },
        )

    def _execute(self, text: str, purpose: str, stop: Event) -> Statement:
        started = system().clock.monotonic()
        with self._wrap_errors(purpose), closing(self._connect()) as connection:
            cursor = connection.cursor()

            def work() -> list[Sequence[object]]:
                cursor.execute(text)
                rows: list[Sequence[object]] = cursor.fetchall()
                return rows

            rows = self._wait(work, cursor, purpose, stop)
            statistics = cursor.stats or {}
            return Statement(
                query_id=str(cursor.query_id),
                rows=tuple(tuple(None if cell is None else str(cell) for cell in row) for row in rows),
                bytes_scanned=int(statistics.get("physicalInputBytes") or statistics.get("processedBytes") or 0),
                seconds=round(system().clock.monotonic() - started, 3),
            )

    def _wait(
        self, work: Callable[[], list[Sequence[object]]], cursor: Any, purpose: str, stop: Event
    ) -> list[Sequence[object]]:
        """Return the rows; cancel the query on a timeout or when `stop` is set."""
        limit = self._settings.ctas.timeout_seconds
        deadline = system().clock.monotonic() + limit
        future: Future[list[Sequence[object]]] = Future()
        # The client blocks in execute, so this thread watches the clock. A daemon thread, so that a server that
        # ignores a cancellation cannot keep this process alive.
        threading.Thread(target=_resolve, args=(future, work), daemon=True).start()
        try:
            while not future.done():
                wait([future], _POLL_SECONDS)
                if stop.is_set() and not future.done():
                    raise ExecutorError(f"Trino ({purpose}) was cancelled because the run is being stopped")
                if system().clock.monotonic() > deadline and not future.done():
                    raise ExecutorResourcesError(
                        f"Trino ({purpose}) did not end within {limit:g} s and was cancelled; raise "
                        "ctas.timeout_seconds, or set ctas.method=promote"
                    )
            return future.result()
        except BaseException as error:
            if not future.done():
                _cancel(cursor, future, error)
            raise

    @contextmanager
    def _wrap_errors(self, purpose: str) -> Iterator[None]:
        thing = f"Trino at {self._address} ({purpose})"
        try:
            yield
        except TrinoQueryError as error:
            raise failure(
                f"Trino query {error.query_id} ({purpose})", f"{error.error_name}: {error.message}"
            ) from error
        except (OperationalError, HttpError, requests.RequestException) as error:
            raise ExecutorBusyError(
                f"{thing}: cannot be reached ({error}); start it, or correct trino.host, trino.port and trino.https"
            ) from error
        except DatabaseError as error:
            raise failure(thing, str(error)) from error


def _resolve(future: Future[list[Sequence[object]]], work: Callable[[], list[Sequence[object]]]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 the waiting thread raises it
        future.set_exception(error)


def _cancel(cursor: Any, future: Future[Any], cause: BaseException) -> None:
    """Cancel the query and wait for the client to notice; add a note to the cause if that fails."""
    deadline = system().clock.monotonic() + _STOP_SECONDS
    try:
        # Before Trino's first response there is nothing to cancel.
        while not future.done() and system().clock.monotonic() < deadline:
            cursor.cancel()
            wait([future], _POLL_SECONDS)
    except Exception as error:  # noqa: BLE001 the cause is what counts
        cause.add_note(f"the query may continue in Trino: it could not be cancelled: {error}")


def copy_statement(copy: TableCopy, catalog: str, database: str, sort: bool) -> str:
    """Return Trino's CTAS."""
    properties = {"format": "'PARQUET'"}
    if copy.location is not None:
        properties["external_location"] = sql.literal(f"{copy.location}/")
    if keys := copy.source.bucket_columns:
        properties["bucketed_by"] = sql.text_array(keys)
        properties["bucket_count"] = str(copy.source.bucket_count)
        properties["bucketing_version"] = _VERSIONS[copy.hash]
        if sort:
            properties["sorted_by"] = sql.text_array(keys)
    return sql.create_table_as(
        sql.name_of(catalog, database, copy.name),
        properties,
        [name for name, _ in copy.source.columns],
        sql.name_of(catalog, database, copy.source.name),
    )
