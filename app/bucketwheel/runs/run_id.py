"""Run ids: `<snapshot date>-<time at which the run started>-<6 random hex digits>`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from bucketwheel.errors import did_you_mean
from bucketwheel.system import system

RUN_ID = re.compile(r"\d{4}-\d{2}-\d{2}-\d{8}T\d{6}Z-[0-9a-f]{6}")
# Fewer characters are more likely a mistake than a run id.
MIN_SHORT = 4
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_TIME_LENGTH = len("20251101T041109Z")
_DATE_LENGTH = len("2025-10-22-")


def new_run_id(snapshot_dt: str, started: datetime, existing: Sequence[str]) -> str:
    """Return the id of a new run.

    Args:
        snapshot_dt: date of its snapshot.
        started: time at which it started, in UTC.
        existing: ids of the runs of the same dataset, oldest first.
    """
    # Ids sort by time in seconds. The new run must sort last, even within the same second or with a slow clock.
    for newest in existing[-1:]:
        started = max(started, start_time(newest) + timedelta(seconds=1))
    return f"{snapshot_dt}-{started.strftime(_TIME_FORMAT)}-{system().new_id()[:6]}"


def is_run_id(text: str) -> bool:
    """Return whether the text is the id of a run."""
    try:
        return RUN_ID.fullmatch(text) is not None and start_time(text) is not None
    except ValueError:
        return False


def start_time(run_id: str) -> datetime:
    """Return the time of a run id, at which the run started."""
    return datetime.strptime(started_at(run_id)[:_TIME_LENGTH], _TIME_FORMAT).replace(tzinfo=UTC)


def matching(text: str, known: Iterable[str]) -> list[str]:
    """Return the run ids that `text` names: itself, or those whose whole or last part begins with it."""
    ids = sorted(known, key=started_at)
    if text in ids or len(text) < MIN_SHORT:
        return [text] if text in ids else []
    return [run_id for run_id in ids if run_id.startswith(text) or run_id.rpartition("-")[2].startswith(text)]


def did_you_mean_run(text: str, known: Iterable[str]) -> str:
    """Return a hint as `did_you_mean` does; it never names a run of another snapshot than `text`."""
    return did_you_mean(text, [run_id for run_id in known if run_id[:_DATE_LENGTH] == text[:_DATE_LENGTH]])


def started_at(run_id: str) -> str:
    """Return the part of a run id that sorts runs by start time."""
    return run_id[_DATE_LENGTH:]
