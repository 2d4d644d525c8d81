"""A simulated Glue Data Catalog behind the real catalog code: versions, conflicts, throttling, lost responses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

import aws_shapes
from simulation.scheduler import Actor, Scheduler, Violation

DATABASE = "simulated"


@dataclass
class Tables:
    """The tables of the database; `changed` is called after each change with the actor and the name."""

    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    databases: set[str] = field(default_factory=set)
    changed: Callable[[Actor, str, Mapping[str, Any] | None], None] = lambda _actor, _name, _before: None
    versions: int = 0


class SimulatedGlue:
    """The client of one actor; with `checked`, every response is compared with AWS's description of its API."""

    def __init__(self, tables: Tables, scheduler: Scheduler, actor: Actor, checked: bool = False) -> None:
        self._tables = tables
        self._scheduler = scheduler
        self._actor = actor
        self._checked = checked
        self.meta = SimpleNamespace(service_model=aws_shapes.model("glue"), region_name="us-east-1")

    def get_table(self, *, DatabaseName: str, Name: str) -> dict[str, Any]:
        """See boto3."""
        return self._call("GetTable", f"reads table {Name}", lambda: {"Table": copy.deepcopy(self._table(Name))})

    def get_tables(self, *, DatabaseName: str, NextToken: str = "") -> dict[str, Any]:
        """See boto3."""

        def listed() -> dict[str, Any]:
            if DatabaseName not in self._tables.databases:
                raise refused("GetTables", "EntityNotFoundException")
            return {"TableList": copy.deepcopy([self._tables.tables[name] for name in sorted(self._tables.tables)])}

        return self._call("GetTables", "lists the tables", listed)

    def create_database(self, *, DatabaseInput: dict[str, Any]) -> dict[str, Any]:
        """See boto3."""

        def create() -> dict[str, Any]:
            if DatabaseInput["Name"] in self._tables.databases:
                raise refused("CreateDatabase", "AlreadyExistsException")
            self._tables.databases.add(DatabaseInput["Name"])
            return {}

        return self._call("CreateDatabase", "creates the database", create)

    def create_table(self, *, DatabaseName: str, TableInput: dict[str, Any]) -> dict[str, Any]:
        """See boto3."""
        name = TableInput["Name"]

        def create() -> dict[str, Any]:
            if DatabaseName not in self._tables.databases:
                raise refused("CreateTable", "EntityNotFoundException")
            if name in self._tables.tables:
                raise refused("CreateTable", "AlreadyExistsException")
            self._store(DatabaseName, TableInput, None)
            return {}

        return self._call("CreateTable", f"creates table {name} of {_run_of(TableInput)}", create)

    def update_table(
        self, *, DatabaseName: str, TableInput: dict[str, Any], VersionId: str = "", SkipArchive: bool = False
    ) -> dict[str, Any]:
        """See boto3; Glue refuses the call if the table has another version than `VersionId`."""
        name = TableInput["Name"]

        def update() -> dict[str, Any]:
            table = self._table(name, "UpdateTable")
            if VersionId and table["VersionId"] != VersionId:
                raise refused("UpdateTable", "ConcurrentModificationException")
            self._store(DatabaseName, TableInput, table)
            return {}

        return self._call("UpdateTable", f"points table {name} to {_run_of(TableInput)}", update)

    def delete_table(self, *, DatabaseName: str, Name: str) -> dict[str, Any]:
        """See boto3."""

        def delete() -> dict[str, Any]:
            table = self._table(Name, "DeleteTable")
            del self._tables.tables[Name]
            self._judge(Name, table)
            return {}

        return self._call("DeleteTable", f"deletes table {Name}", delete)

    def _store(self, database: str, given: dict[str, Any], before: Mapping[str, Any] | None) -> None:
        self._tables.versions += 1
        time = self._scheduler.time
        self._tables.tables[given["Name"]] = {
            **copy.deepcopy(given),
            "DatabaseName": database,
            "CatalogId": "123456789012",
            "VersionId": str(self._tables.versions),
            "CreateTime": before["CreateTime"] if before else time,
            "UpdateTime": time,
        }
        self._judge(given["Name"], before)

    def _table(self, name: str, operation: str = "GetTable") -> dict[str, Any]:
        if name not in self._tables.tables:
            raise refused(operation, "EntityNotFoundException")
        return self._tables.tables[name]

    def _judge(self, name: str, before: Mapping[str, Any] | None) -> None:
        try:
            self._tables.changed(self._actor, name, before)
        except Violation as violation:
            self._scheduler.fail(violation)

    def _call(self, operation: str, text: str, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        attempts = 0
        while True:
            attempts += 1
            fault = self._scheduler.step(self._actor, f"it {text}")
            if fault == "throttled" and attempts == 1:
                self._scheduler.say(f"{self._actor.name} {text}: throttled")
                raise refused(operation, "ThrottlingException")
            try:
                answer = action()
            except ClientError as error:
                self._scheduler.say(f"{self._actor.name} {text}: refused, {error.response['Error']['Code']}")
                raise
            if fault in ("lost", "repeated"):
                self._scheduler.say(f"{self._actor.name} {text}: done, but the response is lost ({fault})")
                if fault == "repeated" and attempts < 2:
                    continue
                raise ReadTimeoutError(endpoint_url="https://simulated")
            self._scheduler.say(f"{self._actor.name} {text}")
            if self._checked:
                aws_shapes.response("glue", operation, answer)
            return answer


def _run_of(given: Mapping[str, Any]) -> str:
    return f"run {given.get('Parameters', {}).get('bucketwheel.run_id', '?')}"


def refused(operation: str, code: str) -> ClientError:
    """Return an error of Glue."""
    answer = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(answer, operation)  # type: ignore[arg-type]
