"""Run Trino on 127.0.0.1 with the Hive connector on Glue and S3, and query it."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import trino
from trino.exceptions import Error, HttpError

from .trino_install import java, trino_home

CATALOG = "hive"
# The same tables, but Trino's own CTAS may write as many buckets in one statement as it likes.
UNLIMITED = "unlimited"
# Iceberg tables of the same Glue catalog.
ICEBERG = "iceberg"
_START_SECONDS = 300
_READY = "ready"

_JVM = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:G1HeapRegionSize=32M",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:ReservedCodeCacheSize=256M",
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:G1NumCollectionsKeepPinned=10000000",
    "-XX:+EnableDynamicAgentLoading",
    "-Djdk.attach.allowAttachSelf=true",
    "-Djdk.nio.maxCachedBufferSize=2000000",
    "-Dfile.encoding=UTF-8",
]


@dataclass(frozen=True)
class Answer:
    """The rows of a statement and its statistics."""

    rows: list[list[Any]]
    statistics: Mapping[str, Any]

    @property
    def bytes_read(self) -> int:
        return int(self.statistics["physicalInputBytes"])

    @property
    def scans(self) -> int:
        """Number of splits that the statement read."""
        return sum(stage["totalSplits"] for stage in _leaves(self.statistics["rootStage"]))


def _leaves(stage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if not stage["subStages"]:
        yield stage
    for below in stage["subStages"]:
        yield from _leaves(below)


@dataclass(frozen=True)
class Trino:
    """A running server."""

    port: int
    log: Path
    pid: int

    def ask(self, text: str, **session: object) -> Answer:
        """Execute one statement; `session` sets properties, as in ``hive__validate_bucketing=True``."""
        properties = {name.replace("__", "."): str(value).lower() for name, value in session.items()}
        connect: Any = trino.dbapi.connect
        connection = connect(
            host="127.0.0.1", port=self.port, user="judge", session_properties=properties, request_timeout=300
        )
        with closing(connection):
            cursor = connection.cursor()
            cursor.execute(text)
            return Answer(cursor.fetchall(), cursor.stats)

    def rows(self, text: str, **session: object) -> list[list[Any]]:
        return self.ask(text, **session).rows


@contextmanager
def trino_process(
    work: Path,
    glue: str,
    s3: str,
    bucket: str,
    memory: str,
    more: Sequence[str] = (),
    disk: Path | None = None,
) -> Iterator[Trino]:
    """Start Trino in `work` and wait until it can read and write bucketed tables; `more` are JVM flags.

    Trino addresses tables below `disk`, or else `work`, as ``local:///…``.

    Raises:
        NotInstalledError: Java or Trino is missing and cannot be installed.
    """
    program, home = java(), trino_home()
    etc, log = work / "etc", work / "trino-log"
    port = _free_port()
    _write_configuration(etc, port, glue, s3, bucket, disk or work)
    named = [f"-Dconfig={etc / 'config.properties'}", f"-Dlog.levels-file={etc / 'log.properties'}"]
    named += [f"-Dplugin.dir={home / 'plugin'}", f"-Dcatalog.config-dir={etc / 'catalog'}"]
    named += [f"-Dsecrets-plugins-dir={home / 'secrets-plugin'}", "-Dnode.environment=test", "-Dnode.id=test-1"]
    named += [f"-Dnode.data-dir={work / 'data'}", "-Dnode.internal-address=127.0.0.1", "-Dnode.bind-ip=127.0.0.1"]
    command = [
        str(program),
        "-cp",
        f"{home}/lib/*",
        f"-Xmx{memory}",
        *_JVM,
        *more,
        *named,
        "io.trino.server.TrinoServer",
    ]
    (work / "data").mkdir()
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
        )
    started = Trino(port, log, server.pid)
    try:
        _wait(started, server, bucket)
        yield started
    finally:
        server.kill()
        server.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _write_configuration(etc: Path, port: int, glue: str, s3: str, bucket: str, disk: Path) -> None:
    (etc / "catalog").mkdir(parents=True)
    general = {
        "coordinator": "true",
        "node-scheduler.include-coordinator": "true",
        "http-server.http.port": port,
        "discovery.uri": f"http://127.0.0.1:{port}",
    }
    metastore = {
        "hive.metastore.glue.region": "us-east-1",
        "hive.metastore.glue.endpoint-url": glue,
        "hive.metastore.glue.aws-access-key": "testing",
        "hive.metastore.glue.aws-secret-key": "testing",
        "hive.metastore.glue.default-warehouse-dir": f"s3://{bucket}/warehouse/",
    }
    files = {
        "fs.native-s3.enabled": "true",
        "s3.endpoint": s3,
        "s3.region": "us-east-1",
        "s3.path-style-access": "true",
        "s3.aws-access-key": "testing",
        "s3.aws-secret-key": "testing",
        "fs.native-local.enabled": "true",
        "local.location": disk,
    }
    hive = {
        "connector.name": "hive",
        "hive.metastore": "glue",
        **metastore,
        "hive.non-managed-table-writes-enabled": "true",
        # Tests of statistics turn them on for a query; reading them costs time.
        "hive.table-statistics-enabled": "false",
        # Trino would show those of the previous run for 5 minutes.
        "hive.metastore-stats-cache-ttl": "0s",
        "hive.collect-column-statistics-on-write": "false",
        **files,
    }
    iceberg = {"connector.name": "iceberg", "iceberg.catalog.type": "glue", **metastore, **files}
    _write(etc / "config.properties", general)
    _write(etc / "log.properties", {"io.trino": "WARN"})
    _write(etc / "catalog" / f"{CATALOG}.properties", hive)
    _write(etc / "catalog" / f"{UNLIMITED}.properties", {**hive, "hive.max-partitions-per-writers": "100000"})
    _write(etc / "catalog" / f"{ICEBERG}.properties", iceberg)


def _write(path: Path, properties: Mapping[str, object]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()), encoding="utf-8")


def _wait(server: Trino, process: subprocess.Popen[bytes], bucket: str) -> None:
    """Wait until a bucketed table can be written and read; ports, /v1/info and the node list respond too early."""
    deadline = time.monotonic() + _START_SECONDS
    for number in itertools.count():
        try:
            catalogs = {row[0] for row in server.rows("SHOW CATALOGS")}
            if _write_and_read(server, bucket, number) == [[3]]:
                break
            cause = "the table that was written has other rows"
        except (Error, HttpError, requests.RequestException) as error:
            cause = str(error)
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Trino does not start: {cause}\n{server.log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.5)
    # Trino silently drops a catalog that has an unknown property.
    assert {CATALOG, UNLIMITED, ICEBERG} <= catalogs, catalogs


def _write_and_read(server: Trino, bucket: str, number: int) -> list[list[Any]]:
    # A failed attempt may leave files, and Trino refuses to write to a location that has files.
    table = f"{CATALOG}.{_READY}.try_{number}"
    server.rows(f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{_READY} WITH (location = 's3://{bucket}/{_READY}/')")
    layout = "bucketed_by = ARRAY['k'], bucket_count = 2"
    server.rows(f"CREATE TABLE {table} WITH ({layout}) AS SELECT * FROM (VALUES 1, 2, 3) AS t(k)")
    return server.rows(f"SELECT count(*) FROM {table} WHERE k > 0")
