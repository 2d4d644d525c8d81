"""Serve the part of Trino's protocol that its client uses, with `fake_sql` as the engine."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fake_sql import Plan, SqlRefusedError, TinySql

READ = 815


@dataclass
class FakeTrino:
    """The queries of one test; `headers` are those of the last statement."""

    sql: TinySql
    port: int = 0
    cancelled: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    refuse: bool = False
    _plans: dict[str, Plan | None] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def begin(self, text: str) -> dict[str, Any]:
        query_id = f"20261123_000000_{next(self._numbers):05d}_abcde"
        self._texts[query_id], self._plans[query_id] = text, self.sql.begin(text)
        return {**self._state(query_id, "QUEUED"), "nextUri": self._next(query_id)}

    def advance(self, query_id: str) -> dict[str, Any]:
        plan = self._plans[query_id]
        if plan and plan.hang and query_id not in self.cancelled:
            return {**self._state(query_id, "RUNNING"), "nextUri": self._next(query_id)}
        try:
            if plan:
                cancelled = query_id in self.cancelled
                raise SqlRefusedError("USER_CANCELED", "") if cancelled else SqlRefusedError(plan.name, plan.message)
            rows = self.sql.execute(self._texts[query_id], query_id)
        except SqlRefusedError as error:
            details = {
                "message": error.message,
                "errorCode": 1,
                "errorName": error.name,
                "errorType": "USER_ERROR" if error.name == "SYNTAX_ERROR" else "EXTERNAL",
            }
            return {**self._state(query_id, "FAILED"), "error": details}
        kind = {"rawType": "varchar", "arguments": [{"kind": "LONG", "value": 2147483647}]}
        columns = [
            {"name": f"_col{number}", "type": "varchar", "typeSignature": kind}
            for number in range(len(rows[0]) if rows else 1)
        ]
        return {**self._state(query_id, "FINISHED"), "columns": columns, "data": rows}

    def _next(self, query_id: str) -> str:
        return f"http://127.0.0.1:{self.port}/v1/statement/executing/{query_id}"

    def _state(self, query_id: str, state: str) -> dict[str, Any]:
        stats = {"state": state, "physicalInputBytes": READ, "queued": False, "scheduled": True}
        return {"id": query_id, "infoUri": self._next(query_id), "stats": stats}


@contextmanager
def trino_served(sql: TinySql) -> Iterator[FakeTrino]:
    """Serve a fake Trino on a free port of 127.0.0.1."""
    fake = FakeTrino(sql)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            fake.headers = dict(self.headers.items())
            if fake.refuse:
                self._respond(503, {})
            else:
                self._respond(200, fake.begin(text))

        def do_GET(self) -> None:
            self._respond(200, fake.advance(self.path.rpartition("/")[2]))

        def do_DELETE(self) -> None:
            fake.cancelled.append(self.path.rpartition("/")[2])
            self._respond(204, None)

        def _respond(self, status: int, body: object) -> None:
            content = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
