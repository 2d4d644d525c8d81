"""What the runs of a job left on the target, as far as whoever submitted it may read that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bucketwheel.errors import BucketwheelError
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.store import RunStore, run_store
from bucketwheel.runs.summary import Failure, Summary
from bucketwheel.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """The newest run of each dataset that something was done to; `problems` says what could not be read."""

    manifests: tuple[Manifest, ...]
    summaries: tuple[Summary, ...]
    problems: tuple[str, ...]

    def failures(self, since: datetime) -> list[Failure]:
        """Return what runs failed with since then; an older summary is one of an earlier attempt."""
        fresh = [summary for summary in self.summaries if datetime.fromisoformat(summary.ended) >= since]
        return [summary.error for summary in fresh if summary.error is not None]


def outcome(settings: Settings, datasets: Sequence[str], since: datetime) -> Outcome:
    """Read what the datasets' runs wrote since then; what cannot be read becomes a problem, never an error.

    The job has ended as the platform says, whether its books can be read from here or not.
    """
    manifests: list[Manifest] = []
    summaries: list[Summary] = []
    problems: list[str] = []
    for dataset in datasets:
        try:
            store = run_store(settings)
            manifest = _touched(store, dataset, since, problems)
            if manifest is not None:
                manifests.append(manifest)
                summary = store.summary(dataset, manifest.run_id)
                summaries += [] if summary is None else [summary]
        except BucketwheelError as error:
            problems.append(f"what the job wrote of {dataset} cannot all be read from here: {error}")
    return Outcome(tuple(manifests), tuple(summaries), tuple(problems))


def _touched(store: RunStore, dataset: str, since: datetime, problems: list[str]) -> Manifest | None:
    """Return the newest run that something was done to since then; damaged manifests on the way are problems."""
    for manifest in store.newest_first(dataset, unreadable=problems.append):
        moments = [manifest.created, *(record.started for record in manifest.stages.values())]
        if max(map(datetime.fromisoformat, moments)) >= since:
            return manifest
    return None
