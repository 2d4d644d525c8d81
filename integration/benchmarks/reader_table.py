"""Tables of the section `readers`: the queries of each reader, relative to the unbucketed layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .query_table import Rows, ratio_text, size_text

_BASE = "unbucketed"
_LAYOUTS = ("layout of one table", "files", "bytes", "a file")
# CPU is that of the tasks where the reader reports it, else that of its process.
_HEAD = ("layout", "CPU", "process", "wall", "÷ unbucketed: CPU", "process", "wall")
_FACTS = ("read", "shuffled", "exchanges", "sorts", "bucketed scans")
# Kernel and Trino count CPU in steps that make ratios of less meaningless.
_LEAST_SECONDS = 0.01

Rounds = Sequence[Mapping[str, float]]
Table = tuple[Sequence[str], Rows]


def reader_tables(report: Mapping[str, Any]) -> list[Table]:
    """Return head and rows of each table: ratios and figures per reader, and the layouts."""
    tables: list[Table] = []
    for reader, queries in report["readers"].items():
        tables += [_ratios(reader, queries), _figures(reader, queries)]
    layouts: Rows = [
        (name, f"{table['files']:,}", size_text(table["bytes"]), size_text(table["bytes"] / table["files"]))
        for name, table in report["tables"].items()
    ]
    return [*tables, (_LAYOUTS, layouts)]


def _ratios(reader: str, queries: Mapping[str, Mapping[str, Rounds]]) -> Table:
    """Return the table that documents quote: CPU of each query and layout ÷ unbucketed."""
    names = list(dict.fromkeys(name for layouts in queries.values() for name in layouts if name != _BASE))
    rows: Rows = [
        (query, *(_ratio(layouts.get(name, ()), layouts.get(_BASE, ()), "cpu") for name in names))
        for query, layouts in queries.items()
    ]
    rounds = min(len(rounds) for layouts in queries.values() for rounds in layouts.values())
    return (f"{reader}: CPU ÷ unbucketed, medians of {rounds}", *names), rows


def _figures(reader: str, queries: Mapping[str, Mapping[str, Rounds]]) -> Table:
    rows: Rows = [
        (query, layout, *_cells(rounds, layouts.get(_BASE, ())))
        for query, layouts in queries.items()
        for layout, rounds in layouts.items()
    ]
    return (reader, *_HEAD, *_FACTS), rows


def _cells(rounds: Rounds, base: Rounds) -> list[str]:
    def of(measure: str, form: str = "{:.2f} s") -> str:
        values = [taken[measure] for taken in rounds if measure in taken]
        return form.format(median(values)) if values else ""

    def size(measure: str) -> str:
        return size_text(float(text)) if (text := of(measure, "{}")) else ""

    measures = ("cpu", "process_cpu", "wall")
    facts = [of(fact, "{:.0f}") for fact in ("exchanges", "sorts", "bucketed")]
    return [*map(of, measures), *(_ratio(rounds, base, m) for m in measures), size("bytes"), size("shuffled"), *facts]


def _ratio(rounds: Rounds, base: Rounds, measure: str) -> str:
    """Return the median of the ratios of the same round, or nothing if there is no meaningful one."""
    if not rounds or len(rounds) != len(base) or any(measure not in taken for taken in (*rounds, *base)):
        return ""
    if median(taken[measure] for taken in base) < _LEAST_SECONDS:
        return ""
    return ratio_text(rounds, base, measure)
