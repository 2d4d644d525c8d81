from __future__ import annotations

from typing import Any

import pytest
from py4j.protocol import Py4JError

from bucketwheel.engines.spark.parallelism import configured_cores, cores, task_count

MIB = 2**20


class Machine:
    """A JVM whose executors come one by one: (seconds after the session, cores)."""

    def __init__(self, *executors: tuple[float, int], tells: bool = True) -> None:
        self._executors = executors
        self._tells = tells
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def context(self, master: str, **settings: str) -> Any:
        return Context(self, master, settings)

    def there(self) -> list[Executor]:
        if not self._tells:
            raise Py4JError("Method executorList([class java.lang.Boolean]) does not exist")
        return [Executor(since, count) for since, count in self._executors if since <= self.seconds]


class Chain:
    """Whatever is asked of it on the way to what a test answers."""

    def __init__(self, **answers: Any) -> None:
        self.__dict__.update(answers)


class Executor:
    def __init__(self, since: float, count: int) -> None:
        self._since, self._count = since, count

    def totalCores(self) -> int:  # noqa: N802 the name is Spark's
        return self._count

    def addTime(self) -> Any:  # noqa: N802 the name is Spark's
        return Chain(getTime=lambda: int(self._since * 1000))


class Found(list[Executor]):
    def size(self) -> int:
        return len(self)

    def apply(self, number: int) -> Executor:
        return self[number]


class Context:
    # What a platform sets, or Spark says before any executor is there; never the cores of the cluster.
    defaultParallelism = 99  # noqa: N815 the name is Spark's

    def __init__(self, machine: Machine, master: str, settings: dict[str, str]) -> None:
        self.master = master
        clock = Chain(currentTimeMillis=lambda: int(machine.seconds * 1000))
        store = Chain(executorList=lambda _active: Found(machine.there()))
        self._settings = {name.replace("_", "."): value for name, value in settings.items()}
        self._jsc = Chain(sc=lambda: Chain(statusStore=lambda: store, startTime=lambda: 0))
        system = Chain(System=clock)
        self._gateway = Chain(jvm=Chain(java=Chain(lang=system)))

    def getConf(self) -> Any:  # noqa: N802 the name is Spark's
        return Chain(getAll=lambda: list(self._settings.items()))


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have time pass as a machine says."""

    def use(machine: Machine) -> Machine:
        clock = Chain(sleep=machine.sleep, monotonic=lambda: machine.seconds)
        monkeypatch.setattr("bucketwheel.engines.spark.parallelism.time", clock)
        return machine

    return use


@pytest.mark.parametrize(
    ("settings", "master", "expected"),
    [
        ({"spark.executor.instances": "9", "spark.executor.cores": "4"}, "yarn", 36),
        ({"spark.executor.instances": "9"}, "yarn", 9),
        ({"spark.dynamicAllocation.maxExecutors": "40", "spark.executor.cores": "4"}, "yarn", 0),
        (
            {
                "spark.dynamicAllocation.enabled": "true",
                "spark.dynamicAllocation.maxExecutors": "40",
                "spark.executor.instances": "2",
                "spark.executor.cores": "4",
            },
            "yarn",
            160,
        ),
        (
            {
                "spark.dynamicAllocation.enabled": "true",
                "spark.dynamicAllocation.maxExecutors": "2147483647",
                "spark.executor.cores": "4",
            },
            "yarn",
            0,
        ),
        ({"spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.maxExecutors": "infinity"}, "yarn", 0),
        ({"spark.executor.instances": "9", "spark.executor.cores": "4"}, "spark://m:7077", 0),
    ],
)
def test_configured_cores_reads_platform_settings(settings: dict[str, str], master: str, expected: int) -> None:
    assert configured_cores(settings, master) == expected


def test_cores_waits_for_executors_of_standalone_cluster(wait: Any) -> None:
    machine = wait(Machine((0, 0), (2.0, 4), (2.6, 4), (3.9, 4), (4.5, 8)))
    assert cores(machine.context("spark://m:7077")) == 20
    # On a machine that is slow to start one, others may be as slow.
    assert 8.9 <= machine.seconds < 9.3


def test_cores_does_not_wait_for_steady_cluster(wait: Any) -> None:
    machine = wait(Machine((0, 0), (1, 4), (1, 4)))
    machine.seconds = 60.0
    assert cores(machine.context("spark://m:7077")) == 8
    assert machine.seconds == 60.0


def test_cores_stops_waiting_at_requested_cores(wait: Any) -> None:
    machine = wait(Machine((0, 0), (2, 4), (2, 4), (3, 4)))
    assert cores(machine.context("spark://m:7077", spark_cores_max="8")) == 8
    assert machine.seconds < 2.5


def test_cores_stops_waiting_without_executors(wait: Any) -> None:
    machine = wait(Machine((0, 0)))
    assert cores(machine.context("spark://m:7077")) == 1
    assert 14 < machine.seconds < 16


@pytest.mark.parametrize("more", [{}, {"spark_default_parallelism": "500"}])
def test_cores_in_local_mode_are_those_of_the_driver(wait: Any, more: dict[str, str]) -> None:
    machine = wait(Machine((0, 2)))
    assert cores(machine.context("local[2]", **more)) == 2
    assert machine.seconds == 0


def test_dynamic_allocation_gets_tasks_by_data_size(wait: Any) -> None:
    machine = wait(Machine((0, 0)))
    context = machine.context("yarn", spark_dynamicAllocation_enabled="true")
    assert cores(context) == 1
    assert machine.seconds == 0
    assert task_count(context, 256, 0) == 4
    assert task_count(context, 3, 100 * MIB) == 3
    assert task_count(context, 256, 20 * 256 * MIB) == 20
    assert task_count(context, 256, 500 * 256 * MIB) == 256


def test_cores_falls_back_to_default_parallelism(wait: Any) -> None:
    machine = wait(Machine(tells=False))
    assert cores(machine.context("spark://m:7077")) == 99


def test_tasks_with_large_dictionaries_are_fewer(wait: Any) -> None:
    context = wait(Machine((0, 100))).context("local[100]")
    assert task_count(context, 10_000, 1000 * 256 * MIB) == 1000
    # 32 MiB of dictionaries for each 1.25 GiB of rows.
    assert task_count(context, 10_000, 1000 * 256 * MIB, 32 * MIB) == 200
    # Few rows: all cores only while dictionaries are at most half of the work.
    assert task_count(context, 10_000, 100 * 256 * MIB, 32 * MIB) == 100
    assert task_count(context, 10_000, 10 * 256 * MIB, 32 * MIB) == 40
    assert task_count(context, 10_000, MIB, 32 * MIB) == 1
    assert task_count(context, 10_000, 1000 * 256 * MIB, 1) == 1000


def test_tasks_that_take_several_cores_are_fewer(wait: Any) -> None:
    context = wait(Machine((0, 16))).context("local[16]", spark_task_cpus="4")
    assert task_count(context, 256, 0) == 16
