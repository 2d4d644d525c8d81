"""Make the catalog again from the manifests: every table as it was last published.

Which run a table shows follows from the run metadata:

* A final table shows the run that `metadata/tables.json` names, which publications and rollbacks write.
* Otherwise, and for staged tables, it shows the run that was published last, by the ends of the publishing stages,
  that record, and the marks of rollbacks, which name the run that each rollback published.
* Withdrawn runs, and runs that `expire` has begun to delete, are not shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from bucketwheel.catalogs.definitions import definitions, is_iceberg_layout, published_layouts
from bucketwheel.catalogs.journal import Journal
from bucketwheel.catalogs.live import live_dataset
from bucketwheel.catalogs.live_record import record_shown
from bucketwheel.catalogs.publish import begin_publication, publish_all, record_catalog
from bucketwheel.catalogs.routed import members
from bucketwheel.contracts import CatalogTable, Progress, RepairableCatalog, Report, Services
from bucketwheel.contracts.catalog import same_location, table_key
from bucketwheel.errors import BucketwheelError, DamagedCatalogError, SelectionError
from bucketwheel.formatting import counted, listed
from bucketwheel.pipeline.expire import configured_datasets
from bucketwheel.pipeline.select_run import PUBLISHING
from bucketwheel.pipeline.services import RunRequest, maintained, make_services
from bucketwheel.pipeline.settle import is_complete
from bucketwheel.runs.claims import read_claims
from bucketwheel.runs.manifest import Manifest, PublishResult
from bucketwheel.runs.run_id import started_at
from bucketwheel.runs.withdrawals import Withdrawal, withdrawals
from bucketwheel.settings import Settings

Action = Literal["create", "replace", "unchanged"]
# Maximum number of tables that an error names.
_LISTED = 6


@dataclass(frozen=True)
class RebuiltTable:
    """A table of the rebuilt catalog.

    Attributes:
        dataset: name of the dataset
        name: name of the table in the catalog
        run_id: the run that it shows
        snapshot_dt: snapshot of that run
        location: directory of the files
        action: create, replace (the catalog shows another run now), or unchanged
        shown: the run that the catalog shows now, if another
    """

    dataset: str
    name: str
    run_id: str
    snapshot_dt: str
    location: str
    action: Action
    shown: str | None = None


@dataclass(frozen=True)
class Rebuild:
    """What a rebuild changes.

    Attributes:
        tables: the tables of the rebuilt catalog
        problems: tables that cannot be rebuilt, and why
        damaged: why the catalog cannot be read; empty if it can
        set_aside: where the damaged catalog was moved; empty if it was not
    """

    tables: tuple[RebuiltTable, ...]
    problems: tuple[str, ...] = ()
    damaged: str = ""
    set_aside: str = ""

    @property
    def replaced(self) -> tuple[RebuiltTable, ...]:
        """The tables that show another run now."""
        return tuple(table for table in self.tables if table.action == "replace")


def rebuild_plan(settings: Settings, datasets: Sequence[str] = (), report: Report = lambda _: None) -> Rebuild:
    """Return what `rebuild` would change, without changing anything and without a lease; raises as `rebuild`."""
    plans = []
    for dataset in datasets or configured_datasets(settings, report):
        plans.append(_plan(make_services(settings, RunRequest(dataset), report))[0])
    return _joined(plans)


def rebuild(
    settings: Settings, datasets: Sequence[str] = (), report: Report = lambda _: None, *, replace: bool = False
) -> Rebuild:
    """Publish the tables of each dataset as they were last published; a damaged catalog file is moved aside.

    Tables of other programs and datasets stay as they are.

    Args:
        settings: all settings.
        datasets: datasets to rebuild; if empty, all configured datasets that have runs.
        report: called with warnings.
        replace: also change tables that show another run now.

    Raises:
        SelectionError: no such dataset, or tables show other runs and `replace` is off; nothing was changed.
        LeaseError: another run holds the dataset.
        CatalogError: see `publish.publish_all`.
    """
    done = []
    for dataset in datasets or configured_datasets(settings, report):
        with maintained(settings, dataset, report) as services:
            plan, tables = _plan(services)
            if plan.replaced and not replace:
                raise _unconfirmed(dataset, plan.replaced)
            aside = _set_aside(services) if plan.damaged else ""
            _publish(services, tables)
            done.append(Rebuild(plan.tables, plan.problems, plan.damaged, aside))
    return _joined(done)


def _set_aside(services: Services) -> str:
    """Move damaged catalogs away; return their new places."""
    with services.fence.guard():
        repairable = [each for each in members(services.catalog()) if isinstance(each, RepairableCatalog)]
        return ", ".join(filter(None, [each.set_aside() for each in repairable]))


def _unconfirmed(dataset: str, replaced: Sequence[RebuiltTable]) -> SelectionError:
    names = [table.name for table in replaced]
    return SelectionError(
        f"{dataset}: the catalog can be read, and {counted(len(names), 'table')} in it would show another run: "
        f"{listed(names, _LISTED)}; nothing was changed. Look with `bucketwheel catalog rebuild {dataset} "
        "--dry-run`, and change them with --yes"
    )


def _joined(parts: Sequence[Rebuild]) -> Rebuild:
    return Rebuild(
        tuple(table for part in parts for table in part.tables),
        tuple(problem for part in parts for problem in part.problems),
        next((part.damaged for part in parts if part.damaged), ""),
        next((part.set_aside for part in parts if part.set_aside), ""),
    )


def _plan(services: Services) -> tuple[Rebuild, list[CatalogTable]]:
    """Return what changes, and the definitions of the tables that do."""
    damaged: list[str] = []
    shown: dict[tuple[str, bool], CatalogTable] = {}
    for catalog in members(services.catalog()):
        try:
            shown |= {table_key(table): table for table in catalog.tables()}
        except DamagedCatalogError as error:
            damaged.append(str(error))
    rows, changed, problems = [], [], []
    for table in _last_published(services):
        run_id = table.run_id or ""
        current = shown.get(table_key(table))
        action: Action = "create" if current is None else "replace"
        if current and current.run_id == run_id and same_location(current.location, table.location):
            action = "unchanged"
        elif not is_complete(services.storage, table):
            problems.append(
                f"{table.name}: files of run {run_id} in {table.location} are missing or have changed; publish other "
                f"data with: bucketwheel run {services.dataset}"
            )
            continue
        else:
            changed.append(table)
        now = current.run_id if current and action == "replace" else None
        snapshot = table.parameters.get("bucketwheel.snapshot_dt", "")
        rows.append(RebuiltTable(services.dataset, table.name, run_id, snapshot, table.location, action, now))
    return Rebuild(tuple(rows), tuple(problems), "; ".join(damaged)), changed


def _publish(services: Services, tables: Sequence[CatalogTable]) -> None:
    if not tables:
        return
    dataset = services.dataset
    run_ids = sorted({table.run_id or "" for table in tables}, key=started_at)

    def begin(replaced: Collection[str]) -> None:
        for run_id in run_ids:
            begin_publication(services, run_id, replaced)

    def record() -> None:
        for run_id in run_ids:
            record_catalog(services, run_id)
        live = live_dataset(services.catalog().tables(), dataset, services.runs, services.settings)
        if any(table.kind == "final" for table in live.tables):
            record_shown(live, services)

    adopt = services.settings.catalog.adopt
    journal = Journal(services, run_ids[-1], "catalog rebuild")
    result = publish_all(services.catalog(), services.fence, tables, adopt, record, begin, journal)
    for text in result.warnings:
        services.report(Progress(dataset, "catalog rebuild", "warning", message=text))


def _last_published(services: Services) -> list[CatalogTable]:
    """Return the definition of every table of a dataset as it was last published, by name."""
    dataset, runs = services.dataset, services.runs

    def warn(text: str) -> None:
        services.report(Progress(dataset, "catalog rebuild", "warning", message=f"run ignored: {text}"))

    marks = withdrawals(runs, dataset)
    withdrawn = {mark.run_id for mark in marks}
    manifests = [manifest for manifest in runs.manifests(dataset, warn) if manifest.run_id not in withdrawn]
    claims = read_claims(runs, dataset, [manifest.run_id for manifest in manifests])
    manifests = [manifest for manifest in manifests if not claims[manifest.run_id].deletes]
    tables: dict[tuple[str, bool], CatalogTable] = {}
    for stage in PUBLISHING:
        chosen = _runs_of_tables(services, manifests, marks, stage)
        for manifest in manifests:
            names = {key for key, run_id in chosen.items() if run_id == manifest.run_id}
            try:
                copies = manifest.result(stage, PublishResult).copies if names else ()
                defined = definitions(manifest, services, stage, copies) if names else []
            except BucketwheelError as error:
                warn(str(error))
                continue
            tables |= {table_key(table): table for table in defined if table_key(table) in names}
    return [tables[name] for name in sorted(tables)]


def _runs_of_tables(
    services: Services, manifests: Sequence[Manifest], marks: Sequence[Withdrawal], stage: str
) -> Mapping[tuple[str, bool], str]:
    """Return the run id that each table of a publishing stage showed last; the keys are those of `table_key`."""
    record = services.runs.published(services.dataset)
    recorded = {(layout, name.lower()): entry for layout, name, entry in record.entries()} if record else {}
    chosen: dict[tuple[str, bool], tuple[tuple[bool, datetime], str]] = {}
    for manifest in manifests:
        if stage not in manifest.stages or "verify" not in manifest.stages:
            continue
        for key, layout, name in _published_names(manifest, services.settings, stage):
            entry = recorded.get((layout, name))
            named = entry is not None and entry.run_id == manifest.run_id
            times = [_end(manifest, stage), *(mark.at for mark in marks if mark.replaced_by == manifest.run_id)]
            if entry is not None and named:
                times.append(entry.published)
            # Starts of stages are recorded in whole seconds; of two runs within a second, the later one counts.
            last = max(map(datetime.fromisoformat, times)).replace(microsecond=0)
            rank = (stage == "ctas" and named, last)
            if key not in chosen or rank >= chosen[key][0]:
                chosen[key] = rank, manifest.run_id
    return {key: run_id for key, (_, run_id) in chosen.items()}


def _published_names(
    manifest: Manifest, settings: Settings, stage: str
) -> Iterator[tuple[tuple[str, bool], str, str]]:
    """Yield the `table_key`, the layout and the lower-case name in the mapping of each table of a stage."""
    for layout, prefix in published_layouts(manifest, settings, stage):
        for table in manifest.split.tables:
            name = table.name.lower()
            yield (f"{prefix.lower()}{name}", is_iceberg_layout(layout)), layout.id, name


def _end(manifest: Manifest, stage: str) -> str:
    record = manifest.stages[stage]
    return (datetime.fromisoformat(record.started) + timedelta(seconds=record.seconds)).isoformat()
