"""Run statements on Amazon Athena: CTAS in Trino's dialect, DDL in Hive's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from bucketwheel.aws import clients, lake_formation
from bucketwheel.aws.errors import code_of, is_denied, is_throttled, wrap_aws_errors
from bucketwheel.aws.retry import retry_throttled
from bucketwheel.catalogs import sql
from bucketwheel.contracts import Statement, TableCopy
from bucketwheel.contracts.executor import WRITERS
from bucketwheel.errors import (
    BucketwheelError,
    ConfigError,
    ExecutorBusyError,
    ExecutorDeniedError,
    ExecutorError,
    ExecutorResourcesError,
    StatementError,
)
from bucketwheel.executors.error_mapping import failure, hint
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage, is_s3
from bucketwheel.storage.locations import is_below, with_s3_scheme
from bucketwheel.system import system

if TYPE_CHECKING:
    from mypy_boto3_athena.type_defs import QueryExecutionTypeDef

_INVALID = "InvalidRequestException"
_MALFORMED = r"MALFORMED_QUERY|(?:mismatched|extraneous) input|no viable \w+|line \d+:\d+:|Queries of this type"
_ENDED = {"SUCCEEDED", "FAILED", "CANCELLED"}
_FIRST_PAUSE = 0.25
# A stopped query ends within seconds; only then is the list of its files complete.
_STOP_SECONDS = 30.0
# Error numbers of Athena's error catalog; other causes are recognized by the message.
_CAUSES: dict[type[ExecutorError], set[int]] = {
    ExecutorResourcesError: {*range(9), 206, 210, 1602},
    ExecutorBusyError: {1400, 1401, 1403, 1404, 1405, 1406},
    ExecutorDeniedError: {1500, 1501, 234},
    StatementError: {1003, 1004, 1006, *range(1100, 1111), 1200, 1202},
}


class AthenaExecutor:
    """SQL executor on one Athena workgroup and one database of the Glue catalog."""

    writers: int | None = WRITERS["athena"]
    hashes: tuple[str, ...] = ("hive_v1",)
    timestamp_unit = "ms"
    sorts = False
    catalogs: tuple[str, ...] | None = ("glue",)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._athena = clients.client("athena", settings.aws)
        self._storage = Storage.of(settings)
        self._target = self._storage.absolute(settings.target)
        self._database = settings.catalog.database.lower()
        self.chooses_location = False
        # The workgroup's own limit of bytes per query, once `check` has read it.
        self._bytes_cutoff = 0

    def check(self) -> None:
        """See `contracts.SqlExecutor.check`; checks the workgroup.

        Raises:
            ConfigError: the workgroup is missing or disabled, or has no output location.
        """
        name, given = self._settings.athena.workgroup, self._settings.athena.output_location
        with self._wrap_errors("check"):
            try:
                group = retry_throttled(lambda: self._athena.get_work_group(WorkGroup=name), self._retry)["WorkGroup"]
            except ClientError as error:
                if code_of(error) != _INVALID:
                    raise
                raise ConfigError(
                    f"athena.workgroup: Athena has no workgroup {name!r}; create it, or name another"
                ) from error
        if group.get("State") == "DISABLED":
            raise ConfigError(f"athena.workgroup: workgroup {name!r} is disabled; enable it, or name another")
        configuration = group.get("Configuration", {})
        results = configuration.get("ResultConfiguration", {}).get("OutputLocation")
        managed = configuration.get("ManagedQueryResultsConfiguration", {}).get("Enabled", False)
        self._bytes_cutoff = configuration.get("BytesScannedCutoffPerQuery", 0)
        self.chooses_location = bool(configuration.get("EnforceWorkGroupConfiguration") and results)
        if self.chooses_location and results and not self._is_ours(results):
            raise ConfigError(
                f"athena.workgroup: workgroup {name!r} enforces its output location {results}, which is outside "
                f"the target {self._target}, so expire would never find the tables; use a workgroup that "
                "enforces none, or set ctas.method=promote"
            )
        if not (results or managed or given):
            raise ConfigError(
                f"athena.output_location: is not set, and workgroup {name!r} has no output location; set it to an "
                "s3:// location"
            )

    def copy(self, copy: TableCopy, stop: Event) -> Statement:
        """See `contracts.SqlExecutor.copy`."""
        return self._execute(copy_statement(copy, self._database), f"copy of {copy.source.name}", stop)

    def keys(self, table: str, columns: Sequence[str], stop: Event) -> Statement:
        """See `contracts.SqlExecutor.keys`."""
        text = sql.key_facts(sql.name_of(self._database, table), columns)
        return self._execute(text, f"keys of {table}", stop, with_rows=True)

    def drop(self, table: str, stop: Event) -> None:
        """See `contracts.SqlExecutor.drop`."""
        self._execute(sql.drop_hive_table(self._database, table), f"drop of {table}", stop)

    @property
    def _retry(self) -> float:
        return self._settings.catalog.retry_seconds

    def _is_ours(self, location: str) -> bool:
        return is_below(self._storage.absolute(location), self._target)

    def _execute(self, text: str, purpose: str, stop: Event, with_rows: bool = False) -> Statement:
        started = system().clock.monotonic()
        with self._wrap_errors(purpose):
            query_id = self._start(text)
            thing = f"Athena query {query_id} ({purpose})"
            try:
                query = self._wait(query_id, thing, stop)
            except BaseException as error:
                self._cancel(query_id, error)
                raise
            self._raise_failure(query, thing)
            rows = tuple(self._rows(query_id)) if with_rows else ()
        statistics = query.get("Statistics", {})
        return Statement(
            query_id, rows, statistics.get("DataScannedInBytes", 0), round(system().clock.monotonic() - started, 3)
        )

    @contextmanager
    def _wrap_errors(self, purpose: str) -> Iterator[None]:
        """Raise errors of calls to Athena as the class that fits their cause; failed queries are no such errors."""
        thing = f"Athena ({purpose}, workgroup {self._settings.athena.workgroup})"
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            kind = _cause(error)
            # The message of a denied call has a fix already.
            more = "" if kind is ExecutorDeniedError else hint(kind)
            with wrap_aws_errors(lambda text: kind(f"{text.rstrip('.')}{more}"), thing):
                raise

    def _start(self, text: str) -> str:
        athena = self._settings.athena
        request: dict[str, Any] = {
            "QueryString": text,
            # If the response is lost and the call is repeated, Athena does not start a second query.
            "ClientRequestToken": system().new_id(),
            "QueryExecutionContext": {"Database": self._database, "Catalog": athena.catalog},
            "WorkGroup": athena.workgroup,
        }
        if athena.output_location and not self.chooses_location:
            request["ResultConfiguration"] = {"OutputLocation": with_s3_scheme(athena.output_location)}
        response = retry_throttled(lambda: self._athena.start_query_execution(**request), self._retry)
        return str(response["QueryExecutionId"])

    def _get_query(self, query_id: str) -> QueryExecutionTypeDef:
        response = retry_throttled(lambda: self._athena.get_query_execution(QueryExecutionId=query_id), self._retry)
        return response["QueryExecution"]

    def _wait(self, query_id: str, thing: str, stop: Event) -> QueryExecutionTypeDef:
        """Return the query once it has ended."""
        limit, pause = self._settings.ctas.timeout_seconds, _FIRST_PAUSE
        deadline = system().clock.monotonic() + limit
        while True:
            query = self._get_query(query_id)
            if query["Status"]["State"] in _ENDED:
                return query
            if system().clock.monotonic() > deadline:
                raise ExecutorResourcesError(
                    f"{thing} did not end within {limit:g} s and was cancelled; raise ctas.timeout_seconds, or set "
                    "ctas.method=promote"
                )
            longest = min(pause, self._settings.ctas.poll_seconds)
            if stop.wait(longest / 2 * (1 + system().random())):
                raise ExecutorError(f"{thing} was cancelled because the run is being stopped")
            pause *= 1.5

    def _cancel(self, query_id: str, cause: BaseException) -> None:
        """Stop the query and delete its files; add a note to the cause if that fails."""
        try:
            retry_throttled(lambda: self._athena.stop_query_execution(QueryExecutionId=query_id), self._retry)
            deadline = system().clock.monotonic() + _STOP_SECONDS
            while (query := self._get_query(query_id))["Status"][
                "State"
            ] not in _ENDED and system().clock.monotonic() < deadline:
                system().clock.sleep(_FIRST_PAUSE)
            self._clean(query, cause)
        except Exception as error:  # noqa: BLE001 the cause is what counts
            cause.add_note(f"Athena query {query_id} may continue: it could not be cancelled: {error}")

    def _raise_failure(self, query: QueryExecutionTypeDef, thing: str) -> None:
        status = query["Status"]
        if status["State"] == "SUCCEEDED":
            return
        details = status.get("AthenaError", {})
        message = status.get("StateChangeReason") or details.get("ErrorMessage") or status["State"]
        number = details.get("ErrorType")
        kind = next((kind for kind, numbers in _CAUSES.items() if number in numbers), None)
        if kind is None and details.get("Retryable"):
            kind = ExecutorBusyError
        error = self._known_cause(f"{thing} failed: {message.strip()}", message) or failure(thing, message, kind)
        self._clean(query, error)
        raise error

    def _known_cause(self, text: str, message: str) -> ExecutorError | None:
        """Return the error of a failure that a setting or a grant of Lake Formation would have prevented."""
        if "Bytes scanned limit was exceeded" in message:
            return ExecutorResourcesError(f"{text}; {self._scan_limit()}")
        if grant := lake_formation.missing_grant(message, self._database, self._settings.aws):
            return ExecutorDeniedError(f"{text}; {grant}")
        return None

    def _scan_limit(self) -> str:
        athena = self._settings.athena
        limit = f"{self._bytes_cutoff:,} bytes" if self._bytes_cutoff else "fewer bytes"
        if athena.workgroup == "primary":
            fix = "athena.bytes_limit does not apply to this workgroup: raise its limit in the console of Athena"
        else:
            fix = (
                f"athena.bytes_limit is {athena.bytes_limit:,} bytes: raise it and run `bucketwheel deploy apply`, "
                "which changes a workgroup of the stack"
            )
        return f"workgroup {athena.workgroup} lets a query scan {limit}; {fix}; or set ctas.method=promote"

    def _clean(self, query: QueryExecutionTypeDef, cause: BaseException) -> None:
        """Delete the files in the query's manifest that lie below the target."""
        manifest = query.get("Statistics", {}).get("DataManifestLocation")
        if not manifest or query["Status"]["State"] == "SUCCEEDED":
            return
        try:
            for line in self._storage.read(manifest).decode().splitlines():
                location = line.strip().strip('"')
                if is_s3(location) and self._is_ours(location):
                    self._storage.delete(location)
        except BucketwheelError as error:
            cause.add_note(f"files that the query wrote, listed in {manifest}, may remain: {error}")

    def _rows(self, query_id: str) -> Iterator[tuple[str | None, ...]]:
        """Yield the rows of a SELECT, whose first one is the header."""
        response = retry_throttled(lambda: self._athena.get_query_results(QueryExecutionId=query_id), self._retry)
        for row in response["ResultSet"]["Rows"][1:]:
            yield tuple(cell.get("VarCharValue") for cell in row["Data"])


def _cause(error: BaseException) -> type[ExecutorError]:
    if is_denied(error):
        return ExecutorDeniedError
    if is_throttled(error):
        return ExecutorBusyError
    if isinstance(error, ClientError) and code_of(error) == _INVALID:
        # Athena uses this code for syntax errors and for every other invalid request.
        text = f"{error.response.get('AthenaErrorCode', '')} {error}"
        if re.search(_MALFORMED, text):
            return StatementError
    return ExecutorError


def copy_statement(copy: TableCopy, database: str) -> str:
    """Return Athena's CTAS, which supports no comment, sort order or bucketing version."""
    properties = {"format": "'PARQUET'", "write_compression": "'SNAPPY'"}
    if copy.location is not None:
        properties["external_location"] = sql.literal(f"{copy.location}/")
    if copy.source.bucket_columns:
        properties["bucketed_by"] = sql.text_array(copy.source.bucket_columns)
        properties["bucket_count"] = str(copy.source.bucket_count)
    return sql.create_table_as(
        sql.name_of(database, copy.name),
        properties,
        [name for name, _ in copy.source.columns],
        sql.name_of(database, copy.source.name),
    )
