"""The Spark session: the platform's own where there is one, and a small local one elsewhere.

A setting is set here only where neither the platform nor `spark-submit` has set it, in Spark or in Hadoop.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

import bucketwheel
from bucketwheel.errors import EngineError
from bucketwheel.settings import Settings, StorageSettings
from bucketwheel.storage import is_s3

_GENERAL = {
    "spark.app.name": "bucketwheel",
    # Pieces are copied out of every batch at once, so the memory of allocators may as well be in small pages.
    "spark.executorEnv.MIMALLOC_ALLOW_THP": "0",
    # Pieces are shuffled uncompressed but for this; codes of dictionaries take a quarter less than with LZ4.
    "spark.io.compression.codec": "zstd",
    # The progress shown is our own.
    "spark.ui.showConsoleProgress": "false",
}
# Where driver and executors are one process, nobody else has to reach it.
_ONE_MACHINE = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
}
# For a JVM that this process starts itself: it moves bytes and does little else.
_OWN_JVM = {
    **_ONE_MACHINE,
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.log.level": "ERROR",
}
# In Hadoop 3.3 and 3.4 alike: the names of AWS's own providers differ between them.
_KEYS_PROVIDER = "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"
_SESSION_KEYS_PROVIDER = "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider"


def spark_session(settings: Settings) -> SparkSession:
    """Return the session of this process; it is started when first asked for.

    Raises:
        EngineError: there is no Java, or the session does not start.
    """
    if SparkContext._active_spark_context is not None:
        return SparkSession.builder.getOrCreate()
    own = "PYSPARK_GATEWAY_PORT" not in os.environ
    if own:
        # Workers of a session that this program starts are to be this very Python.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        builder = SparkSession.builder
        for name, value in wanted_settings(settings, _known(own), own, os.environ).items():
            builder = builder.config(name, value)
        with _interrupts_as_they_are():
            session = builder.getOrCreate()
        if not str(session.sparkContext.master).startswith("local"):
            _ship_package(session.sparkContext)
    except Exception as error:
        raise EngineError(
            f"spark does not start: {error}; engine=spark needs Java 17 (JAVA_HOME), or to be started by "
            "spark-submit, AWS Glue or EMR Serverless; engine=arrow needs none of them"
        ) from error
    return session


@contextmanager
def _interrupts_as_they_are() -> Iterator[None]:
    """Undo PySpark's way with Ctrl-C: it asks the JVM to end its jobs, and fails where Ctrl-C has ended the JVM too.

    The engine ends its jobs itself.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _known(own: bool) -> dict[str, str]:
    """Return what the platform has set: by `spark-submit`, or in the defaults that a JVM of ours will read."""
    if not own:
        SparkContext._ensure_initialized()
        return {**_of_hadoop(), **dict(SparkConf().getAll())}
    home = os.environ.get("SPARK_HOME", "")
    defaults = Path(os.environ.get("SPARK_CONF_DIR") or Path(home) / "conf") / "spark-defaults.conf"
    lines = defaults.read_text().splitlines() if defaults.is_file() else []
    pairs = [re.split(r"[\s=]+", line.strip(), maxsplit=1) for line in lines if line.strip().startswith("spark.")]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _of_hadoop() -> dict[str, str]:
    """Return, as settings of Spark, the file systems that the platform's core-site.xml says something of.

    What Hadoop itself comes with is not in there: it would look as if all were set.
    """
    gateway: Any = SparkContext._jvm
    site = gateway.org.apache.hadoop.conf.Configuration(False)
    site.addResource("core-site.xml")
    entries = site.iterator()
    found = {}
    while entries.hasNext():
        name = entries.next().getKey()
        if name.startswith("fs."):
            found[f"spark.hadoop.{name}"] = site.getRaw(name)
    return found


def wanted_settings(
    settings: Settings, known: Mapping[str, str], own: bool, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the settings to add to those in `known`.

    Args:
        settings: of the run.
        known: what the platform has set.
        own: whether this process starts the JVM itself, as a plain Python program.
        environ: environment variables.
    """
    wanted = dict(_GENERAL)
    if own:
        threads = "*" if settings.threads == "auto" else str(settings.threads)
        wanted |= {"spark.master": f"local[{threads}]", **_OWN_JVM}
    elif known.get("spark.master", "").startswith("local"):
        wanted |= _ONE_MACHINE
    locations = [settings.target, *(source.source for source in settings.datasets.values())]
    if any(map(is_s3, locations)):
        wanted |= _s3a(settings.storage.filled(settings.aws), environ)
    return {name: value for name, value in wanted.items() if name not in known}


def _s3a(storage: StorageSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what lets `s3://` and `s3a://` URIs work in Spark's own reading, writing and event logs."""
    fs = "spark.hadoop.fs"
    wanted = {f"{fs}.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem"}
    # Hadoop knows none of these variables; Bucketwheel's own reading and writing goes by them.
    region = storage.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    endpoint_url = storage.endpoint_url or _endpoint_of(environ)
    if region:
        wanted[f"{fs}.s3a.endpoint.region"] = region
    if endpoint_url:
        endpoint = urlsplit(endpoint_url)
        wanted |= {
            f"{fs}.s3a.endpoint": endpoint_url,
            f"{fs}.s3a.connection.ssl.enabled": str(endpoint.scheme == "https").lower(),
        }
    if storage.path_style or (storage.path_style is None and endpoint_url):
        wanted[f"{fs}.s3a.path.style.access"] = "true"
    if "AWS_ACCESS_KEY_ID" in environ:
        # Spark itself hands the keys of the environment to Hadoop, driver and executors.
        token = environ.get("AWS_SESSION_TOKEN")
        wanted[f"{fs}.s3a.aws.credentials.provider"] = _SESSION_KEYS_PROVIDER if token else _KEYS_PROVIDER
    return wanted


def _endpoint_of(environ: Mapping[str, str]) -> str | None:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")


def _ship_package(context: SparkContext) -> None:
    """Give executors this very version of the package, however the driver got it."""
    root = Path(bucketwheel.__file__).parent
    if not root.is_dir():
        return  # The driver itself has it from an archive that Spark sent.
    # Executors fetch it whenever they start; Spark deletes this directory when it ends.
    archive = Path(context._temp_dir) / "bucketwheel.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(root.rglob("*.py")):
            packed.write(path, path.relative_to(root.parent))
    context.addPyFile(str(archive))
