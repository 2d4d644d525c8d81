"""Run `spark-submit` on a standalone cluster of workers with one core each; report the seconds of each stage.

python -m integration.benchmarks.spark_workers WORKERS DATA OUT
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pyspark

from .measure import ROOT

_HOME = Path(pyspark.__file__).parent
_SECONDS = 60
_LOCAL = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")


@contextmanager
def _daemon(log: Path, kind: str, says: str, *arguments: str) -> Iterator[str]:
    """Start a master or a worker, yield the log line that shows it is ready, and end it afterwards."""
    command = [str(_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", *_LOCAL, *arguments]
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(log.parent)}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        deadline = time.monotonic() + _SECONDS
        while not (match := re.search(says, log.read_text(errors="replace"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{kind} did not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.1)
        yield match[0]
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS)


def submit(master: str, workers: int, words: Sequence[str]) -> None:
    """Run `bucketwheel run` on the cluster; it starts when all cores are registered.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.cores.max": workers,
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.executor.memory": "1g",
    }
    options = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    command = [
        str(_HOME / "bin" / "spark-submit"),
        "--master",
        master,
        *options,
        str(ROOT / "app" / "job.py"),
        *words,
    ]
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)


def main() -> None:
    workers, data, out = int(sys.argv[1]), Path(sys.argv[2]) / "opus" / "infobase_attributes", Path(sys.argv[3])
    values = {
        "engine": "spark",
        "target": str(out),
        "catalog.path": str(out / "catalog.duckdb"),
        "datasets.infobase_attributes.source": str(data / "raw_input"),
        "datasets.infobase_attributes.mapping": str(data / "mapping.csv"),
        "datasets.infobase_attributes.key": "Customer_User_id",
    }
    words = ["--dataset", "infobase_attributes", "--config-dir", str(ROOT / "conf"), "--settings", json.dumps(values)]
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        url = stack.enter_context(_daemon(place / "master.log", "master.Master", r"spark://\S+"))
        for number in range(workers):
            own = ("--cores", "1", "--memory", "2g", "--work-dir", str(place / f"work-{number}"), url)
            log = place / f"worker-{number}.log"
            stack.enter_context(_daemon(log, "worker.Worker", "Successfully registered with master", *own))
        begun = time.perf_counter()
        submit(url, workers, words)
        seconds = time.perf_counter() - begun
    (manifest,) = out.glob("_bucketwheel/infobase_attributes/runs/*/manifest.json")
    stages = json.loads(manifest.read_text())["stages"]
    report = {"whole": [seconds], **{name: [stage["seconds"]] for name, stage in stages.items()}}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
