"""How many tasks the work is cut into: by its size, and by the cores that the cluster has or is going to have."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import SparkContext

# So many tasks a core that the last one to finish keeps few cores idle.
_TASKS_PER_CORE = 4
# A task has at most this much decoded data where buckets and slices allow it: a cluster that grows by the tasks that
# wait, or whose executors come late, has work for all of them.
_TASK_BYTES = 256 * 2**20
# Executors of a standalone cluster come one by one, some seconds after the session.
_MOST_WAIT_SECONDS = 10.0
_STEADY_SECONDS = 1.5
_POLL_SECONDS = 0.1
# Spark's own word for no limit.
_UNLIMITED = 2**31 - 1


def task_count(context: SparkContext, parts: int, decoded_bytes: int) -> int:
    """Return the number of tasks for work that comes in so many parts, none of which can be shared."""
    return max(1, min(parts, max(cores(context) * _TASKS_PER_CORE, -(-decoded_bytes // _TASK_BYTES))))


def cores(context: SparkContext) -> int:
    """Return the cores that executors have, or that the cluster has promised.

    `defaultParallelism` is neither: platforms set it as they see fit, and before any executor is there it is 2.
    """
    conf = dict(context.getConf().getAll())
    master = str(context.master)
    promised = promised_cores(conf, master)
    if master.startswith("local") or promised or _grows(conf):
        return max(promised, _registered(context)[0], 1)
    return max(_steady(context, int(conf.get("spark.cores.max", 0))), 1)


def promised_cores(conf: Mapping[str, str], master: str) -> int:
    """Return the cores that settings tell of; 0 where these leave it to the cluster.

    Args:
        conf: the settings of the session.
        master: of the session; a standalone one gives what it has, whatever number of executors is asked for.
    """
    per_executor = int(conf.get("spark.executor.cores", 1))
    most = conf.get("spark.dynamicAllocation.maxExecutors", "") if _grows(conf) else ""
    if most.isdigit() and int(most) < _UNLIMITED:
        return int(most) * per_executor
    if master.startswith("spark:"):
        return 0
    return int(conf.get("spark.executor.instances", 0)) * per_executor


def _grows(conf: Mapping[str, str]) -> bool:
    return conf.get("spark.dynamicAllocation.enabled", "").lower() == "true"


def _registered(context: SparkContext) -> tuple[int, float]:
    """Return the cores of all executors that are there, and for how many seconds the last of them has been."""
    gateway: Any = context._gateway
    try:
        found = context._jsc.sc().statusStore().executorList(True)
        executors = [found.apply(number) for number in range(found.size())]
        # In local mode the driver has them; elsewhere it has none, and is listed all the same.
        with_cores = [executor for executor in executors if executor.totalCores()]
        since = max((executor.addTime().getTime() for executor in with_cores), default=0)
        now = gateway.jvm.java.lang.System.currentTimeMillis()
    except Py4JNetworkError:
        raise
    except Py4JError:
        return context.defaultParallelism, math.inf  # A platform's Spark that does not tell.
    return sum(executor.totalCores() for executor in with_cores), (now - since) / 1000


def _steady(context: SparkContext, wanted: int) -> int:
    """Return the cores once there are as many as wanted, or no more have come for a while; 0 where none come."""
    deadline = time.monotonic() + _MOST_WAIT_SECONDS
    while True:
        there, seconds = _registered(context)
        if (there and (there == wanted or seconds >= _STEADY_SECONDS)) or time.monotonic() > deadline:
            return there
        time.sleep(_POLL_SECONDS)
