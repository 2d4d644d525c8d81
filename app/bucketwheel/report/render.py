"""Render a run as one self-contained HTML page without scripts or network access.

The charts are inline SVG by pygal, which keeps the page small enough to mail. The page's style sheet sets their
colors and fonts, so they follow light mode, dark mode and print.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from bucketwheel.advice import Remedy, advice, is_advice
from bucketwheel.formatting import count_text, counted, percent_text, seconds_text, size_text, time_text
from bucketwheel.optional import report_module
from bucketwheel.report.buckets import Skew, skew_of
from bucketwheel.report.changes import null_changes, points_text, schema_changes, tile_changes, time_change
from bucketwheel.report.charts import BYTES, ROWS, bar_chart, histogram
from bucketwheel.report.tables import column_groups, published_groups, tables_of
from bucketwheel.runs.cost import Cost
from bucketwheel.runs.manifest import BucketResult, LayoutSize, Manifest, SizeResult
from bucketwheel.safe_text import several_lines

if TYPE_CHECKING:
    from jinja2 import Template


def render(
    manifest: Manifest,
    cost: Cost | None = None,
    status: str = "",
    shown: str = "",
    command: str = "",
    before: Manifest | None = None,
    show_keys: bool = False,
) -> str:
    """Return the report of a run, finished or not, as one self-contained HTML page.

    The result is deterministic. All text from the data is escaped.

    Args:
        manifest: the run.
        cost: its cost; adds a section.
        status: replaces the status of the manifest.
        shown: whether the tables of the run are live.
        command: runs the dataset, for the advice about a run that was killed.
        before: the run with which `verify` compared this one; adds changes to the tiles.
        show_keys: whether to show the smallest and the largest keys, if the run recorded them.
    """
    about = {"cost": cost, "status": status or manifest.status, "shown": shown, "show_keys": show_keys}
    return _template().render(_context(manifest, command, before) | about)


@cache
def _template() -> Template:
    """Return the compiled template of the page; compiling it takes longer than rendering."""
    jinja2 = report_module("jinja2")
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    loader = jinja2.PackageLoader("bucketwheel", "report")
    # Invisible characters in names would mislead readers.
    blocks["finalize"] = lambda value: several_lines(value) if type(value) is str else value
    pages = jinja2.Environment(autoescape=True, loader=loader, undefined=jinja2.StrictUndefined, **blocks)
    pages.filters |= {
        "count": count_text,
        "counted": counted,
        "size": lambda value: size_text(value).replace(" ", "\u00a0"),
        "seconds": seconds_text,
        "percent": percent_text,
        "points": points_text,
        "time": time_text,
    }
    template: Template = pages.get_template("report.html.j2")
    return template


def _results(manifest: Manifest) -> dict[str, Any]:
    """Return the results of the built-in stages; None for those that have not finished."""
    names = ("discover", "split", "size", "bucket", "verify", "register", "ctas")
    return dict.fromkeys(names) | manifest.results()


def _context(manifest: Manifest, command: str, before: Manifest | None) -> dict[str, Any]:
    """Return the variables of the template."""
    done = _results(manifest)
    bucket, size = done["bucket"], done["size"]
    written = [file for outcome in bucket.outcomes for file in outcome.files] if bucket else []
    sizes = [file.bytes for file in written]
    tables = tables_of(done)
    drift = done["verify"].drift if done["verify"] else None
    seconds = _seconds(manifest)
    return {
        "run": manifest,
        **done,
        "warnings": [(s, w) for s, result in done.items() for w in getattr(result, "warnings", ())],
        "fingerprint": hashlib.sha256(json.dumps(manifest.fingerprint, sort_keys=True).encode()).hexdigest()[:12],
        "notes": [note for note in manifest.notes if not is_advice(note)],
        "advice": _advice(manifest, command),
        "stages": list(dict.fromkeys([*manifest.planned_stages, *manifest.stages])),
        "rates": _rates(manifest, done),
        "total_seconds": seconds,
        "peak_memory": max((stage.peak_memory_bytes or 0 for stage in manifest.stages.values()), default=0),
        "part": _part(size is None or size.bucketed),
        "skew": skew_of(bucket, size.bucket_count if size else 0),
        "tables": tables,
        "same_rows": bool(bucket) and all(table.rows == bucket.rows for table in tables),
        "written": sizes,
        "quality": _quality(manifest, done),
        "keys": _key_range(bucket, done["discover"].key_types) if bucket and done["discover"] else None,
        "estimate": sum(table.bytes for layout in size.layouts for table in layout.tables) if size else 0,
        "published": published_groups(done),
        "columns": column_groups(done, drift),
        "drift": drift,
        "schema": schema_changes(drift),
        "nulls": null_changes(drift),
        "changes": tile_changes(drift, done, _results(before) if before else None)
        | ({"time": time_change(seconds, _seconds(before))} if before and drift else {}),
        "file_chart": histogram(BYTES, "files", sizes),
        "layouts": _layouts(bucket, size),
    }


def _advice(manifest: Manifest, command: str) -> str:
    """Return the advice that the failed run recorded; a run that was killed recorded none."""
    recorded = next((note for note in manifest.notes if is_advice(note)), "")
    return recorded or advice(
        Remedy(), command or shlex.join(["bucketwheel", "run", manifest.dataset]), manifest.run_id
    )


def _seconds(manifest: Manifest) -> float:
    return sum(stage.seconds for stage in manifest.stages.values())


def _rates(manifest: Manifest, done: Mapping[str, Any]) -> dict[str, float]:
    """Return the rows per second of the stages that read or write all rows."""
    return {
        name: done[name].rows / manifest.stages[name].seconds
        for name in ("bucket", "verify")
        if done[name] and manifest.stages[name].seconds
    }


def _part(bucketed: bool) -> str:
    return "bucket" if bucketed else "part"


def _layouts(bucket: BucketResult | None, size: SizeResult | None) -> list[dict[str, Any]]:
    """Return name, skew and charts of every layout that has rows; the name is empty if there is only one."""
    layouts: Sequence[LayoutSize | None] = size.layouts if size else [None]
    shown = []
    for layout in layouts:
        skew = skew_of(bucket, layout.bucket_count if layout else 0, layout)
        if skew is not None:
            bucketed = layout is None or layout.bucketed
            name = layout.name if layout and len(layouts) > 1 else ""
            shown.append({"name": name, "part": _part(bucketed), **_bucket_charts(skew, bucketed)})
    return shown


def _bucket_charts(skew: Skew, bucketed: bool) -> dict[str, Any]:
    """Return the skew and its charts: one bar per bucket of a skewed run, otherwise one histogram."""
    charts: dict[str, Any] = {"skew": skew, "bar_charts": [], "row_chart": None}
    units = [(ROWS, skew.rows)] if skew.rows.large else []
    # Buckets with many rows have many bytes, too.
    units += [(BYTES, skew.bytes)] if set(skew.bytes.large) - set(skew.rows.large) else []
    charts["bar_charts"] = [(unit.name, of, bar_chart(unit, of)) for unit, of in units]
    if not skew.rows.large:
        charts["row_chart"] = histogram(ROWS, f"{_part(bucketed)}s", skew.rows.values)
    return charts


def _quality(manifest: Manifest, done: Mapping[str, Any]) -> list[tuple[str, int, float, str]]:
    """Return for each check of keys its kind, number of rows, share of all rows, and the outcome by the policy."""
    lines = []
    for kind, words in (("null", r"NULL key"), ("duplicate", r"repeats? a key")) if done["bucket"] else ():
        count = sum(getattr(outcome, f"{kind}_keys") for outcome in done["bucket"].first_layout)
        if not count:
            outcome = "none"
        elif done["verify"]:
            outcome = "warning" if any(re.search(words, text) for text in done["verify"].warnings) else "allowed"
        else:
            outcome = "refused" if re.search(words, manifest.error or "") else "not checked yet"
        lines.append((kind, count, count / max(done["bucket"].rows, 1), outcome))
    return lines


def _key_range(bucket: BucketResult, types: Sequence[str]) -> tuple[str, str] | None:
    """Return the smallest and the largest key of the run in the order of their type, not of their text."""
    whole = [kind in {"tinyint", "smallint", "int", "bigint"} for kind in types]

    def order(text: str) -> tuple[int | str, ...]:
        parts = text.split("|") if len(whole) > 1 else [text]
        return tuple(int(part) if number else part for part, number in zip(parts, whole, strict=True))

    pairs = [(o.smallest_key, o.largest_key) for o in bucket.first_layout if o.smallest_key is not None]
    try:
        smallest = min((low for low, _ in pairs if low is not None), key=order)
        return smallest, max((high for _, high in pairs if high is not None), key=order)
    except ValueError:
        # There is no key, or a composite key contains the separator; no range is better than a wrong one.
        return None
