"""Log the progress of commands to the logger `bucketwheel`, for users of the Python interface."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from bucketwheel.contracts import Progress, Report
from bucketwheel.formatting import counted
from bucketwheel.safe_text import one_line, several_lines, without_credentials

_LOG = logging.getLogger("bucketwheel")
_LEVELS = {"started": logging.INFO, "finished": logging.INFO, "skipped": logging.INFO, "warning": logging.WARNING}


def logged(report: Report) -> Report:
    """Return a report that also logs: stages at INFO, warnings at WARNING, steps of a stage at DEBUG."""

    def log(step: Progress) -> None:
        level = _LEVELS.get(step.state, logging.DEBUG)
        if _LOG.isEnabledFor(level):
            _LOG.log(level, "%s", one_line(without_credentials(_text(step))))
        report(step)

    return log


@contextmanager
def log_failure(dataset: str) -> Iterator[None]:
    """Log an error in the block at level ERROR and raise it again."""
    try:
        yield
    except BaseException as error:
        _LOG.error("%s: %s: %s", one_line(dataset), type(error).__name__, several_lines(without_credentials(error)))
        raise


def _text(step: Progress) -> str:
    bucket = "" if step.bucket is None else f"bucket {step.bucket}"
    counts = f"{counted(step.rows, 'row')}, {counted(step.bytes, 'byte')}" if step.rows or step.bytes else ""
    subject = " ".join(part for part in (step.dataset, step.run, step.stage, step.table, bucket) if part)
    return ": ".join(part for part in (subject, step.state, counts, step.message) if part)
