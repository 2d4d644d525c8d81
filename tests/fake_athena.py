"""Athena over HTTP: workgroups and protocol are moto's, `fake_sql` executes the queries."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from moto.athena.responses import AthenaResponse

import aws_shapes
from bucketwheel.storage import join
from fake_sql import Plan, SqlRefusedError, TinySql

SCANNED = 4711


@dataclass
class Query:
    text: str
    request: dict[str, Any]
    states: list[str]
    reason: str = ""
    plan: Plan = field(default_factory=Plan)
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    manifest: str | None = None


class FakeAthena:
    """The queries of one test; also records which ones were stopped."""

    def __init__(self, sql: TinySql, results: str) -> None:
        self.sql = sql
        self.results = results
        self.queries: dict[str, Query] = {}
        self.stopped: list[str] = []
        self._tokens: dict[str, str] = {}

    def start(self, request: dict[str, Any]) -> str:
        token = request["ClientRequestToken"]
        if token not in self._tokens:
            self._tokens[token] = query_id = str(uuid.uuid4())
            self.queries[query_id] = self._new_query(query_id, request)
        return self._tokens[token]

    def _new_query(self, query_id: str, request: dict[str, Any]) -> Query:
        text = request["QueryString"]
        query = Query(text, request, ["QUEUED", "RUNNING", "SUCCEEDED"])
        if plan := self.sql.begin(text):
            query.plan, query.reason = plan, f"{plan.name}: {plan.message}" if plan.name else plan.message
            query.states[-1] = "RUNNING" if plan.hang else "FAILED"
            if written := self.sql.written.get(text):
                query.manifest = join(self.results, f"{query_id}-manifest.csv")
                self.sql.storage.write(query.manifest, "".join(f"{location}\n" for location in written).encode())
            return query
        try:
            query.rows = self.sql.execute(text, query_id)
        except SqlRefusedError as error:
            query.states[-1], query.reason = "FAILED", str(error)
        return query

    def stop(self, query_id: str) -> None:
        self.stopped.append(query_id)
        self.queries[query_id].states = ["CANCELLED"]

    def execution(self, query_id: str) -> dict[str, Any]:
        query = self.queries[query_id]
        state = query.states.pop(0) if len(query.states) > 1 else query.states[0]
        status: dict[str, Any] = {"State": state, "StateChangeReason": query.reason}
        if state == "FAILED" and query.plan.number is not None:
            status["AthenaError"] = {"ErrorType": query.plan.number, "Retryable": query.plan.retryable}
        statistics: dict[str, Any] = {"DataScannedInBytes": SCANNED}
        if query.manifest:
            statistics["DataManifestLocation"] = query.manifest
        return {"QueryExecutionId": query_id, "Query": query.text, "Status": status, "Statistics": statistics}

    def result(self, query_id: str) -> list[dict[str, Any]]:
        rows = self.queries[query_id].rows
        header = ("_col0",) * (len(rows[0]) if rows else 0)
        return [{"Data": [{} if cell is None else {"VarCharValue": cell} for cell in row]} for row in (header, *rows)]


def _answer(operation: str, fields: dict[str, Any]) -> str:
    return json.dumps(aws_shapes.response("athena", operation, fields))


@contextmanager
def athena_served(fake: FakeAthena) -> Iterator[FakeAthena]:
    """Let moto's Athena pass its queries to `fake`."""

    def start(self: AthenaResponse) -> str:
        return _answer("StartQueryExecution", {"QueryExecutionId": fake.start(json.loads(self.body))})

    def get(self: AthenaResponse) -> str:
        return _answer("GetQueryExecution", {"QueryExecution": fake.execution(self._get_param("QueryExecutionId"))})

    def stop(self: AthenaResponse) -> str:
        fake.stop(self._get_param("QueryExecutionId"))
        return _answer("StopQueryExecution", {})

    def results(self: AthenaResponse) -> str:
        rows = fake.result(self._get_param("QueryExecutionId"))
        return _answer("GetQueryResults", {"ResultSet": {"Rows": rows}})

    with (
        mock.patch.object(AthenaResponse, "start_query_execution", start),
        mock.patch.object(AthenaResponse, "get_query_execution", get),
        mock.patch.object(AthenaResponse, "stop_query_execution", stop),
        mock.patch.object(AthenaResponse, "get_query_results", results),
    ):
        yield fake
