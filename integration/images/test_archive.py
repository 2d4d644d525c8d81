"""The archive of the whole environment, unpacked where nothing of Bucketwheel is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from container_support import ROOT, SPARK_SUBMIT, Cluster, application, build, finish
from testcontainers.core.network import Network

pytestmark = pytest.mark.docker

JOB = """
import pyarrow as pa
from pyspark.sql import SparkSession

def where(batches):
    import bucketwheel, pandas, pyarrow, boto3
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"path": [bucketwheel.__file__], "pyarrow": [pyarrow.__version__]})

spark = SparkSession.builder.getOrCreate()
for row in spark.range(1).mapInArrow(where, "path string, pyarrow string").collect():
    print("worker", row.path, row.pyarrow)
"""


@pytest.fixture(scope="module")
def archive(image: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, built on EMR Serverless's base."""
    image("EMR_BASE_IMAGE")
    build("archive")
    # The user of the container is not the one of these tests, whose directories are private.
    directory = tmp_path_factory.mktemp("archive")
    directory.chmod(0o755)
    return Path(shutil.copy(ROOT / "build" / "bucketwheel-venv.tar.gz", directory))


def test_spark_workers_run_from_the_archive(
    archive: Path, cluster: Cluster, network: Network, glue_image: str
) -> None:
    (archive.parent / "job.py").write_text(JOB)
    sent = "/given/bucketwheel-venv.tar.gz#environment"
    container = application(
        glue_image,
        ["--master", cluster.master, "--archives", sent, "/given/job.py"],
        entrypoint=[SPARK_SUBMIT],
        # Not the environment of the image, which workers have as well.
        environment={
            "PYSPARK_PYTHON": "./environment/bin/python",
            "PYSPARK_DRIVER_PYTHON": "/usr/bin/python3.11",
        },
        network=network,
    )
    container.with_volume_mapping(archive.parent, "/given")
    said = finish(container).check()
    (line,) = (line for line in said.splitlines() if line.startswith("worker "))
    assert line.split()[1].endswith("/environment/lib/python3.11/site-packages/bucketwheel/__init__.py")
    assert line.split()[2] == "17.0.0"


def test_the_archive_can_be_activated(archive: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(tmp_path)], check=True)
    script = f"cd / && . {tmp_path}/bin/activate && echo $VIRTUAL_ENV && command -v python"
    said = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.split() == [str(tmp_path), f"{tmp_path}/bin/python"]
