"""Which run a command works on: a new one, one that has done the work before, or one that goes on.

* `--resume RUN_ID` names it; `--resume last` is the newest one.
* A selection of stages with `discover` begins a new run. Where an earlier run has the same fingerprint and
  nothing left to do but, at most, to publish, and its files are all there, that one is taken instead. So a
  rerun changes nothing, and a rerun after a rollback publishes the files of the later run again.
* A selection without `discover` attaches to the newest run of the dataset that fits the flags given. It is
  refused where that run has not come far enough: an older one would publish an older month.
"""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

import bucketwheel
from bucketwheel import host, plugins
from bucketwheel.catalogs.publish import check_files
from bucketwheel.contracts import Progress, Services, Stage, of_run
from bucketwheel.errors import SelectionError, VerificationError
from bucketwheel.pipeline.fingerprint import check_unchanged, fingerprint, inputs_of
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.runs.manifest import Manifest, StageRecord
from bucketwheel.runs.store import RunStore, begun_at

PUBLISHING = ("register", "ctas")
_STAMP = "%Y%m%dT%H%M%SZ"


def select_run(store: RunStore, services: Services, stages: Sequence[Stage], request: RunRequest) -> Manifest:
    """Return the run to work on; a new one has done `discover` and is in the books when this returns.

    Raises:
        SelectionError: there is no such run, or it lacks what the stages need.
        ResumeError: configuration or input are not what the run began with.
        BucketwheelError: whatever `discover` raises.
    """
    if request.resume:
        return _resumed(store, services, request)
    if "discover" in [stage.name for stage in stages]:
        return _begun(store, services, stages)
    return _attached(store, services, stages[0])


def stage_record(started: datetime, ended: datetime, result: dict[str, object]) -> StageRecord:
    """Return the record of a stage that ran from `started` to `ended`."""
    return StageRecord(
        started=started.isoformat(timespec="seconds"),
        seconds=round((ended - started).total_seconds(), 3),
        result=result,
    )


def finished(dataset: str, stage: str, record: StageRecord) -> Progress:
    """Return the report that a stage has finished, with rows and bytes where its result has them."""
    rows, size = (found if isinstance(found := record.result.get(name), int) else 0 for name in ("rows", "bytes"))
    return Progress(dataset, stage, "finished", rows, size, message=f"{record.seconds:.1f} s", seconds=record.seconds)


def check_requirements(manifest: Manifest, stages: Sequence[Stage]) -> None:
    """Raise SelectionError where a stage needs one that is neither done nor selected before it."""
    there = set(manifest.stages)
    for stage in stages:
        missing = [name for name in stage.requires if name not in there]
        if missing:
            run_id = f"run {manifest.run_id}" if manifest.run_id else "a new run"
            raise SelectionError(
                f"stage {stage.name!r} needs {', '.join(missing)}, which {run_id} has not finished; select them too"
            )
        there.add(stage.name)


def _begun(store: RunStore, services: Services, stages: Sequence[Stage]) -> Manifest:
    """Discover, then return the run that has done the work before, or a new one."""
    draft = _draft(services, [stage.name for stage in stages])
    started = services.now()
    services.report(Progress(services.dataset, "discover", "started"))
    found = plugins.stage("discover", services.settings).run(draft, services)
    draft = draft.with_stage("discover", stage_record(started, services.now(), found.model_dump(mode="json")))
    result = draft.discover
    inputs = fingerprint(services, inputs_of(result))

    def warn(text: str) -> None:
        services.report(Progress(services.dataset, "discover", "warning", message=f"not looked at: {text}"))

    for earlier in store.newest_first(services.dataset, f"{result.snapshot_dt}-", warn):
        if earlier.fingerprint == inputs and _is_done(earlier, stages, services):
            return earlier
    check_requirements(draft, stages)
    run_id = _new_id(store, services, result.snapshot_dt, started)
    manifest = draft.model_copy(update={"run_id": run_id, "fingerprint": inputs, "snapshot_dt": result.snapshot_dt})
    with services.fence.guard():
        store.save(manifest)
    report, record = of_run(services.report, run_id), manifest.stages["discover"]
    for warning in result.warnings:
        report(Progress(services.dataset, "discover", "warning", message=warning))
    report(finished(services.dataset, "discover", record))
    return manifest


def _is_done(earlier: Manifest, stages: Sequence[Stage], services: Services) -> bool:
    """Return whether nothing is left to do in a run but, at most, to publish its files."""
    names = {*earlier.planned_stages, *(stage.name for stage in stages)}
    if any(name not in earlier.stages for name in names - {*PUBLISHING}):
        return False
    if "bucket" in earlier.stages:
        try:
            check_files(earlier, services.runs)
        except VerificationError:
            return False
    return True


def _new_id(store: RunStore, services: Services, snapshot_dt: str, started: datetime) -> str:
    # Run ids sort by time to the second; a run that follows at once, or by a slower clock, is still the newest.
    for newest in store.traces(services.dataset)[-1:]:
        before = datetime.strptime(begun_at(newest)[:16], _STAMP).replace(tzinfo=UTC)
        started = max(started, before + timedelta(seconds=1))
    return f"{snapshot_dt}-{started.strftime(_STAMP)}-{secrets.token_hex(3)}"


def _draft(services: Services, stages: Sequence[str]) -> Manifest:
    return Manifest(
        run_id="",
        dataset=services.dataset,
        created=services.now().isoformat(timespec="seconds"),
        tables_filter=services.tables_filter,
        planned_stages=tuple(stages),
        fingerprint={},
        versions={
            "bucketwheel": bucketwheel.__version__,
            "python": platform.python_version(),
            "pyarrow": pa.__version__,
            "numpy": np.__version__,
        },
        runtime=host.detect(os.environ),
    )


def _attached(store: RunStore, services: Services, first: Stage) -> Manifest:
    wanted = sorted(services.tables_filter)
    for manifest in store.newest_first(services.dataset):
        fits = services.snapshot_dt in (None, manifest.snapshot_dt)
        if not fits or (wanted and wanted != sorted(manifest.tables_filter)):
            continue
        missing = [name for name in first.requires if name not in manifest.stages]
        if missing:
            raise SelectionError(
                f"stage {first.name!r} needs {', '.join(missing)}, which the newest run {manifest.run_id} of "
                f"{services.dataset} has not finished; run them first (--stages {','.join(missing)}), or name "
                "another run with --resume RUN_ID"
            )
        check_unchanged(manifest, replace(services, tables_filter=manifest.tables_filter))
        return manifest
    raise SelectionError(
        f"{services.dataset}: no run below {store.target} has finished {', '.join(first.requires)}, which stage "
        f"{first.name!r} needs; run them first, or all stages together"
    )


def _resumed(store: RunStore, services: Services, request: RunRequest) -> Manifest:
    if request.resume == "last":
        manifest = next(store.newest_first(request.dataset), None)
        if manifest is None:
            raise SelectionError(f"--resume last: {request.dataset} has no run below {store.target}; leave it out")
    else:
        manifest = store.find(request.resume or "", [request.dataset])
    tables_filter = services.tables_filter or manifest.tables_filter
    check_unchanged(manifest, replace(services, tables_filter=tables_filter))
    return manifest
