"""Choose the run that a command works on: a new one, one that is up to date, or one to continue.

* `--resume RUN_ID` names it; `--resume last` is the newest one.
* A selection of stages with `discover` starts a new run. If an earlier run has the same fingerprint, all its files,
  and at most publishing left to do, Bucketwheel takes that run instead. So a rerun changes nothing. Data that a
  rollback withdrew is refused.
* A selection without `discover` continues the newest run of the dataset that fits the options. If that run has not
  finished the stages that the selection needs, Bucketwheel refuses: an older run would publish an older month.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

import bucketwheel
from bucketwheel import host, plugins
from bucketwheel.catalogs.publish import check_files
from bucketwheel.contracts import Progress, Services, Stage, of_run
from bucketwheel.errors import SelectionError, VerificationError, WithdrawnError
from bucketwheel.pipeline.fingerprint import check_unchanged, fingerprint, inputs_of
from bucketwheel.pipeline.services import RunRequest, draft_manifest
from bucketwheel.runs.manifest import Manifest, StageRecord
from bucketwheel.runs.run_id import new_run_id
from bucketwheel.runs.withdrawals import remove_withdrawal, withdrawals

PUBLISHING = ("register", "ctas")


def select_run(services: Services, stages: Sequence[Stage], request: RunRequest) -> Manifest:
    """Return the run to work on; a new one has finished `discover` and has a saved manifest.

    Raises:
        SelectionError: no such run, or the run lacks results that the stages need.
        ResumeError: configuration or input have changed since the run started.
        WithdrawnError: the stages would publish data that a rollback withdrew.
        BucketwheelError: any error of `discover`.
    """
    if request.resume:
        manifest = _resume(services, request)
    elif "discover" in [stage.name for stage in stages]:
        return _new_or_up_to_date(services, stages, request.force)
    else:
        manifest = _continue_newest(services, stages[0])
    _refuse_withdrawn(manifest, services, stages, request.force)
    return manifest


def stage_record(started: datetime, ended: datetime, result: dict[str, object]) -> StageRecord:
    """Return the record of a stage that ran from `started` to `ended`."""
    return StageRecord(
        started=started.isoformat(timespec="seconds"),
        seconds=round((ended - started).total_seconds(), 3),
        result=result,
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


def _refuse_withdrawn(manifest: Manifest, services: Services, stages: Sequence[Stage], force: bool) -> None:
    """Refuse to publish data that a rollback withdrew; with `force`, remove the mark instead."""
    if not any(stage.name in PUBLISHING for stage in stages):
        return
    marks = [mark for mark in withdrawals(services.runs, services.dataset) if mark.covers(manifest)]
    if marks and not force:
        raise WithdrawnError(
            f"{services.dataset}: {marks[0].text}; a run of the same data was not started. Correct the snapshot or "
            f"the mapping, or allow it: bucketwheel unmark {marks[0].run_id}, then run again; or add --force"
        )
    for mark in marks:
        with services.fence.guard():
            remove_withdrawal(services.runs, services.dataset, mark.run_id)
        text = f"{mark.text}; published again with --force"
        services.report(Progress(services.dataset, "discover", "warning", message=text))


def _new_or_up_to_date(services: Services, stages: Sequence[Stage], force: bool) -> Manifest:
    """Run `discover`, then return the run that is up to date, or a new one."""
    store, started = services.runs, services.now()
    draft = draft_manifest(services, [stage.name for stage in stages])
    services.report(Progress(services.dataset, "discover", "started"))
    discovered = plugins.stage("discover", services.settings).run(draft, services)
    draft = draft.with_stage("discover", stage_record(started, services.now(), discovered.model_dump(mode="json")))
    result = draft.discover
    inputs = fingerprint(services, inputs_of(result))

    def warn(text: str) -> None:
        services.report(Progress(services.dataset, "discover", "warning", message=f"earlier run ignored: {text}"))

    for earlier in store.newest_first(services.dataset, f"{result.snapshot_dt}-", warn):
        if earlier.fingerprint == inputs and _needs_only_publishing(earlier, stages, services):
            _refuse_withdrawn(earlier, services, stages, force)
            return earlier
    check_requirements(draft, stages)
    _refuse_withdrawn(
        draft.model_copy(update={"fingerprint": inputs, "snapshot_dt": result.snapshot_dt}), services, stages, force
    )
    run_id = new_run_id(result.snapshot_dt, started, store.all_run_ids(services.dataset))
    manifest = draft.model_copy(
        update={"run_id": run_id, "fingerprint": inputs, "snapshot_dt": result.snapshot_dt, **_environment()}
    )
    with services.fence.guard():
        store.save(manifest)
    report, record = of_run(services.report, run_id), manifest.stages["discover"]
    for warning in result.warnings:
        report(Progress(services.dataset, "discover", "warning", message=warning))
    report(finished(services.dataset, "discover", record))
    return manifest


def _needs_only_publishing(earlier: Manifest, stages: Sequence[Stage], services: Services) -> bool:
    """Return whether a run has finished everything except, perhaps, publishing its files."""
    names = {*earlier.planned_stages, *(stage.name for stage in stages)}
    if any(name not in earlier.stages for name in names - {*PUBLISHING}):
        return False
    if "bucket" in earlier.stages:
        try:
            check_files(earlier, services.runs)
        except VerificationError:
            return False
    return True


def _environment() -> dict[str, Any]:
    """Return the fields of a manifest that tell where a run was started and with which versions."""
    versions = {
        "bucketwheel": bucketwheel.__version__,
        "python": platform.python_version(),
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
    }
    return {"versions": versions, "runtime": host.detect(os.environ)}


def _continue_newest(services: Services, first: Stage) -> Manifest:
    store = services.runs
    tables = sorted(services.tables_filter)
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
        check_unchanged(manifest, replace(services, tables_filter=manifest.tables_filter))
        return manifest
    raise SelectionError(
        f"{services.dataset}: no run below {store.target} has finished {', '.join(first.requires)}, which stage "
        f"{first.name!r} needs; run them first, or select all stages at once"
    )


def _resume(services: Services, request: RunRequest) -> Manifest:
    store = services.runs
    if request.resume == "last":
        manifest = next(store.newest_first(request.dataset), None)
        if manifest is None:
            raise SelectionError(f"--resume last: {request.dataset} has no run below {store.target}; omit --resume")
    else:
        manifest = store.find(request.resume or "", [request.dataset])
    tables_filter = services.tables_filter or manifest.tables_filter
    check_unchanged(manifest, replace(services, tables_filter=tables_filter))
    return manifest
