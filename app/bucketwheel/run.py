"""Runs the stages: begins, attaches to or resumes a run, and keeps its manifest after every stage."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa

import bucketwheel
from bucketwheel import backends
from bucketwheel.assembly import RunRequest, make_services, selected_stages, utc_now
from bucketwheel.contracts import Progress, Report, Services, Stage
from bucketwheel.errors import BucketwheelError, SelectionError
from bucketwheel.fingerprint import check_unchanged, fingerprint, inputs_of
from bucketwheel.lease import Lease
from bucketwheel.manifest import DiscoverResult, Manifest, PublishResult, SizeResult, StageRecord
from bucketwheel.publish import is_current
from bucketwheel.runs import BucketCheckpoints, RunStore
from bucketwheel.settings import Settings

_PUBLISHING = ("register", "ctas")


@dataclass(frozen=True)
class RunOutcome:
    """The run as it ended; `changed` is False where everything had been done before."""

    manifest: Manifest
    changed: bool


def run(
    settings: Settings,
    request: RunRequest,
    report: Report = lambda _: None,
    now: Callable[[], datetime] = utc_now,
) -> RunOutcome:
    """Run the selected stages of one dataset.

    Raises:
        BucketwheelError: see `errors.py`; a note on it gives the command that resumes.
    """
    stages = [backends.stage(name) for name in selected_stages(settings, request.stages)]
    services = make_services(settings, request, report, now)
    store = RunStore(services.storage, settings.target)
    with Lease(store.home(request.dataset), settings.lease.ttl_seconds, now) as lease:
        services = replace(services, fence=lease)
        if request.resume:
            manifest = _resumed(store, services, request)
        elif "discover" in [stage.name for stage in stages]:
            manifest = _begun(store, services, stages)
        else:
            manifest = _attached(store, services, stages[0])
        if request.resume and not request.stages:
            stages = [backends.stage(name) for name in manifest.planned_stages]
        return _finish(store, services, manifest, stages, request)


def _begun(store: RunStore, services: Services, stages: Sequence[Stage]) -> Manifest:
    """Discover, then return the run that did all this before, or a new one."""
    draft = _draft(services, [stage.name for stage in stages])
    started, clock = services.now(), services.now
    services.report(Progress(services.dataset, "discover", "started"))
    found = backends.stage("discover").run(draft, services)
    record = _record(started, clock(), found.model_dump(mode="json"))
    draft = draft.with_stage("discover", record)
    result = draft.result("discover", DiscoverResult)
    marks = fingerprint(services, inputs_of(result))
    for earlier in reversed(store.manifests(services.dataset)):
        same = earlier.fingerprint == marks and earlier.status == "finished"
        if same and all(_holds(earlier, stage.name, services) for stage in stages):
            return earlier
    stamp = started.strftime("%Y%m%dT%H%M%SZ")
    run_id = f"{result.snapshot_dt}-{stamp}-{secrets.token_hex(3)}"
    manifest = draft.model_copy(update={"run_id": run_id, "fingerprint": marks, "snapshot_dt": result.snapshot_dt})
    store.save(manifest)
    services.report(_finished(services, "discover", manifest))
    return manifest


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
        runtime="container" if os.path.exists("/.dockerenv") else "local",  # noqa: PTH110
    )


def _record(started: datetime, ended: datetime, result: dict[str, object]) -> StageRecord:
    return StageRecord(
        started=started.isoformat(timespec="seconds"),
        seconds=round((ended - started).total_seconds(), 3),
        result=result,
    )


def _holds(manifest: Manifest, stage: str, services: Services) -> bool:
    """Return whether a stage is done and, if it published, the catalog still shows what it published."""
    if stage not in manifest.stages:
        return False
    if stage not in _PUBLISHING:
        return True
    return is_current(services.catalog(), manifest.result(stage, PublishResult))


def _attached(store: RunStore, services: Services, first: Stage) -> Manifest:
    """Return the newest run that has what the selected stages need."""
    for manifest in reversed(store.manifests(services.dataset)):
        wanted = services.snapshot_dt in (None, manifest.snapshot_dt)
        wanted = wanted and (not services.tables_filter or services.tables_filter == manifest.tables_filter)
        if wanted and all(name in manifest.stages for name in first.requires):
            check_unchanged(manifest, replace(services, tables_filter=manifest.tables_filter))
            return manifest
    raise SelectionError(
        f"{services.dataset}: no run below {store.target} has finished {', '.join(first.requires)}, which stage "
        f"{first.name!r} needs; run them first, or all stages together"
    )


def _resumed(store: RunStore, services: Services, request: RunRequest) -> Manifest:
    if request.resume == "last":
        manifests = store.manifests(request.dataset)
        if not manifests:
            raise SelectionError(f"--resume last: {request.dataset} has no run below {store.target}")
        manifest = next((m for m in reversed(manifests) if m.status != "finished"), manifests[-1])
    else:
        manifest = store.find(request.resume or "", [request.dataset])
    services = replace(services, tables_filter=services.tables_filter or manifest.tables_filter)
    check_unchanged(manifest, services)
    return manifest


def _finish(
    store: RunStore, services: Services, manifest: Manifest, stages: Sequence[Stage], request: RunRequest
) -> RunOutcome:
    checkpoints = BucketCheckpoints(services.storage, store, request.dataset, manifest.run_id)
    services = replace(
        services, checkpoints=checkpoints, tables_filter=services.tables_filter or manifest.tables_filter
    )
    todo = [stage for stage in stages if not _holds(manifest, stage.name, services)]
    if not todo and manifest.status == "finished":
        return RunOutcome(manifest, changed=False)
    try:
        for stage in todo:
            manifest = _run_stage(store, services, manifest, stage)
            if stage.name == "bucket":
                checkpoints.clear()
                services.storage.delete_directory(store.scratch(request.dataset, manifest.run_id))
    except BaseException as error:
        _note_failure(store, manifest, error, request)
        raise
    manifest = manifest.model_copy(update={"status": "finished", "error": None})
    store.save(manifest)
    return RunOutcome(manifest, changed=True)


def _run_stage(store: RunStore, services: Services, manifest: Manifest, stage: Stage) -> Manifest:
    missing = [name for name in stage.requires if name not in manifest.stages]
    if missing:
        raise SelectionError(
            f"stage {stage.name!r} needs {', '.join(missing)}, which run {manifest.run_id} has not finished"
        )
    services.report(_starting(services, stage.name, manifest))
    started = services.now()
    result = stage.run(manifest, services).model_dump(mode="json")
    manifest = manifest.with_stage(stage.name, _record(started, services.now(), result))
    store.save(manifest)
    services.report(_finished(services, stage.name, manifest))
    return manifest


def _starting(services: Services, stage: str, manifest: Manifest) -> Progress:
    rows = size = 0
    if stage in ("bucket", "verify"):
        # Bucket moves every row twice: once when it is read, once when it is written.
        rows = manifest.result("discover", DiscoverResult).rows * (2 if stage == "bucket" else 1)
        size = sum(table.bytes for table in manifest.result("size", SizeResult).tables)
    return Progress(services.dataset, stage, "started", total_rows=rows, total_bytes=size)


def _finished(services: Services, stage: str, manifest: Manifest) -> Progress:
    for warning in manifest.stages[stage].result.get("warnings", ()):
        services.report(Progress(services.dataset, stage, "warning", message=str(warning)))
    return Progress(services.dataset, stage, "finished", message=f"{manifest.stages[stage].seconds:.1f} s")


def _note_failure(store: RunStore, manifest: Manifest, error: BaseException, request: RunRequest) -> None:
    text = str(error) or type(error).__name__
    try:
        store.save(manifest.model_copy(update={"status": "failed", "error": text}))
    except BucketwheelError as unsaved:
        error.add_note(f"the failure could not be noted in the manifest: {unsaved}")
    command = request.command or f"bucketwheel run {request.dataset}"
    error.add_note(f"To go on from here: {command} --resume {manifest.run_id}")
