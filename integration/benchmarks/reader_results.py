"""Collect the answers of a reader: figures of whole rounds, wrong results, and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .reader_rounds import WARM_UP

Rounds = list[dict[str, float]]


@dataclass(frozen=True)
class Collected:
    """What one reader measured.

    Attributes:
        name: the reader with its version.
        figures: query → layout → figures of each round.
        failed: what failed, in words.
    """

    name: str
    figures: dict[str, dict[str, Rounds]]
    failed: list[str]


def collected(reader: str, lines: Iterable[Mapping[str, Any]], answers: Mapping[str, str]) -> Collected:
    """Return the figures of whole rounds; leave out queries of a layout that failed or gave wrong rows once."""
    lines = list(lines)
    name = next((line["engine"] for line in lines if "engine" in line), reader)
    whole = {line["ended"] for line in lines if "ended" in line} - {WARM_UP}
    failed: dict[tuple[str, str], str] = {}
    figures: dict[str, dict[str, Rounds]] = {}
    for line in (line for line in lines if "query" in line):
        place = line["query"], line["layout"]
        what = f"{name}: {place[0]}, layout {place[1]}"
        if "error" in line:
            failed[place] = f"{what}: {line['error']}"
        elif line["digest"] != answers[place[0]]:
            failed[place] = f"{what}: other rows than DuckDB on the source"
        elif line["round"] in whole:
            figures.setdefault(place[0], {}).setdefault(place[1], []).append(line["figures"])
    for query, layout in failed:
        figures.get(query, {}).pop(layout, None)
    if not whole and not failed:
        failed["", ""] = f"{name}: no round was completed"
    return Collected(name, {query: layouts for query, layouts in figures.items() if layouts}, list(failed.values()))
