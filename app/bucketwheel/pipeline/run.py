"""Run the stages of one run and save its manifest after each; `select_run.py` chooses the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bucketwheel import plugins
from bucketwheel.advice import advice, advice_of, remedy_of, selection
from bucketwheel.catalogs.definitions import table_names
from bucketwheel.catalogs.live_record import is_recorded
from bucketwheel.catalogs.publish import is_current
from bucketwheel.contracts import Observer, Progress, Report, Services, Stage, of_run
from bucketwheel.errors import BucketwheelError, ResumeError, VerificationError
from bucketwheel.formatting import html_list, html_table, size_text
from bucketwheel.pipeline.log import log_failure
from bucketwheel.pipeline.peak_memory import PeakMemory
from bucketwheel.pipeline.preflight import Preflight, check_packages
from bucketwheel.pipeline.rejections import DATA
from bucketwheel.pipeline.select_run import PUBLISHING, check_requirements, finished, select_run, stage_record
from bucketwheel.pipeline.services import RunRequest, leased, selected_stages
from bucketwheel.runs.manifest import Manifest, PublishResult, VerifyResult
from bucketwheel.runs.store import BucketCheckpoints
from bucketwheel.safe_text import without_credentials
from bucketwheel.settings import Settings
from bucketwheel.stages import drift
from bucketwheel.stages.drift_limits import quality_error
from bucketwheel.storage import is_s3


@dataclass(frozen=True)
class RunOutcome:
    """A finished run; `changed` is False if it was already up to date."""

    manifest: Manifest
    changed: bool

    @property
    def state(self) -> str:
        """The status of the run; or that an earlier command has done the work, perhaps without the other stages."""
        if self.changed:
            return self.manifest.status
        done = self.manifest.stages
        published = any(name in done for name in PUBLISHING)
        whole = published and all(name in done for name in self.manifest.planned_stages)
        return "is already up to date" if whole else "has already finished these stages"

    def _repr_html_(self) -> str:
        """Return the tables and the changes for a notebook."""
        manifest = self.manifest
        title = f"{manifest.dataset}: run {manifest.run_id} {self.state}"
        verified = manifest.results().get("verify")
        if not isinstance(verified, VerifyResult):
            return html_list([title])
        rows = [(t.label, f"{t.rows:,}", f"{t.files:,}", size_text(t.bytes)) for t in verified.tables]
        drift = "" if verified.drift is None else verified.drift._repr_html_()
        return html_table(("table", "rows", "files", "bytes"), rows, title) + drift


def run(
    settings: Settings,
    request: RunRequest,
    report: Report = lambda _: None,
    observer: Observer = lambda manifest, error, services: None,
) -> RunOutcome:
    """Run the selected stages of one dataset; `select_run.py` chooses the run.

    `observer` is called at the end of a run that did work, or that failed after its manifest was saved.

    Raises:
        BucketwheelError: see `errors.py`; a note on the error is the advice that `advice.py` composes.
    """
    with log_failure(request.dataset):
        try:
            return _run(settings, request, report, observer)
        except BaseException as error:
            if not advice_of(error):
                remedy = remedy_of(error)
                if isinstance(error, ResumeError) and request.stages and "discover" not in request.stages:
                    # Only `discover` starts a new run.
                    remedy = replace(remedy, whole=True)
                error.add_note(advice(remedy, _command(request), request.resume or ""))
            raise


def _run(settings: Settings, request: RunRequest, report: Report, observer: Observer) -> RunOutcome:
    names = selected_stages(settings, request.stages)
    stages = [plugins.stage(name, settings) for name in names]
    # Report missing packages before the heavy stage, not after it.
    check_packages(settings, names, request.later_stages)
    with leased(settings, request, report) as (held, lease):
        selected = select_run(held, stages, request)
        manifest = selected.manifest
        lease.works_on(manifest.run_id)
        held.runs.sweep(request.dataset)
        if request.resume and not request.stages:
            stages = [plugins.stage(name, settings) for name in manifest.planned_stages]
        services = replace(
            held,
            report=of_run(held.report, manifest.run_id),
            checkpoints=BucketCheckpoints(held.storage, held.runs, request.dataset, manifest.run_id),
            tables_filter=held.tables_filter or manifest.tables_filter,
        )
        return _StageRunner(services, request, observer).finish(manifest, stages, selected.checked)


class _StageRunner:
    """Runs the stages of one run that are not done yet."""

    def __init__(self, services: Services, request: RunRequest, observer: Observer) -> None:
        self._store = services.runs
        self._observer = observer
        self._services = services
        self._request = request

    def finish(self, manifest: Manifest, stages: Sequence[Stage], checked: bool) -> RunOutcome:
        """Run the stages; a run that was not `checked` already is compared with the published run before the data."""
        todo = self._todo(manifest, stages)
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
            # A run may have been killed after its bucket stage was saved and before its checkpoints were deleted.
            self._clear(manifest)
            preflight = Preflight(self._services, [stage.name for stage in todo], self._request.later_stages)
            preflight.check_backends()
            for stage in todo:
                if stage.name == preflight.first:
                    preflight.check_tables(manifest)
                if not checked and stage.name in DATA:
                    # By now stage `split` has determined the columns of the tables.
                    checked = True
                    self._refuse_changes(manifest)
                manifest = self._run(manifest, stage)
            manifest = manifest.model_copy(update=_ending(manifest))
            self._save(manifest)
        except BaseException as error:
            failed = self._record_failure(manifest, error, [stage.name for stage in stages])
            self._observer(failed, error, self._services)
            raise
        self._observer(manifest, None, self._services)
        return RunOutcome(manifest, changed=True)

    def _todo(self, manifest: Manifest, stages: Sequence[Stage]) -> list[Stage]:
        """Return the stages to run; on S3, a run that publishes some of its tables publishes all of them.

        A command that lost its lease may still be about to change a table. Glue refuses that once a later publication
        has changed the version of the table, so none may be left as it is.
        """
        todo = [stage for stage in stages if not self._is_done(manifest, stage.name)]
        if is_s3(self._store.target) and any(stage.name in PUBLISHING for stage in todo):
            return [stage for stage in stages if stage in todo or stage.name in PUBLISHING]
        return todo

    def _is_done(self, manifest: Manifest, stage: str) -> bool:
        """Return whether a stage is done and the catalog still has the tables it published."""
        if stage not in manifest.stages:
            return False
        if stage not in PUBLISHING:
            return True
        result = manifest.result(stage, PublishResult)
        expected = {name for name, _ in table_names(manifest, self._services.settings, stage)}
        shown = expected == {table.name for table in result.tables} and is_current(self._services.catalog(), result)
        if stage != "ctas":
            return shown
        return (
            shown and result.method == self._services.settings.ctas.method and is_recorded(manifest, self._services)
        )

    def _refuse_changes(self, manifest: Manifest) -> None:
        """Compare a run that continues with the published run, which can be another one than when it began."""
        error = quality_error(drift.refusals(manifest, self._services), manifest.run_id)
        if error:
            raise error

    def _planned(self, manifest: Manifest, stages: Sequence[Stage]) -> tuple[str, ...]:
        """Return all stages that were ever selected for this run; resuming runs them too."""
        names = dict.fromkeys([*manifest.planned_stages, *(stage.name for stage in stages)])
        order = {name: position for position, name in enumerate(self._services.settings.stages)}
        return tuple(sorted(names, key=lambda name: order.get(name, len(order))))

    def _run(self, manifest: Manifest, stage: Stage) -> Manifest:
        services, name = self._services, stage.name
        services.report(_starting(services, name, manifest))
        started = services.clock.now()
        with PeakMemory() as peak:
            result = stage.run(manifest, services).model_dump(mode="json")
        record = stage_record(services, started, result, peak)
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
        # A run that lost its lease must not overwrite the manifest of the process that took over.
        with self._services.fence.guard():
            self._store.save(manifest)

    def _clear(self, manifest: Manifest) -> None:
        if "bucket" in manifest.stages:
            with self._services.fence.guard():
                self._services.checkpoints.clear()
                self._services.storage.delete_directory(self._store.scratch(manifest.dataset, manifest.run_id))

    def _record_failure(self, manifest: Manifest, error: BaseException, stages: Sequence[str]) -> Manifest:
        """Record the failure in the manifest and on the exception; return the manifest with the failure."""
        kept, remedy = manifest.stages, remedy_of(error, rewrites="bucket" in stages)
        line = advice(remedy, _command(self._request), manifest.run_id)
        notes = (*getattr(error, "__notes__", ()), line)
        failure = {"status": "failed", "error": without_credentials(error) or type(error).__name__, "notes": notes}
        try:
            if isinstance(error, VerificationError) and "bucket" in stages:
                # Resuming must rewrite the wrong files; otherwise verification would fail every time.
                self._clear(manifest)
                kept = {name: kept[name] for name in ("discover", "split", "size") if name in kept}
            self._save(manifest.model_copy(update={**failure, "stages": kept}))
        except BucketwheelError as save_error:
            error.add_note(f"the failure could not be written to the manifest: {save_error}")
        error.add_note(line)
        return manifest.model_copy(update={**failure, "stages": kept})


def _command(request: RunRequest) -> str:
    """Return the command line of the request, without --resume."""
    options = selection(request.stages, request.snapshot_dt, request.tables_filter)
    return request.command() or shlex.join(["bucketwheel", "run", request.dataset, *options])


def _tables(manifest: Manifest, stage: str) -> Iterator[Progress]:
    """Yield the progress of a stage for each table."""
    if stage == "verify":
        for table in manifest.result(stage, VerifyResult).tables:
            yield Progress(
                manifest.dataset, stage, "done", table.rows, table.bytes, table=table.label, files=table.files
            )
    elif stage in PUBLISHING:
        for published in manifest.result(stage, PublishResult).tables:
            yield Progress(
                manifest.dataset, stage, "done", table=published.name, message=f"now at {published.location}"
            )


def _ending(manifest: Manifest) -> dict[str, str | None]:
    left = [name for name in manifest.planned_stages if name not in manifest.stages]
    if left:
        return {"status": "failed", "error": f"stages not run: {', '.join(left)}"}
    return {"status": "finished", "error": None}


def _starting(services: Services, stage: str, manifest: Manifest) -> Progress:
    rows = size = 0
    if stage in DATA:
        # Stage bucket counts every row when reading it, and again for each layout when writing it.
        layouts = manifest.size.layouts
        rows = manifest.discover.rows * (len(layouts) + (stage == "bucket"))
        size = sum(table.bytes for layout in layouts for table in layout.tables)
    return Progress(services.dataset, stage, "started", total_rows=rows, total_bytes=size)
