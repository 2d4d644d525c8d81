"""Read the status of Spark stages: bytes spilled, bytes shuffled, failed tasks and their causes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkContext

from bucketwheel.contracts import EngineStatistics
from bucketwheel.engines.spark.tasks import decode_error

# Maximum tasks to read the failures of; enough to diagnose a cluster.
_MAX_TASKS = 1000
# Signs of a lack of memory: killed by the system (137 is 128 + SIGKILL), or an error of Python, Arrow or Java.
_OUT_OF_MEMORY = ("code 137", "MemoryError", "ArrowMemoryError", "OutOfMemory")
_MORE_MEMORY = (
    " (out of memory? raise spark.executor.memoryOverhead or spark.executor.pyspark.memory, use larger workers, or "
    "raise buckets.count)"
)


def summarize(context: SparkContext, group: str) -> EngineStatistics:
    """Return the statistics of all stages of a job group, or a warning if this Spark does not expose them."""
    try:
        # Spark updates its status store asynchronously.
        context._jsc.sc().listenerBus().waitUntilEmpty()
        stages = list(_stages(context, group))
        return EngineStatistics(
            sum(stage.diskBytesSpilled() for stage in stages),
            sum(stage.shuffleWriteBytes() for stage in stages),
            tuple(text for stage in stages for text in _task_failures(context, stage)),
        )
    except (Py4JError, OSError) as error:
        return EngineStatistics(warnings=(f"cannot read the status of the Spark stages: {error}",))


def add(one: EngineStatistics, other: EngineStatistics) -> EngineStatistics:
    """Return the sum of two statistics."""
    return EngineStatistics(
        one.spilled_bytes + other.spilled_bytes,
        one.shuffled_bytes + other.shuffled_bytes,
        one.warnings + other.warnings,
        other.columns or one.columns,
        other.keys or one.keys,
        other.invalid_texts or one.invalid_texts,
    )


def _stages(context: SparkContext, group: str) -> Iterator[Any]:
    tracker, store = context.statusTracker(), context._jsc.sc().statusStore()
    for job_id in sorted(tracker.getJobIdsForGroup(group)):
        job = tracker.getJobInfo(job_id)
        for stage_id in sorted(job.stageIds) if job else ():
            # None for a planned stage that Spark skipped or did not reach.
            if tracker.getStageInfo(stage_id) is not None:
                attempts = store.lastStageAttempt(stage_id).attemptId()
                for attempt in range(attempts + 1):
                    yield _attempt(context, stage_id, attempt)


def _attempt(context: SparkContext, stage_id: int, attempt: int) -> Any:
    gateway: Any = context._gateway
    no_statuses, no_quantiles = gateway.jvm.java.util.ArrayList(), gateway.new_array(gateway.jvm.double, 0)
    store = context._jsc.sc().statusStore()
    return store.stageAttempt(stage_id, attempt, False, no_statuses, False, no_quantiles)._1()


def _task_failures(context: SparkContext, stage: Any) -> Iterator[str]:
    failed = stage.numFailedTasks()
    if not failed:
        return
    store = context._jsc.sc().statusStore()
    tasks = store.taskList(stage.stageId(), stage.attemptId(), _MAX_TASKS)
    reasons: dict[str, None] = {}
    for number in range(tasks.size()):
        message = tasks.apply(number).errorMessage()
        if message.isDefined():
            reasons[summarize_error(message.get())] = None
    attempt = f", attempt {stage.attemptId() + 1}" if stage.attemptId() else ""
    why = "; ".join(reasons) or "unknown reason"
    tasks = "task" if failed == 1 else "tasks"
    yield f"spark stage {stage.stageId()}{attempt}: {failed} {tasks} failed and were retried: {why}"


def summarize_error(text: str) -> str:
    """Return the text of a Spark failure in one line, with the last line of its Python traceback if it has one."""
    error = decode_error(text)
    if error:
        return f"{type(error).__name__}: {error}"
    first, traceback, rest = text.partition("Traceback (most recent call last):")
    lines = [line.strip() for line in first.splitlines() if line.strip()]
    # Py4J puts its own object and method first.
    lines = [line.removeprefix(": ") for line in lines if not line.startswith("An error occurred while calling")]
    summary = lines[0] if lines else ""
    if traceback:
        python = rest.partition("\n\tat ")[0]
        raised = [line.strip() for line in python.splitlines() if line.strip()][-1:]
        # Replace the sentence of PySpark that refers to the traceback.
        summary = " ".join(
            ["a Python worker failed:" if summary.startswith("An exception was thrown") else summary, *raised]
        )
    advice = _MORE_MEMORY if any(sign in summary for sign in _OUT_OF_MEMORY) else ""
    return (summary or "unknown reason") + advice
