"""Render a run as one self-contained HTML page without scripts or network access.

The charts are inline SVG by pygal, which keeps the page small enough to mail. The page's style sheet sets their
colors and fonts, so they follow light mode, dark mode and print.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from bucketwheel.advice import Remedy, advice, is_advice
from bucketwheel.cost import Cost
from bucketwheel.formatting import count_text, percent_text, seconds_text, size_text, time_text
from bucketwheel.optional import report_module
from bucketwheel.report.charts import HALF, WIDE, bars, bytes_chart, file_chart, rows_chart
from bucketwheel.runs.manifest import BucketOutcome, BucketResult, Drift, FileRecord, Manifest, NullShare

if TYPE_CHECKING:
    from jinja2 import Template

# Above this number of tables, their chart is tall enough for two other charts beside it.
_MANY_TABLES = 12


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
    bytes: tuple[int, ...]
    mean: float
    ratio: float
    spread: float
    largest: tuple[BucketOutcome, ...]


def render(manifest: Manifest, cost: Cost | None = None, status: str = "", shown: str = "", command: str = "") -> str:
    """Return the report of a run, finished or not, as one self-contained HTML page; `cost` adds a section.

    `status` replaces the status of the manifest, and `shown` says whether the tables of the run are live. `command`
    runs the dataset, for the advice about a run that was killed. The result is deterministic. All text from the data
    is escaped.
    """
    about = {"cost": cost, "status": status or manifest.status, "shown": shown}
    return _template().render(_context(manifest, command) | about)


@cache
def _template() -> Template:
    """Return the compiled template of the page; compiling it takes longer than rendering."""
    jinja2 = report_module("jinja2")
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    loader = jinja2.PackageLoader("bucketwheel", "report")
    pages = jinja2.Environment(autoescape=True, loader=loader, undefined=jinja2.StrictUndefined, **blocks)
    pages.filters |= {
        "count": count_text,
        "size": lambda value: size_text(value).replace(" ", "\u00a0"),
        "seconds": seconds_text,
        "percent": percent_text,
        "time": time_text,
    }
    template: Template = pages.get_template("report.html.j2")
    return template


def _context(manifest: Manifest, command: str) -> dict[str, Any]:
    """Return the variables of the template."""
    names = ("discover", "split", "size", "bucket", "verify", "register", "ctas")
    done: dict[str, Any] = dict.fromkeys(names) | manifest.results()
    bucket, size = done["bucket"], done["size"]
    written = [file for outcome in bucket.outcomes for file in outcome.files] if bucket else []
    sizes = [file.bytes for file in written]
    tables = _tables(done, written)
    many = len(tables) > _MANY_TABLES
    skew = _skew(bucket, size.bucket_count if size else 0)
    drift = done["verify"].drift if done["verify"] else None
    quality = _quality(manifest, done)
    times = [(name, stage.seconds) for name, stage in manifest.stages.items()]
    return {
        "run": manifest,
        **done,
        "warnings": [(s, w) for s, result in done.items() for w in getattr(result, "warnings", ())],
        "fingerprint": hashlib.sha256(json.dumps(manifest.fingerprint, sort_keys=True).encode()).hexdigest()[:12],
        "notes": [note for note in manifest.notes if not is_advice(note)],
        "advice": _advice(manifest, command),
        "stages": list(dict.fromkeys([*manifest.planned_stages, *manifest.stages])),
        "total_seconds": sum(seconds for _, seconds in times),
        "part": "bucket" if size is None or size.bucketed else "part",
        "tables": tables,
        "written": sizes,
        "skew": skew,
        "quality": quality,
        "keys": _key_range(bucket, done["discover"].key_types) if bucket and done["discover"] else None,
        "published": [(stage, t) for stage in ("register", "ctas") if done[stage] for t in done[stage].tables],
        "bucket_chart": rows_chart(skew.rows) if skew else None,
        "bytes_chart": bytes_chart(skew.bytes) if skew else None,
        "quality_chart": bars(_shares(quality, drift), percent_text),
        "table_chart": bars([(t.name, sum(t.sizes) or t.estimate or 0) for t in tables if size or bucket], size_text),
        "many": many,
        "drift": drift,
        "changes": _null_changes(drift),
        "file_chart": file_chart(sizes, HALF if many else WIDE),
        "stage_chart": bars(times, seconds_text),
    }


def _advice(manifest: Manifest, command: str) -> str:
    """Return the advice that the failed run recorded; a run that was killed recorded none."""
    recorded = next((note for note in manifest.notes if is_advice(note)), "")
    return recorded or advice(
        Remedy(), command or shlex.join(["bucketwheel", "run", manifest.dataset]), manifest.run_id
    )


def _tables(done: Mapping[str, Any], written: Sequence[FileRecord]) -> list[_Table]:
    columns = {t.name: len(t.columns) for t in done["split"].tables} if done["split"] else {}
    estimates = {t.name: t.bytes for t in done["size"].tables} if done["size"] else {}
    checked = {t.name: (t.rows, t.files, t.bytes) for t in done["verify"].tables} if done["verify"] else {}
    files: dict[str, list[FileRecord]] = {name: [] for name in columns}
    for file in written:
        files.setdefault(file.table, []).append(file)
    tables = []
    for name, records in files.items():
        rows, sizes = sum(file.rows for file in records), tuple(file.bytes for file in records)
        verified = checked.get(name) == (rows, len(sizes), sum(sizes))
        tables.append(_Table(name, columns.get(name, 0), estimates.get(name), rows, sizes, verified))
    return tables


def _skew(bucket: BucketResult | None, bucket_count: int) -> _Skew | None:
    if bucket is None or not bucket.rows:
        return None
    known = {outcome.bucket: outcome.rows for outcome in bucket.outcomes}
    sizes = {outcome.bucket: sum(file.bytes for file in outcome.files) for outcome in bucket.outcomes}
    numbers = range(max(bucket_count, max(known) + 1))
    rows = tuple(known.get(number, 0) for number in numbers)
    mean = sum(rows) / len(rows)
    largest = sorted(bucket.outcomes, key=lambda outcome: (-outcome.rows, outcome.bucket))
    spread = math.sqrt(sum((number - mean) ** 2 for number in rows) / len(rows))
    return _Skew(
        rows,
        tuple(sizes.get(number, 0) for number in numbers),
        mean,
        max(rows) / mean,
        spread / mean,
        tuple(largest[:5]),
    )


def _quality(manifest: Manifest, done: Mapping[str, Any]) -> list[tuple[str, int, float, str]]:
    """Return for each check of keys its kind, number of rows, share of all rows, and the outcome by the policy."""
    lines = []
    for kind, words in (("null", r"NULL key"), ("duplicate", r"repeats? a key")) if done["bucket"] else ():
        count = sum(getattr(outcome, f"{kind}_keys") for outcome in done["bucket"].outcomes)
        if not count:
            outcome = "none"
        elif done["verify"]:
            outcome = "warning" if any(re.search(words, text) for text in done["verify"].warnings) else "allowed"
        else:
            outcome = "refused" if re.search(words, manifest.error or "") else "not checked yet"
        lines.append((kind, count, count / max(done["bucket"].rows, 1), outcome))
    return lines


def _shares(quality: Sequence[tuple[str, int, float, str]], drift: Drift | None) -> list[tuple[str, float]]:
    """Return the share of rows of each check, and the shares of new and missing keys."""
    shares = [(f"{kind} keys", share) for kind, _, share, _ in quality]
    if drift is not None and drift.keys is not None and drift.rows:
        shares.append(("new keys", drift.keys.only_now / drift.rows))
        shares.append(("missing keys", drift.keys.only_before / max(drift.rows_before, 1)))
    return shares


def _null_changes(drift: Drift | None) -> list[NullShare]:
    """Return the columns whose share of NULLs changed, the largest change first."""
    changed = [share for share in drift.null_shares if share.now != share.before] if drift else []
    return sorted(changed, key=lambda share: (-abs(share.now - share.before), share.name))


def _key_range(bucket: BucketResult, types: Sequence[str]) -> tuple[str, str] | None:
    """Return the smallest and the largest key of the run in the order of their type, not of their text."""
    whole = [kind in {"tinyint", "smallint", "int", "bigint"} for kind in types]

    def order(text: str) -> tuple[int | str, ...]:
        parts = text.split("|") if len(whole) > 1 else [text]
        return tuple(int(part) if number else part for part, number in zip(parts, whole, strict=True))

    pairs = [(o.smallest_key, o.largest_key) for o in bucket.outcomes if o.smallest_key is not None]
    try:
        smallest = min((low for low, _ in pairs if low is not None), key=order)
        return smallest, max((high for _, high in pairs if high is not None), key=order)
    except ValueError:
        # There is no key, or a composite key contains the separator; no range is better than a wrong one.
        return None
