"""Attach the warnings of an engine to an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bucketwheel.contracts import Engine, Progress, Services


@contextmanager
def attach_engine_warnings(services: Services, stage: str, engine: Engine) -> Iterator[None]:
    """If the block fails, report the warnings of the engine and add them to the error."""
    before = engine.statistics()
    try:
        yield
    except Exception as error:
        warnings = engine.statistics().since(before).warnings
        for warning in warnings:
            error.add_note(warning)
        try:
            for warning in warnings:
                services.report(Progress(services.dataset, stage, "warning", message=warning))
        except OSError as print_error:
            # If the JVM of a job has ended, its output is closed; the original error matters more.
            error.add_note(f"warnings could not be printed: {print_error}")
        raise
