"""Write the record of live tables next to the data, for jobs that do not read the catalog.

`metadata/snapshot_dt.txt` has the oldest snapshot among the final tables of a dataset, so that a job that reads it
finds at least that snapshot in every table. Retired tables do not count. `metadata/tables.json` names the snapshot of
each table.
"""

from __future__ import annotations

from dataclasses import replace

from bucketwheel.catalogs.live import LiveDataset, LiveTable, live_dataset
from bucketwheel.contracts import Services
from bucketwheel.runs.manifest import Manifest
from bucketwheel.runs.published import PublishedRecord, PublishedTableRecord
from bucketwheel.runs.store import RunStore


def record_live(manifest: Manifest, services: Services) -> LiveDataset:
    """Record the snapshot of each final table after `manifest` was published; return the record.

    Raises:
        LeaseError: another run wrote the record at the same time.
        BucketwheelError: the catalog cannot be read, or the record cannot be written.
    """
    return record_shown(_live(manifest, services), services)


def record_shown(live: LiveDataset, services: Services) -> LiveDataset:
    """Record the snapshot of each final table of `live`, and return it; raises as `record_live` does."""
    services.runs.write_published(_record(live, services.runs, services.clock.now().isoformat(timespec="seconds")))
    return live


def is_recorded(manifest: Manifest, services: Services) -> bool:
    """Return whether the record describes what the final tables show."""
    record, runs = services.runs.published(manifest.dataset), services.runs
    if record is None or runs.published_snapshot(manifest.dataset) != record.snapshot_dt:
        return False
    return record == _record(_live(manifest, services), runs, "")


def with_times(live: LiveDataset, runs: RunStore) -> LiveDataset:
    """Return the tables with the publication times of the record, which rollbacks also update."""
    record = runs.published(live.dataset)
    times = {table.name: table for _, _, table in record.entries()} if record else {}

    def timed(table: LiveTable) -> LiveTable:
        entry = times.get(table.name)
        known = entry is not None and (entry.run_id, entry.location) == (table.run_id, table.location)
        return replace(table, published=entry.published) if entry is not None and known else table

    return replace(live, tables=tuple(map(timed, live.tables)))


def _live(manifest: Manifest, services: Services) -> LiveDataset:
    tables = services.catalog().tables()
    return live_dataset(tables, manifest.dataset, services.runs, services.settings, [manifest])


def _record(live: LiveDataset, runs: RunStore, now: str) -> PublishedRecord:
    """Return the record of the final tables.

    A table that still points to the recorded run keeps its publication time.
    """
    before = runs.published(live.dataset)
    known = {(layout, name): entry for layout, name, entry in before.entries()} if before else {}
    tables: dict[str, dict[str, PublishedTableRecord]] = {"": {}}
    for table in live.published:
        layout = live.other_layout(table)
        entry = PublishedTableRecord(
            name=table.name,
            run_id=table.run_id,
            snapshot_dt=table.snapshot_dt,
            location=table.location,
            retired=table.retired,
            published=now,
        )
        old = known.get((layout, table.table))
        if old is not None and (old.run_id, old.location) == (entry.run_id, entry.location):
            entry = entry.model_copy(update={"published": old.published})
        tables.setdefault(layout, {})[table.table] = entry
    first = tables.pop("")
    return PublishedRecord(
        dataset=live.dataset, snapshot_dt=live.snapshot_dt or "", tables=first, other_layouts=tables
    )
