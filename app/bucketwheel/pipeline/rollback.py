"""Publish the tables of an earlier run again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from bucketwheel.catalogs.publish import DATASET, check_files, definitions, publish_all
from bucketwheel.contracts import CatalogTable, Progress, Report
from bucketwheel.errors import SelectionError
from bucketwheel.executors.copy_store import (
    check_copies,
)
from bucketwheel.pipeline.run import prefixes
from bucketwheel.pipeline.select_run import PUBLISHING
from bucketwheel.pipeline.services import maintained, utc_now
from bucketwheel.runs.manifest import Manifest, PublishResult
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Settings


def rollback(
    settings: Settings, run_id: str, report: Report = lambda _: None, now: Callable[[], datetime] = utc_now
) -> PublishResult:
    """Point every catalog table that a run published to its files again; all tables or none.

    Tables that only other runs published stay unchanged; `report` gets a warning that lists them.

    Raises:
        SelectionError: no such run, or the run never published.
        VerificationError: files of that run are missing.
        LeaseError: another run holds the dataset.
        CatalogError: see `publish.publish_all`.
    """
    runs = RunStore.of(settings)
    manifest = runs.find(run_id)
    published = [stage for stage in PUBLISHING if stage in manifest.stages]
    if not published:
        raise SelectionError(f"run {run_id} never published a table; finish it with --resume {run_id}")
    with maintained(settings, manifest.dataset, report, now, runs) as services:
        check_files(manifest, runs)
        catalog = services.catalog()
        tables = []
        for stage in published:
            copies = manifest.result(stage, PublishResult).copies
            check_copies(services.storage, copies)
            prefix = prefixes(settings.catalog)[stage]
            tables += definitions(manifest, services, prefix, copies)

        def write_snapshot() -> None:
            if "ctas" in published:
                runs.write_published_snapshot(manifest)

        result = publish_all(catalog, services.fence, tables, settings.catalog.adopt, write_snapshot)
        left = sorted(table.name for table in _others(catalog.tables(), manifest))
    if left:
        text = f"unchanged, because run {run_id} did not publish them: {', '.join(left)}"
        report(Progress(manifest.dataset, "rollback", "warning", message=text))
    return result


def _others(tables: Iterable[CatalogTable], manifest: Manifest) -> list[CatalogTable]:
    """Return the tables that another run of the same dataset published."""
    return [
        table
        for table in tables
        if table.parameters.get(DATASET) == manifest.dataset and table.run_id != manifest.run_id
    ]
