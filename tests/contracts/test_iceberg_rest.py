"""REST catalogs that fail: a server that answers with errors only, and none at all."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from iceberg_support import run_of, settings_in

from bucketwheel.catalogs.iceberg import IcebergCatalog
from bucketwheel.errors import CatalogError, ConfigError, MissingDependencyError

COLUMNS: Any = {"id": ("string", ["a"])}
Answer = Callable[[str, str], tuple[int, object]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Serve the answer to (method, path) on a free port; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer(self.command, self.path)
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def failure(status: int, kind: str) -> tuple[int, object]:
    return status, {"error": {"message": "sorry", "type": kind, "code": status}}


def read_only(status: int) -> Answer:
    """Return the answers of an empty catalog that refuses every change with a status."""

    def answer(method: str, path: str) -> tuple[int, object]:
        if method == "POST":
            return failure(status, "Refused")
        if path.startswith("/v1/config"):
            return 200, {"defaults": {}, "overrides": {}}
        if path.endswith("/tables"):
            return 200, {"identifiers": []}
        if "/tables/" in path:
            return failure(404, "NoSuchTableException")
        return 200, {"namespace": ["db"], "properties": {}}

    return answer


def rest(target: Path, uri: str | None) -> IcebergCatalog:
    return IcebergCatalog(settings_in(target, {"connect_seconds": 1, "read_seconds": 5}, catalog="rest", uri=uri))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, r"the catalog denied access \(Refused: sorry\); use credentials that may change its tables"),
        (405, r"the catalog refused \(Refused: sorry\); if it is read-only, nothing can be published there"),
        (501, r"the catalog does not offer this call \(Refused: sorry\); if it is read-only"),
        (401, r"the catalog does not accept the credentials .*; set token or credential in iceberg.properties"),
        (503, r"the catalog failed \(Refused: sorry\); run again when it works"),
    ],
)
def test_catalog_without_commits_is_an_error_with_the_fix(tmp_path: Path, status: int, message: str) -> None:
    with serving(read_only(status)) as uri:
        catalog = rest(tmp_path, uri)
        catalog.check()
        with pytest.raises(CatalogError, match=message):
            catalog.put(run_of(tmp_path, "t", "run1", COLUMNS), None)
    # After an answer that does not tell whether the commit was made, the files stay until `expire`.
    assert bool(list(tmp_path.glob("t/metadata/*"))) is (status == 503)


def test_unreachable_catalog_is_an_error_with_the_fix(tmp_path: Path) -> None:
    with serving(read_only(403)) as uri:
        pass
    with pytest.raises(CatalogError, match=r"the catalog cannot be reached .*; check iceberg.uri and the network"):
        rest(tmp_path, uri).check()


def test_catalog_that_does_not_answer_is_waited_for_once(tmp_path: Path) -> None:
    asked: list[str] = []
    ended = threading.Event()

    def answer(method: str, path: str) -> tuple[int, object]:
        if "/tables/" in path:
            asked.append(path)
            ended.wait(10)
        return read_only(403)(method, path)

    with serving(answer) as uri:
        given = settings_in(tmp_path, {"connect_seconds": 1, "read_seconds": 0.3}, catalog="rest", uri=uri)
        with pytest.raises(CatalogError, match=r"table 't' .* did not answer in time .* its metadata may be damaged"):
            IcebergCatalog(given).get("t")
        ended.set()
    assert len(asked) == 1


def test_rest_catalog_without_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"iceberg\.uri is empty; set it to the address of the REST catalog"):
        rest(tmp_path, None).check()


def test_sql_catalog_for_a_target_on_s3_needs_a_database() -> None:
    with pytest.raises(ConfigError, match=r"iceberg\.uri is empty and target is s3://bucket/out"):
        IcebergCatalog(settings_in("s3://bucket/out")).check()


def test_sql_catalog_that_cannot_be_written_is_an_error_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "iceberg.db").mkdir()
    with pytest.raises(ConfigError, match=r"iceberg.uri: .*iceberg.db is a directory; name a file in it, such as"):
        IcebergCatalog(settings_in(tmp_path)).check()
    with pytest.raises(CatalogError, match=r"the database of the catalog failed .*; check iceberg.uri, and that its"):
        IcebergCatalog(settings_in(tmp_path)).tables()
    uri = f"sqlite:///{tmp_path}/file/iceberg.db"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"iceberg.uri: .*/file is not a directory, so .* cannot be created"):
        IcebergCatalog(settings_in(tmp_path, uri=uri)).check()


def test_sql_catalog_without_its_driver_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    catalog = IcebergCatalog(settings_in(tmp_path, uri="postgresql+psycopg2://me:secret@localhost/x"))
    with pytest.raises(MissingDependencyError, match=r"^iceberg.uri: .* 'psycopg2': pip install psycopg2-binary$"):
        catalog.tables()


def test_sql_catalog_with_a_path_as_address_is_an_error_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"iceberg.uri names no database .*; set it to one, such as sqlite:///"):
        IcebergCatalog(settings_in(tmp_path, uri="/data/iceberg.db")).tables()


def test_first_table_creates_the_directory_of_the_sqlite_file(tmp_path: Path) -> None:
    """As the file of DuckDB's catalog does."""
    catalog = IcebergCatalog(settings_in(tmp_path, uri=f"sqlite:///{tmp_path}/new/iceberg.db"))
    catalog.check()
    assert not (tmp_path / "new").exists()
    catalog.put(run_of(tmp_path, "t", "run1", COLUMNS), None)
    assert (tmp_path / "new/iceberg.db").is_file()


def test_damaged_sqlite_file_is_an_error_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "iceberg.db").write_text("no database")
    with pytest.raises(
        CatalogError, match=r"database of the catalog is damaged .*; move its file away, then .*rebuild"
    ):
        IcebergCatalog(settings_in(tmp_path)).check()
