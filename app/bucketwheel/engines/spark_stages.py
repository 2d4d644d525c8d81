"""What Spark knows of the stages that it ran: bytes spilled, bytes shuffled, tasks that failed and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkContext

from bucketwheel.contracts import EngineStatistics

# Enough to tell what is wrong with a cluster.
_MOST_TASKS = 1000


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
    except Py4JError as error:
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
                yield store.lastStageAttempt(stage_id)


def _troubles(context: SparkContext, stage: Any) -> Iterator[str]:
    failed = stage.numFailedTasks()
    if not failed and not stage.attemptId():
        return
    store = context._jsc.sc().statusStore()
    tasks = store.taskList(stage.stageId(), stage.attemptId(), _MOST_TASKS)
    reasons: dict[str, None] = {}
    for number in range(tasks.size()):
        message = tasks.apply(number).errorMessage()
        if message.isDefined():
            reasons[message.get().partition("\n")[0]] = None
    again = f", attempt {stage.attemptId() + 1}" if stage.attemptId() else ""
    why = "; ".join(reasons) or "no reason is known"
    yield f"spark stage {stage.stageId()}{again}: {failed} tasks failed and were tried again: {why}"
