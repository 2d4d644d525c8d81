"""Choose the number of tasks by the size of the work and by the current or promised cores of the cluster."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import SparkContext

from bucketwheel.engines.spark_sizing import tasks_for

# Executors of a standalone cluster register one by one, some seconds after the session starts.
_MAX_WAIT_SECONDS = 15.0
_STEADY_SECONDS = 1.5
_POLL_SECONDS = 0.1
# Spark's value for no limit.
_UNLIMITED = 2**31 - 1


def task_count(context: SparkContext, parts: int, decoded_bytes: int, header_bytes: int = 0) -> int:
    """Return the number of tasks for work of `parts` indivisible parts; each also sends `header_bytes`."""
    per_task = int(dict(context.getConf().getAll()).get("spark.task.cpus", 1))
    return tasks_for(max(1, cores(context) // per_task), parts, decoded_bytes, header_bytes)


def cores(context: SparkContext) -> int:
    """Return the cores of the executors, or of those that the settings promise.

    `defaultParallelism` gives neither: platforms set it freely, and it is 2 before the first executor registers.
    """
    conf = dict(context.getConf().getAll())
    master = str(context.master)
    configured = configured_cores(conf, master)
    if re.fullmatch(r"local(\[.*\])?", master) or configured or _uses_dynamic_allocation(conf):
        return max(configured, _registered_executors(context).cores, 1)
    return max(_wait_for_executors(context, int(conf.get("spark.cores.max", 0))), 1)


def configured_cores(conf: Mapping[str, str], master: str) -> int:
    """Return the cores that the settings promise, or 0 if they leave the number to the cluster.

    Args:
        conf: the settings of the session.
        master: master URL of the session; a standalone master ignores the requested number of executors.
    """
    per_executor = int(conf.get("spark.executor.cores", 1))
    limit = conf.get("spark.dynamicAllocation.maxExecutors", "") if _uses_dynamic_allocation(conf) else ""
    if limit.isdigit() and int(limit) < _UNLIMITED:
        return int(limit) * per_executor
    if master.startswith("spark:"):
        return 0
    return int(conf.get("spark.executor.instances", 0)) * per_executor


def _uses_dynamic_allocation(conf: Mapping[str, str]) -> bool:
    return conf.get("spark.dynamicAllocation.enabled", "").lower() == "true"


class _Executors(NamedTuple):
    """Cores of the registered executors, the seconds until the last one registered, and the seconds since then."""

    cores: int
    took: float
    since: float


def _registered_executors(context: SparkContext) -> _Executors:
    gateway: Any = context._gateway
    spark = context._jsc.sc()
    try:
        listed = spark.statusStore().executorList(True)
        executors = [listed.apply(number) for number in range(listed.size())]
        # The driver is in the list too; it has cores in local mode only.
        with_cores = [executor for executor in executors if executor.totalCores()]
        last = max((executor.addTime().getTime() for executor in with_cores), default=0)
        took, since = last - spark.startTime(), gateway.jvm.java.lang.System.currentTimeMillis() - last
    except Py4JNetworkError:
        raise
    except Py4JError:
        return _Executors(context.defaultParallelism, 0, math.inf)  # This Spark does not list its executors.
    return _Executors(sum(executor.totalCores() for executor in with_cores), took / 1000, since / 1000)


def _wait_for_executors(context: SparkContext, expected: int) -> int:
    """Return the cores once `expected` are registered, or once executors have ceased to register.

    The latter is assumed when the time since the last registration exceeds the time from the start of Spark to it.
    """
    deadline = time.monotonic() + _MAX_WAIT_SECONDS
    while True:
        executors = _registered_executors(context)
        steady = executors.since >= max(_STEADY_SECONDS, executors.took)
        if (executors.cores and (executors.cores == expected or steady)) or time.monotonic() > deadline:
            return executors.cores
        time.sleep(_POLL_SECONDS)
