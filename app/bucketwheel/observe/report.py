"""A run as one HTML page that needs nothing else: no script, no network, readable years later.

The charts are pygal's inline SVG, which keeps the page small enough to be mailed. Their colours and fonts
come from the page's own style sheet, so they follow light, dark and print.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

from bucketwheel.manifest import BucketOutcome, BucketResult, FileRecord, Manifest

# A bucket with more than this many times the mean is drawn in the warning colour.
_LARGE = 1.5
# With this many, the chart of tables is tall enough for two others at its side.
_MANY_TABLES = 12
_WIDE, _HALF = 1120, 540
_ROUND = (0, *(digit * 10**power for power in range(18) for digit in (1, 2, 5)))


@dataclass(frozen=True)
class _Table:
    name: str
    columns: int
    estimate: int | None
    rows: int
    sizes: tuple[int, ...]
    verified: bool


@dataclass(frozen=True)
class _Skew:
    rows: tuple[int, ...]
    mean: float
    ratio: float
    spread: float
    largest: tuple[BucketOutcome, ...]


def render(manifest: Manifest) -> str:
    """Return the report of a run, finished or not, as one self-contained HTML page.

    The same manifest gives the same text. Whatever comes from the data is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    loader = PackageLoader("bucketwheel", "observe")
    pages = Environment(autoescape=True, loader=loader, undefined=StrictUndefined, **blocks)
    pages.filters |= {"count": _count, "size": _size, "seconds": _seconds, "percent": _percent, "time": _time}
    return pages.get_template("report.html.j2").render(_facts(manifest))


def _facts(manifest: Manifest) -> dict[str, Any]:
    names = ("discover", "split", "size", "bucket", "verify", "register", "ctas")
    done: dict[str, Any] = dict.fromkeys(names) | manifest.results()
    bucket, size = done["bucket"], done["size"]
    written = [file for outcome in bucket.outcomes for file in outcome.files] if bucket else []
    sizes = [file.bytes for file in written]
    tables = _tables(done, written)
    many = len(tables) > _MANY_TABLES
    skew = _skew(bucket, size.bucket_count if size else 0)
    times = [(name, stage.seconds) for name, stage in manifest.stages.items()]
    return {
        "run": manifest,
        **done,
        "warnings": [(s, w) for s, result in done.items() for w in getattr(result, "warnings", ())],
        "mark": hashlib.sha256(json.dumps(manifest.fingerprint, sort_keys=True).encode()).hexdigest()[:12],
        "resume": shlex.join(["bucketwheel", "run", manifest.dataset, "--resume", manifest.run_id]),
        "stages": list(dict.fromkeys([*manifest.planned_stages, *manifest.stages])),
        "total_seconds": sum(seconds for _, seconds in times),
        "part": "bucket" if size is None or size.bucketed else "part",
        "tables": tables,
        "written": sizes,
        "skew": skew,
        "quality": _quality(manifest, done),
        "keys": _key_range(bucket, done["discover"].key_types) if bucket and done["discover"] else None,
        "published": [(stage, t) for stage in ("register", "ctas") if done[stage] for t in done[stage].tables],
        "bucket_chart": _bucket_chart(skew) if skew else None,
        "table_chart": _bars([(t.name, sum(t.sizes) or t.estimate or 0) for t in tables if size or bucket], _size),
        "many": many,
        "file_chart": _file_chart(sizes, _HALF if many else _WIDE),
        "stage_chart": _bars(times, _seconds),
    }


def _tables(done: Mapping[str, Any], written: Sequence[FileRecord]) -> list[_Table]:
    columns = {t.name: len(t.columns) for t in done["split"].tables} if done["split"] else {}
    estimates = {t.name: t.bytes for t in done["size"].tables} if done["size"] else {}
    checked = {t.name: (t.rows, t.files, t.bytes) for t in done["verify"].tables} if done["verify"] else {}
    of_table: dict[str, list[FileRecord]] = {name: [] for name in columns}
    for file in written:
        of_table.setdefault(file.table, []).append(file)
    found = []
    for name, records in of_table.items():
        rows, sizes = sum(file.rows for file in records), tuple(file.bytes for file in records)
        verified = checked.get(name) == (rows, len(sizes), sum(sizes))
        found.append(_Table(name, columns.get(name, 0), estimates.get(name), rows, sizes, verified))
    return found


def _skew(bucket: BucketResult | None, bucket_count: int) -> _Skew | None:
    if bucket is None or not bucket.rows:
        return None
    known = {outcome.bucket: outcome.rows for outcome in bucket.outcomes}
    rows = tuple(known.get(number, 0) for number in range(max(bucket_count, max(known) + 1)))
    mean = sum(rows) / len(rows)
    largest = sorted(bucket.outcomes, key=lambda outcome: (-outcome.rows, outcome.bucket))
    spread = math.sqrt(sum((number - mean) ** 2 for number in rows) / len(rows))
    return _Skew(rows, mean, max(rows) / mean, spread / mean, tuple(largest[:5]))


def _quality(manifest: Manifest, done: Mapping[str, Any]) -> list[tuple[str, int, float, str]]:
    """One line a check: what, how many, the share of all rows, and what the policy made of it."""
    lines = []
    for kind, words in (("null", "NULL key"), ("duplicate", "repeat a key")) if done["bucket"] else ():
        count = sum(getattr(outcome, f"{kind}_keys") for outcome in done["bucket"].outcomes)
        if not count:
            outcome = "none found"
        elif done["verify"]:
            outcome = "warning" if any(words in text for text in done["verify"].warnings) else "allowed"
        else:
            outcome = "refused" if words in (manifest.error or "") else "not judged yet"
        lines.append((kind, count, count / max(done["bucket"].rows, 1), outcome))
    return lines


def _key_range(bucket: BucketResult, types: Sequence[str]) -> tuple[str, str] | None:
    """Smallest and largest key of the run, compared as their type compares, not as text."""
    whole = [kind in {"tinyint", "smallint", "int", "bigint"} for kind in types]

    def order(text: str) -> tuple[int | str, ...]:
        parts = text.split("|") if len(whole) > 1 else [text]
        return tuple(int(part) if number else part for part, number in zip(parts, whole, strict=True))

    pairs = [(o.smallest_key, o.largest_key) for o in bucket.outcomes if o.smallest_key is not None]
    try:
        smallest = min((low for low, _ in pairs if low is not None), key=order)
        return smallest, max((high for _, high in pairs if high is not None), key=order)
    except ValueError:
        # No key at all, or a composite one with the separator in its text: no answer is better than a wrong one.
        return None


def _bucket_chart(skew: _Skew) -> str:
    """Rows of every bucket; the large ones are a series of their own, the mean is a line across."""
    count = len(skew.rows)
    # Bars as thin as a pixel overlap, or else gaps would come and go.
    gap = 0.1 if count <= 512 else -0.3
    usual: list[Any] = []
    large: list[Any] = []
    for number, rows in enumerate(skew.rows):
        times = rows / skew.mean
        label = f"{number}: {_count(rows)} rows, {times:.2f} \u00d7 mean"
        bar = {"value": (rows, number + gap, number + 1 - gap), "tooltip": label}
        (large if times > _LARGE else usual).append(bar)
    # One bar over all buckets, flattened to a line at its upper edge.
    mean = {"value": (skew.mean, 0, count), "tooltip": f"mean: {_count(skew.mean)} rows", "node": {"height": "2"}}
    step = 2 ** max(0, round(math.log2(count / 16)))
    ticks = [{"value": number + 0.5, "label": str(number)} for number in range(0, count, step)]
    label = f"Rows of each of {count}: largest {_count(max(skew.rows))}, mean {_count(skew.mean)}"
    return _histogram(label, _WIDE, (usual, large, [mean]), ticks)


def _file_chart(sizes: Sequence[int], width: int) -> str | None:
    if not sizes:
        return None
    edges = _edges(sizes)
    counts = [0] * (len(edges) - 1)
    for size in sizes:
        counts[bisect_right(edges, size) - 1] += 1
    bars = [
        {"value": (count, place + 0.05, place + 0.95), "tooltip": f"{_size(a)} to {_size(b)}: {_count(count)}"}
        for place, (count, (a, b)) in enumerate(zip(counts, pairwise(edges), strict=True))
        if count
    ]
    every = math.ceil(len(edges) * 80 / width)
    ticks = [{"value": n, "label": _size(edges[n], brief=True)} for n in range(0, len(edges), every)]
    return _histogram("Number of files by size", width, (bars,), ticks)


def _edges(sizes: Sequence[int]) -> Sequence[int]:
    """Round bin edges around all sizes: even steps, or 1-2-5 steps where one giant would hide the rest."""
    low, high = min(sizes), max(sizes)
    if high > 10 * sorted(sizes)[len(sizes) // 2]:
        return _ROUND[bisect_right(_ROUND, low) - 1 : bisect_right(_ROUND, high) + 1]
    # Steps under a hundredth of the value would have labels that look alike.
    step = next(number for number in _ROUND[1:] if number * 24 >= high - low and number * 100 >= high)
    return range(low // step * step, (high // step + 1) * step + 1, step)


def _histogram(label: str, width: int, series: Sequence[list[Any]], ticks: list[Any]) -> str:
    import pygal

    look = _look(width, 240) | {"margin_right": 28, "order_min": 0, "max_scale": 6}
    rows = partial(_scaled, units=("", "k", "M", "bn", "tn"), brief=True)
    return _drawn(label, pygal.Histogram(**look, x_labels=ticks, value_formatter=rows), series)


def _bars(values: Sequence[tuple[str, float]], text: Callable[[float], str]) -> str | None:
    """Draw one bar for each value, the first on top, with the value in words at its end."""
    import pygal

    if not values:
        return None
    lines = [_drawable(f"{name}: {text(value)}") for name, value in values]
    bars = [{"value": value, "tooltip": line} for (_, value), line in zip(values, lines, strict=True)]
    names = [_drawable(name if len(name) <= 24 else f"{name[:12]}\u2026{name[-11:]}") for name, _ in values]
    look = _look(_HALF, 24 + 22 * len(values)) | {"margin_right": 84, "show_x_labels": False, "x_labels": names[::-1]}
    chart = pygal.HorizontalBar(**look, print_values=True, print_values_position="top", value_formatter=text)
    return _drawn("; ".join(lines), chart, (bars[::-1],))


def _look(width: int, height: int) -> dict[str, Any]:
    from pygal.style import Style

    # Only sizes, so that pygal leaves room for labels; the looks are the page's own style sheet.
    style = Style(label_font_size=12, major_label_font_size=12, value_font_size=12)
    common = {"js": (), "show_legend": False, "disable_xml_declaration": True, "margin": 6, "spacing": 4}
    return common | {"width": width, "height": height, "style": style}


def _drawn(label: str, chart: Any, series: Sequence[list[Any]]) -> str:
    for bars in series:
        chart.add("", bars)
    chart.add_xml_filter(partial(_slim, label))
    # HTML needs no name spaces in inline SVG.
    return re.sub(r' xmlns(:\w+)?="[^"]*"', "", str(chart.render()), count=2)


def _slim(label: str, root: Any) -> Any:
    """Take out styles, scripts, comments with the date and texts for scripts; round the coordinates."""
    for parent in list(root.iter()):
        for child in list(parent):
            named = child.tag == "title" and (parent is root or parent.get("class", "").endswith("guides"))
            drop = child.tag in {"defs", "desc"} or child.get("class") == "plot tooltip-overlay"
            if named or drop or not isinstance(child.tag, str):
                parent.remove(child)
        for name, value in list(parent.attrib.items()):
            if name in {"id", "rx", "ry"} or value == "rect reactive tooltip-trigger":
                del parent.attrib[name]
            else:
                parent.set(name, re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.2f}", value))
    root.set("role", "img")
    root.set("aria-label", label)
    return root


def _drawable(text: str) -> str:
    """Replace control characters, which XML cannot hold."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", text)


def _count(value: float) -> str:
    return f"{round(value):,}"


def _size(value: float, brief: bool = False) -> str:
    return _scaled(value, ("B", "kB", "MB", "GB", "TB", "PB", "EB"), brief)


def _scaled(value: float, units: Sequence[str], brief: bool) -> str:
    """Three digits and a unit; `brief` is for axes, where 60 MB says as much as 60.0 MB."""
    place = 0
    while value >= 999.5 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    number = f"{value:.3g}" if brief or place == 0 else f"{value:#.3g}".rstrip(".")
    return f"{number}\u00a0{units[place]}".rstrip()


def _seconds(value: float) -> str:
    if value < 59.95:
        return f"{value:.3g}\u00a0s" if value >= 0.001 else "0\u00a0s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes:02}\u00a0min" if hours else f"{minutes}\u00a0min {seconds:02}\u00a0s"


def _percent(share: float) -> str:
    return "<\u00a00.001\u00a0%" if 0 < share < 0.00001 else f"{100 * share:.3g}\u00a0%"


def _time(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment.tzinfo else text
