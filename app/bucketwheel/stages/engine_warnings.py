"""What an engine knows of work that failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bucketwheel.contracts import Engine, Progress, Services


@contextmanager
def attach_engine_warnings(services: Services, stage: str, engine: Engine) -> Iterator[None]:
    """Where the block fails, report what the engine warns of and put it on the error: no result will tell it."""
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
        except OSError as unheard:
            # Where the JVM of a job has ended, so has its output; why is what counts.
            error.add_note(f"warnings could not be printed: {unheard}")
        raise
