"""Find configured catalogs that have lost the tables of a dataset."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from bucketwheel.catalogs.definitions import is_iceberg_layout
from bucketwheel.catalogs.publish import configured_catalogs
from bucketwheel.catalogs.routed import members
from bucketwheel.contracts import Services
from bucketwheel.contracts.catalog import is_iceberg
from bucketwheel.errors import CatalogError
from bucketwheel.pipeline.select_run import PUBLISHING
from bucketwheel.runs.manifest import Manifest, PublishResult
from bucketwheel.runs.publications import CatalogRecord, publications
from bucketwheel.settings.layouts import resolved_layouts


def check_catalogs(services: Services, manifests: Sequence[Manifest], forgotten: Collection[str]) -> None:
    """Check that each configured catalog in which runs were published shows one of them.

    A catalog for which no layout is configured any more may be empty, but must exist.

    Args:
        services: the services of the command.
        manifests: the readable manifests of the dataset.
        forgotten: ids of catalogs to ignore.

    Raises:
        CatalogError: a catalog shows none of the runs.
        StorageError: a record cannot be read or is damaged.
    """
    run_ids = {manifest.run_id for manifest in manifests}
    configured = {layout.hash == "iceberg" for layout in resolved_layouts(services.settings)}
    for catalog, own in zip(members(services.catalog()), configured_catalogs(services), strict=True):
        iceberg = own.kind == "iceberg"
        # Glue lists the tables of both catalogs.
        if any(table.run_id in run_ids and is_iceberg(table) == iceberg for table in catalog.tables()):
            continue
        records: dict[str, CatalogRecord] = {}
        newest = ""
        for manifest in manifests:
            if _has_tables_in(manifest, iceberg):
                known = publications(services.runs, services.dataset, manifest.run_id)
                found = {each.id: each for each in known if each.matches(own) and each.id not in forgotten}
                records, newest = {**records, **found}, manifest.run_id if found else newest
        path = own.address.get("path")
        missing = path is not None and not Path(path).exists()
        if records and (missing or iceberg in configured):
            why = f"{path} does not exist" if missing else "the catalog has no table of any run"
            raise CatalogError(_refusal(services.dataset, own, why, newest, records))


def _has_tables_in(manifest: Manifest, iceberg: bool) -> bool:
    """Return whether a run published tables of one kind."""
    for stage in PUBLISHING:
        if stage in manifest.stages and manifest.result(stage, PublishResult).tables:
            layouts = manifest.size.layouts if stage == "ctas" else manifest.size.layouts[:1]
            if any(is_iceberg_layout(layout) == iceberg for layout in layouts):
                return True
    return False


def _refusal(dataset: str, own: CatalogRecord, why: str, run_id: str, forget: Collection[str]) -> str:
    options = " ".join(f"--forget-catalog {catalog_id}" for catalog_id in sorted(forget))
    return (
        f"{dataset}: nothing was deleted: run {run_id} was published in {own.text}, but {why}. Restore that catalog, "
        f"or rebuild it: bucketwheel catalog rebuild {dataset}; if it no longer shows any run, add {options}"
    )
