"""Determine what is live: the run that each catalog table of a dataset points to.

All commands use this module, so that they agree. The catalog determines what is live; the manifests of those runs add
rows, bytes and files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from bucketwheel.catalogs.definitions import DATASET, LAYOUT, SNAPSHOT, table_names
from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import same_location
from bucketwheel.errors import StorageError
from bucketwheel.formatting import counted, listed
from bucketwheel.runs.manifest import CopiedTable, Manifest, PublishResult
from bucketwheel.runs.run_id import RUN_ID, started_at
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Settings
from bucketwheel.settings.layouts import Layout, resolved_layouts
from bucketwheel.storage import Storage
from bucketwheel.system import system

_STAGE_OF = {"staged": "register", "final": "ctas"}
_READERS = 8

Kind = Literal["final", "staged", "other"]


@dataclass(frozen=True)
class LiveTable:
    """A catalog table and the run that it points to.

    Attributes:
        dataset: name of the dataset
        table: name of the table in the mapping
        name: name of the table in the catalog
        kind: final, staged, or other if the name has none of the configured prefixes
        layout: name of its layout; empty if the run had one layout without a name
        run_id: the run that it points to
        snapshot_dt: snapshot of that run
        location: directory of the files
        rows: rows, from the manifest; None if the run has no readable manifest
        bytes: size of the files, from the manifest
        files: number of files, from the manifest
        published: time of publication (UTC, ISO format), or None if unknown
        differs: which of `snapshot` or `run` differs from most tables of the dataset, or None
        retired: whether a later unfiltered run is live and does not write this table
        missing_files: number of files that are gone or have another size; None if not checked
    """

    dataset: str
    table: str
    name: str
    kind: Kind
    layout: str
    run_id: str
    snapshot_dt: str
    location: str
    rows: int | None = None
    bytes: int | None = None
    files: int | None = None
    published: str | None = None
    differs: Literal["snapshot", "run"] | None = None
    retired: bool = False
    missing_files: int | None = None


@dataclass(frozen=True)
class LiveDataset:
    """The live tables of one dataset.

    Attributes:
        dataset: name of the dataset
        tables: its tables in the catalog, the final ones first, those of one layout after another
        manifests: the readable manifests of the live runs, by run id
        layouts: the configured layouts
        warnings: manifests that cannot be read, and a mix of snapshots
        problems: reasons why readers cannot read the dataset: missing files, or no table although a run was published
    """

    dataset: str
    tables: tuple[LiveTable, ...]
    manifests: Mapping[str, Manifest] = field(repr=False)
    layouts: tuple[Layout, ...] = field(repr=False)
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @cached_property
    def published(self) -> tuple[LiveTable, ...]:
        """The tables that represent the dataset: the final ones, or the staged ones if there are no final ones."""
        final = tuple(table for table in self.tables if table.kind == "final")
        return final or tuple(table for table in self.tables if table.kind == "staged")

    @cached_property
    def current(self) -> tuple[LiveTable, ...]:
        """The published tables without the retired ones."""
        return tuple(table for table in self.published if not table.retired)

    @property
    def snapshot_dt(self) -> str | None:
        """The oldest snapshot among the current tables; None if there are none."""
        return min((table.snapshot_dt for table in self.current), default=None)

    @property
    def snapshots(self) -> list[str]:
        """The snapshots of the current tables, oldest first; more than one is a mix."""
        return sorted({table.snapshot_dt for table in self.current})

    @property
    def run_ids(self) -> set[str]:
        """The ids of the runs that tables of any kind point to."""
        return {table.run_id for table in self.tables}

    @property
    def has_several_layouts(self) -> bool:
        """Whether the tables are of several layouts."""
        return len({table.layout for table in self.tables}) > 1

    @property
    def unconfigured(self) -> dict[str, list[LiveTable]]:
        """The tables of layouts that the configuration no longer has, by layout."""
        known = {layout.name for layout in self.layouts}
        gone: dict[str, list[LiveTable]] = {}
        for table in self.tables:
            if table.kind == "other" and table.layout and table.layout not in known:
                gone.setdefault(table.layout, []).append(table)
        return gone

    def other_layout(self, table: LiveTable) -> str:
        """Return the configured layout that a final table belongs to; empty for the first and for other tables."""
        prefix = table.name[: -len(table.table)].lower()
        others = self.layouts[1:] if table.kind == "final" else ()
        return next((layout.name for layout in others if layout.prefix.lower() == prefix), "")

    def newest_run(self) -> str | None:
        """Return the id of the live run that started last."""
        return max((table.run_id for table in self.published), key=started_at, default=None)

    def mix_text(self) -> str:
        """Return which tables come from which snapshot, or an empty string if all come from one."""
        if len(self.snapshots) < 2:
            return ""
        parts = []
        for snapshot in reversed(self.snapshots):
            several = self.has_several_layouts
            tables = [table for table in self.current if table.snapshot_dt == snapshot]
            names = [table.name if several else table.table for table in tables]
            parts.append(f"{snapshot}: {listed(names, 3)}")
        # snapshot_dt.txt covers final tables only.
        record = "; metadata/snapshot_dt.txt names the oldest" if self.published[0].kind == "final" else ""
        return f"the tables of {self.dataset} show {counted(len(parts), 'snapshot')}: {'; '.join(parts)}{record}"


@dataclass(frozen=True)
class LiveCount:
    """Number of live tables of a run; `kind` is the kind of the counted tables."""

    count: int
    total: int
    kind: Kind


def owned(tables: Iterable[CatalogTable], dataset: str) -> list[CatalogTable]:
    """Return the catalog tables that Bucketwheel published for a dataset."""
    return [table for table in tables if _is_ours(table) and table.parameters[DATASET] == dataset]


def live_datasets(tables: Iterable[CatalogTable]) -> list[str]:
    """Return the names of the datasets that have tables in the catalog."""
    return sorted({table.parameters[DATASET] for table in tables if _is_ours(table)})


def _is_ours(table: CatalogTable) -> bool:
    return DATASET in table.parameters and RUN_ID.fullmatch(table.run_id or "") is not None


def live_dataset(
    tables: Iterable[CatalogTable],
    dataset: str,
    runs: RunStore,
    settings: Settings,
    known: Sequence[Manifest] = (),
    unreadable: Callable[[str], None] = lambda _: None,
) -> LiveDataset:
    """Return the live tables of a dataset, with the manifests of their runs.

    Args:
        tables: all tables of the catalog.
        dataset: name of the dataset.
        runs: where the manifests are.
        settings: the layouts and the prefixes of the table names.
        known: manifests that the caller has; a process that writes a manifest must not read it again.
        unreadable: called with a message for each manifest that cannot be read.
    """
    own = owned(tables, dataset)
    manifests = {manifest.run_id: manifest for manifest in known if manifest.dataset == dataset}
    for run_id in sorted({table.run_id or "" for table in own} - manifests.keys(), key=started_at):
        try:
            manifest = runs.load(dataset, run_id)
            # A damaged result counts as an unreadable manifest.
            manifest.results()
            manifests[run_id] = manifest
        except StorageError as error:
            unreadable(str(error))
    shown = {table.run_id for table in own}
    manifests = {run_id: manifest for run_id, manifest in manifests.items() if run_id in shown}
    layouts, staged = resolved_layouts(settings), settings.catalog.staged_prefix
    live_tables = [_live_table(table, manifests.get(table.run_id or ""), layouts, staged) for table in own]
    live = LiveDataset(dataset, (), manifests, layouts)
    order, names = ("final", "staged", "other"), ["", *(layout.name for layout in layouts)]
    live_tables.sort(
        key=lambda table: (order.index(table.kind), names.index(live.other_layout(table)), table.layout, table.table)
    )
    live = replace(live, tables=tuple(live_tables))
    retired = {table.name for table in live.published if _is_retired(table, manifests.values(), settings)}
    live = replace(live, tables=tuple(replace(table, retired=table.name in retired) for table in live_tables))
    return replace(live, tables=tuple(_compared(live)))


def live_runs(
    tables: Iterable[CatalogTable], manifest: Manifest, runs: RunStore, settings: Settings
) -> dict[str, Manifest]:
    """Return the run of each current table of the dataset of `manifest`, by lower-case table name.

    Tables that point to the run of `manifest` are left out. If the layouts of a table show several runs, the run of
    the first layout counts.

    Raises:
        StorageError: a run has no readable manifest.
    """
    unreadable: list[str] = []
    live = live_dataset(tables, manifest.dataset, runs, settings, [manifest], unreadable.append)
    others = [table for table in live.current if table.run_id != manifest.run_id]
    missing = {table.run_id for table in others} - live.manifests.keys()
    if missing:
        texts = [text for text in unreadable if any(run_id in text for run_id in missing)]
        raise StorageError("; ".join(texts))
    runs_of: dict[str, Manifest] = {}
    for table in others:
        runs_of.setdefault(table.table.lower(), live.manifests[table.run_id])
    return runs_of


def count_live(manifest: Manifest, live: LiveDataset) -> LiveCount | None:
    """Return how many tables of a run are live, or None if the run has no tables yet.

    Count the published tables; if none of them points to the run, count another kind.
    """
    if "split" not in manifest.stages:
        return None
    tables, configured = len(manifest.split.tables), {layout.name for layout in live.layouts}
    others = manifest.size.other_layouts if "size" in manifest.stages else ()
    finals = tables * (1 + sum(layout.name in configured for layout in others))
    kinds = Counter(table.kind for table in live.tables if table.run_id == manifest.run_id)
    first: Kind = live.published[0].kind if live.published else "final"
    for kind in (first, *(kind for kind in kinds if kind != first)):
        if kinds[kind]:
            return LiveCount(kinds[kind], finals if kind == "final" else tables, kind)
    return LiveCount(0, finals if first == "final" else tables, first)


def was_published(manifest: Manifest) -> bool:
    """Return whether a run has published tables, even if they are no longer live."""
    stages = [stage for stage in _STAGE_OF.values() if stage in manifest.stages]
    # The first layout has no staged tables if it is Iceberg's.
    return any(manifest.result(stage, PublishResult).tables for stage in stages)


def published_tables(manifest: Manifest, kind: Kind) -> set[str]:
    """Return the lower-case names of the mapping's tables that a run published as tables of a kind."""
    if _STAGE_OF.get(kind) not in manifest.stages:
        return set()
    return {table.name.lower() for table in manifest.split.tables}


def check_live_files(live: LiveDataset, storage: Storage) -> LiveDataset:
    """Return the dataset with `missing_files` of every table that has a manifest; reads listings only."""
    with system().pool(_READERS) as pool:
        return replace(live, tables=tuple(pool.map(lambda table: _with_missing(table, live, storage), live.tables)))


def _live_table(
    table: CatalogTable, manifest: Manifest | None, layouts: Sequence[Layout], staged_prefix: str
) -> LiveTable:
    kind, layout, name = _place(table, manifest, layouts, staged_prefix)
    live = LiveTable(
        dataset=table.parameters[DATASET],
        table=name,
        name=table.name,
        kind=kind,
        layout=layout,
        run_id=table.run_id or "",
        snapshot_dt=table.parameters.get(SNAPSHOT, ""),
        location=table.location,
    )
    if manifest is None:
        return live
    live = replace(live, published=_publication(manifest, kind))
    if copy := _copy_at(table.location, manifest):
        return replace(live, rows=copy.rows, bytes=copy.bytes, files=copy.files)
    for written in manifest.verify.tables if "verify" in manifest.stages else ():
        if (written.layout, written.name.lower()) == (_layout_id(live, manifest), name.lower()):
            return replace(live, rows=written.rows, bytes=written.bytes, files=written.files)
    return live


def _place(
    table: CatalogTable, manifest: Manifest | None, layouts: Sequence[Layout], staged_prefix: str
) -> tuple[Kind, str, str]:
    """Return the kind of a catalog table, its layout, and the name of its table in the mapping.

    Prefixes may be empty, begin with one another, or have changed since: of several that fit, prefer one that leaves
    the name of a table of the run, then one that is configured, then that of the recorded layout, then the longest.
    """
    recorded = table.parameters.get(LAYOUT)
    prefixes: list[tuple[str, Kind, str]] = [(layout.prefix, "final", layout.name) for layout in layouts]
    prefixes.append((staged_prefix, "staged", layouts[0].name))
    names: set[str] = set()
    if manifest is not None and {"split", "size"} <= manifest.stages.keys():
        names = {part.name.lower() for part in manifest.split.tables}
        prefixes += [(layout.prefix or "", "other", layout.name) for layout in manifest.size.layouts if layout.name]
    # Catalogs keep names in lower case.
    name = table.name.lower()
    fitting = [each for each in prefixes if name.startswith(each[0].lower())]

    def rank(place: tuple[str, Kind, str]) -> tuple[bool, bool, bool, int]:
        prefix, kind, layout = place
        return name[len(prefix) :] in names, kind != "other", recorded in (None, layout), len(prefix)

    prefix, kind, layout = max(fitting, key=rank, default=("", "other", ""))
    return kind, layout if recorded is None else recorded, table.name[len(prefix) :]


def _layout_id(table: LiveTable, manifest: Manifest) -> str:
    """Return the layout of a table in the records of its run: empty for the first."""
    layouts = manifest.size.layouts if "size" in manifest.stages else ()
    return next((layout.id for layout in layouts if layout.name == table.layout), "")


def _publication(manifest: Manifest, kind: Kind) -> str | None:
    record = manifest.stages.get(_STAGE_OF.get(kind, ""))
    if record is None:
        return None
    try:
        started = datetime.fromisoformat(record.started)
    except ValueError:
        return None
    return (started + timedelta(seconds=record.seconds)).isoformat(timespec="seconds")


def _copy_at(location: str, manifest: Manifest) -> CopiedTable | None:
    copies = manifest.ctas.copies if "ctas" in manifest.stages else ()
    return next((copy for copy in copies if same_location(copy.location, location)), None)


def _is_retired(table: LiveTable, manifests: Iterable[Manifest], settings: Settings) -> bool:
    """Return whether an unfiltered run that started after the table's run does not publish the table."""
    stage = _STAGE_OF[table.kind]
    return any(
        not manifest.tables_filter
        and started_at(manifest.run_id) > started_at(table.run_id)
        and {"split", "size"} <= manifest.stages.keys()
        and table.name.lower() not in {name.lower() for name, _ in table_names(manifest, settings, stage)}
        for manifest in manifests
    )


def _compared(live: LiveDataset) -> Iterable[LiveTable]:
    """Yield each table with `differs`: how it differs from most of the current tables."""
    snapshots = Counter(table.snapshot_dt for table in live.current)
    snapshot = max(snapshots, key=lambda each: (snapshots[each], each), default="")
    run_ids = Counter(table.run_id for table in live.current if table.snapshot_dt == snapshot)
    main = max(run_ids, key=lambda each: (run_ids[each], started_at(each)), default="")
    for table in live.tables:
        differs: Literal["snapshot", "run"] | None = None
        if table.snapshot_dt != snapshot:
            differs = "snapshot"
        elif table.run_id != main:
            differs = "run"
        yield replace(table, differs=differs)


def _with_missing(table: LiveTable, live: LiveDataset, storage: Storage) -> LiveTable:
    manifest = live.manifests.get(table.run_id)
    if manifest is None or table.files is None:
        return table
    sizes = {entry.name: entry.bytes for entry in storage.list(table.location) if not entry.is_directory}
    if copy := _copy_at(table.location, manifest):
        # The SQL engine chose the names of the files: compare only their number and total size.
        complete = (len(sizes), sum(sizes.values())) == (copy.files, copy.bytes)
        return replace(table, missing_files=0 if complete else max(copy.files - len(sizes), 1))
    outcomes = [each for each in manifest.bucket.outcomes if each.layout == _layout_id(table, manifest)]
    files = [file for outcome in outcomes for file in outcome.files]
    expected = [file for file in files if file.table.lower() == table.table.lower()]
    return replace(table, missing_files=sum(sizes.get(file.name) != file.bytes for file in expected))
