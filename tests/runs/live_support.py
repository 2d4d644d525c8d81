"""Runs and catalogs that exist only in memory, to see what is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bucketwheel.catalogs.live import LiveDataset, live_dataset
from bucketwheel.contracts import CatalogTable
from bucketwheel.runs.manifest import LayoutSize, Manifest, SizeResult, SplitResult, TableColumns
from runs_support import DATASET, Case
from stage_support import manifest as manifest_of

OLD, NEW, NEWEST = (f"2025-0{n}-01-2025040{n}T120000Z-00000{n}" for n in (1, 2, 3))


def shown(name: str, run_id: str, layout: str | None = None) -> CatalogTable:
    """Return a catalog table of a run; without `layout`, it was published by a run that named no layout."""
    parameters = {
        "bucketwheel.run_id": run_id,
        "bucketwheel.dataset": DATASET,
        "bucketwheel.snapshot_dt": run_id[:10],
    }
    if layout is not None:
        parameters["bucketwheel.layout"] = layout
    return CatalogTable(name, f"/out/{name}/{run_id}", (), parameters=parameters)


def made(
    run_id: str,
    names: Sequence[str],
    tables_filter: Sequence[str] = (),
    layouts: Mapping[str, str | None] | None = None,
) -> Manifest:
    """Return the manifest of a run with these tables; `layouts` has the prefix of each layout by name."""
    parts = tuple(TableColumns(name=name, columns=()) for name in names)
    split = SplitResult(keys=(), tables=parts, unmapped=(), mapping_sha256=None)
    values: dict[str, Any] = {
        "bucket_count": 4,
        "bucketed": True,
        "hash": "hive_v1",
        "sort": True,
        "max_file_bytes": 2**30,
        "tables": (),
    }
    first, *others = [
        LayoutSize(name=name, prefix=prefix, **values) for name, prefix in (layouts or {"": None}).items()
    ]
    size = SizeResult(
        **values,
        page_bytes=2**18,
        bytes_to_read=1,
        decoded_bytes_per_row=1,
        dictionary_columns=(),
        slices=(),
        name=first.name,
        prefix=first.prefix,
        other_layouts=tuple(others),
    )
    manifest = manifest_of(split=split, size=size)
    return manifest.model_copy(update={"run_id": run_id, "dataset": DATASET, "tables_filter": tuple(tables_filter)})


def look(
    case: Case, catalog: Mapping[str, str] | Sequence[CatalogTable], *known: Manifest, **changes: Any
) -> LiveDataset:
    """Return what is live if the catalog has these tables, or tables of these names that point to these runs."""
    tables = [shown(*each) for each in catalog.items()] if isinstance(catalog, Mapping) else catalog
    return live_dataset(tables, DATASET, case.store(), case.settings(**changes), known)
