"""Start the Spark session: that of the platform if there is one, else a small local one.

Bucketwheel changes no setting that the platform or `spark-submit` has set, in Spark or in Hadoop.
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
    # Workers copy blocks out of each batch immediately, so huge pages in the allocator do not help.
    "spark.executorEnv.MIMALLOC_ALLOW_THP": "0",
    # The only compression of shuffle blocks; dictionary codes take a quarter less than with LZ4.
    "spark.io.compression.codec": "zstd",
    # Bucketwheel shows its own progress.
    "spark.ui.showConsoleProgress": "false",
}
# Driver and executors are one process, so no other machine connects to it.
_ONE_MACHINE = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
}
# For a JVM that this process starts: it only moves bytes.
_OWN_JVM = {
    **_ONE_MACHINE,
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.log.level": "ERROR",
}
# Names that Hadoop 3.3 and 3.4 share; those of AWS's own providers differ between them.
_KEYS_PROVIDER = "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"
_SESSION_KEYS_PROVIDER = "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider"


def spark_session(settings: Settings) -> SparkSession:
    """Return the session of this process; the first call starts it.

    Raises:
        EngineError: Java is missing, or the session does not start.
    """
    if SparkContext._active_spark_context is not None:
        return SparkSession.builder.getOrCreate()
    own = "PYSPARK_GATEWAY_PORT" not in os.environ
    if own:
        # Workers must run the same Python as this process.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        builder = SparkSession.builder
        for name, value in session_settings(settings, _preset_settings(own), own, os.environ).items():
            builder = builder.config(name, value)
        with _keep_interrupt_handler():
            session = builder.getOrCreate()
        if not str(session.sparkContext.master).startswith("local"):
            _ship_package(session.sparkContext)
    except Exception as error:
        raise EngineError(
            f"spark does not start: {error}; install Java 17 and set JAVA_HOME, or run with spark-submit, AWS Glue "
            "or EMR Serverless, or set engine=arrow, which needs no Java"
        ) from error
    return session


@contextmanager
def _keep_interrupt_handler() -> Iterator[None]:
    """Restore the handler of Ctrl-C that PySpark replaces.

    PySpark's handler asks the JVM to cancel its jobs and fails if Ctrl-C has ended the JVM too. The engine cancels
    its jobs itself.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _preset_settings(own: bool) -> dict[str, str]:
    """Return the settings of the platform from `spark-submit`, or from the defaults file that a new JVM will read."""
    if not own:
        SparkContext._ensure_initialized()
        return {**_hadoop_settings(), **dict(SparkConf().getAll())}
    spark_home = os.environ.get("SPARK_HOME", "")
    defaults = Path(os.environ.get("SPARK_CONF_DIR") or Path(spark_home) / "conf") / "spark-defaults.conf"
    lines = defaults.read_text().splitlines() if defaults.is_file() else []
    pairs = [re.split(r"[\s=]+", line.strip(), maxsplit=1) for line in lines if line.strip().startswith("spark.")]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _hadoop_settings() -> dict[str, str]:
    """Return the file system settings of the platform's core-site.xml, as settings of Spark.

    Hadoop's defaults are left out: with them, every setting would count as set by the platform.
    """
    gateway: Any = SparkContext._jvm
    site = gateway.org.apache.hadoop.conf.Configuration(False)
    site.addResource("core-site.xml")
    entries = site.iterator()
    preset = {}
    while entries.hasNext():
        name = entries.next().getKey()
        if name.startswith("fs."):
            preset[f"spark.hadoop.{name}"] = site.getRaw(name)
    return preset


def session_settings(
    settings: Settings, preset: Mapping[str, str], own: bool, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the settings to add to those in `preset`.

    Args:
        settings: settings of the run.
        preset: settings of the platform.
        own: whether this process starts the JVM.
        environ: environment variables.
    """
    added = dict(_GENERAL)
    if own:
        threads = "*" if settings.threads == "auto" else str(settings.threads)
        added |= {"spark.master": f"local[{threads}]", **_OWN_JVM}
    elif preset.get("spark.master", "").startswith("local"):
        added |= _ONE_MACHINE
    locations = [settings.target, *(source.source for source in settings.datasets.values())]
    if any(map(is_s3, locations)):
        added |= _s3a_settings(settings.storage.filled(settings.aws), environ)
    return {name: value for name, value in added.items() if name not in preset}


def _s3a_settings(storage: StorageSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that make `s3://`, `s3a://` and `s3n://` URIs work in Spark itself, event logs included."""
    fs = "spark.hadoop.fs"
    s3a = {f"{fs}.{scheme}.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem" for scheme in ("s3", "s3n")}
    # Hadoop ignores these variables; Bucketwheel's own storage honors them.
    region = storage.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    endpoint_url = storage.endpoint_url or _s3_endpoint(environ)
    if region:
        s3a[f"{fs}.s3a.endpoint.region"] = region
    if endpoint_url:
        endpoint = urlsplit(endpoint_url)
        s3a |= {
            f"{fs}.s3a.endpoint": endpoint_url,
            f"{fs}.s3a.connection.ssl.enabled": str(endpoint.scheme == "https").lower(),
        }
    if storage.path_style or (storage.path_style is None and endpoint_url):
        s3a[f"{fs}.s3a.path.style.access"] = "true"
    if "AWS_ACCESS_KEY_ID" in environ:
        # Spark passes the keys of the environment to Hadoop, on the driver and the executors.
        token = environ.get("AWS_SESSION_TOKEN")
        s3a[f"{fs}.s3a.aws.credentials.provider"] = _SESSION_KEYS_PROVIDER if token else _KEYS_PROVIDER
    return s3a


def _s3_endpoint(environ: Mapping[str, str]) -> str | None:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")


def _ship_package(context: SparkContext) -> None:
    """Send this version of the package to the executors."""
    root = Path(bucketwheel.__file__).parent
    if not root.is_dir():
        return  # The driver runs from an archive that Spark has distributed.
    # Executors fetch the archive when they start; Spark deletes its directory when it ends.
    archive = Path(context._temp_dir) / "bucketwheel.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(root.rglob("*.py")):
            packed.write(path, path.relative_to(root.parent))
    context.addPyFile(str(archive))
