"""What a run will do, as data; reads footers and the mapping, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bucketwheel import backends
from bucketwheel.assembly import RunRequest, make_services, selected_stages, utc_now
from bucketwheel.manifest import DiscoverResult, Manifest, SizeResult, SplitResult, StageRecord
from bucketwheel.settings import Settings

_LOOKING = ("discover", "split", "size")


@dataclass(frozen=True)
class Plan:
    """The results of the stages that only look, and the stages that would run."""

    dataset: str
    stages: tuple[str, ...]
    discover: DiscoverResult
    split: SplitResult
    size: SizeResult

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of all three."""
        return (*self.discover.warnings, *self.split.warnings, *self.size.warnings)


def plan(settings: Settings, request: RunRequest, now: Callable[[], datetime] = utc_now) -> Plan:
    """Return the plan of one dataset: the very stages that `run` would use, without its lease.

    Raises:
        BucketwheelError: whatever would refuse the run before it reads a data page.
    """
    stages = selected_stages(settings, request.stages)
    services = make_services(settings, request, lambda _: None, now)
    for name in stages:
        backends.stage(name)
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
        result = backends.stage(name).run(manifest, services).model_dump(mode="json")
        manifest = manifest.with_stage(name, StageRecord(started=manifest.created, seconds=0, result=result))
    return Plan(
        dataset=request.dataset,
        stages=tuple(stages),
        discover=manifest.result("discover", DiscoverResult),
        split=manifest.result("split", SplitResult),
        size=manifest.result("size", SizeResult),
    )
