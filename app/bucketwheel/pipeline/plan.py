"""Plan a run: read footers and the mapping, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from bucketwheel import plugins
from bucketwheel.contracts import Services
from bucketwheel.cost import Cost, estimate, platform_of
from bucketwheel.errors import StorageError
from bucketwheel.pipeline.services import RunRequest, make_services, selected_stages, utc_now
from bucketwheel.runs.manifest import DiscoverResult, Manifest, SizeResult, SplitResult, StageRecord
from bucketwheel.settings import Settings

_LOOKING = ("discover", "split", "size")
# How many runs are looked at for one that tells how long this one takes.
_EARLIER = 5


@dataclass(frozen=True)
class Plan:
    """The results of the stages that only look, the stages that would run, and what they cost.

    `cost` is None where nothing has a price; `unread` says which earlier runs could not be looked at for it.
    """

    dataset: str
    stages: tuple[str, ...]
    discover: DiscoverResult
    split: SplitResult
    size: SizeResult
    cost: Cost | None = None
    unread: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of all three, and what earlier runs could not be read."""
        return (*self.discover.warnings, *self.split.warnings, *self.size.warnings, *self.unread)


def plan(settings: Settings, request: RunRequest, now: Callable[[], datetime] = utc_now) -> Plan:
    """Return the plan of one dataset: the very stages that `run` would use, without its lease.

    Raises:
        BucketwheelError: whatever would refuse the run before it reads a data page.
    """
    stages = selected_stages(settings, request.stages)
    services = make_services(settings, request, lambda _: None, now)
    for name in stages:
        plugins.stage(name, settings)
    manifest = Manifest(
        run_id="plan",
        dataset=request.dataset,
        created=now().isoformat(timespec="seconds"),
        planned_stages=tuple(stages),
        fingerprint={},
        versions={},
        runtime="",
    )
    for name in _LOOKING:
        result = plugins.stage(name, settings).run(manifest, services).model_dump(mode="json")
        manifest = manifest.with_stage(name, StageRecord(started=manifest.created, seconds=0, result=result))
    found, size = manifest.discover, manifest.size
    earlier, unread = _earlier(services)
    return Plan(
        dataset=request.dataset,
        stages=tuple(stages),
        discover=found,
        split=manifest.split,
        size=size,
        cost=estimate(settings, stages, found, size, earlier),
        unread=tuple(unread),
    )


def _earlier(services: Services) -> tuple[list[Manifest], list[str]]:
    """Return the newest runs where time costs money, and why some could not be read."""
    if platform_of(services.settings) is None:
        return [], []
    unread: list[str] = []
    try:
        runs = services.runs.newest_first(services.dataset, unreadable=unread.append)
        return list(islice(runs, _EARLIER)), unread
    except StorageError as error:
        return [], [f"the cost does not go by earlier runs: {error}"]
