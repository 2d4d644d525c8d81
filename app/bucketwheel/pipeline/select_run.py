"""Choose the run that a command works on: a new one, one that is up to date, or one to continue.

* `--resume RUN_ID` names it; `--resume last` is the newest one. If that one is finished or there is none, nothing is
  left to resume, and Bucketwheel selects a run as without `--resume`.
* If configuration or input have changed, a run without data starts over; a run with data is refused.
* A selection of stages with `discover` starts a new run. Bucketwheel takes an earlier run instead if it has the same
  fingerprint, still has its files, and has finished every stage except, perhaps, publishing; so a rerun changes
  nothing.
* A selection without `discover` continues the newest run of the dataset that fits the options. If that run has not
  finished the stages that the selection needs, Bucketwheel refuses. It does not fall back to an older run,
  because that would publish an older snapshot.
* Whatever the selection, Bucketwheel refuses data that a rollback withdrew, so that the first of several jobs fails.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

import bucketwheel
from bucketwheel import host, plugins
from bucketwheel.catalogs.publish import check_files
from bucketwheel.contracts import Progress, Services, Stage, of_run
from bucketwheel.errors import BucketwheelError, SelectionError, VerificationError, WithdrawnError
from bucketwheel.pipeline.fingerprint import changes, fingerprint, inputs_of, refusal
from bucketwheel.pipeline.peak_memory import PeakMemory
from bucketwheel.pipeline.rejections import raise_together, rejections
from bucketwheel.pipeline.services import RunRequest, draft_manifest
from bucketwheel.runs.claims import read_claim
from bucketwheel.runs.manifest import Manifest, StageRecord
from bucketwheel.runs.run_id import new_run_id
from bucketwheel.runs.withdrawals import Withdrawal, remove_withdrawal, withdrawals
from bucketwheel.stages.snapshots import choose_snapshot

PUBLISHING = ("register", "ctas")


@dataclass(frozen=True)
class SelectedRun:
    """The run to work on; `checked` is true if it is new and was therefore compared with the published run."""

    manifest: Manifest
    checked: bool = False


def select_run(services: Services, stages: Sequence[Stage], request: RunRequest) -> SelectedRun:
    """Return the run to work on; a new one has finished `discover` and has a saved manifest.

    Raises:
        SelectionError: no such run, or the run lacks results that the stages need.
        ResumeError: configuration or input have changed since the run started.
        WithdrawnError: a rollback withdrew the data.
        BucketwheelError: any error of `discover`, and for a new run those of `rejections.py`.
    """
    if request.resume:
        return _resume(services, stages, request)
    if _discovers(stages):
        return _new_or_up_to_date(services, stages, request.force)
    return _continue_newest(services, stages, request.force)


def stage_record(services: Services, started: datetime, result: dict[str, object], peak: PeakMemory) -> StageRecord:
    """Return the record of a stage that started at `started` and ends now."""
    return StageRecord(
        started=started.isoformat(timespec="seconds"),
        seconds=round((services.clock.now() - started).total_seconds(), 3),
        result=result,
        # Other engines work in other processes, whose memory this one does not know.
        peak_memory_bytes=peak.bytes if services.settings.engine == "arrow" else None,
    )


def finished(dataset: str, stage: str, record: StageRecord) -> Progress:
    """Return the progress of a finished stage, with rows and bytes if its result has them."""
    rows, size = (value if isinstance(value := record.result.get(name), int) else 0 for name in ("rows", "bytes"))
    return Progress(dataset, stage, "finished", rows, size, message=f"{record.seconds:.1f} s", seconds=record.seconds)


def check_requirements(manifest: Manifest, stages: Sequence[Stage]) -> None:
    """Raise SelectionError if a stage needs another that is neither done nor selected before it."""
    available = set(manifest.stages)
    for stage in stages:
        missing = [name for name in stage.requires if name not in available]
        if missing:
            run_id = f"run {manifest.run_id}" if manifest.run_id else "a new run"
            raise SelectionError(
                f"stage {stage.name!r} needs {', '.join(missing)}, which {run_id} has not finished; select them too"
            )
        available.add(stage.name)


def withdrawn_error(marks: Sequence[Withdrawal], dataset: str) -> WithdrawnError | None:
    """Return the error for data that a rollback withdrew; None without a mark."""
    if not marks:
        return None
    return WithdrawnError(
        f"{dataset}: {marks[0].text}; the snapshot and the mapping have not changed since, so nothing was run. "
        f"`bucketwheel unmark {marks[0].run_id}` removes the mark"
    )


def _refused(marks: Sequence[Withdrawal], dataset: str, force: bool) -> list[BucketwheelError]:
    error = None if force else withdrawn_error(marks, dataset)
    return [error] if error else []


def _lift(marks: Sequence[Withdrawal], services: Services, stages: Sequence[Stage]) -> None:
    """Remove the marks of data that is published again; stages that do not publish leave it to the job that does."""
    publishes = any(stage.name in PUBLISHING for stage in stages)
    for mark in marks:
        text = "published again with --force" if publishes else "not published by these stages, so the mark stays"
        if publishes:
            with services.fence.guard():
                remove_withdrawal(services.runs, services.dataset, mark.run_id)
        services.report(Progress(services.dataset, "discover", "warning", message=f"{mark.text}; {text}"))


def _new_or_up_to_date(services: Services, stages: Sequence[Stage], force: bool) -> SelectedRun:
    """Run `discover`, then return the run that is up to date, or a new one."""
    started = services.clock.now()
    draft = _discovered(draft_manifest(services, [stage.name for stage in stages]), services)
    earlier = same_run(draft, services)
    if earlier is not None:
        return SelectedRun(_allowed(earlier, services, stages, force))
    check_requirements(draft, stages)
    marks = marks_of(draft, services)
    raise_together([*_refused(marks, services.dataset, force), *rejections(draft, services, stages)])
    _lift(marks, services, stages)
    run_id = new_run_id(draft.discover.snapshot_dt, started, services.runs.all_run_ids(services.dataset))
    return SelectedRun(_saved(services, draft.model_copy(update={"run_id": run_id})), checked=True)


def same_run(draft: Manifest, services: Services) -> Manifest | None:
    """Return the newest run that wrote what a draft would write and lacks at most publishing; None without one."""

    def warn(text: str) -> None:
        services.report(Progress(services.dataset, "discover", "warning", message=f"earlier run ignored: {text}"))

    for earlier in services.runs.newest_first(services.dataset, f"{draft.snapshot_dt}-", warn):
        if earlier.fingerprint == draft.fingerprint and _needs_only_publishing(earlier, draft, services):
            return earlier
    return None


def marks_of(manifest: Manifest, services: Services) -> list[Withdrawal]:
    """Return the marks of rollbacks that cover the data of a run."""
    return [mark for mark in withdrawals(services.runs, services.dataset) if mark.covers(manifest)]


def _allowed(manifest: Manifest, services: Services, stages: Sequence[Stage], force: bool) -> Manifest:
    """Return the run, unless a rollback withdrew its data."""
    marks = marks_of(manifest, services)
    raise_together(_refused(marks, services.dataset, force))
    _lift(marks, services, stages)
    return manifest


def _discovered(draft: Manifest, services: Services) -> Manifest:
    """Return a draft with the result of `discover`, its snapshot and its fingerprint."""
    started = services.clock.now()
    services.report(Progress(services.dataset, "discover", "started"))
    with PeakMemory() as peak:
        discovered = plugins.stage("discover", services.settings).run(draft, services)
    draft = draft.with_stage("discover", stage_record(services, started, discovered.model_dump(mode="json"), peak))
    result = draft.discover
    inputs = fingerprint(services, inputs_of(result))
    return draft.model_copy(update={"fingerprint": inputs, "snapshot_dt": result.snapshot_dt, **_environment()})


def _saved(services: Services, manifest: Manifest) -> Manifest:
    """Save a new run, or one that starts over, and report its `discover`."""
    with services.fence.guard():
        services.runs.save(manifest)
    report, record = of_run(services.report, manifest.run_id), manifest.stages["discover"]
    for warning in manifest.discover.warnings:
        report(Progress(services.dataset, "discover", "warning", message=warning))
    report(finished(services.dataset, "discover", record))
    return manifest


def _needs_only_publishing(earlier: Manifest, draft: Manifest, services: Services) -> bool:
    """Return whether a run has finished everything except, perhaps, publishing its files."""
    names = {*earlier.planned_stages, *draft.planned_stages}
    if any(name not in earlier.stages for name in names - {*PUBLISHING}):
        return False
    if read_claim(services.runs, services.dataset, earlier.run_id).deletes:
        return False
    if "bucket" in earlier.stages:
        try:
            check_files(earlier, services.runs)
        except VerificationError:
            return False
    return True


def _environment() -> dict[str, Any]:
    """Return the fields of a manifest that record the host and the versions of a run."""
    versions = {
        "bucketwheel": bucketwheel.__version__,
        "python": platform.python_version(),
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
    }
    return {"versions": versions, "runtime": host.detect(os.environ)}


def _continue_newest(services: Services, stages: Sequence[Stage], force: bool) -> SelectedRun:
    first, tables = stages[0], sorted(services.tables_filter)
    store = services.runs
    for manifest in store.newest_first(services.dataset):
        fits = services.snapshot_dt in (None, manifest.snapshot_dt)
        if not fits or (tables and tables != sorted(manifest.tables_filter)):
            continue
        missing = [name for name in first.requires if name not in manifest.stages]
        if missing:
            raise SelectionError(
                f"stage {first.name!r} needs {', '.join(missing)}, which the newest run {manifest.run_id} of "
                f"{services.dataset} has not finished; run them first (--stages {','.join(missing)}), or name "
                "another run with --resume RUN_ID"
            )
        _warn_of_newer_snapshot(manifest, services)
        services = replace(services, tables_filter=manifest.tables_filter)
        return _unchanged_or_restarted(services, stages, manifest, force)
    raise SelectionError(
        f"{services.dataset}: no run below {store.target} has finished {', '.join(first.requires)}, which stage "
        f"{first.name!r} needs; run them first, or select all stages at once"
    )


def _warn_of_newer_snapshot(manifest: Manifest, services: Services) -> None:
    """Warn if the source has a newer snapshot: an earlier job may have failed before it created a run for it."""
    if services.snapshot_dt is not None:
        return
    try:
        newest, location = choose_snapshot(services, [])
    except BucketwheelError:
        # Jobs that only publish may have no access to the source.
        return
    if newest > (manifest.snapshot_dt or newest):
        text = (
            f"continues run {manifest.run_id} of snapshot {manifest.snapshot_dt}, although the source has snapshot "
            f"{newest} ({location}), for which there is no run with these options"
        )
        services.report(Progress(services.dataset, "", "warning", message=text))


def _resume(services: Services, stages: Sequence[Stage], request: RunRequest) -> SelectedRun:
    store = services.runs
    if request.resume == "last":
        manifest = next(store.newest_first(request.dataset), None)
        if _discovers(stages) and (manifest is None or _is_complete(manifest, services)):
            newest = f"the newest run {manifest.run_id} is finished" if manifest else "there is no run"
            text = f"--resume last: nothing to resume, {newest}; continuing as without --resume"
            services.report(Progress(services.dataset, "discover", "warning", message=text))
            return _new_or_up_to_date(services, stages, request.force)
        if manifest is None:
            raise SelectionError(f"--resume last: {request.dataset} has no run below {store.target}; omit --resume")
    else:
        manifest = store.find(request.resume or "", [request.dataset])
    services = replace(services, tables_filter=services.tables_filter or manifest.tables_filter)
    if not request.stages:
        stages = [plugins.stage(name, services.settings) for name in manifest.planned_stages]
    return _unchanged_or_restarted(services, stages, manifest, request.force)


def _discovers(stages: Sequence[Stage]) -> bool:
    return "discover" in [stage.name for stage in stages]


def _is_complete(manifest: Manifest, services: Services) -> bool:
    """Return whether a run has finished all configured stages."""
    return manifest.status == "finished" and set(services.settings.stages) <= set(manifest.stages)


def _unchanged_or_restarted(
    services: Services, stages: Sequence[Stage], manifest: Manifest, force: bool
) -> SelectedRun:
    """Return the run; one that has written no data starts over if configuration or input have changed.

    Raises:
        ResumeError: configuration or input have changed, and starting over would lose data or lack a stage.
        WithdrawnError: a rollback withdrew the data.
        BucketwheelError: any error of `discover` and `rejections.py`.
    """
    changed = changes(manifest, services)
    if not changed:
        return SelectedRun(_allowed(manifest, services, stages, force))
    if services.snapshot_dt not in (None, manifest.snapshot_dt) or not _can_restart(services, stages, manifest):
        raise refusal(manifest, changed)
    services = replace(services, snapshot_dt=manifest.snapshot_dt, report=of_run(services.report, manifest.run_id))
    text = f"run {manifest.run_id} has written no data and starts over: {'; '.join(changed)}"
    services.report(Progress(services.dataset, "discover", "warning", message=text))
    draft = draft_manifest(services, manifest.planned_stages)
    kept = {"run_id": manifest.run_id, "created": manifest.created}
    draft = _discovered(draft.model_copy(update=kept), services)
    marks = marks_of(draft, services)
    raise_together([*_refused(marks, services.dataset, force), *rejections(draft, services, stages)])
    _lift(marks, services, stages)
    return SelectedRun(_saved(services, draft), checked=True)


def _can_restart(services: Services, stages: Sequence[Stage], manifest: Manifest) -> bool:
    """Return whether the run has written no data, and the selected stages can follow `discover`."""
    if "bucket" in manifest.stages or services.runs.has_data(manifest):
        return False
    try:
        check_requirements(manifest.model_copy(update={"stages": {"discover": manifest.stages["discover"]}}), stages)
    except SelectionError:
        return False
    return True
