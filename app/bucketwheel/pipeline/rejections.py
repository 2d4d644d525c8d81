"""Check a run before it is created or starts over: its mapping, filter, limits and layout, and the published run.

All errors that are known at that moment become one, so that following its advice once is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from bucketwheel import plugins
from bucketwheel.contracts import Services, Stage
from bucketwheel.errors import BucketwheelError
from bucketwheel.runs.manifest import Manifest, StageRecord
from bucketwheel.settings import Settings
from bucketwheel.stages import drift
from bucketwheel.stages.drift_limits import quality_error
from bucketwheel.stages.size import Size
from bucketwheel.stages.written_bytes import no_estimate

# Stages that write files of a run, or compare them with the published run.
DATA = ("bucket", "verify")
# Stages that only read.
_READING = ("split", "size")


def rejections(manifest: Manifest, services: Services, stages: Sequence[Stage]) -> list[BucketwheelError]:
    """Return every error of the selected stages that only read, and every limit that the snapshot exceeds.

    If a setting accepts an error, the checks continue with that setting.

    Args:
        manifest: a run that has finished `discover`; its id is empty if it is not created yet.
        services: services of the run.
        stages: the selected stages.
    """
    found: list[BucketwheelError] = []
    names = [stage.name for stage in stages]
    for name in (name for name in names if name in _READING):
        result, services = _result(name, manifest, services, found)
        if result is None:
            break
        manifest = manifest.with_stage(name, StageRecord(started=manifest.created, seconds=0, result=result))
    if checks_limits(names):
        try:
            error: BucketwheelError | None = quality_error(drift.refusals(manifest, services), manifest.run_id)
        except BucketwheelError as unreadable:
            error = unreadable
        found += [error] if error else []
    return found


def checks_limits(stages: Sequence[str]) -> bool:
    """Return whether a selection of stages is checked against the limits of `quality`."""
    return any(name in ("split", *DATA) for name in stages)


def raise_together(found: Sequence[BucketwheelError]) -> None:
    """Raise the first error with the others, if there are any."""
    if found:
        first, *others = found
        raise first.found_with(others)


def _result(
    name: str, manifest: Manifest, services: Services, found: list[BucketwheelError]
) -> tuple[dict[str, Any] | None, Services]:
    """Return the result of a stage, or None after an error, and the services with the settings that it needed."""
    while True:
        try:
            stage: Any = plugins.stage(name, services.settings)
            if isinstance(stage, Size):
                # The sample refuses nothing, and the stage itself will read it.
                stage = Size(no_estimate)
            result: dict[str, Any] = stage.run(manifest, services).model_dump(mode="json")
            return result, services
        except BucketwheelError as error:
            if str(error) not in map(str, found):
                found.append(error)
            settings = _with(services.settings, error.accept)
            if settings == services.settings:
                return None, services
            services = replace(services, settings=settings)


def _with(settings: Settings, accept: Mapping[str, str]) -> Settings:
    """Return the settings with those that an error advises, given as YAML."""
    # The limits that a configuration sets have another meaning than the defaults: keep that difference.
    values = settings.model_dump(exclude_unset=True)
    for name, text in accept.items():
        *parents, last = name.split(".")
        section = values
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = yaml.safe_load(text)
    return type(settings).model_validate(values)
