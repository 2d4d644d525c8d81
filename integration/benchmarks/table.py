"""Render the report as text or Markdown from the JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .data_set_table import HEAD, data_set_rows, title_of
from .query_table import query_tables
from .reader_table import reader_tables

_PEERS = {
    "copy": "plain copy by pyarrow, no buckets",
    "bucketwheel": "Bucketwheel: Hive buckets, sorted, verified, published",
    "polars": "Polars, partitioned sink: no Hive buckets",
    "duckdb": "DuckDB, PARTITION_BY: no Hive buckets",
    "awswrangler": "awswrangler, bucketing_info: scaled from two fractions †",
}
_QUERIES = {"query": query_tables, "readers": reader_tables}
_MET = {True: "yes", False: "NO", None: ""}
_SCALED = (
    "† Two fractions of one table, written to moto's S3 on loopback (whose own time is not counted), "
    "extended to all rows and tables as a fixed cost per table and a cost per row."
)


def render(report: dict[str, Any], markdown: bool) -> str:
    """Return the whole report."""
    draw = _markdown if markdown else _plain
    blocks = [_heading(report)]
    peers = report["medians"].get("peers")
    if peers:
        rows = [_peer_row(name, values, report) for name, values in peers.items()]
        blocks.append(draw(("tool", "CPU", "wall", "peak memory", "written", "files", "CPU ÷ copy"), rows))
        if "awswrangler" in peers:
            blocks.append(_SCALED)
    others = [
        (f"{section}: {name}", *_values(values))
        for section, names in report["medians"].items()
        if section not in ("peers", *_QUERIES) and title_of(section) is None
        for name, values in names.items()
    ]
    if others:
        blocks.append(draw(("run", "CPU", "wall", "peak memory", "written", "files"), others))
    if data_sets := list(data_set_rows(report)):
        blocks.append(draw(HEAD, data_sets))
    for run in report["runs"]:
        if run["section"] in _QUERIES and run["report"]:
            blocks.append(f"{run['section']}, {run['name']}: {run['rows']:,} rows")
            blocks += [draw(head, found) for head, found in _QUERIES[run["section"]](run["report"])]
    rows = [(t["what"], t["wanted"], t["seen"], _MET[t["met"]]) for t in report["targets"]]
    if rows:
        blocks.append(draw(("figure", "wanted", "seen", "met"), rows))
    blocks += report["notes"]
    return "\n\n".join(blocks)


def _heading(report: dict[str, Any]) -> str:
    machine, data = report["machine"], report["data"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    size = f", {data['bytes'] / 1e6:,.0f} MB in {data['files']} files" if data["bytes"] else ""
    return (
        f"{report['date'][:10]}: {data['rows']:,} rows{size}; medians of {report['options']['runs']}.\n"
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 1e9:.0f} GB; "
        f"Python {machine['python']}, {versions}."
    )


def _peer_row(name: str, values: dict[str, Any], report: dict[str, Any]) -> tuple[str, ...]:
    ratio = report["ratios"].get("peers", {}).get(f"{name} / copy", {}).get("cpu")
    return (_PEERS[name], *_values(values), "" if ratio is None else f"{ratio:.2f}")


def _values(values: dict[str, Any]) -> tuple[str, ...]:
    if not values["runs"]:
        return ("failed", "", "", "", "")
    peak = "" if values["scaled"] else f"{values['largest_peak_rss_bytes'] / 1e6:,.0f} MB"
    size = f"{values['bytes_written'] / 1e6:,.0f} MB" if values["bytes_written"] else ""
    files = f"{values['files_written']:,.0f}" if values["files_written"] else ""
    return (f"{values['cpu_seconds']:.2f} s", f"{values['wall_seconds']:.2f} s", peak, size, files)


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = cells
    return "  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]).rstrip()


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["--:" for _ in head[1:]]]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows))
