"""Run Iceberg's own REST catalog on 127.0.0.1: its servlet in Jetty, before a SQL catalog in SQLite."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .maven import NotInstalledError, jars

_PROJECT = Path(__file__).with_name("rest_server.xml")
_JVM = [
    "-Xmx256m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
]
# Spark has Hadoop, through which the server accesses files, and Py4J, through which this process starts it.
_FROM_SPARK = ("hadoop-client-api-*.jar", "hadoop-client-runtime-*.jar", "jcl-over-slf4j-*.jar")


@contextmanager
def rest_process(work: Path) -> Iterator[str]:
    """Start the server, with its database and its default warehouse in `work`; yield its address.

    The process also ends when this one does.

    Raises:
        NotInstalledError: Java, Spark or the jars are missing and cannot be fetched.
    """
    spark, log = _spark_jars(), work / "rest-log"
    patterns = ("py4j-*.jar", *_FROM_SPARK)
    paths = [*jars(_PROJECT), *(path for pattern in patterns for path in spark.glob(pattern))]
    command = [_java(), *_JVM, "-cp", os.pathsep.join(map(str, paths)), "py4j.GatewayServer"]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [*command, "--die-on-broken-pipe", "--enable-auth", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    try:
        yield _start(server, work, log)
    finally:
        server.kill()
        server.communicate()


def _start(server: subprocess.Popen[str], work: Path, log: Path) -> str:
    # Py4J comes with Spark, without which this module can be imported.
    from py4j.java_gateway import GatewayParameters, JavaGateway

    assert server.stdout is not None
    port, secret = server.stdout.readline().strip(), server.stdout.readline().strip()
    if not secret:
        raise RuntimeError(f"the REST catalog does not start: {log.read_text(errors='replace')[-2000:]}")
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=int(port), auth_token=secret, auto_convert=True))
    try:
        return _serve(gateway, work)
    finally:
        gateway.close()


def _serve(gateway: Any, work: Path) -> str:
    java = gateway.jvm
    rest, jetty = java.org.apache.iceberg.rest, java.org.eclipse.jetty
    properties = {"uri": f"jdbc:sqlite:{work}/rest.db", "warehouse": f"{work}/warehouse", "jdbc.schema-version": "V1"}
    catalog = java.org.apache.iceberg.jdbc.JdbcCatalog()
    catalog.setConf(java.org.apache.hadoop.conf.Configuration())
    catalog.initialize("rest", properties)
    servlet = rest.RESTCatalogServlet(rest.RESTCatalogAdapter(catalog))
    handler = jetty.ee10.servlet.ServletContextHandler()
    handler.addServlet(jetty.ee10.servlet.ServletHolder(servlet), "/*")
    server = jetty.server.Server(java.java.net.InetSocketAddress("127.0.0.1", 0))
    server.setHandler(handler)
    server.start()
    return f"http://127.0.0.1:{server.getURI().getPort()}"


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    found = f"{home}/bin/java" if home else shutil.which("java")
    if found is None:
        raise NotInstalledError("there is no Java for Iceberg's REST catalog: install OpenJDK 17, or set JAVA_HOME")
    return found


def _spark_jars() -> Path:
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise NotInstalledError("there is no Spark, whose jars Iceberg's REST catalog uses: pip install pyspark")
    return Path(spec.origin).parent / "jars"
