"""A proxy in front of an S3 endpoint that records every request and injects faults.

A plan returns the fault for a request. `seeded` returns a plan that faults a share of all requests: the same ones for
the same seed, in whatever order threads send them. The proxy works with any HTTP server:

    with FaultProxy("http://127.0.0.1:4566", seeded(7, 0.1)) as proxy:
        ...  # AWS_ENDPOINT_URL_S3=proxy.url
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# 500 InternalError; 503 SlowDown; connection reset before the request is passed on; response truncated; response
# lost after the request took effect; response delayed. A plan may return any other status and code too, such as
# "403 AccessDenied".
KINDS = ("500", "503", "reset", "cut", "lost", "delay")

_NAMES = {"500": "InternalError", "503": "SlowDown"}
_RUN = re.compile(r"\d{4}-\d{2}-\d{2}-\d{8}T\d{6}Z-[0-9a-f]{6}")
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


@dataclass(frozen=True)
class Request:
    """A request of a client; `number` counts requests with the same method and target, from 0."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    number: int
    body: bytes = field(repr=False)

    @property
    def key(self) -> str:
        """The path without the bucket."""
        return self.path.lstrip("/").partition("/")[2]


@dataclass(frozen=True)
class Answered:
    """A request with the status and the size in bytes of its response; both are 0 if there was none."""

    request: Request
    status: int
    bytes: int
    fault: str | None


Plan = Callable[[Request], "str | None"]


def healthy(_: Request) -> str | None:
    """Inject no fault."""
    return None


def seeded(seed: int, share: float, kinds: Sequence[str] = KINDS) -> Plan:
    """Return a plan that faults `share` of all requests, each with one of `kinds`."""

    def plan(request: Request) -> str | None:
        # The names of buckets, runs and uploads differ between test runs.
        key, part = _RUN.sub("RUN", request.key), request.headers.get("range", "")
        text = f"{seed} {request.method} {key} {sorted(request.query)} {part} {request.number}"
        drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
        if drawn % 10_000 >= share * 10_000:
            return None
        return kinds[drawn // 10_000 % len(kinds)]

    return plan


class FaultProxy:
    """Proxy on 127.0.0.1, used as a context manager; `answered` records all requests.

    Args:
        upstream: endpoint behind the proxy.
        plan: returns the fault of each request; may be replaced at any time.
        delay_seconds: length of a delay, in seconds.
        serialize: pass conditional puts on one at a time, for servers that check and write in two steps.
    """

    def __init__(
        self,
        upstream: str,
        plan: Plan = healthy,
        delay_seconds: float = 0.2,
        serialize: bool = False,
        port: int = 0,
    ) -> None:
        self.plan = plan
        self.delay_seconds = delay_seconds
        self.serialize = serialize
        self.answered: list[Answered] = []
        split = urlsplit(upstream)
        self._address = (split.hostname or "127.0.0.1", split.port or 80)
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self.puts = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """The address to use in place of the endpoint."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def request(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Request:
        """Return a request as the argument of a plan, with its number."""
        split = urlsplit(target)
        with self._lock:
            number = self._seen[method, target]
            self._seen[method, target] += 1
        query = parse_qs(split.query, keep_blank_values=True)
        return Request(method, unquote(split.path), query, headers, number, body)

    def record(self, answered: Answered) -> None:
        """Record a request."""
        with self._lock:
            self.answered.append(answered)

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to the upstream endpoint."""
        return http.client.HTTPConnection(*self._address, timeout=60)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: FaultProxy

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request without the trace function of coverage, which measures nothing here and slows it down."""
        sys.settrace(None)
        super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: clients close connections because of the injected faults."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Responses are small and written in two steps; Nagle's algorithm would delay the second by 40 ms.
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = proxy.request(self.command, self.path, headers, body)
        fault = proxy.plan(request)
        if fault == "reset":
            proxy.record(Answered(request, 0, 0, fault))
            self._reset()
            return
        if (fault or "")[:3].isdigit():
            self._refuse(request, fault or "")
            return
        if fault == "delay":
            time.sleep(proxy.delay_seconds)
        status, response_headers, content = self._pass_on(request)
        if fault == "lost":
            proxy.record(Answered(request, status, 0, fault))
            self._reset()
            return
        sent = content[: len(content) // 2] if fault == "cut" else content
        proxy.record(Answered(request, status, len(sent), fault))
        self._respond(status, response_headers, sent, len(content))
        if fault == "cut":
            self._reset()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 the names are http.server's

    def _refuse(self, request: Request, fault: str) -> None:
        code, _, name = fault.partition(" ")
        text = f"<Error><Code>{name or _NAMES[code]}</Code><Message>as planned</Message></Error>".encode()
        self.server.proxy.record(Answered(request, int(code), len(text), fault))
        self._respond(int(code), [("Content-Type", "application/xml")], text, len(text))

    def _pass_on(self, request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
        proxy = self.server.proxy
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        conditional = proxy.serialize and request.method == "PUT" and {"if-match", "if-none-match"} & set(headers)
        if conditional:
            proxy.puts.acquire()
        try:
            connection = proxy.connect()
            try:
                connection.request(request.method, self.path, request.body, headers)
                response = connection.getresponse()
                return response.status, response.getheaders(), response.read()
            finally:
                connection.close()
        finally:
            if conditional:
                proxy.puts.release()

    def _respond(self, status: int, headers: list[tuple[str, str]], content: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP | {"content-length"} or (
                name.lower() == "content-length" and self.command == "HEAD"
            ):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _reset(self) -> None:
        # Closing a socket with a linger time of 0 sends a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


def main() -> None:
    """Serve until interrupted: PYTHONPATH=integration python -m faults.proxy http://127.0.0.1:4566 --seed 7."""
    parser = argparse.ArgumentParser(description="Proxy that injects faults into a share of all requests")
    parser.add_argument("upstream")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--delay-seconds", type=float, default=5)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    plan = seeded(given.seed, given.share, given.kinds)
    with FaultProxy(given.upstream, plan, given.delay_seconds, port=given.port) as proxy:
        print(proxy.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
