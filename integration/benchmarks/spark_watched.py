"""Run the spark engine and report the peak memory of its Python workers and the shuffled bytes.

python -m integration.benchmarks.spark_watched OUT COMMAND…
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_SECONDS = 0.05
_DAEMON = "pyspark.daemon"


def peak_of_workers(root: psutil.Process, over: threading.Event) -> int:
    """Return the peak resident memory of a single Python worker below a process, sampled until the process ends."""
    peak = 0
    while not over.wait(_SECONDS):
        for worker in _workers(root):
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, worker.memory_info().rss)
    return peak


def _workers(root: psutil.Process) -> Iterator[psutil.Process]:
    """Yield the workers that the daemons of PySpark have forked."""
    with suppress(psutil.NoSuchProcess):
        for process in root.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                parent = process.parent()
                if parent and _DAEMON in parent.cmdline():
                    yield process


def main() -> None:
    out, command = Path(sys.argv[1]), sys.argv[2:]
    over = threading.Event()
    peaks: list[int] = []
    running = subprocess.Popen(command, stdout=sys.stderr)
    root = psutil.Process(running.pid)
    watcher = threading.Thread(target=lambda: peaks.append(peak_of_workers(root, over)))
    watcher.start()
    code = running.wait()
    over.set()
    watcher.join()
    if code:
        raise SystemExit(code)
    (manifest,) = out.glob("_bucketwheel/infobase_attributes/runs/*/manifest.json")
    results = {name: stage["result"] for name, stage in json.loads(manifest.read_text())["stages"].items()}
    shuffled, read = results["bucket"]["shuffled_bytes"], results["size"]["bytes_to_read"]
    print(json.dumps({"worker_peak_rss_bytes": peaks, "shuffled_per_read_byte": [shuffled / read]}))


if __name__ == "__main__":
    main()
