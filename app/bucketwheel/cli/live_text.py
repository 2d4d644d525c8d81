"""Format what is live: the tables that the catalog shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from bucketwheel.api import LiveDataset, LiveTable
from bucketwheel.formatting import counted, size_text, table

_TIME_LENGTH = len("2025-11-01T04:11")


def tables_text(live: LiveDataset) -> str:
    """Return the published tables of a dataset, one line each, and the other tables if they show other runs."""
    if not live.published:
        text = f"{live.dataset}: no table is published"
        return f"{text}\n\n{_table(live.tables, names=True)}" if live.tables else text
    snapshots = f"{'snapshot' if len(live.snapshots) == 1 else 'snapshots'} {', '.join(live.snapshots)}"
    lines = [f"{live.dataset}: {counted(len(live.published), 'table')}, {snapshots}", "", _table(live.published)]
    run_ids = {each.table: each.run_id for each in live.published}
    others = [each for each in live.tables if each not in live.published and run_ids.get(each.table) != each.run_id]
    if others:
        lines += ["", "other tables in the catalog:", "", _table(others, names=True)]
    return "\n".join(lines)


def tables_document(live: LiveDataset) -> dict[str, Any]:
    """Return what the catalog shows of a dataset as JSON."""
    return {
        "dataset": live.dataset,
        "snapshot_dt": live.snapshot_dt,
        "snapshots": live.snapshots,
        "warnings": list(live.warnings),
        "problems": list(live.problems),
        "tables": [dataclasses.asdict(each) for each in live.tables],
    }


def _table(tables: Sequence[LiveTable], names: bool = False) -> str:
    """Return one line per table; `names` shows the names in the catalog instead of those in the mapping."""
    rows = [_row(each, names) for each in tables]
    header = ("table", "snapshot", "rows", "bytes", "files", "published", "differs", "run")
    return table(*_without_empty(header, rows, "differs"))


def _row(live: LiveTable, names: bool) -> tuple[str, ...]:
    published = "-" if live.published is None else live.published[:_TIME_LENGTH].replace("T", " ")
    differs = "retired" if live.retired else live.differs or ""
    return (
        live.name if names else live.table,
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
    header: Sequence[str], rows: Sequence[Sequence[str]], optional: str
) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    """Return header and rows without the column `optional` if it is empty in all rows."""
    place = header.index(optional)
    if any(row[place] for row in rows):
        return header, rows
    return [*header[:place], *header[place + 1 :]], [[*row[:place], *row[place + 1 :]] for row in rows]
