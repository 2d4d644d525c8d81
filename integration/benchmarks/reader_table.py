"""Tables of the section `readers`: the queries of each reader, relative to the unbucketed layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .query_table import Rows, ratio_text, size_text

_BASE = "unbucketed"
_LAYOUTS = ("layout of one table", "files", "bytes", "a file")
# Spark's CPU time is that of its executors.
_HEAD = ("layout", "CPU", "wall", "CPU ÷ unbucketed", "wall ÷", "read", "shuffled", "exchanges")

Rounds = Sequence[Mapping[str, float]]


def reader_tables(report: Mapping[str, Any]) -> list[tuple[Sequence[str], Rows]]:
    """Return head and rows of each table: one per reader, and one of the layouts."""
    tables: list[tuple[Sequence[str], Rows]] = []
    for reader, queries in report["readers"].items():
        rows = [
            (query, layout, *_cells(rounds, layouts[_BASE]))
            for query, layouts in queries.items()
            for layout, rounds in layouts.items()
        ]
        tables.append(((reader, *_HEAD), rows))
    layouts = [
        (name, f"{table['files']:,}", size_text(table["bytes"]), size_text(table["bytes"] / table["files"]))
        for name, table in report["tables"].items()
    ]
    return [*tables, (_LAYOUTS, layouts)]


def _cells(rounds: Rounds, base: Rounds) -> list[str]:
    def of(measure: str, form: str = "{:.2f} s") -> str:
        values = [taken[measure] for taken in rounds if measure in taken]
        return form.format(median(values)) if values else ""

    def size(measure: str) -> str:
        return size_text(float(text)) if (text := of(measure, "{}")) else ""

    ratios = [ratio_text(rounds, base, measure) for measure in ("cpu", "wall")]
    return [of("cpu"), of("wall"), *ratios, size("bytes"), size("shuffled"), of("exchanges", "{:.0f}")]
