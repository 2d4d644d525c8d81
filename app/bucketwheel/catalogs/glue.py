"""The AWS Glue Data Catalog, which Athena, Trino, Spark and Clean Rooms read.

One `UpdateTable` changes a table. It names the version that was read; Glue refuses it if another writer has changed
the table since. Glue refuses `CreateTable` if the table exists. `DeleteTable` takes no version, so
Bucketwheel compares the version first, and calls `DeleteTable` only to undo a creation.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from bucketwheel.aws import clients, lake_formation
from bucketwheel.aws.errors import code_of, explain, is_denied, wrap_aws_errors
from bucketwheel.aws.retry import retry, retry_throttled
from bucketwheel.catalogs.glue_statistics import Entry, entries, same_entry
from bucketwheel.catalogs.glue_table import as_table, kept_input, new_input
from bucketwheel.catalogs.sql import LONGEST_NAME, check_plain_name
from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import check_same_version, concurrent_publish, same_definition, same_version
from bucketwheel.errors import CatalogError, ConcurrentPublishError, ConfigError
from bucketwheel.settings import Settings
from bucketwheel.settings.layouts import table_prefixes
from bucketwheel.storage import Storage, is_s3
from bucketwheel.storage.locations import is_below, s3_location
from bucketwheel.system import system

if TYPE_CHECKING:
    from botocore.model import StructureShape
    from mypy_boto3_glue.type_defs import DatabaseInputTypeDef

_LOG = logging.getLogger("bucketwheel")
_MISSING = "EntityNotFoundException"
_EXISTS = "AlreadyExistsException"
# Glue can refuse both of two simultaneous calls, and calls while another writer changes the same database. A refused
# call is repeated after these seconds if the table has not changed.
_CONFLICTS = ("ConcurrentModificationException", "ResourceNotReadyException")
_CONFLICT_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)
# Maximum number of columns of one call, a limit of Glue's API.
_READ_COLUMNS = 100
_WRITTEN_COLUMNS = 25
_DELETE_THREADS = 4
# Maximum number of refused columns that the error lists.
_SHOWN = 5


class GlueCatalog:
    """Tables of one database of the Data Catalog of this account and region."""

    typed = True
    longest_name: int | None = LONGEST_NAME
    longest_type: int | None = 131_072
    shared = True
    # Glue has no call that changes several tables.
    writers = 8

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._glue = clients.client("glue", settings.aws)
        # Glue folds names to lower case.
        self.database = settings.catalog.database.lower()
        self.target = Storage.of(settings).absolute(settings.target)
        shape = cast("StructureShape", self._glue.meta.service_model.shape_for("TableInput"))
        self._fields = frozenset(shape.members)
        self._account = ""

    def address(self) -> Mapping[str, str]:
        """See `contracts.AddressedCatalog.address`; the account is not known while the database is empty."""
        return {"account": self._account, "region": self._glue.meta.region_name}

    def check(self) -> None:
        """See `contracts.Catalog.check`."""
        catalog = self._settings.catalog
        check_plain_name("catalog.database", catalog.database)
        for setting, prefix in table_prefixes(self._settings).items():
            check_plain_name(setting, f"{prefix}t")
        if not is_s3(self._settings.target):
            raise ConfigError(
                f"target {self._settings.target} is a local path, which Athena cannot read; set "
                "target=s3://bucket/prefix, or catalog.kind=duckdb"
            )
        self.tables()
        self._check_grants()

    def _check_grants(self) -> None:
        """Check the grants of Lake Formation; Glue has no read-only call that would reveal a missing one."""
        catalog, aws = self._settings.catalog, self._settings.aws
        if not catalog.lake_formation:
            return
        principal = lake_formation.caller(aws)
        needed = lake_formation.needed(
            catalog.lake_formation,
            self.database,
            s3_location("target", self._settings.target).arn(principal.split(":")[1]),
            reads=self._settings.ctas.method == "athena",
        )
        client = clients.client("lakeformation", aws)
        with wrap_aws_errors(CatalogError, f"database {self.database}"):
            try:
                unmet = list(lake_formation.missing(client, principal, needed))
            except ClientError as error:
                if not is_denied(error):
                    raise
                _LOG.info("the grants of Lake Formation are not checked: %s", explain(error))
                return
        if unmet:
            commands = "; ".join(lake_formation.grant_command(g.permissions, g.resource, principal) for g in unmet)
            raise CatalogError(
                f"database {self.database}: grants of Lake Formation are missing; run `bucketwheel deploy apply`, "
                f"which gives them to the role of the jobs, or run: {commands}"
            )

    def get(self, name: str) -> CatalogTable | None:
        """See `contracts.Catalog.get`."""
        try:
            answer = self._call(name, "get_table", Name=name.lower())
        except _Refused as refusal:
            if refusal.code == _MISSING:
                return None
            raise refusal.error from refusal.cause
        self._account = answer["Table"].get("CatalogId") or self._account
        return as_table(answer["Table"])

    def tables(self) -> Sequence[CatalogTable]:
        """See `contracts.Catalog.tables`; a database that the first run will create has no tables.

        Raises:
            CatalogError: the database does not exist, and `catalog.create_database` is off.
        """
        listed: list[CatalogTable] = []
        page: dict[str, str] = {}
        while True:
            try:
                answer = self._call("", "get_tables", **page)
            except _Refused as refusal:
                if refusal.code != _MISSING:
                    raise refusal.error from refusal.cause
                if self._settings.catalog.create_database:
                    return []
                raise CatalogError(self._no_database()) from refusal.cause
            listed += [as_table(table) for table in answer["TableList"]]
            for table in answer["TableList"]:
                self._account = table.get("CatalogId") or self._account
            if not answer.get("NextToken"):
                return sorted(listed, key=lambda table: table.name)
            page = {"NextToken": answer["NextToken"]}

    def put(self, table: CatalogTable, replacing: CatalogTable | None) -> CatalogTable:
        """See `contracts.Catalog.put`."""
        table = replace(table, name=table.name.lower())
        table_input = kept_input(table, self._fields)
        if table_input is None:
            self._refuse_outside(table)
            table_input = new_input(table)
        check_same_version(table.name, self.get(table.name), replacing)
        try:
            if replacing is None:
                self._create(table.name, table_input)
            else:
                self._change(
                    table.name, replacing, "update_table", TableInput=table_input, VersionId=replacing.version
                )
        except _Refused as refusal:
            return self._confirmed(table, replacing, refusal)
        return self._shown(table)

    def remove(self, table: CatalogTable) -> None:
        """See `contracts.Catalog.remove`; Glue cannot exclude a writer between the check and the deletion."""
        check_same_version(table.name, self.get(table.name), table)
        try:
            self._change(table.name, table, "delete_table", Name=table.name.lower())
        except _Refused as refusal:
            shown = None if refusal.code == _MISSING else self.get(table.name)
            # The table existed a moment ago, so an earlier attempt deleted it although its response was lost.
            if shown is None:
                return
            check_same_version(table.name, shown, table)
            raise refusal.error from refusal.cause

    def column_entries(self, table: CatalogTable) -> list[Entry]:
        """See `contracts.StatisticsCatalog.column_entries`."""
        return entries(table, table.statistics, system().clock.now()) if table.statistics else []

    def column_statistics(self, table: CatalogTable) -> list[Entry]:
        """See `contracts.StatisticsCatalog.column_statistics`."""
        names = [name.lower() for name, _ in table.columns]
        pages = [names[start : start + _READ_COLUMNS] for start in range(0, len(names), _READ_COLUMNS)]
        try:
            answers = [
                self._checked(table.name, "get_column_statistics_for_table", ColumnNames=page) for page in pages
            ]
        except CatalogError as error:
            if code_of(error.__cause__ or error) == _MISSING:
                return []
            raise
        # `Errors` also names the columns without statistics. What Glue cannot read may still exist.
        unread = [
            {"ColumnName": error["ColumnName"]}
            for answer in answers
            for error in answer.get("Errors") or ()
            if error.get("Error", {}).get("ErrorCode") != _MISSING
        ]
        return [*unread, *(entry for answer in answers for entry in answer.get("ColumnStatisticsList", ()))]

    def put_column_statistics(self, name: str, columns: Sequence[Entry]) -> list[str]:
        """See `contracts.StatisticsCatalog.put_column_statistics`."""
        columns = [column for column in columns if "StatisticsData" in column]
        problems = []
        for start in range(0, len(columns), _WRITTEN_COLUMNS):
            part = list(columns[start : start + _WRITTEN_COLUMNS])
            answer = self._checked(name, "update_column_statistics_for_table", ColumnStatisticsList=part)
            for refused in answer.get("Errors") or ():
                column = refused.get("ColumnStatistics", {}).get("ColumnName", "?")
                reason = refused.get("Error", {})
                problems.append(f"{column}: {reason.get('ErrorCode', '')} {reason.get('ErrorMessage', '')}".strip())
        if not problems:
            return []
        listed = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        return [f"table {self.database}.{name}: Glue refused the statistics of columns {listed}{more}"]

    def delete_column_statistics(self, name: str, columns: Sequence[Entry]) -> None:
        """See `contracts.StatisticsCatalog.delete_column_statistics`."""

        def delete(entry: Entry) -> None:
            try:
                self._call(
                    name, "delete_column_statistics_for_table", TableName=name.lower(), ColumnName=entry["ColumnName"]
                )
            except _Refused as refusal:
                if refusal.code != _MISSING:
                    raise refusal.error from refusal.cause

        # One call per column: Glue has no call for several.
        with system().pool(_DELETE_THREADS) as pool:
            list(pool.map(delete, columns))

    def same_column_statistics(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """See `contracts.StatisticsCatalog.same_column_statistics`."""
        return same_entry(one, other)

    def _checked(self, name: str, action: str, **arguments: Any) -> Any:
        try:
            return self._call(name, action, TableName=name.lower(), **arguments)
        except _Refused as refusal:
            raise refusal.error from refusal.cause

    def _create(self, name: str, table_input: dict[str, Any]) -> None:
        try:
            self._change(name, None, "create_table", TableInput=table_input)
        except _Refused as refusal:
            if refusal.code != _MISSING:
                raise
            if not self._settings.catalog.create_database:
                raise CatalogError(self._no_database()) from refusal.cause
            self._create_database()
            self._change(name, None, "create_table", TableInput=table_input)

    def _create_database(self) -> None:
        given: DatabaseInputTypeDef = {"Name": self.database, "Description": "Tables published by Bucketwheel"}

        def create() -> None:
            retry_throttled(
                lambda: self._glue.create_database(DatabaseInput=given), self._settings.catalog.retry_seconds
            )

        with wrap_aws_errors(CatalogError, f"database {self.database}"):
            try:
                retry(create, lambda error: code_of(error) in _CONFLICTS, _CONFLICT_PAUSES)
            except ClientError as error:
                if code_of(error) != _EXISTS:
                    raise self._wrapped(error, f"database {self.database}") from error

    def _change(self, name: str, expected: CatalogTable | None, action: str, **arguments: Any) -> None:
        """Change a table; repeat the call while Glue reports a conflict although the table is still `expected`.

        Raises:
            _Refused: Glue returned another error, or the table changed, or the conflict lasts.
        """

        def is_unchanged(error: BaseException) -> bool:
            conflict = isinstance(error, _Refused) and error.code in _CONFLICTS
            return conflict and same_version(self.get(name), expected)

        retry(lambda: self._call(name, action, **arguments), is_unchanged, _CONFLICT_PAUSES)

    def _confirmed(self, table: CatalogTable, replacing: CatalogTable | None, refusal: _Refused) -> CatalogTable:
        """Return the table if an earlier attempt succeeded although its response was lost, otherwise raise."""
        if refusal.code not in (_EXISTS, *_CONFLICTS, _MISSING):
            raise refusal.error from refusal.cause
        shown = self.get(table.name)
        if refusal.code in _CONFLICTS and same_version(shown, replacing):
            raise ConcurrentPublishError(
                f"{table.name}: Glue refused every attempt because other writers change the catalog, but nobody "
                f"changed this table ({refusal.code}); run again"
            ) from refusal.cause
        if shown is None or not same_definition(shown, table) or same_version(shown, replacing):
            raise concurrent_publish(table.name, shown, replacing) from refusal.cause
        return shown

    def _shown(self, table: CatalogTable) -> CatalogTable:
        shown = self.get(table.name)
        if shown is None or not same_definition(shown, table):
            raise concurrent_publish(table.name, shown, table)
        return shown

    def _refuse_outside(self, table: CatalogTable) -> None:
        if not is_below(table.location, self.target):
            raise CatalogError(
                f"table {table.name!r}: its location {table.location} is outside the target {self.target}, where "
                "expire would never find it; set target to a directory above it"
            )

    def _no_database(self) -> str:
        return (
            f"database {self.database!r} does not exist in the Glue catalog; create it, correct catalog.database, or "
            "set catalog.create_database=true"
        )

    def _call(self, name: str, action: str, **arguments: Any) -> Any:
        """Call Glue.

        Raises:
            _Refused: Glue returned an error, which the caller may handle.
            CatalogError: Glue sent no response.
        """
        thing = f"table {self.database}.{name}" if name else f"database {self.database}"
        method = getattr(self._glue, action)
        with wrap_aws_errors(CatalogError, thing):
            try:
                return retry_throttled(
                    lambda: method(DatabaseName=self.database, **arguments), self._settings.catalog.retry_seconds
                )
            except ClientError as error:
                raise _Refused(error, self._wrapped(error, thing)) from error

    def _wrapped(self, cause: ClientError, thing: str) -> CatalogError:
        """Return the error for a refusal of Glue."""
        text = f"{thing}: {explain(cause)}"
        if grant := lake_formation.missing_grant(text, self.database, self._settings.aws):
            return CatalogError(f"{text}; {grant}")
        return CatalogError(text)


class _Refused(Exception):  # noqa: N818
    """An error that Glue returned; callers that do not handle it raise `error`."""

    def __init__(self, cause: ClientError, error: CatalogError) -> None:
        super().__init__(str(cause))
        self.code = code_of(cause)
        self.cause = cause
        self.error = error
