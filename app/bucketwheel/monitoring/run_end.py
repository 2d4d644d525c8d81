"""Report the end of a run: publish its metrics, send a notification, write the summary beside the manifest.

Failures here are warnings in the log and in the summary; they never change the result of the run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bucketwheel import host
from bucketwheel.advice import advice_of, remedy_of, resume_command
from bucketwheel.contracts import Observer, Progress, Report, Services
from bucketwheel.errors import BucketwheelError
from bucketwheel.monitoring import metrics, notification
from bucketwheel.monitoring.emf import emf_line, metric_data
from bucketwheel.monitoring.json_log import error_text
from bucketwheel.monitoring.metrics import DIMENSIONS, Metric
from bucketwheel.monitoring.publisher import OpenPublisher, open_aws_publisher
from bucketwheel.monitoring.run_metrics import metric_values
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.summary import UNFINISHED, Failure, Summary, summarize
from bucketwheel.settings.loading import Configuration
from bucketwheel.system import system


class RunEndReporter:
    """Reports the start and the end of one run of one dataset."""

    def __init__(
        self,
        config: Configuration,
        request: RunRequest,
        report: Report,
        log: Callable[[str], None] | None = None,
        open_publisher: OpenPublisher | None = None,
    ) -> None:
        self._env = config.env
        self._settings = config.settings
        self._request = request
        self._report = report
        self._log = log or _to_stderr
        self._open_publisher = open_publisher or open_aws_publisher
        self._reported = False

    @contextmanager
    def observe(self) -> Iterator[Observer]:
        """Yield the observer of the run; report an error that comes before the observer is called."""
        self._report(Progress(self._request.dataset, "", "started"))
        try:
            yield self.report_end
        except BaseException as error:
            if not self._reported:
                self._report_failed_start(error)
            raise

    def report_end(self, manifest: Manifest, error: BaseException | None, services: Services) -> None:
        """See `contracts.Observer`."""
        self._reported, self._report = True, services.report
        values: dict[Metric, float] = {}
        warnings: list[str] = []
        with self._warn_on_error(warnings, "the metrics could not be calculated"):
            values = metric_values(manifest, self._settings)
        with self._warn_on_error(warnings, "metrics were not published"):
            self._publish(manifest, values)
        with self._warn_on_error(warnings, "the summary was not written and no notification was sent"):
            summary = self._summary(manifest, error, values)
            self._conclude(summary, services, warnings)
        if error is None:
            self._report(Progress(manifest.dataset, "", "finished", message=manifest.error or "", **_counts(values)))

    def report_skipped(self, manifest: Manifest, state: str) -> None:
        """Report a run that had no stage to do."""
        message = state.removeprefix("is ")
        self._report(Progress(manifest.dataset, "", "skipped", run=manifest.run_id, message=message))

    def _summary(self, manifest: Manifest, error: BaseException | None, values: Mapping[Metric, float]) -> Summary:
        numbers = {metric.name: value for metric, value in values.items()}
        # Resuming writes wrong files again if `bucket` has not finished; otherwise they need a new run.
        failure = None if error is None else _failure(error, rewrites="bucket" not in manifest.stages)
        return summarize(manifest, self._env, system().clock.now().isoformat(timespec="seconds"), failure, numbers)

    def _conclude(self, summary: Summary, services: Services, warnings: list[str]) -> None:
        """Send the notification, then write the summary, which includes warnings about what was not published."""
        failed = summary.error is not None and summary.error.kind != UNFINISHED
        whole = all(stage in summary.stages for stage in self._settings.stages)
        if failed or whole:
            with self._warn_on_error(warnings, "no notification was sent"):
                path = services.runs.summary_path(summary.dataset, summary.run)
                self._notify(*notification.run_notification(_with_warnings(summary, warnings), path))
        with self._warn_on_error(warnings, "the summary was not written"), services.fence.guard():
            # A run that lost its lease must not overwrite what its successor has written since.
            services.runs.save_summary(_with_warnings(summary, warnings))

    def _publish(self, manifest: Manifest, values: Mapping[Metric, float]) -> None:
        monitoring = self._settings.monitoring
        route, time = metrics.route(monitoring.metrics, host.detect(os.environ)), system().clock.now()
        dimensions = dict(zip(DIMENSIONS, (self._env, manifest.dataset), strict=True))
        if not values or route == "none":
            return
        if route == "emf":
            properties = {"run": manifest.run_id, "snapshot": manifest.snapshot_dt or "", "status": manifest.status}
            self._log(emf_line(monitoring.namespace, dimensions, values, time, properties))
        else:
            data = metric_data(dimensions, values, time)
            self._open_publisher(self._settings.aws).put_metrics(monitoring.namespace, data)

    def _report_failed_start(self, error: BaseException) -> None:
        with self._warn_on_error([], "no notification was sent"):
            self._notify(*notification.failed_start_notification(self._env, self._request.dataset, _failure(error)))

    def _notify(self, subject: str, text: str) -> None:
        if topic := self._settings.monitoring.topic_arn:
            self._open_publisher(self._settings.aws).notify(topic, subject, text)

    @contextmanager
    def _warn_on_error(self, warnings: list[str], text: str) -> Iterator[None]:
        """Report an error of the block as a warning that begins with `text`."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 no failure here may change the result of the run
            kind = "" if isinstance(error, BucketwheelError) else f"{type(error).__name__}: "
            warning = f"{text}: {kind}{error}"
            warnings.append(warning)
            self._report(Progress(self._request.dataset, "", "warning", message=warning))


def _counts(values: Mapping[Metric, float]) -> dict[str, Any]:
    """Return the counts that the last line of a run reports."""
    named = {"rows": metrics.ROWS, "bytes": metrics.BYTES_WRITTEN, "seconds": metrics.SECONDS}
    return {name: values[metric] for name, metric in named.items() if metric in values}


def _with_warnings(summary: Summary, warnings: list[str]) -> Summary:
    return summary.model_copy(update={"warnings": (*summary.warnings, *warnings)})


def _failure(error: BaseException, rewrites: bool = True) -> Failure:
    line = advice_of(error)
    return Failure(
        kind=type(error).__name__,
        message=error_text(error),
        resume=resume_command(line),
        advice=line,
        remedy=remedy_of(error, rewrites),
    )


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
