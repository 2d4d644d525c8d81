"""List the live tables of a dataset and check their files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from bucketwheel import plugins
from bucketwheel.catalogs.definitions import DATASET, published_layouts
from bucketwheel.catalogs.live import (
    LiveDataset,
    LiveTable,
    check_live_files,
    live_dataset,
    live_datasets,
    was_published,
)
from bucketwheel.catalogs.live_record import with_times
from bucketwheel.contracts import CatalogTable
from bucketwheel.contracts.catalog import same_location
from bucketwheel.errors import BucketwheelError, SelectionError, did_you_mean
from bucketwheel.formatting import counted, listed
from bucketwheel.pipeline.other_catalogs import left_behind
from bucketwheel.pipeline.settle import publications
from bucketwheel.runs.manifest import Manifest, PublishResult
from bucketwheel.runs.run_id import started_at
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Settings

# Maximum number of tables or runs that a message names.
_LISTED = 3


def tables(settings: Settings, dataset: str | None = None) -> list[LiveDataset]:
    """Return the live tables of one dataset, or of all; list files, but read none.

    Raises:
        SelectionError: no such dataset.
        CatalogError: the catalog cannot be read.
    """
    runs, shown = RunStore.of(settings), plugins.catalog(settings).tables()
    names = known_datasets(settings, runs, shown)
    if dataset is not None:
        check_dataset(dataset, names, shown)
        names = [dataset]
    return [_checked(settings, name, runs, shown) for name in names]


def known_datasets(settings: Settings, runs: RunStore, shown: Sequence[CatalogTable] = ()) -> list[str]:
    """Return the datasets that are configured, have runs, or have tables in the catalog."""
    return list(dict.fromkeys([*settings.datasets, *runs.datasets(), *live_datasets(shown)]))


def check_dataset(dataset: str, known: Sequence[str], shown: Sequence[CatalogTable] = ()) -> None:
    """Raise SelectionError if the dataset is not known; the message suggests one that is."""
    if dataset in known:
        return
    hint = did_you_mean(dataset, known)
    for table in shown:
        name = table.name.lower()
        if table.run_id and (name == dataset.lower() or name.endswith(f"_{dataset.lower()}")):
            hint = f"{table.name!r} is a table of dataset {table.parameters.get(DATASET)!r}; "
            break
    raise SelectionError(f"no dataset {dataset!r}; {hint}known: {', '.join(known) or 'none'}")


def no_tables_text(dataset: str, run_id: str, settings: Settings) -> str:
    """Return the message that the catalog has no table of a dataset, although a run was published."""
    catalog = settings.catalog
    location = f"database {catalog.database}"
    if catalog.kind == "duckdb" and catalog.path is not None:
        location = (
            f"{catalog.path}, {location}" if Path(catalog.path).exists() else f"{catalog.path}, which does not exist"
        )
    return f"{dataset}: the catalog ({location}) has no table of its runs, although {run_id} was published"


def _checked(settings: Settings, dataset: str, runs: RunStore, shown: Sequence[CatalogTable]) -> LiveDataset:
    """Return the live tables of a dataset, with warnings and problems."""
    warnings: list[str] = []
    live = live_dataset(shown, dataset, runs, settings, unreadable=warnings.append)
    live = check_live_files(with_times(live, runs), runs.storage)
    problems = [*_missing_tables(live, runs, settings, shown), *_missing_files(live)]
    if not live.tables:
        manifests = runs.newest_first(dataset, unreadable=warnings.append)
        published = next((manifest.run_id for manifest in manifests if was_published(manifest)), None)
        if published is not None:
            text = no_tables_text(dataset, published, settings)
            problems.append(
                f"{text}. Correct the settings, or rebuild the catalog: bucketwheel catalog rebuild {dataset}"
            )
    for publication in publications(settings, runs, dataset, lambda: shown):
        (warnings if publication.running else problems).append(f"{dataset}: {publication.text}")
    warnings += unconfigured_texts(live)
    try:
        warnings += left_behind(settings, runs, dataset)
    except BucketwheelError as error:
        warnings.append(f"{dataset}: catalogs that are no longer configured were not read: {error}")
    if mix := live.mix_text():
        warnings.append(mix)
    return replace(live, warnings=tuple(warnings), problems=tuple(problems))


def unconfigured_texts(live: LiveDataset) -> list[str]:
    """Return one message per layout that is no longer configured but still has tables in the catalog."""
    return [
        f"{live.dataset}: layout {layout!r} is not configured, but {counted(len(tables), 'table')} of it still "
        f"{'shows' if len(tables) == 1 else 'show'} {listed(sorted({table.run_id for table in tables}), _LISTED)}: "
        f"{listed([table.name for table in tables], _LISTED)}; no run updates them: configure the layout again, or "
        "remove them from the catalog"
        for layout, tables in live.unconfigured.items()
    ]


def _missing_files(live: LiveDataset) -> list[str]:
    """Return one message per directory whose files are incomplete; staged and final tables may share it."""
    damaged: dict[str, list[LiveTable]] = {}
    for table in live.tables:
        if table.missing_files:
            damaged.setdefault(table.location, []).append(table)
    return [
        f"{', '.join(table.name for table in tables)}: {tables[0].missing_files} of "
        f"{counted(tables[0].files or 0, 'file')} in {location} are missing or have another size; write them again: "
        f"bucketwheel run {live.dataset} --snapshot-dt {tables[0].snapshot_dt}"
        for location, tables in damaged.items()
    ]


def _missing_tables(
    live: LiveDataset, runs: RunStore, settings: Settings, catalog: Sequence[CatalogTable]
) -> list[str]:
    """Return one message per run and configured layout whose published tables are not in the catalog."""
    others = {table.name.lower() for table in catalog if table.run_id is None}
    shown = {table.name.lower() for table in live.tables}
    configured = {layout.name for layout in live.layouts}
    manifests = [live.manifests[each] for each in {table.run_id for table in live.current} if each in live.manifests]
    texts: list[str] = []
    for manifest in sorted(manifests, key=lambda each: started_at(each.run_id), reverse=True):
        later = [each for each in live.manifests.values() if started_at(each.run_id) > started_at(manifest.run_id)]
        dropped = [_written(each) for each in later if not each.tables_filter]
        stage = "ctas" if "ctas" in manifest.stages and manifest.ctas.tables else "register"
        for layout, prefix in published_layouts(manifest, settings, stage):
            if layout.name not in configured:
                continue
            missing = []
            for table in manifest.split.tables:
                name = f"{prefix}{table.name}"
                location = runs.data_directory(live.dataset, table.name, manifest.run_id, layout.id)
                names = {name.lower(), _published_name(manifest, stage, location)}
                if shown.isdisjoint(names) and all(table.name.lower() in written for written in dropped):
                    missing.append(name)
            shown.update(name.lower() for name in missing)
            if missing:
                texts.append(_missing_text(live.dataset, manifest.run_id, layout.name, missing, others))
    return texts


def _missing_text(dataset: str, run_id: str, layout: str, missing: Sequence[str], others: Collection[str]) -> str:
    """Return that published tables are missing, and the command that makes them again; `others` are in the way."""
    one = len(missing) == 1
    text = (
        f"{dataset}: {counted(len(missing), 'table')}{f' of layout {layout!r}' if layout else ''} that run {run_id} "
        f"published {'is' if one else 'are'} not in the catalog: {listed(missing, _LISTED)}"
    )
    command = f"bucketwheel catalog rebuild {dataset}"
    if taken := [name for name in missing if name.lower() in others]:
        return (
            f"{text}; a table whose metadata is damaged, or that Bucketwheel did not create, has the name "
            f"{listed(taken, _LISTED)}: rename it, or replace it with: "
            f"{command} --yes --set catalog.adopt=true"
        )
    return f"{text}; to make {'it' if one else 'them'} again: {command}"


def _written(manifest: Manifest) -> set[str]:
    """Return the lower-case names of the tables that a run wrote."""
    return {table.name.lower() for table in manifest.split.tables}


def _published_name(manifest: Manifest, stage: str, location: str) -> str:
    """Return the lower-case name that a table got when its run was published; empty if not known.

    The prefix may have changed since.
    """
    tables = manifest.result(stage, PublishResult).tables
    return next((table.name.lower() for table in tables if same_location(table.location, location)), "")
