"""Run the stages of one run and save its manifest after each; `select_run.py` chooses the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bucketwheel import plugins
from bucketwheel.catalogs.publish import is_current
from bucketwheel.contracts import Observer, Progress, Report, Services, Stage, of_run
from bucketwheel.errors import RESUME, BucketwheelError, VerificationError
from bucketwheel.lease import Lease
from bucketwheel.pipeline.log import log_failure
from bucketwheel.pipeline.select_run import PUBLISHING, check_requirements, finished, select_run, stage_record
from bucketwheel.pipeline.services import RunRequest, make_services, selected_stages, utc_now
from bucketwheel.runs.manifest import Manifest, PublishResult, VerifyResult
from bucketwheel.runs.store import BucketCheckpoints, RunStore
from bucketwheel.settings import PROMOTE, CatalogSettings, Settings
from bucketwheel.stages import drift

_DATA = ("bucket", "verify")


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
    observer: Observer = lambda manifest, error, services: None,
) -> RunOutcome:
    """Run the selected stages of one dataset; `selection.py` says in which run.

    `observer` is called once something was done or has failed in a run that is in the books.

    Raises:
        BucketwheelError: see `errors.py`; a note on it gives the command that resumes.
    """
    with log_failure(request.dataset):
        return _run(settings, request, report, now, observer)


def _run(
    settings: Settings, request: RunRequest, report: Report, now: Callable[[], datetime], observer: Observer
) -> RunOutcome:
    names = selected_stages(settings, request.stages)
    stages = [plugins.stage(name, settings) for name in names]
    # What is not installed is better known before the heavy stage than after it.
    plugins.check(
        settings,
        engine=any(name in _DATA for name in names),
        catalog=any(name in PUBLISHING for name in names),
        executor="ctas" in names,
    )
    services = make_services(settings, request, report, now)
    store = services.runs
    with Lease(store.home(request.dataset), settings.lease.ttl_seconds, now, storage=services.storage) as lease:
        services = replace(services, fence=lease)
        manifest = select_run(store, services, stages, request)
        store.sweep(request.dataset, manifest.run_id)
        if request.resume and not request.stages:
            stages = [plugins.stage(name, settings) for name in manifest.planned_stages]
        services = replace(
            services,
            report=of_run(services.report, manifest.run_id),
            checkpoints=BucketCheckpoints(services.storage, store, request.dataset, manifest.run_id),
            tables_filter=services.tables_filter or manifest.tables_filter,
        )
        return _Work(store, services, request, observer).finish(manifest, stages)


class _Work:
    """Does what is left to do in one run."""

    def __init__(self, store: RunStore, services: Services, request: RunRequest, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self._services = services
        self._request = request

    def finish(self, manifest: Manifest, stages: Sequence[Stage]) -> RunOutcome:
        todo = [stage for stage in stages if not self._holds(manifest, stage.name)]
        planned = self._planned(manifest, stages)
        complete = all(name in manifest.stages for name in planned)
        if not todo and (manifest.status == "finished" or not complete):
            return RunOutcome(manifest, changed=False)
        check_requirements(manifest, todo)
        manifest = manifest.model_copy(
            update={"status": "running", "error": None, "notes": (), "planned_stages": planned}
        )
        try:
            self._save(manifest)
            # What is left of a run that was killed between the last note of its bucket stage and clearing up.
            self._clear(manifest)
            self._check_backends([stage.name for stage in todo])
            if any(stage.name in _DATA for stage in todo):
                drift.refuse_changed_rows(manifest, self._services)
            for stage in todo:
                manifest = self._run(manifest, stage)
            manifest = manifest.model_copy(update=_ending(manifest))
            self._save(manifest)
        except BaseException as error:
            failed = self._note_failure(manifest, error, [stage.name for stage in stages])
            self._observer(failed, error, self._services)
            raise
        self._observer(manifest, None, self._services)
        return RunOutcome(manifest, changed=True)

    def _holds(self, manifest: Manifest, stage: str) -> bool:
        """Return whether a stage is done and, if it published, what it published is still shown."""
        if stage not in manifest.stages:
            return False
        if stage not in PUBLISHING:
            return True
        result = manifest.result(stage, PublishResult)
        prefix = prefixes(self._services.settings.catalog)[stage]
        wanted = {f"{prefix}{table.name}" for table in manifest.split.tables}
        shown = wanted == {table.name for table in result.tables} and is_current(self._services.catalog(), result)
        if stage != "ctas":
            return shown
        return shown and result.method == self._services.settings.ctas.method and self._store.is_noted(manifest)

    def _check_backends(self, todo: Sequence[str]) -> None:
        """Refuse before the heavy stages what could not be published after them."""
        if any(name in PUBLISHING for name in todo):
            self._services.catalog().check()
        if "ctas" in todo and self._services.settings.ctas.method != PROMOTE:
            self._services.executor().check()

    def _planned(self, manifest: Manifest, stages: Sequence[Stage]) -> tuple[str, ...]:
        """Return all stages this run was ever asked for, so that resuming it goes on with them."""
        names = dict.fromkeys([*manifest.planned_stages, *(stage.name for stage in stages)])
        order = {name: place for place, name in enumerate(self._services.settings.stages)}
        return tuple(sorted(names, key=lambda name: order.get(name, len(order))))

    def _run(self, manifest: Manifest, stage: Stage) -> Manifest:
        services, name = self._services, stage.name
        services.report(_starting(services, name, manifest))
        started = services.now()
        result = stage.run(manifest, services).model_dump(mode="json")
        record = stage_record(started, services.now(), result)
        manifest = manifest.with_stage(name, record)
        self._save(manifest)
        if name == "bucket":
            self._clear(manifest)
        for warning in result.get("warnings", ()):
            services.report(Progress(services.dataset, name, "warning", message=str(warning)))
        for part in _tables(manifest, name):
            services.report(part)
        services.report(finished(services.dataset, name, record))
        return manifest

    def _save(self, manifest: Manifest) -> None:
        # A run that lost its lease may not write over what its follower has noted since.
        with self._services.fence.guard():
            self._store.save(manifest)

    def _clear(self, manifest: Manifest) -> None:
        if "bucket" in manifest.stages:
            with self._services.fence.guard():
                self._services.checkpoints.clear()
                self._services.storage.delete_directory(self._store.scratch(manifest.dataset, manifest.run_id))

    def _note_failure(self, manifest: Manifest, error: BaseException, stages: Sequence[str]) -> Manifest:
        """Note what became of the run, in the books and on the error, and return the manifest as it should be."""
        kept, request = manifest.stages, self._request
        notes = tuple(getattr(error, "__notes__", ()))
        told = {"status": "failed", "error": str(error) or type(error).__name__, "notes": notes}
        try:
            if isinstance(error, VerificationError) and "bucket" in stages:
                # Files that are not what they should be are written again, else resuming would never get past them.
                self._clear(manifest)
                kept = {name: kept[name] for name in ("discover", "split", "size") if name in kept}
            self._save(manifest.model_copy(update={**told, "stages": kept}))
        except BucketwheelError as unsaved:
            error.add_note(f"the failure could not be noted in the manifest: {unsaved}")
        selected = f" --stages {','.join(request.stages)}" if request.stages else ""
        command = request.command or f"bucketwheel run {request.dataset}{selected}"
        error.add_note(f"{RESUME}{command} --resume {manifest.run_id}")
        return manifest.model_copy(update={**told, "stages": kept})


def prefixes(catalog: CatalogSettings) -> dict[str, str]:
    """Return what each publishing stage puts before the names of its tables."""
    return {"register": catalog.staged_prefix, "ctas": catalog.final_prefix}


def _tables(manifest: Manifest, stage: str) -> Iterator[Progress]:
    """Yield what a stage did to each table."""
    if stage == "verify":
        for table in manifest.result(stage, VerifyResult).tables:
            yield Progress(
                manifest.dataset, stage, "done", table.rows, table.bytes, table=table.name, files=table.files
            )
    elif stage in PUBLISHING:
        for shown in manifest.result(stage, PublishResult).tables:
            yield Progress(manifest.dataset, stage, "done", table=shown.name, message=f"shows {shown.location}")


def _ending(manifest: Manifest) -> dict[str, str | None]:
    left = [name for name in manifest.planned_stages if name not in manifest.stages]
    if left:
        return {"status": "failed", "error": f"stages not run: {', '.join(left)}"}
    return {"status": "finished", "error": None}


def _starting(services: Services, stage: str, manifest: Manifest) -> Progress:
    rows = size = 0
    if stage in _DATA:
        # Bucket moves every row twice: once when it is read, once when it is written.
        rows = manifest.discover.rows * (2 if stage == "bucket" else 1)
        size = sum(table.bytes for table in manifest.size.tables)
    return Progress(services.dataset, stage, "started", total_rows=rows, total_bytes=size)
