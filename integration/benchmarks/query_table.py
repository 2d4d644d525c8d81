"""Tables of the section `query`: time of queries in each layout, and time to create final tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

_BASE = "unbucketed"
_MEASURES = ("wall", "cpu", "bytes", "memory")
_HEAD = ("layout", "wall", "CPU", "read", "peak memory", "÷ unbucketed: wall", "CPU", "read", "memory")
_LAYOUTS = ("layout of one table", "files", "bytes", "a file")
_PUBLISHING = ("final tables", "buckets written in", "final tables in", "written for them", "read for them")

Rows = list[tuple[str, ...]]


def query_tables(report: Mapping[str, Any]) -> list[tuple[Sequence[str], Rows]]:
    """Return head and rows of each table."""
    rows: Rows = []
    for query, layouts in report["queries"].items():
        for layout, rounds in layouts.items():
            values = [median(taken[measure] for taken in rounds) for measure in _MEASURES]
            ratios = [] if layout == _BASE else [ratio_text(rounds, layouts[_BASE], measure) for measure in _MEASURES]
            rows.append((query, layout, *_texts(values), *(ratios or [""] * len(_MEASURES))))
    publishing: Rows = [
        (
            f"{stage['method']}, {stage['layout']}",
            f"{stage['written_seconds']:.1f} s",
            f"{stage['seconds']:.1f} s",
            size_text(stage["bytes"]),
            size_text(stage["bytes_read"]),
        )
        for stage in report["publishing"]
    ]
    files: Rows = [
        (name, f"{table['files']:,}", size_text(table["bytes"]), size_text(table["bytes"] / table["files"]))
        for name, table in report["tables"].items()
    ]
    measured = len(next(iter(next(iter(report["queries"].values())).values())))
    return [(_LAYOUTS, files), ((f"query, medians of {measured}", *_HEAD), rows), (_PUBLISHING, publishing)]


def _texts(values: Sequence[float]) -> list[str]:
    wall, cpu, read, memory = values
    return [f"{wall:.2f} s", f"{cpu:.2f} s", size_text(read), size_text(memory)]


def ratio_text(rounds: Sequence[Mapping[str, float]], base: Sequence[Mapping[str, float]], measure: str) -> str:
    """Return the median of the ratios of the same round."""
    pairs = zip(rounds, base, strict=True)
    return f"{median(ours[measure] / max(theirs[measure], 1e-9) for ours, theirs in pairs):.2f}"


def size_text(size: float) -> str:
    if size < 1e5:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:,.{0 if size >= 1e8 else 1 if size >= 1e7 else 2}f} MB"
