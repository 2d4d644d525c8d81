"""What happens when a run has ended: metrics, a notice, the summary beside the manifest.

None of it may change how the run ended. What fails here is a warning in the log and in the summary.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bucketwheel import host
from bucketwheel.contracts import Observer, Progress, Report, Services
from bucketwheel.errors import BucketwheelError, resuming
from bucketwheel.monitoring import metrics, notification
from bucketwheel.monitoring.emf import embedded, metric_data
from bucketwheel.monitoring.json_log import text_of
from bucketwheel.monitoring.metrics import DIMENSIONS, Metric
from bucketwheel.monitoring.publisher import OpenCloud, aws_cloud
from bucketwheel.monitoring.run_metrics import measured
from bucketwheel.pipeline.services import RunRequest, utc_now
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.summary import UNFINISHED, Failure, Summary, summarise
from bucketwheel.settings.loading import Configuration


class Ending:
    """Watches one run of one dataset, from its begin."""

    def __init__(
        self,
        config: Configuration,
        request: RunRequest,
        report: Report,
        log: Callable[[str], None] | None = None,
        cloud: OpenCloud | None = None,
    ) -> None:
        self._env = config.env
        self._settings = config.settings
        self._request = request
        self._report = report
        self._log = log or _to_stderr
        self._cloud = cloud or aws_cloud
        self._told = False

    @contextmanager
    def watched(self) -> Iterator[Observer]:
        """Yield what is to be told of the end of the run; an error that comes before that is told of here."""
        self._report(Progress(self._request.dataset, "", "started"))
        try:
            yield self.ended
        except BaseException as error:
            if not self._told:
                self._not_begun(error)
            raise

    def ended(self, manifest: Manifest, error: BaseException | None, services: Services) -> None:
        """See `contracts.Observer`."""
        self._told, self._report = True, services.report
        values: dict[Metric, float] = {}
        warnings: list[str] = []
        with self._kept(warnings, "metrics could not be worked out"):
            values = measured(manifest, self._settings)
        with self._kept(warnings, "metrics were not published"):
            self._publish(manifest, values)
        with self._kept(warnings, "there is no summary of this run, and no notice"):
            summary = self._summary(manifest, error, values)
            self._conclude(summary, services, warnings)
        if error is None:
            self._report(Progress(manifest.dataset, "", "finished", message=manifest.error or "", **_counts(values)))

    def unchanged(self, manifest: Manifest) -> None:
        """Tell of a run that had nothing to do."""
        done = Progress(manifest.dataset, "", "skipped", run=manifest.run_id, message="had done this before")
        self._report(done)

    def _summary(self, manifest: Manifest, error: BaseException | None, values: Mapping[Metric, float]) -> Summary:
        numbers = {metric.name: value for metric, value in values.items()}
        failure = None if error is None else _failure(error)
        return summarise(manifest, self._env, utc_now().isoformat(timespec="seconds"), failure, numbers)

    def _conclude(self, summary: Summary, services: Services, warnings: list[str]) -> None:
        """Send the notice, then write the summary, which has the warnings of all that was sent."""
        failed = summary.error is not None and summary.error.kind != UNFINISHED
        whole = all(stage in summary.stages for stage in self._settings.stages)
        if failed or whole:
            with self._kept(warnings, "no notice was sent"):
                place = services.runs.summary_path(summary.dataset, summary.run)
                self._notify(*notification.of_run(_with(summary, warnings), place))
        with self._kept(warnings, "the summary was not written"), services.fence.guard():
            # A run that lost its lease may not write over what its follower has noted since.
            services.runs.save_summary(_with(summary, warnings))

    def _publish(self, manifest: Manifest, values: Mapping[Metric, float]) -> None:
        monitoring = self._settings.monitoring
        way, time = metrics.route(monitoring.metrics, host.detect(os.environ)), utc_now()
        dimensions = dict(zip(DIMENSIONS, (self._env, manifest.dataset), strict=True))
        if not values or way == "none":
            return
        if way == "emf":
            told = {"run": manifest.run_id, "snapshot": manifest.snapshot_dt or "", "status": manifest.status}
            self._log(embedded(monitoring.namespace, dimensions, values, time, told))
        else:
            data = metric_data(dimensions, values, time)
            self._cloud(self._settings.aws).put_metrics(monitoring.namespace, data)

    def _not_begun(self, error: BaseException) -> None:
        with self._kept([], "no notice was sent"):
            request = self._request
            self._notify(*notification.of_failed_start(self._env, request.dataset, _failure(error), request.command))

    def _notify(self, subject: str, text: str) -> None:
        if topic := self._settings.monitoring.topic_arn:
            self._cloud(self._settings.aws).notify(topic, subject, text)

    @contextmanager
    def _kept(self, warnings: list[str], text: str) -> Iterator[None]:
        """Make a warning of what fails."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 whatever it is, the run has ended as it has
            kind = "" if isinstance(error, BucketwheelError) else f"{type(error).__name__}: "
            warning = f"{text}: {kind}{error}"
            warnings.append(warning)
            self._report(Progress(self._request.dataset, "", "warning", message=warning))


def _counts(values: Mapping[Metric, float]) -> dict[str, Any]:
    """Return what the last line of a run says of it."""
    named = {"rows": metrics.ROWS, "bytes": metrics.BYTES_WRITTEN, "seconds": metrics.SECONDS}
    return {name: values[metric] for name, metric in named.items() if metric in values}


def _with(summary: Summary, warnings: list[str]) -> Summary:
    return summary.model_copy(update={"warnings": (*summary.warnings, *warnings)})


def _failure(error: BaseException) -> Failure:
    return Failure(kind=type(error).__name__, message=text_of(error), resume=resuming(error))


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
