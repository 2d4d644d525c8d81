"""Draw the charts of the report as inline SVG without styles, scripts and dates; the page has the style sheet."""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from bucketwheel.formatting import count_text, counted, scaled_text, size_text
from bucketwheel.optional import report_module
from bucketwheel.report.buckets import Distribution

# Widths of charts in pixels.
WIDE, HALF = 1120, 540
_Text = Callable[[float], str]
_ROUND = (0, *(digit * 10**power for power in range(18) for digit in (1, 2, 5)))


@dataclass(frozen=True)
class Unit:
    """What a chart counts: its name, and how values are formatted in text and on an axis."""

    name: str
    text: _Text
    axis: _Text


ROWS = Unit(
    "Rows",
    lambda number: counted(round(number), "row"),
    partial(scaled_text, units=("", "k", "M", "bn", "tn"), brief=True),
)
BYTES = Unit("Bytes", size_text, partial(size_text, brief=True))


def bar_chart(unit: Unit, distribution: Distribution) -> str:
    """Draw every bucket as a bar: large buckets as a series of their own, the mean as a line."""
    values, average = distribution.values, distribution.mean
    # Bars of about a pixel overlap; gaps between them would be drawn irregularly.
    count, gap = len(values), 0.1 if len(values) <= 512 else -0.3
    usual: list[Any] = []
    large: list[Any] = []
    highlighted = set(distribution.large)
    for number, value in enumerate(values):
        label = f"{number}: {unit.text(value)}, {value / average:.2f} \u00d7 mean"
        bar = {"value": (value, number + gap, number + 1 - gap), "tooltip": label}
        (large if number in highlighted else usual).append(bar)
    # One bar across all buckets, reduced to a line at its upper edge.
    mean = {"value": (average, 0, count), "tooltip": f"mean: {unit.text(average)}", "node": {"height": "2"}}
    step = 2 ** max(0, round(math.log2(count / 16)))
    ticks = [{"value": number + 0.5, "label": str(number)} for number in range(0, count, step)]
    label = f"{unit.name} of each of {count}: largest {unit.text(max(values))}, mean {unit.text(average)}"
    return _histogram(label, WIDE, (usual, large, [mean]), ticks, unit.axis)


def histogram(unit: Unit, noun: str, values: Sequence[int]) -> str | None:
    """Draw how many of the values fall into each range; return None without values.

    Args:
        unit: what the values count.
        noun: what has the values, such as "files".
        values: one value for each of them.
    """
    if not values:
        return None
    edges = _edges(values)
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[bisect_right(edges, value) - 1] += 1
    bars = [
        {
            "value": (count, position + 0.05, position + 0.95),
            "tooltip": f"{unit.text(a)} to {unit.text(b)}: {count_text(count)}",
        }
        for position, (count, (a, b)) in enumerate(zip(counts, pairwise(edges), strict=True))
        if count
    ]
    every = math.ceil(len(edges) * 80 / HALF)
    ticks = [{"value": n, "label": unit.axis(edges[n])} for n in range(0, len(edges), every)]
    return _histogram(f"Number of {noun} by {unit.name.lower()}", HALF, (bars,), ticks, ROWS.axis)


def _edges(values: Sequence[int]) -> Sequence[int]:
    """Return round bin edges: equal steps, or 1-2-5 steps if one large file would hide the others."""
    low, high = min(values), max(values)
    if high > 10 * sorted(values)[len(values) // 2]:
        return _ROUND[bisect_right(_ROUND, low) - 1 : bisect_right(_ROUND, high) + 1]
    # Steps below a hundredth of the value would get equal labels.
    step = next(number for number in _ROUND[1:] if number * 24 >= high - low and number * 100 >= high)
    return range(low // step * step, (high // step + 1) * step + 1, step)


def _histogram(label: str, width: int, series: Sequence[list[Any]], ticks: list[Any], axis: _Text) -> str:
    options = _options(width, 240) | {"margin_right": 28, "order_min": 0, "max_scale": 6}
    return _render(label, _pygal().Histogram(**options, x_labels=ticks, value_formatter=axis), series)


def _pygal() -> Any:
    pygal = report_module("pygal")
    # pygal installs an import finder for its plug-ins. Bucketwheel uses none, and Python would warn at every later
    # import.
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]
    return pygal


def _options(width: int, height: int) -> dict[str, Any]:
    # Only font sizes, so that pygal reserves space for labels; the page's style sheet sets colors and fonts.
    style = report_module("pygal.style").Style(label_font_size=12, major_label_font_size=12, value_font_size=12)
    common = {"js": (), "show_legend": False, "disable_xml_declaration": True, "margin": 6, "spacing": 4}
    return common | {"width": width, "height": height, "style": style}


def _render(label: str, chart: Any, series: Sequence[list[Any]]) -> str:
    for bars in series:
        chart.add("", bars)
    chart.add_xml_filter(partial(_simplify, label))
    # Inline SVG in HTML needs no XML namespaces.
    return re.sub(r' xmlns(:\w+)?="[^"]*"', "", str(chart.render()), count=2)


def _simplify(label: str, root: Any) -> Any:
    """Remove styles, script data and comments with the date; round coordinates; add the label."""
    for parent in list(root.iter()):
        for child in list(parent):
            default_title = child.tag == "title" and (parent is root or parent.get("class", "").endswith("guides"))
            drop = child.tag in {"defs", "desc"} or child.get("class") == "plot tooltip-overlay"
            if default_title or drop or not isinstance(child.tag, str):
                parent.remove(child)
        for name, value in list(parent.attrib.items()):
            if name in {"id", "rx", "ry"} or value == "rect reactive tooltip-trigger":
                del parent.attrib[name]
            else:
                parent.set(name, re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.2f}", value))
    root.set("role", "img")
    root.set("aria-label", label)
    return root
