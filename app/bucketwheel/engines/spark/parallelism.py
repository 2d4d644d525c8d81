"""How many tasks the work is cut into: by its size, and by the cores that the cluster has or is going to have."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import SparkContext

# So many tasks a core that the last one to finish keeps few cores idle.
_TASKS_PER_CORE = 4
# A task has at most this much decoded data where buckets and slices allow it: a cluster that grows by the tasks that
# wait, or whose executors come late, has work for all of them.
_TASK_BYTES = 256 * 2**20
# Executors of a standalone cluster come one by one, some seconds after the session.
_MOST_WAIT_SECONDS = 15.0
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
    if re.fullmatch(r"local(\[.*\])?", master) or promised or _grows(conf):
        return max(promised, _registered(context).cores, 1)
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


class _Registered(NamedTuple):
    """The cores of all executors; seconds until the last of them was there, and seconds since."""

    cores: int
    took: float
    since: float


def _registered(context: SparkContext) -> _Registered:
    gateway: Any = context._gateway
    spark = context._jsc.sc()
    try:
        found = spark.statusStore().executorList(True)
        executors = [found.apply(number) for number in range(found.size())]
        # In local mode the driver has them; elsewhere it has none, and is listed all the same.
        with_cores = [executor for executor in executors if executor.totalCores()]
        last = max((executor.addTime().getTime() for executor in with_cores), default=0)
        took, since = last - spark.startTime(), gateway.jvm.java.lang.System.currentTimeMillis() - last
    except Py4JNetworkError:
        raise
    except Py4JError:
        return _Registered(context.defaultParallelism, 0, math.inf)  # A platform's Spark that does not tell.
    return _Registered(sum(executor.totalCores() for executor in with_cores), took / 1000, since / 1000)


def _steady(context: SparkContext, wanted: int) -> int:
    """Return the cores once there are as many as wanted, or no more have come for as long as the last one took."""
    deadline = time.monotonic() + _MOST_WAIT_SECONDS
    while True:
        found = _registered(context)
        steady = found.since >= max(_STEADY_SECONDS, found.took)
        if (found.cores and (found.cores == wanted or steady)) or time.monotonic() > deadline:
            return found.cores
        time.sleep(_POLL_SECONDS)
