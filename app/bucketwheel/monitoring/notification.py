"""Format the notification about the end of a run, for an operator who reads it on a small screen."""

from __future__ import annotations

from collections.abc import Iterator

from bucketwheel.formatting import size_text, table
from bucketwheel.monitoring.json_log import truncate
from bucketwheel.runs.summary import Failure, Summary
from bucketwheel.safe_text import one_line, several_lines, without_credentials

# SNS accepts a subject of 100 ASCII characters and a text of 256 KiB.
_MAX_SUBJECT = 100
_MAX_CHARACTERS = 30_000
_RUNBOOK = "docs/operations.md explains each failure and its fix."


def subject(environment: str, dataset: str, ending: str) -> str:
    """Return the subject; a long one loses its end, because the names at its start identify the run."""
    text = f"Bucketwheel {environment}: {dataset} {ending}"
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    return plain if len(plain) <= _MAX_SUBJECT else f"{plain[: _MAX_SUBJECT - 3]}..."


def run_notification(summary: Summary, summary_path: str) -> tuple[str, str]:
    """Return subject and text of the notification about a run."""
    failure = summary.error
    ending = f"FAILED ({failure.kind})" if failure else f"finished, snapshot {summary.snapshot}"
    lines = [*_failed(failure)] if failure else [f"{summary.dataset} in {summary.environment} is published."]
    facts = [
        ("run", summary.run),
        ("snapshot", one_line(summary.snapshot or "-")),
        ("stages done", ", ".join(summary.stages) or "none"),
        ("rows", "-" if summary.rows is None else f"{summary.rows:,}"),
        ("written", "-" if summary.bytes is None else size_text(summary.bytes)),
        ("seconds", f"{summary.seconds:.0f}"),
        ("runtime", summary.runtime),
        ("summary", one_line(summary_path)),
    ]
    lines += ["", *(f"{name:<12} {value}" for name, value in facts)]
    if not failure and summary.tables:
        rows = [(t.name, f"{t.rows:,}", t.files, size_text(t.bytes)) for t in summary.tables]
        lines += ["", table(("table", "rows", "files", "bytes"), rows)]
    lines += [f"warning: {one_line(text)}" for text in summary.warnings]
    return subject(summary.environment, summary.dataset, ending), _bounded([*lines, *_end(failure)])


def failed_start_notification(environment: str, dataset: str, failure: Failure) -> tuple[str, str]:
    """Return subject and text of the notification about a run that failed before it had a manifest."""
    lines = [*_failed(failure), "", "The run did not start; nothing has changed."]
    return subject(environment, dataset, f"FAILED ({failure.kind})"), _bounded([*lines, *_end(failure)])


def _failed(failure: Failure) -> Iterator[str]:
    yield f"{failure.kind}: {truncate(failure.message, _MAX_CHARACTERS // 2)}"
    if failure.advice:
        yield from ("", failure.advice)


def _end(failure: Failure | None) -> Iterator[str]:
    if failure:
        yield from ("", _RUNBOOK)


def _bounded(lines: list[str]) -> str:
    return truncate(several_lines(without_credentials("\n".join(lines))), _MAX_CHARACTERS)
