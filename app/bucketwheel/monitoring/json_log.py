"""Write the log of a run as one JSON object per line, for CloudWatch Logs and its filters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from bucketwheel.advice import RESUME, advice_of, is_advice, resume_command
from bucketwheel.contracts import Progress
from bucketwheel.safe_text import without_credentials
from bucketwheel.settings.secrets import masked
from bucketwheel.system import system

Level = Literal["INFO", "WARNING", "ERROR"]

# CloudWatch accepts 256 KiB per event; JSON can escape a character as six bytes.
_MAX_CHARACTERS = 40_000
_INTERRUPTED = 130
_COUNTS = ("rows", "bytes", "total_rows", "total_bytes", "files")


class JsonLog:
    """Write events to a stream; the line about a failure repeats the run, dataset and stage of the last event."""

    def __init__(self, stream: TextIO, now: Callable[[], datetime] | None = None) -> None:
        self._stream = stream
        self._now = now or system().clock.now
        self._last: dict[str, str] = {}

    def report(self, step: Progress) -> None:
        """Write a step of a run; steps that only advance a count are omitted."""
        if step.state == "advanced":
            return
        before = self._last if step.dataset == self._last.get("dataset") else {}
        self._last = {
            "run": step.run or before.get("run", ""),
            "dataset": step.dataset,
            "stage": step.stage or before.get("stage", ""),
        }
        fields = {name: value for name, value in asdict(step).items() if value or name not in _COUNTS}
        first = {name: fields.pop(name) for name in ("run", "dataset", "stage", "table", "bucket")}
        self.write("WARNING" if step.state == "warning" else "INFO", fields.pop("message"), **first, **fields)

    def failure(self, error: BaseException) -> None:
        """Write why a run failed: class and text of the error, the advice, further notes."""
        notes = [note for note in getattr(error, "__notes__", ()) if not is_advice(note)]
        line = advice_of(error)
        fields = {
            "state": "failed",
            "error": type(error).__name__,
            "exit_code": getattr(error, "exit_code", _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1),
            "advice": line,
            "resume": resume_command(line),
            "notes": notes or None,
        }
        self.write("ERROR", error_text(error), **self._last, **fields)

    def write(self, level: Level, message: str, **fields: Any) -> None:
        """Write one line, with credentials masked; fields that are None or empty are omitted."""
        time = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        filled = {name: value for name, value in fields.items() if value not in ("", None)}
        text = {"message": truncate(message, _MAX_CHARACTERS)} if message else {}
        self.write_line(json.dumps({"time": time, "level": level, **masked({**filled, **text})}))

    def write_line(self, text: str) -> None:
        """Write a line unchanged."""
        # One call per line: other threads and processes write to this stream too.
        self._stream.write(f"{text}\n")
        self._stream.flush()


def error_text(error: BaseException) -> str:
    """Return the text of an error, or its class if it has none."""
    return without_credentials(error) or (
        "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
    )


def truncate(text: str, limit: int) -> str:
    """Return the first `limit` characters of a text and the number of omitted characters."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def plain_text(line: str) -> str | None:
    """Return a line of a job's log as text for people; None for lines that only machines read."""
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
    text = ": ".join(part for part in (" ".join(words), event.get("message", "")) if part)
    # Earlier versions wrote only the command.
    line = event.get("advice") or (f"{RESUME}{event['resume']}" if event.get("resume") else "")
    return "\n".join(part for part in (f"{event.get('time', '')} {level}{text}".strip(), line) if part)
