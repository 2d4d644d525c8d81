"""Compare a run with the published one for the report: columns, shares of NULLs, and the change of each tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bucketwheel.formatting import count_text, percent_text, seconds_text, size_text
from bucketwheel.runs.drift_records import Drift, NullShare, SchemaChange

# Smaller changes of a share of NULLs are noise.
_NOISE = 0.001


def null_changes(drift: Drift | None) -> list[NullShare]:
    """Return the columns whose share of NULLs changed noticeably, the largest change first."""
    changed = [share for share in drift.null_shares if abs(share.now - share.before) >= _NOISE] if drift else []
    return sorted(changed, key=lambda share: (-abs(share.now - share.before), share.name))


def points_text(change: NullShare) -> str:
    """Return the change of a share of NULLs in percentage points with its sign."""
    return f"{_sign(change.now, change.before)}{100 * abs(change.now - change.before):.3g}"


def schema_changes(drift: Drift | None) -> list[SchemaChange]:
    """Return the changed columns of published tables, those that break readers first."""
    return sorted(drift.schema_changes, key=lambda change: not change.breaking) if drift else []


def tile_changes(drift: Drift | None, done: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the change since the published run by the name of the tile.

    Args:
        drift: recorded differences; None if nothing was published before.
        done: results of the run by stage; None for a stage that has not finished.
        before: results of the published run, if its manifest still exists.
    """
    if drift is None:
        return {}
    changes = {"rows": _change(drift.rows, drift.rows_before, count_text)}
    if before is None or before["discover"] is None:
        return changes
    changes["source"] = _change(done["discover"].bytes, before["discover"].bytes, size_text)
    tables, tables_before = _tables(done), _tables(before)
    changes["tables"] = _change(len(tables), len(tables_before), count_text)
    # A run of other tables writes other bytes.
    if tables == tables_before and before["bucket"] and before["size"]:
        changes["written"] = _change(_written(done), _written(before), size_text)
        changes["buckets"] = _change(done["size"].bucket_count, before["size"].bucket_count, count_text)
        for kind in ("null", "duplicate"):
            changes[kind] = _change(_keys(done, kind), _keys(before, kind), count_text)
    return changes


def time_change(seconds: float, before: float | None) -> str | None:
    """Return the change of the duration of a run; None if the published run is not known."""
    return None if before is None else _change(seconds, before, seconds_text)


def _change(now: float, before: float, text: Callable[[float], str]) -> str:
    if now == before:
        return "unchanged"
    percent = f"{_sign(now, before)}{percent_text(abs(now - before) / before)}, " if before else ""
    return f"{percent}{text(before)} before"


def _sign(now: float, before: float) -> str:
    return "\u2212" if now < before else "+"


def _tables(done: Mapping[str, Any]) -> set[str]:
    return {table.name for table in done["split"].tables} if done["split"] else set()


def _written(done: Mapping[str, Any]) -> int:
    return sum(file.bytes for outcome in done["bucket"].outcomes for file in outcome.files)


def _keys(done: Mapping[str, Any], kind: str) -> int:
    return sum(getattr(outcome, f"{kind}_keys") for outcome in done["bucket"].first_layout)
