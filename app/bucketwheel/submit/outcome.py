"""Read the manifests and summaries that the runs of a job wrote to the target, if the caller may read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bucketwheel.errors import BucketwheelError
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.store import RunStore
from bucketwheel.runs.summary import Failure, Summary
from bucketwheel.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """The newest changed run of each dataset; `problems` lists what could not be read."""

    manifests: tuple[Manifest, ...]
    summaries: tuple[Summary, ...]
    problems: tuple[str, ...]

    def failures(self, since: datetime) -> list[Failure]:
        """Return the failures of runs that ended since then; older summaries belong to earlier attempts."""
        return [summary.error for summary in self.fresh(since) if summary.error is not None]

    def fresh(self, since: datetime) -> list[Summary]:
        """Return the summaries of runs that ended since then."""
        return [summary for summary in self.summaries if datetime.fromisoformat(summary.ended) >= since]


def outcome(settings: Settings, datasets: Sequence[str], since: datetime) -> Outcome:
    """Read the runs of the datasets that changed since then; unreadable ones become problems, never an error.

    The platform decides how the job ended, whether its run metadata can be read from here or not.
    """
    manifests: list[Manifest] = []
    summaries: list[Summary] = []
    problems: list[str] = []
    for dataset in datasets:
        try:
            store = RunStore.of(settings)
            manifest = _newest_changed(store, dataset, since, problems)
            if manifest is not None:
                manifests.append(manifest)
                summary = store.summary(dataset, manifest.run_id)
                summaries += [] if summary is None else [summary]
        except BucketwheelError as error:
            problems.append(f"the run metadata of {dataset} cannot be read completely from here: {error}")
    return Outcome(tuple(manifests), tuple(summaries), tuple(problems))


def _newest_changed(store: RunStore, dataset: str, since: datetime, problems: list[str]) -> Manifest | None:
    """Return the newest run that changed since then; damaged manifests become problems."""
    for manifest in store.newest_first(dataset, unreadable=problems.append):
        moments = [manifest.created, *(record.started for record in manifest.stages.values())]
        if max(map(datetime.fromisoformat, moments)) >= since:
            return manifest
    return None
