"""The log of a run for machines: one JSON object a line, as CloudWatch Logs and its filters take it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from bucketwheel.contracts import Progress
from bucketwheel.errors import RESUME, resuming
from bucketwheel.pipeline.services import utc_now

Level = Literal["INFO", "WARNING", "ERROR"]

# CloudWatch takes 256 KiB an event; a character of JSON can have six.
_MOST_CHARACTERS = 40_000
_COUNTS = ("rows", "bytes", "total_rows", "total_bytes", "files")


class JsonLog:
    """Writes events to a stream; what is known of the run so far goes into the line that tells of its failure."""

    def __init__(self, stream: TextIO, now: Callable[[], datetime] = utc_now) -> None:
        self._stream = stream
        self._now = now
        self._last: dict[str, str] = {}

    def report(self, step: Progress) -> None:
        """Write a step of a run; small ones are left out."""
        if step.state == "advanced":
            return
        before = self._last if step.dataset == self._last.get("dataset") else {}
        self._last = {
            "run": step.run or before.get("run", ""),
            "dataset": step.dataset,
            "stage": step.stage or before.get("stage", ""),
        }
        told = {name: value for name, value in asdict(step).items() if value or name not in _COUNTS}
        first = {name: told.pop(name) for name in ("run", "dataset", "stage", "table", "bucket")}
        self.say("WARNING" if step.state == "warning" else "INFO", told.pop("message"), **first, **told)

    def failure(self, error: BaseException) -> None:
        """Write what a run failed with: the error's class and text, the command that resumes, further notes."""
        notes = [note for note in getattr(error, "__notes__", ()) if not note.startswith(RESUME)]
        told = {"state": "failed", "error": type(error).__name__, "resume": resuming(error), "notes": notes or None}
        self.say("ERROR", text_of(error), **self._last, **told)

    def say(self, level: Level, message: str, **fields: Any) -> None:
        """Write one line; a field that is None or empty is left out."""
        time = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        filled = {name: value for name, value in fields.items() if value not in ("", None)}
        told = {"message": shortened(message, _MOST_CHARACTERS)} if message else {}
        self.line(json.dumps({"time": time, "level": level, **filled, **told}))

    def line(self, text: str) -> None:
        """Write a line as it is."""
        # In one piece: other threads and processes write to this stream too.
        self._stream.write(f"{text}\n")
        self._stream.flush()


def text_of(error: BaseException) -> str:
    """Return what an error says, or what it is where it says nothing."""
    return "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__


def shortened(text: str, most: int) -> str:
    """Return a text of at most about `most` characters, and how many more there were."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def plain(line: str) -> str | None:
    """Return a line of a job's log as people read it; None where it is of use to machines only."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if not isinstance(event, dict) or "level" not in event:
        return None if isinstance(event, dict) and "_aws" in event else line
    if event.get("state") == "done":
        return None
    words = [str(event[name]) for name in ("dataset", "stage", "state") if event.get(name)]
    level = "" if event["level"] == "INFO" else f"{event['level'].lower()}: "
    told = ": ".join(part for part in (" ".join(words), event.get("message", "")) if part)
    resume = f"\n{RESUME}{event['resume']}" if event.get("resume") else ""
    return f"{event.get('time', '')} {level}{told}{resume}".strip()
