"""What Spark knows of the stages that it ran: bytes spilled, bytes shuffled, tasks that failed and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkContext

from bucketwheel.contracts import EngineStatistics
from bucketwheel.engines.spark.tasks import told_failure

# Enough to tell what is wrong with a cluster.
_MOST_TASKS = 1000
# How running out of memory shows: killed by the system (137 is 128 + SIGKILL), or refused in Python or Java.
_OUT_OF_MEMORY = ("code 137", "MemoryError", "ArrowMemoryError", "OutOfMemory")
_MORE_MEMORY = (
    " (short of memory? give executors more by spark.executor.memoryOverhead or spark.executor.pyspark.memory, or "
    "larger workers; or set a higher buckets.count)"
)


def summarised(context: SparkContext, group: str) -> EngineStatistics:
    """Return what became of all stages of a job group; what a platform's Spark does not tell is left out."""
    try:
        # Stages are noted by a listener that is behind by a moment.
        context._jsc.sc().listenerBus().waitUntilEmpty()
        stages = list(_stages(context, group))
        return EngineStatistics(
            sum(stage.diskBytesSpilled() for stage in stages),
            sum(stage.shuffleWriteBytes() for stage in stages),
            tuple(text for stage in stages for text in _troubles(context, stage)),
        )
    except (Py4JError, OSError) as error:
        return EngineStatistics(warnings=(f"what Spark knows of its stages could not be read: {error}",))


def added(one: EngineStatistics, other: EngineStatistics) -> EngineStatistics:
    """Return the sum of two."""
    return EngineStatistics(
        one.spilled_bytes + other.spilled_bytes,
        one.shuffled_bytes + other.shuffled_bytes,
        one.warnings + other.warnings,
    )


def _stages(context: SparkContext, group: str) -> Iterator[Any]:
    tracker, store = context.statusTracker(), context._jsc.sc().statusStore()
    for job_id in sorted(tracker.getJobIdsForGroup(group)):
        job = tracker.getJobInfo(job_id)
        for stage_id in sorted(job.stageIds) if job else ():
            # None for a stage that was planned, and then not needed or not reached.
            if tracker.getStageInfo(stage_id) is not None:
                attempts = store.lastStageAttempt(stage_id).attemptId()
                for attempt in range(attempts + 1):
                    yield _attempt(context, stage_id, attempt)


def _attempt(context: SparkContext, stage_id: int, attempt: int) -> Any:
    gateway: Any = context._gateway
    none, no_numbers = gateway.jvm.java.util.ArrayList(), gateway.new_array(gateway.jvm.double, 0)
    store = context._jsc.sc().statusStore()
    return store.stageAttempt(stage_id, attempt, False, none, False, no_numbers)._1()


def _troubles(context: SparkContext, stage: Any) -> Iterator[str]:
    failed = stage.numFailedTasks()
    if not failed:
        return
    store = context._jsc.sc().statusStore()
    tasks = store.taskList(stage.stageId(), stage.attemptId(), _MOST_TASKS)
    reasons: dict[str, None] = {}
    for number in range(tasks.size()):
        message = tasks.apply(number).errorMessage()
        if message.isDefined():
            reasons[in_short(message.get())] = None
    again = f", attempt {stage.attemptId() + 1}" if stage.attemptId() else ""
    why = "; ".join(reasons) or "no reason is known"
    yield f"spark stage {stage.stageId()}{again}: {failed} tasks failed and were tried again: {why}"


def in_short(text: str) -> str:
    """Return in one line what Spark says of a failure, with the last line of a Python traceback where it has one."""
    ours = told_failure(text)
    if ours:
        return f"{type(ours).__name__}: {ours}"
    first, traceback, rest = text.partition("Traceback (most recent call last):")
    lines = [line.strip() for line in first.splitlines() if line.strip()]
    # Py4J names its own object and method first.
    lines = [line.removeprefix(": ") for line in lines if not line.startswith("An error occurred while calling")]
    said = lines[0] if lines else ""
    if traceback:
        python = rest.partition("\n\tat ")[0]
        raised = [line.strip() for line in python.splitlines() if line.strip()][-1:]
        # PySpark has a sentence for it that says where to look.
        said = " ".join(["a Python worker failed:" if said.startswith("An exception was thrown") else said, *raised])
    advice = _MORE_MEMORY if any(sign in said for sign in _OUT_OF_MEMORY) else ""
    return (said or "no reason is known") + advice
