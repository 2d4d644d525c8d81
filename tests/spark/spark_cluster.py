"""A standalone Spark cluster of real processes on this machine: a master and two workers of one core each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pyspark

HOME = Path(pyspark.__file__).parent
EXECUTOR = "CoarseGrainedExecutorBackend"
DAEMON = "pyspark.daemon"
# Compiled little and collected by one thread: these live for seconds, and share the machine with others.
SMALL_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_WORKER_MEMORY = "1500m"
# What S3 is reached with; stand-in servers take any.
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def until(happened: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Poll until a condition holds; raise on timeout."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.01)


def spark_environment(**more: str) -> dict[str, str]:
    """Return the environment of a Spark process that listens on loopback only."""
    own = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_HOME": str(HOME), "PYSPARK_PYTHON": sys.executable}
    return {**os.environ, **own, **KEYS, **more}


class Daemon:
    """A Spark process in its own process group, with a log file."""

    def __init__(self, log: Path, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env=dict(environment), cwd=cwd, start_new_session=True
            )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.text())

    def await_line(self, pattern: str, seconds: float = 90) -> re.Match[str]:
        """Wait until the log matches and return the match; raise if the process ends first."""

        def happened() -> bool:
            ended = self.process.poll() is not None
            return bool(self.says(pattern)) or ended

        until(happened, f"{pattern!r} in {self.log}", seconds)
        match = self.says(pattern)
        assert match, f"{self.log}: no {pattern!r}\n{self.text()[-3000:]}"
        return match

    def family(self) -> list[psutil.Process]:
        """Return this process and all its descendants."""
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def end(self) -> None:
        """Kill the whole group, including stopped processes."""
        send(signal.SIGKILL, self.family())
        self.process.wait(20)


def send(number: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def named(processes: Iterable[psutil.Process], part: str) -> list[psutil.Process]:
    """Return the descendants whose command line contains a text."""
    matching = []
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if any(part in word for word in process.cmdline()):
                matching.append(process)
    return matching


class Worker(Daemon):
    """A worker; its executors and their Python processes are its descendants."""

    def __init__(self, root: Path, number: int, master: str, host: str, more: Mapping[str, str]) -> None:
        self.local = root / f"local-{number}"
        self.local.mkdir(parents=True)
        command = [f"{HOME}/bin/spark-class", "org.apache.spark.deploy.worker.Worker"]
        options = ["--host", host, "--port", "0", "--webui-port", "0", "--cores", "1"]
        places = ["--memory", _WORKER_MEMORY, "--work-dir", str(root / f"work-{number}")]
        environment = spark_environment(
            SPARK_LOCAL_DIRS=str(self.local),
            SPARK_DAEMON_MEMORY="192m",
            SPARK_DAEMON_JAVA_OPTS=SMALL_JVM,
            **more,
        )
        super().__init__(root / f"worker-{number}.log", [*command, *options, *places, master], environment, root)

    def ready(self) -> None:
        self.await_line("Successfully registered with master")

    def executors(self) -> list[psutil.Process]:
        """The JVMs that run tasks."""
        return named(self.family()[1:], EXECUTOR)

    def pythons(self) -> list[psutil.Process]:
        """The daemons that fork Python workers, and the workers."""
        return named(self.family()[1:], DAEMON)

    def python_workers(self) -> list[psutil.Process]:
        """The Python processes that execute or await tasks."""
        daemons = {process.pid for process in self.pythons()}
        return [process for process in self.pythons() if _parent(process) in daemons]

    def shuffle_files(self) -> set[str]:
        """The shuffle files of finished scatter tasks, in open sessions."""
        # Unlike rglob, walk does not mind directories that vanish meanwhile.
        paths = (f"{place}/{name}" for place, _, names in os.walk(self.local) for name in names)
        return {path for path in paths if re.search(r"/shuffle_[^/]*\.data$", path)}


def _parent(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.ppid())
    return 0


class Cluster:
    """The master and its workers; `heal` restores them after a fault."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.temporary = root / "tmp"
        self.temporary.mkdir()
        self._numbers = iter(range(1000))
        command = [f"{HOME}/bin/spark-class", "org.apache.spark.deploy.master.Master"]
        options = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
        environment = spark_environment(SPARK_DAEMON_MEMORY="192m", SPARK_DAEMON_JAVA_OPTS=SMALL_JVM)
        self.master = Daemon(root / "master.log", [*command, *options], environment, root)
        self.workers: list[Worker] = []
        self.drivers: list[Daemon] = []

    def start(self) -> None:
        self.url = self.master.await_line(r"Starting Spark master at (spark://\S+)")[1]
        self.heal()

    def worker(self, host: str = "127.0.0.1", **more: str) -> Worker:
        """Start a worker; `more` extends its environment, which executors inherit."""
        added = Worker(self.root, next(self._numbers), self.url, host, more)
        self.workers.append(added)
        return added

    def heal(self, **more: str) -> None:
        """Kill remains of earlier runs and replace broken workers by new ones with `more` in their environment."""
        for driver in self.drivers:
            driver.end()
        self.drivers.clear()
        for worker in list(self.workers):
            send(signal.SIGCONT, worker.family())
            if worker.process.poll() is not None:
                worker.end()
                self.workers.remove(worker)
        for _ in range(2 - len(self.workers)):
            self.worker(**more)
        for worker in self.workers:
            worker.ready()

    def idle(self) -> None:
        """Wait until all executors of finished runs have ended."""
        until(lambda: not any(worker.executors() for worker in self.workers), "end of all executors")

    def remove(self, worker: Worker) -> None:
        worker.end()
        self.workers.remove(worker)

    def end(self) -> None:
        for daemon in (*self.drivers, *self.workers, self.master):
            daemon.end()

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers)
