"""Draw the charts of the report as inline SVG without styles, scripts and dates; the page has the style sheet."""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from bucketwheel.formatting import count_text, scaled_text, size_text
from bucketwheel.optional import report_module

# Widths of charts in pixels.
WIDE, HALF = 1120, 540
# Buckets larger than this multiple of the mean are drawn in the warning color.
_LARGE = 1.5
_Text = Callable[[float], str]
_COUNTS: _Text = partial(scaled_text, units=("", "k", "M", "bn", "tn"), brief=True)
_ROUND = (0, *(digit * 10**power for power in range(18) for digit in (1, 2, 5)))


def rows_chart(buckets: Sequence[int]) -> str:
    """Draw the rows of every bucket: large buckets as a series of their own, the mean as a line."""
    return _bucket_chart("Rows", buckets, lambda number: f"{count_text(number)} rows", _COUNTS)


def bytes_chart(buckets: Sequence[int]) -> str:
    """Draw the bytes of every bucket, as `rows_chart` draws its rows."""
    return _bucket_chart("Bytes", buckets, size_text, partial(size_text, brief=True))


def _bucket_chart(title: str, buckets: Sequence[int], text: _Text, axis: _Text) -> str:
    count, average = len(buckets), sum(buckets) / len(buckets)
    # Bars of about a pixel overlap; gaps between them would be drawn irregularly.
    gap = 0.1 if count <= 512 else -0.3
    usual: list[Any] = []
    large: list[Any] = []
    for number, rows in enumerate(buckets):
        ratio = rows / average
        label = f"{number}: {text(rows)}, {ratio:.2f} \u00d7 mean"
        bar = {"value": (rows, number + gap, number + 1 - gap), "tooltip": label}
        (large if ratio > _LARGE else usual).append(bar)
    # One bar across all buckets, reduced to a line at its upper edge.
    mean = {"value": (average, 0, count), "tooltip": f"mean: {text(average)}", "node": {"height": "2"}}
    step = 2 ** max(0, round(math.log2(count / 16)))
    ticks = [{"value": number + 0.5, "label": str(number)} for number in range(0, count, step)]
    label = f"{title} of each of {count}: largest {text(max(buckets))}, mean {text(average)}"
    return _histogram(label, WIDE, (usual, large, [mean]), ticks, axis)


def file_chart(sizes: Sequence[int], width: int) -> str | None:
    """Draw the distribution of file sizes; return None if there are no files."""
    if not sizes:
        return None
    edges = _edges(sizes)
    counts = [0] * (len(edges) - 1)
    for size in sizes:
        counts[bisect_right(edges, size) - 1] += 1
    bars = [
        {
            "value": (count, position + 0.05, position + 0.95),
            "tooltip": f"{size_text(a)} to {size_text(b)}: {count_text(count)}",
        }
        for position, (count, (a, b)) in enumerate(zip(counts, pairwise(edges), strict=True))
        if count
    ]
    every = math.ceil(len(edges) * 80 / width)
    ticks = [{"value": n, "label": size_text(edges[n], brief=True)} for n in range(0, len(edges), every)]
    return _histogram("Number of files by size", width, (bars,), ticks, _COUNTS)


def _edges(sizes: Sequence[int]) -> Sequence[int]:
    """Return round bin edges: equal steps, or 1-2-5 steps if one large file would hide the other sizes."""
    low, high = min(sizes), max(sizes)
    if high > 10 * sorted(sizes)[len(sizes) // 2]:
        return _ROUND[bisect_right(_ROUND, low) - 1 : bisect_right(_ROUND, high) + 1]
    # Steps below a hundredth of the value would get equal labels.
    step = next(number for number in _ROUND[1:] if number * 24 >= high - low and number * 100 >= high)
    return range(low // step * step, (high // step + 1) * step + 1, step)


def _histogram(label: str, width: int, series: Sequence[list[Any]], ticks: list[Any], axis: _Text) -> str:
    options = _options(width, 240) | {"margin_right": 28, "order_min": 0, "max_scale": 6}
    return _render(label, _pygal().Histogram(**options, x_labels=ticks, value_formatter=axis), series)


def bars(values: Sequence[tuple[str, float]], text: Callable[[float], str]) -> str | None:
    """Draw one bar per value, the first on top, labeled with `text` of the value; return None without values."""
    if not values:
        return None
    lines = [_replace_control_characters(f"{name}: {text(value)}") for name, value in values]
    bars = [{"value": value, "tooltip": line} for (_, value), line in zip(values, lines, strict=True)]
    names = [
        _replace_control_characters(name if len(name) <= 24 else f"{name[:12]}\u2026{name[-11:]}")
        for name, _ in values
    ]
    options = _options(HALF, 24 + 22 * len(values)) | {
        "margin_right": 84,
        "show_x_labels": False,
        "x_labels": names[::-1],
    }
    chart = _pygal().HorizontalBar(**options, print_values=True, print_values_position="top", value_formatter=text)
    return _render("; ".join(lines), chart, (bars[::-1],))


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


def _replace_control_characters(text: str) -> str:
    """Replace the control characters that XML does not allow."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", text)
