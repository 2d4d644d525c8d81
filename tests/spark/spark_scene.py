"""Runs on the cluster that a test disturbs, and the checks of their results."""

from __future__ import annotations

import json
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from spark_cluster import HOME, SMALL_JVM, Cluster, Daemon, Worker, send, spark_environment, until

from bucketwheel import plugins
from bucketwheel.advice import is_advice
from bucketwheel.runs.manifest import Manifest
from project import APP, WIDE, Project, environment
from run_output import FaultScene, unexpected_paths

# A process that stands still is noticed after eight seconds, not two minutes, and not waited for.
QUICK = {
    "spark.network.timeout": "8s",
    "spark.network.timeoutInterval": "1s",
    "spark.executor.heartbeatInterval": "1s",
    "spark.shuffle.io.maxRetries": "1",
    "spark.shuffle.io.retryWait": "1s",
}
SMALL = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.executor.memory": "700m",
    "spark.executor.extraJavaOptions": SMALL_JVM,
}
# No run begins with one worker only.
BOTH = {"spark.cores.max": "2", "spark.scheduler.minRegisteredResourcesRatio": "1.0"}


def submit(
    cluster: Cluster, log: Path, script: Path, *arguments: str, cores: Mapping[str, str] = BOTH, **more: str
) -> Daemon:
    """Start a driver by spark-submit; `cores` are the settings that request executors."""
    options = ["--master", cluster.url, "--driver-memory", "600m", "--driver-java-options", SMALL_JVM]
    settings = [word for name, value in {**SMALL, **cores, **QUICK}.items() for word in ("--conf", f"{name}={value}")]
    command = [f"{HOME}/bin/spark-submit", *options, *settings, str(script), *arguments]
    # What a driver that is killed leaves in the way of temporary files goes with the cluster.
    own = spark_environment(SPARK_LOCAL_DIRS=str(cluster.temporary), TMPDIR=str(cluster.temporary), **more)
    driver = Daemon(log, command, environment(**own), cluster.root)
    cluster.drivers.append(driver)
    return driver


def submit_job(cluster: Cluster, project: Project, cores: Mapping[str, str] = BOTH) -> Daemon:
    """Start a run of `app/job.py` by spark-submit."""
    log = cluster.root / f"driver-{uuid.uuid4().hex}.log"
    return submit(cluster, log, APP / "job.py", "--dataset", WIDE, "--config-dir", str(project.conf), cores=cores)


@dataclass(frozen=True)
class Answer:
    """The result of a run: text of its error, if any, and its output."""

    error: str
    out: str
    err: str


class Server:
    """The driver that executes runs one after another; see `spark_server.py`."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        script = Path(__file__).with_name("spark_server.py")
        self.driver = submit(cluster, directory / "server.log", script, str(directory))
        # It stays when the cluster is made whole again.
        cluster.drivers.remove(self.driver)
        self._next = 0

    def order(self, arguments: Sequence[str], settings: Mapping[str, str] | None = None) -> Path:
        """Order a run; return the path of its answer."""
        text = json.dumps({"arguments": list(arguments), "settings": dict(settings or {})})
        aside = self.directory / "order"
        aside.write_text(text)
        aside.rename(self.directory / f"{self._next}.order")
        self._next += 1
        return self.directory / f"{self._next - 1}.answer"

    def leave(self) -> None:
        """Make the driver release its cores."""
        until(self.order([]).exists, "end of the session")

    def await_executors(self, workers: Iterable[Worker]) -> None:
        """Wait until the session, if there is one, has an executor on each worker."""
        _, begun, session = self.driver.text().rpartition("Connected to Spark cluster with app ID")
        if begun and "Successfully stopped SparkContext" not in session:
            until(lambda: all(map(self._has, workers)), "an executor for each worker")

    def _has(self, worker: Worker) -> bool:
        session = self.driver.text().rpartition("Connected to Spark cluster with app ID")[2]
        ids = [word for executor in worker.executors() for word in _executor_ids(executor)]
        return any(f"with ID {number}," in session for number in ids)


def _executor_ids(executor: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        words = executor.cmdline()
        return words[words.index("--executor-id") + 1 :][:1]
    return []


@dataclass
class Scene(FaultScene):
    """A project on the cluster, and its current run."""

    cluster: Cluster
    server: Server
    project: Project
    # A run of the arrow engine on the same input.
    expected: Project
    rows: int
    _answer: Path | None = None
    _said: int = 0
    _before: set[str] = field(default_factory=set)

    def begin(self, *arguments: str, settings: Mapping[str, str] | None = None) -> None:
        """Start a run in the server."""
        self._before = set().union(*(worker.shuffle_files() for worker in self.cluster))
        self._said = len(self.server.driver.text())
        words = ["--dataset", WIDE, "--config-dir", str(self.project.conf), *arguments]
        self._answer = self.server.order(words, settings)

    def said(self) -> str:
        """The log of the driver since the run began."""
        return self.server.driver.text()[self._said :]

    def under_way(self, happened: Callable[[], bool], what: str, seconds: float = 120) -> None:
        """Wait for an event during the run; raise if the run ends before."""
        assert self._answer
        ended, came = self._answer, False

        def either() -> bool:
            nonlocal came
            came = happened()
            return came or ended.exists()

        until(either, what, seconds)
        assert came or happened(), f"the run ended before {what}: {ended.read_text()}"

    def catch(self, worker: Worker) -> None:
        """Stop the Python processes of a worker during a task, so that killing them loses work."""

        def caught() -> bool:
            stopped = worker.python_workers()
            send(signal.SIGSTOP, stopped)
            # Time for Java to end, and to report, a task that Python is done with.
            time.sleep(1)
            if self._tasks(worker):
                return True
            send(signal.SIGCONT, stopped)
            return False

        self.under_way(caught, "a task at work")

    def _tasks(self, worker: Worker) -> set[str]:
        ids = "|".join(number for executor in worker.executors() for number in _executor_ids(executor))
        text = self.said()
        begun = re.findall(rf"Starting task .* \(TID (\d+)\) \(\S+, executor (?:{ids}),", text)
        return {*begun} - {*re.findall(r"(?:Finished|Lost) task .* \(TID (\d+)\)", text)}

    def pause(self, worker: Worker) -> list[psutil.Process]:
        """Stop a worker with its executor and Python processes during a task; return the processes."""
        self.catch(worker)
        stopped = worker.family()
        send(signal.SIGSTOP, stopped)
        return stopped

    def retried(self) -> None:
        """Wait until the driver has dropped a stopped executor and another one has finished its task."""
        self.logged(r"Lost executor \d+ .*heartbeat timed out")
        self.logged(r"Starting task \d+\.[1-9]\d* in stage")

    def refused(self) -> Answer:
        """Wait for the end of the run; check that it failed and published nothing."""
        answer = self.answer()
        assert answer.error
        assert shown(self.project) == []
        assert self.manifest().status == "failed"
        assert any(is_advice(line) for line in answer.error.splitlines())
        return answer

    def logged(self, pattern: str) -> None:
        """Wait until the log of the driver matches."""
        self.under_way(lambda: re.search(pattern, self.said()) is not None, f"{pattern!r} in the driver's log")

    def scattered(self, worker: Worker, count: int) -> None:
        """Wait until a worker has finished this many scatter tasks."""

        def happened() -> bool:
            return len(worker.shuffle_files() - self._before) >= count

        self.under_way(happened, f"{count} tasks of scatter")

    def gathered(self, count: int) -> None:
        """Wait until the target has this many files."""
        self.under_way(lambda: len(self.files()) >= count, f"{count} files")

    def files(self) -> list[Path]:
        return list((self.project.target / WIDE).glob("*/*/*.parquet"))

    def answer(self, seconds: float = 180) -> Answer:
        """Wait for the end of the run and return its result."""
        assert self._answer
        until(self._answer.exists, "end of the run", seconds)
        return Answer(**json.loads(self._answer.read_text()))

    def manifest(self) -> Manifest:
        (run_id,) = self.project.run_ids()
        path = self.project.target / "_bucketwheel" / WIDE / "runs" / run_id / "manifest.json"
        return Manifest.model_validate_json(path.read_bytes())

    def finished(self) -> Answer:
        """Wait for the end of the run; check that it succeeded with the files of an undisturbed run."""
        answer = self.answer()
        assert not answer.error, answer.error + answer.err
        self.check()
        return answer

    def hashes(self) -> dict[str, str]:
        """See `FaultScene`."""
        return self.project.hashes()

    def expected_hashes(self) -> dict[str, str]:
        """See `FaultScene`."""
        return self.expected.hashes()

    def unexpected(self) -> list[str]:
        """See `FaultScene`."""
        return unexpected_paths(self.project.target, WIDE)

    def check_tables(self) -> None:
        """Check that every table has the rows that the arrow engine writes."""
        assert self.project.content() == self.expected.content()

    def warnings(self, answer: Answer) -> str:
        """Return the warnings of the manifest; the job's log must have all of them."""
        warnings = self.engine_warnings()
        assert {*warnings} <= _warned(answer)
        return "\n".join(warnings)

    def reasons(self, answer: Answer) -> str:
        """Return the manifest's notes on the failure without its advice; the log and the error must have them all."""
        notes = [note for note in self.manifest().notes if not is_advice(note)]
        assert {*notes} <= _warned(answer)
        assert all(note in answer.error for note in notes)
        return "\n".join(notes)


def _warned(answer: Answer) -> set[str]:
    events = [json.loads(line) for line in answer.out.splitlines()]
    return {event.get("message", "") for event in events if event["level"] == "WARNING"}


def shown(project: Project) -> list[str]:
    """Return the names of the tables in the catalog."""
    return [table.name for table in plugins.catalog(project.configuration().settings).tables()]
