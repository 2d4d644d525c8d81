"""Render the sections of data sets of other shapes and writers as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .data_sets import BUDGET, BUDGET_BYTES, LARGE_FILES, SMALL_FILES, SPARK
from .shapes import FOREIGN, SHAPES

HEAD = ("data", "run", "CPU", "wall", "peak memory", "written", "CPU ÷ copy", "wall ÷ copy", "bytes ÷ copy", "note")
_TASKS = {
    "copy": "plain copy",
    LARGE_FILES: "files of 50,000 rows or more",
    BUDGET: "the same, memory=512MB",
    SMALL_FILES: "256 buckets",
    SPARK: "files of 50,000 rows or more, spark",
    "bucketwheel": "Bucketwheel, 256 buckets",
    "polars": "Polars",
    "duckdb": "DuckDB",
}
_KINDS = {"shape": {name: shape.title for name, shape in SHAPES.items()}, "foreign": FOREIGN}


def title_of(section: str) -> str | None:
    """Return what the report calls the data set of a section, or None if the section is not one of a data set."""
    kind, _, name = section.partition("-")
    return _KINDS.get(kind, {}).get(name)


def data_set_rows(report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each run on each data set."""
    for section, names in report["medians"].items():
        title = title_of(section)
        if title is None:
            continue
        for number, (name, values) in enumerate(names.items()):
            ratios = report["ratios"].get(section, {}).get(f"{name} / copy", {})
            yield (title if not number else "", _TASKS[name], *_figures(name, values, ratios))


def _figures(name: str, values: dict[str, Any], ratios: dict[str, float | None]) -> tuple[str, ...]:
    if not values["runs"]:
        return ("failed", *[""] * 7)
    peak = values["largest_peak_rss_bytes"]
    # On Spark, the figures of a process are those of its driver.
    measured = name != SPARK
    return (
        f"{values['cpu_seconds']:.2f} s" if measured else "",
        f"{values['wall_seconds']:.2f} s",
        f"{peak / 1e6:,.0f} MB" if measured else "",
        f"{values['bytes_written'] / 1e6:,.0f} MB",
        _ratio(ratios.get("cpu")) if measured else "",
        _ratio(ratios.get("wall")),
        _ratio(ratios.get("bytes")),
        f"peak ÷ memory {peak / BUDGET_BYTES:.2f}" if name == BUDGET else "",
    )


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
