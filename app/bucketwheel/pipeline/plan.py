"""Plan a run: read footers, a sample and the mapping without changing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from bucketwheel import plugins
from bucketwheel.contracts import Services
from bucketwheel.contracts.executor import WRITERS
from bucketwheel.errors import BucketwheelError, StorageError
from bucketwheel.formatting import counted, html_list, html_table, size_text
from bucketwheel.pipeline.fingerprint import fingerprint, inputs_of
from bucketwheel.pipeline.layout_advice import Advice, EarlierRun, Key, PlannedLayout, advise
from bucketwheel.pipeline.preflight import Preflight
from bucketwheel.pipeline.rejections import checks_limits
from bucketwheel.pipeline.select_run import marks_of, same_run
from bucketwheel.pipeline.services import RunRequest, draft_manifest, make_services, selected_stages
from bucketwheel.pipeline.shared_tables import shared_tables
from bucketwheel.runs.cost import Cost, platform_of
from bucketwheel.runs.drift_records import Drift
from bucketwheel.runs.manifest import (
    DiscoverResult,
    LayoutSize,
    Manifest,
    SizeResult,
    SplitResult,
    StageRecord,
    layout_table,
)
from bucketwheel.runs.withdrawals import Withdrawal, withdrawals
from bucketwheel.settings import Settings
from bucketwheel.stages.drift import compare
from bucketwheel.stages.drift_limits import Refusal, beyond_limits
from bucketwheel.stages.iceberg_checks import known_null_keys
from bucketwheel.stages.run_cost import estimate, timeout_warning
from bucketwheel.storage import is_s3

_PLANNING = ("discover", "split", "size")
# Maximum number of earlier runs to read for the estimate of the duration.
_MOST_EARLIER = 5
# Maximum number of datasets whose layouts are compared.
_MOST_DATASETS = 10


@dataclass(frozen=True)
class Plan:
    """The planned stages, the results of those that only read, and the estimated cost.

    `drift` is the difference from the published run as far as the manifests tell; None if nothing is published.
    `refusals` are the limits of `quality` for which `run` refuses the snapshot, and NULL keys that the footers count.
    `withdrawals` are the marks of rollbacks, `conflicts` why it cannot publish its tables. `shared` names tables that
    other datasets have, too.
    `advice` recommends layouts for the configured readers. `limits` are those of the platform that the run exceeds.
    `cost` is None if the configured platform has no price. `unread` names earlier runs that could not be read.
    """

    dataset: str
    stages: tuple[str, ...]
    discover: DiscoverResult
    split: SplitResult
    size: SizeResult
    drift: Drift | None = None
    cost: Cost | None = None
    unread: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    withdrawals: tuple[Withdrawal, ...] = ()
    advice: Advice = field(default_factory=Advice)
    conflicts: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Reasons why `run` will refuse the snapshot, each with the option that accepts it, or another fix."""
        marked = (
            f"{mark.text}, and its data has not changed; publish it with --force, or run "
            f"bucketwheel unmark {mark.run_id}"
            for mark in self.withdrawals
        )
        limits = (f"{part.text}; accept {part.pronoun} with {part.option}" for part in self.refusals)
        return (*self.conflicts, *marked, *limits)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of the three stages, about the platform, the layouts, and earlier runs that could not be read."""
        stages = (*self.discover.warnings, *self.split.warnings, *self.size.warnings)
        return (*stages, *self.limits, *self.shared, *self.advice.warnings, *self.unread)

    def _repr_html_(self) -> str:
        """Return the tables, the changes and the warnings for a notebook."""
        columns = {part.name: len(part.columns) for part in self.split.tables}
        rows = [(t.name, f"{columns[t.name]:,}", size_text(t.bytes), f"{t.files:,}") for t in self.size.tables]
        title = (
            f"Plan of {self.dataset}, snapshot {self.discover.snapshot_dt}: {counted(self.discover.rows, 'row')}, "
            f"{counted(len(rows), 'table')}"
        )
        parts = [html_table(("table", "columns", "bytes (estimate)", "files"), rows, title)]
        parts += [self.advice._repr_html_()]
        parts += [] if self.drift is None else [self.drift._repr_html_()]
        texts = [*(f"run will refuse this snapshot: {text}" for text in self.obstacles)]
        return "".join([*parts, html_list([*texts, *(f"warning: {text}" for text in self.warnings)])])


def plan(settings: Settings, request: RunRequest) -> Plan:
    """Return the plan of one dataset, from the same stages as `run`, without its lease.

    Raises:
        BucketwheelError: any error of the stages that only read.
    """
    stages = selected_stages(settings, request.stages)
    services = make_services(settings, request, lambda _: None)
    for name in stages:
        plugins.stage(name, settings)
    manifest = draft_manifest(services, stages)
    for name in _PLANNING:
        result = plugins.stage(name, settings).run(manifest, services).model_dump(mode="json")
        manifest = manifest.with_stage(name, StageRecord(started=manifest.created, seconds=0, result=result))
    discovered, size = manifest.discover, manifest.size
    inputs = fingerprint(services, inputs_of(discovered))
    manifest = manifest.model_copy(update={"fingerprint": inputs, "snapshot_dt": discovered.snapshot_dt})
    drift, not_compared = _drift(manifest, services)
    checked = checks_limits(stages) and same_run(manifest, services) is None
    refused = list(beyond_limits(manifest, drift, settings.quality)) if drift and checked else []
    if checked and "verify" in stages:
        refused += known_null_keys(discovered, settings)
    conflicts, unchecked = _conflicts(manifest, services, stages)
    earlier, unread = _earlier(services)
    cost = estimate(settings, stages, discovered, manifest.split, size, earlier)
    advice = _advice(manifest, services, stages, unread, cost.seconds if cost else 0)
    return Plan(
        dataset=request.dataset,
        stages=tuple(stages),
        discover=discovered,
        split=manifest.split,
        size=size,
        drift=drift,
        cost=cost,
        # The comparison and the check read the same catalog.
        unread=(*(not_compared or unchecked), *unread),
        refusals=tuple(refused),
        withdrawals=tuple(marks_of(manifest, services)),
        advice=advice,
        conflicts=tuple(conflicts),
        shared=() if conflicts else tuple(shared_tables(services, manifest.split.tables)),
        limits=tuple(filter(None, [timeout_warning(settings, cost)])),
    )


def _drift(manifest: Manifest, services: Services) -> tuple[Drift | None, list[str]]:
    """Return the difference from the published run, and why it could not be compared."""
    if services.settings.quality.drift == "off":
        return None, []
    try:
        return compare(manifest, services), []
    except BucketwheelError as error:
        notes = getattr(error, "__notes__", ())
        return None, ["; ".join([f"not compared with the published run: {error}", *notes])]


def _conflicts(manifest: Manifest, services: Services, stages: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return why the tables of a run cannot be published, and why that could not be checked."""
    preflight = Preflight(services, stages, None)
    if not preflight.publishes:
        return [], []
    try:
        services.catalog().tables()
    except BucketwheelError as error:
        return [], [f"tables not compared with the catalog: {error}"]
    try:
        preflight.check_tables(manifest)
    except BucketwheelError as error:
        return [str(error)], []
    return [], []


def _earlier(services: Services) -> tuple[list[Manifest], list[str]]:
    """Return the newest runs if the platform charges for time, and why some could not be read."""
    if platform_of(services.settings) is None:
        return [], []
    unread: list[str] = []
    try:
        runs = services.runs.newest_first(services.dataset, unreadable=unread.append)
        return list(islice(runs, _MOST_EARLIER)), unread
    except StorageError as error:
        return [], [f"cost estimated without earlier runs: {error}"]


def _advice(
    manifest: Manifest, services: Services, stages: Sequence[str], unread: list[str], seconds: float
) -> Advice:
    """Return recommendations for the layouts of a run, compared with those of earlier runs."""
    settings, snapshot = services.settings, manifest.discover
    names = [services.dataset, *(name for name in settings.datasets if name != services.dataset)]
    previous, *others = (_newest_run(name, services, unread) for name in names[:_MOST_DATASETS])
    return advise(
        planned_layouts(manifest.size, settings, manifest.split.bucket_counts),
        settings.readers,
        snapshot.rows,
        _keys(manifest),
        max((column.null_count or 0 for column in snapshot.columns if column.name in snapshot.keys), default=0),
        WRITERS.get(settings.ctas.method) if "ctas" in stages else None,
        previous,
        [run for run in others if run],
        settings.catalog.kind,
        seconds,
        not is_s3(settings.target),
        settings.iceberg.catalog == "sql",
    )


def planned_layouts(
    size: SizeResult, settings: Settings, known: Mapping[str, Sequence[int]] | None = None
) -> list[PlannedLayout]:
    """Return the layouts of a run, with the estimated sizes of their tables.

    `known` are the bucket counts of tables that exist in Iceberg, from `SplitResult.bucket_counts`.
    """
    return [
        PlannedLayout(
            name=layout.name,
            prefix=settings.catalog.final_prefix if layout.prefix is None else layout.prefix,
            hash=layout.hash,
            buckets=layout.bucket_count,
            bucketed=layout.bucketed,
            sort=layout.sort,
            largest=max(table.bytes for table in layout.tables),
            bytes=sum(table.bytes for table in layout.tables),
            files=sum(table.files for table in layout.tables),
            mixed=_is_mixed(layout, known or {}),
        )
        for layout in size.layouts
    ]


def _is_mixed(layout: LayoutSize, known: Mapping[str, Sequence[int]]) -> bool:
    """Return whether a table of an Iceberg layout will have several partition specs."""
    count = layout.bucket_count if layout.bucketed else 0
    earlier = (known.get(layout_table(layout.id, table.name), ()) for table in layout.tables)
    return any(len(counts) > 1 or any(each != count for each in counts) for counts in earlier)


def _newest_run(dataset: str, services: Services, unread: list[str]) -> EarlierRun | None:
    """Return the newest finished run that wrote buckets and was not withdrawn; None without one that can be read."""
    try:
        withdrawn = {mark.run_id for mark in withdrawals(services.runs, dataset)}
        for run in services.runs.newest_first(dataset, unreadable=lambda _: None):
            if run.run_id in withdrawn:
                continue
            if run.status == "finished" and {"discover", "split", "size", "bucket"} <= run.stages.keys():
                layouts = tuple(planned_layouts(run.size, services.settings))
                return EarlierRun(dataset, run.run_id, _keys(run), layouts)
    except StorageError as error:
        unread.append(f"layouts not compared with dataset {dataset}: {error}")
    return None


def _keys(manifest: Manifest) -> tuple[Key, ...]:
    names = (mapping.name for mapping in manifest.split.keys)
    return tuple(zip(names, manifest.discover.key_types, strict=True))
