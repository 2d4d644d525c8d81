"""Format what is live: the tables that the catalog shows, and the state of the runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bucketwheel.api import BucketResult, DiscoverResult, LiveDataset, LiveTable, RunState
from bucketwheel.cli.terminal import table
from bucketwheel.formatting import counted, size_text
from bucketwheel.safe_text import one_line

_TIME_LENGTH = len("2025-11-01T04:11")


def tables_text(live: LiveDataset) -> str:
    """Return the published tables of a dataset, one line each, and the other tables if they show other runs."""
    if not live.published:
        text = f"{one_line(live.dataset)}: no table is published"
        return f"{text}\n\n{_table(live, live.tables, names=True)}" if live.tables else text
    dataset = one_line(live.dataset)
    snapshots = f"{'snapshot' if len(live.snapshots) == 1 else 'snapshots'} {', '.join(live.snapshots)}"
    runs = len({each.run_id for each in live.published})
    # Several snapshots show already that there are several runs.
    mixed = f" of {counted(runs, 'run')}" if runs > len(live.snapshots) == 1 else ""
    head = f"{dataset}: {counted(len(live.published), 'table')}{mixed}, {snapshots}"
    lines = [head, "", _table(live, live.published)]
    shown = {(each.layout, each.table, each.run_id) for each in live.published}
    others = [
        each
        for each in live.tables
        if each not in live.published and (each.layout, each.table, each.run_id) not in shown
    ]
    if others:
        lines += ["", "other tables in the catalog:", "", _table(live, others, names=True)]
    return "\n".join(lines)


def tables_document(live: LiveDataset) -> dict[str, Any]:
    """Return the live tables of a dataset as JSON."""
    return {
        "dataset": live.dataset,
        "snapshot_dt": live.snapshot_dt,
        "snapshots": live.snapshots,
        "warnings": list(live.warnings),
        "problems": list(live.problems),
        "tables": [dataclasses.asdict(each) for each in live.tables],
    }


def runs_text(states: Sequence[RunState]) -> str:
    """Return one line per run."""
    if not states:
        return "no runs"
    header = ("run", "dataset", "status", "snapshot", "live", "filter", "stages", "rows", "written")
    same = ("dataset",) if len({state.manifest.dataset for state in states}) == 1 else ()
    optional = ("stages", "snapshot", *same, "written", "rows", "filter")
    return table(*_without_empty(header, [_run_row(state) for state in states], "filter"), optional)


def run_document(state: RunState, manifest: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a manifest as JSON, by default without its stages, and the state of the run."""
    live, buckets = state.live, state.buckets
    return {
        **(manifest or state.manifest.model_dump(mode="json", exclude={"stages"})),
        "status": state.status,
        "buckets": None if buckets is None else {"finished": buckets[0], "total": buckets[1]},
        "live": None if live is None else dataclasses.asdict(live),
        "withdrawal": None if state.withdrawal is None else state.withdrawal.model_dump(mode="json"),
        "publication": state.publication or None,
    }


def _run_row(state: RunState) -> tuple[str, ...]:
    manifest = state.manifest
    results = manifest.results()
    snapshot_result, written = results.get("discover"), results.get("bucket")
    rows = f"{snapshot_result.rows:,}" if isinstance(snapshot_result, DiscoverResult) else "-"
    total = "-"
    if isinstance(written, BucketResult):
        total = size_text(sum(file.bytes for outcome in written.outcomes for file in outcome.files))
    names = manifest.tables_filter
    return (
        manifest.run_id,
        manifest.dataset,
        state.status_text,
        manifest.snapshot_dt or "-",
        _live(state),
        ",".join(names[:3]) + (f",… ({len(names)})" if len(names) > 3 else ""),
        ",".join(manifest.stages),
        rows,
        total,
    )


def _live(state: RunState) -> str:
    if state.live is None or not state.live.count:
        return "-"
    staged = " staged" if state.live.kind == "staged" else ""
    return f"{state.live.count:,}/{state.live.total:,}{staged}"


def _table(live: LiveDataset, tables: Sequence[LiveTable], names: bool = False) -> str:
    """Return one line per table; `names` shows the names in the catalog instead of those in the mapping.

    Tables of several layouts have their names in the catalog in any case, and the layout.
    """
    several = live.has_several_layouts
    rows = [_row(each, names or several, each.layout if several else "") for each in tables]
    header: tuple[str, ...] = ("table", "layout", "snapshot", "rows", "bytes", "files", "published", "differs", "run")
    optional = ("bytes", "files", "published", "snapshot", "rows")
    for column in ("layout", "differs"):
        header, rows = _without_empty(header, rows, column)
    return table(header, rows, optional)


def _row(live: LiveTable, names: bool, layout: str) -> tuple[str, ...]:
    published = "-" if live.published is None else live.published[:_TIME_LENGTH].replace("T", " ")
    differs = "retired" if live.retired else live.differs or ""
    return (
        live.name if names else live.table,
        layout,
        live.snapshot_dt or "-",
        "-" if live.rows is None else f"{live.rows:,}",
        "-" if live.bytes is None else size_text(live.bytes),
        _files(live),
        published,
        differs,
        live.run_id,
    )


def _files(live: LiveTable) -> str:
    if live.files is None:
        return "-"
    return f"{live.files:,}" + (f", {live.missing_files:,} missing" if live.missing_files else "")


def _without_empty(
    header: tuple[str, ...], rows: list[tuple[str, ...]], optional: str
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows without the column `optional` if it is empty in all rows."""
    column = header.index(optional)
    if any(row[column] for row in rows):
        return header, rows
    return (*header[:column], *header[column + 1 :]), [(*row[:column], *row[column + 1 :]) for row in rows]
