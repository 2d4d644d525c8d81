"""Publish the tables of an earlier run again, and mark the runs that they replace as withdrawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from bucketwheel.catalogs.definitions import definitions, published_layouts
from bucketwheel.catalogs.journal import Journal, operator
from bucketwheel.catalogs.live import LiveDataset, live_dataset, published_tables, was_published
from bucketwheel.catalogs.live_record import record_live
from bucketwheel.catalogs.publish import begin_publication, check_files, publish_all, record_catalog
from bucketwheel.contracts import CatalogTable, Progress, Report, Services
from bucketwheel.errors import BucketwheelError, SelectionError, WithdrawnError
from bucketwheel.executors.copy_store import check_copies
from bucketwheel.formatting import counted, listed
from bucketwheel.pipeline.other_catalogs import OtherCatalogs
from bucketwheel.pipeline.select_run import PUBLISHING
from bucketwheel.pipeline.services import RunRequest, maintained, make_services
from bucketwheel.runs.manifest import Manifest, PublishResult
from bucketwheel.runs.run_id import did_you_mean_run, matching, started_at
from bucketwheel.runs.store import RunStore
from bucketwheel.runs.withdrawals import (
    Withdrawal,
    inputs_of_run,
    remove_withdrawal,
    save_withdrawal,
    withdrawals,
)
from bucketwheel.settings import Settings

# Maximum number of tables that a warning names.
_LISTED = 6


def rollback(
    settings: Settings,
    run_id: str,
    report: Report = lambda _: None,
    *,
    reason: str = "",
    force: bool = False,
) -> PublishResult:
    """Publish the tables of a run again, all or none.

    Mark as withdrawn, with `reason`, every later run that these tables pointed to (the final tables, if the dataset
    has any); Bucketwheel then refuses to publish their data until `unmark` or `force`. Tables that only other runs
    published stay unchanged. `report` gets a warning for each withdrawn run, and one for the unchanged tables.

    Raises:
        SelectionError: no such run, the run never published, or `expire` deletes it.
        WithdrawnError: the run itself is withdrawn, and `force` is off.
        VerificationError: files of that run are missing.
        LeaseError: another run holds the dataset.
        CatalogError: see `publish.publish_all`.
    """
    runs = RunStore.of(settings)
    manifest = runs.find(run_id)
    run_id = manifest.run_id
    published = [stage for stage in PUBLISHING if stage in manifest.stages]
    if not was_published(manifest):
        raise SelectionError(f"run {run_id} never published a table; finish it with --resume {run_id}")
    with maintained(settings, manifest.dataset, report, runs) as services:
        marked = [mark for mark in withdrawals(runs, manifest.dataset) if mark.run_id == run_id]
        if marked and not force:
            raise WithdrawnError(
                f"{marked[0].text}; nothing was changed. To publish it all the same: bucketwheel unmark {run_id}, "
                "then roll back again; or add --force"
            )
        check_files(manifest, runs)
        tables = []
        for stage in published:
            copies = manifest.result(stage, PublishResult).copies
            check_copies(services.storage, copies)
            tables += definitions(manifest, services, stage, copies)
        result, withdrawn = _publish(manifest, services, tables, reason, "ctas" in published)
        for mark in marked:
            remove_withdrawal(runs, mark.dataset, mark.run_id)
        left = _left_texts(manifest, _live(services), services.settings, "ctas" in published)
        elsewhere = _elsewhere(services, [mark.run_id for mark in withdrawn])
    _report_result(manifest, withdrawn, left, report)
    for text in (*elsewhere, *result.warnings):
        report(Progress(manifest.dataset, "rollback", "warning", message=text))
    return result


def _publish(
    manifest: Manifest, services: Services, tables: list[CatalogTable], reason: str, final: bool
) -> tuple[PublishResult, list[Withdrawal]]:
    """Mark the later runs that the tables show, then publish; a failure removes the marks again."""
    runs, catalog = services.runs, services.catalog()
    earlier = {mark.run_id for mark in withdrawals(runs, manifest.dataset)}
    marks = [mark for mark in _marks(manifest, services, tables, reason) if mark.run_id not in earlier]

    def write_records() -> None:
        record_catalog(services, manifest.run_id)
        if final:
            record_live(manifest, services)

    # Mark first: otherwise the next run would publish the bad data again if this rollback is killed.
    with services.fence.guard():
        for mark in marks:
            save_withdrawal(runs, mark)
    journal = Journal(services, manifest.run_id, "rollback")
    try:
        adopt = services.settings.catalog.adopt
        replacing = partial(begin_publication, services, manifest.run_id)
        return publish_all(catalog, services.fence, tables, adopt, write_records, replacing, journal), marks
    except BaseException as error:
        # If the next command finishes this rollback, the marks are right; if it undoes it, it removes them.
        if journal.open:
            raise
        try:
            with services.fence.guard():
                for mark in marks:
                    remove_withdrawal(runs, mark.dataset, mark.run_id)
        except Exception as second:  # noqa: BLE001 the first error says why the rollback failed
            names = ", ".join(mark.run_id for mark in marks)
            error.add_note(f"still marked as withdrawn: {names} ({second}); bucketwheel unmark removes a mark")
        raise


def _marks(manifest: Manifest, services: Services, tables: Iterable[CatalogTable], reason: str) -> list[Withdrawal]:
    """Return a mark for each live run that started after the run to publish.

    Staged tables count only for a dataset without final tables, because otherwise nobody reads them.
    """
    names = {table.name.lower() for table in tables}
    unreadable: list[str] = []
    live = _live(services, unreadable.append)
    shown = {table.run_id for table in live.published if table.name.lower() in names}
    later = sorted(run_id for run_id in shown if started_at(run_id) > started_at(manifest.run_id))
    at = services.clock.now().isoformat(timespec="seconds")
    marks = []
    for run_id in later:
        run = live.manifests.get(run_id)
        if run is None:
            for text in (text for text in unreadable if run_id in text):
                message = f"not marked as withdrawn: {text}"
                services.report(Progress(manifest.dataset, "rollback", "warning", message=message))
            continue
        marks.append(
            Withdrawal(
                run_id=run_id,
                dataset=manifest.dataset,
                snapshot_dt=run.snapshot_dt or "",
                inputs=inputs_of_run(run),
                replaced_by=manifest.run_id,
                reason=reason.strip(),
                by=operator(),
                at=at,
            )
        )
    return marks


def _elsewhere(services: Services, run_ids: Iterable[str]) -> list[str]:
    """Return a warning for each other catalog in which one of the runs was published."""
    others = OtherCatalogs(services)
    try:
        return [
            f"run {run_id} was also published in {record.text}, which this command did not change; if it still shows "
            "that run, roll back there too"
            for run_id in run_ids
            for record in others.of(run_id)
        ]
    except BucketwheelError as error:
        return [f"cannot tell whether another catalog shows the withdrawn runs: {error}"]


def _report_result(manifest: Manifest, withdrawn: list[Withdrawal], left: list[str], report: Report) -> None:
    texts = [
        f"run {mark.run_id} is marked as withdrawn: Bucketwheel will not publish snapshot {mark.snapshot_dt} again "
        f"until its files or the mapping change. To allow it: bucketwheel unmark {mark.run_id}"
        for mark in withdrawn
    ]
    for text in (*texts, *left):
        report(Progress(manifest.dataset, "rollback", "warning", message=text))


def _left_texts(manifest: Manifest, live: LiveDataset, settings: Settings, final: bool) -> list[str]:
    """Return which tables show other runs after a rollback, and which layouts of the run were not published."""
    left = [table for table in live.tables if table.run_id != manifest.run_id]
    texts, run_id = [], manifest.run_id
    shown = published_layouts(manifest, settings, "ctas") if final else []
    prefixes = {prefix.lower() for _, prefix in shown}
    hashes = {layout.name: layout.hash for layout in manifest.size.layouts} if final else {}
    explained: set[str] = set()
    for layout in live.layouts if final else ():
        names = {f"{layout.prefix}{table.name}".lower() for table in manifest.split.tables}
        own = [table for table in left if table.kind == "final" and table.name.lower() in names]
        if own and layout.prefix.lower() not in prefixes:
            left = [table for table in left if table not in own]
            explained.add(layout.name)
            why = f"run {run_id} has no layout {layout.name!r}"
            if layout.name in hashes:
                why = (
                    f"layout {layout.name!r} of run {run_id} was not published again, because its hash is "
                    f"{hashes[layout.name]} and the configuration has no catalog for it (the hash is {layout.hash} "
                    "now)"
                )
            texts.append(
                f"{why}, so {counted(len(own), 'table')} of that layout still "
                f"{'shows' if len(own) == 1 else 'show'} {listed(sorted({table.run_id for table in own}), _LISTED)}: "
                f"{listed([table.name for table in own], _LISTED)}; to show snapshot {manifest.snapshot_dt} in all "
                f"layouts: bucketwheel run {manifest.dataset} --snapshot-dt {manifest.snapshot_dt}"
            )
    if left:
        names_left = sorted(table.name for table in left)
        texts.append(
            f"tables not rolled back, because run {run_id} did not publish them: {listed(names_left, _LISTED)}"
        )
    known = {layout.id for layout, _ in shown}
    unpublished = [layout.name for layout in manifest.size.layouts if final and layout.id not in known]
    unpublished = [name for name in unpublished if name not in explained]
    if unpublished:
        texts.append(
            f"layouts of run {run_id} that were not published again, because the configuration has no catalog or no "
            f"prefix for them: {listed(unpublished, _LISTED)}"
        )
    return texts


def previous_run(settings: Settings, dataset: str) -> str:
    """Return the id of the newest earlier run that published a table of the newest live run of a dataset.

    Withdrawn runs do not count.

    Raises:
        SelectionError: the dataset is not configured, has no live run, or no such earlier one.
    """
    services = make_services(settings, RunRequest(dataset), lambda _: None)
    runs = services.runs
    live = _live(services)
    newest = live.newest_run()
    if newest is None:
        raise SelectionError(f"{dataset}: no table is published; publish a run with: bucketwheel run {dataset}")
    names = {table.table.lower() for table in live.published if table.run_id == newest}
    kind = live.published[0].kind
    marked = {mark.run_id for mark in withdrawals(runs, dataset)}
    others = withdrawn = None
    for run in runs.newest_first(dataset):
        if started_at(run.run_id) >= started_at(newest) or not was_published(run):
            continue
        if published_tables(run, kind).isdisjoint(names):
            others = others or run.run_id
        elif run.run_id not in marked:
            return run.run_id
        else:
            withdrawn = withdrawn or run.run_id
    raise _no_previous(dataset, newest, sorted(names), withdrawn, others)


def _no_previous(
    dataset: str, newest: str, names: Sequence[str], withdrawn: str | None, others: str | None
) -> SelectionError:
    """Return the error for a dataset without a run to roll back to; `others` published only other tables."""
    if withdrawn is None and others is None:
        return SelectionError(
            f"{dataset}: no run that was published before {newest} still exists; bucketwheel runs {dataset} "
            "lists the runs"
        )
    only = "only withdrawn runs" if withdrawn else "no run that still exists"
    advice = (
        f"to publish the newest of them all the same: bucketwheel rollback {withdrawn} --force"
        if withdrawn
        else f"run {others} published only other tables; bucketwheel runs {dataset} lists the runs, and bucketwheel "
        "rollback RUN_ID publishes the tables of one"
    )
    return SelectionError(
        f"{dataset}: nothing was changed: {only} published {listed(names, _LISTED)} before run {newest}; {advice}"
    )


def unmark(settings: Settings, run_id: str) -> Withdrawal:
    """Remove the mark of a withdrawn run, so that it may be published again; return the mark.

    A unique beginning of the id, or of its last part, is enough.

    Raises:
        SelectionError: no withdrawn run has this id, or several do; the message lists those that are withdrawn.
        LeaseError: another run holds the dataset.
    """
    runs = RunStore.of(settings)
    marks = {mark.run_id: mark for dataset in runs.datasets() for mark in withdrawals(runs, dataset)}
    known = ", ".join(marks) or "none"
    matches = matching(run_id, marks)
    if len(matches) > 1:
        raise SelectionError(f"run {run_id!r} is ambiguous; give more characters; marked: {known}")
    if not matches:
        hint = did_you_mean_run(run_id, marks)
        raise SelectionError(f"run {run_id!r} is not marked as withdrawn; {hint}marked: {known}")
    mark = marks[matches[0]]
    with maintained(settings, mark.dataset, lambda _: None, runs):
        remove_withdrawal(runs, mark.dataset, mark.run_id)
    return mark


def _live(services: Services, unreadable: Callable[[str], None] = lambda _: None) -> LiveDataset:
    tables = services.catalog().tables()
    return live_dataset(tables, services.dataset, services.runs, services.settings, unreadable=unreadable)
