"""The notice about a run that has ended, for a person who reads it at night on a small screen."""

from __future__ import annotations

from collections.abc import Iterator

from bucketwheel.monitoring.json_log import shortened
from bucketwheel.report.formatting import size, table
from bucketwheel.runs.summary import Failure, Summary

# SNS takes 100 characters of ASCII as a subject, 256 KiB as a text.
_SUBJECT = 100
_MOST_CHARACTERS = 30_000
_RUNBOOK = "docs/operations.md has what each failure means and what to do."


def subject(environment: str, dataset: str, ending: str) -> str:
    """Return the subject; where it is too long the end is cut, since the names tell notices apart."""
    text = f"Bucketwheel {environment}: {dataset} {ending}"
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    return plain if len(plain) <= _SUBJECT else f"{plain[: _SUBJECT - 3]}..."


def of_run(summary: Summary, place: str) -> tuple[str, str]:
    """Return (subject, text) about a run; `place` is where its summary is."""
    failure = summary.error
    ending = f"FAILED ({failure.kind})" if failure else f"finished, snapshot {summary.snapshot}"
    lines = [*_failed(failure)] if failure else [f"{summary.dataset} in {summary.environment} is published."]
    facts = [
        ("run", summary.run),
        ("snapshot", summary.snapshot or "-"),
        ("stages done", ", ".join(summary.stages) or "none"),
        ("rows", "-" if summary.rows is None else f"{summary.rows:,}"),
        ("written", "-" if summary.bytes is None else size(summary.bytes)),
        ("seconds", f"{summary.seconds:.0f}"),
        ("runtime", summary.runtime),
        ("summary", place),
    ]
    lines += ["", *(f"{name:<12} {value}" for name, value in facts)]
    if not failure and summary.tables:
        rows = [(t.name, f"{t.rows:,}", t.files, size(t.bytes)) for t in summary.tables]
        lines += ["", table(("table", "rows", "files", "bytes"), rows)]
    lines += [f"warning: {text}" for text in summary.warnings]
    return subject(summary.environment, summary.dataset, ending), _bounded([*lines, *_end(failure)])


def of_failed_start(environment: str, dataset: str, failure: Failure, command: str) -> tuple[str, str]:
    """Return (subject, text) about a run that failed before it was in the books."""
    lines = [*_failed(failure), "", "No run was begun, nothing has changed."]
    if command and not failure.resume:
        lines.append(f"Once it is put right: {command}")
    return subject(environment, dataset, f"FAILED ({failure.kind})"), _bounded([*lines, *_end(failure)])


def _failed(failure: Failure) -> Iterator[str]:
    yield f"{failure.kind}: {shortened(failure.message, _MOST_CHARACTERS // 2)}"
    if failure.resume:
        yield from ("", "To go on once that is put right:", f"  {failure.resume}")


def _end(failure: Failure | None) -> Iterator[str]:
    if failure:
        yield from ("", _RUNBOOK)


def _bounded(lines: list[str]) -> str:
    return shortened("\n".join(lines), _MOST_CHARACTERS)
