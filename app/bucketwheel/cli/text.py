"""Format results for people: plain tables and numbers with units."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from bucketwheel.api import (
    Cost,
    DiscoverResult,
    Drift,
    Expired,
    FirstRunItem,
    Manifest,
    NewProject,
    Plan,
    PublishResult,
    VerifyResult,
)
from bucketwheel.cli.terminal import paint, table, width_of, wrapped
from bucketwheel.formatting import counted, listed, size_text
from bucketwheel.safe_text import one_line

_STATES = {"ok": "good", "failed": "bad", "warning": "doubtful"}
_STATE_WIDTH = 9
# Columns beside the names of checks; with fewer, the text goes below them.
_MIN_OBSERVATION = 36
_CHECKBOX = "    "
_CONVERSIONS = 10
_LINK, _EMPHASIS = re.compile(r"\[([^\]]+)\]\([^)]+\)"), re.compile(r"\*([^*]+)\*")


def project_text(project: NewProject) -> str:
    """Return what `init` found and wrote, and the next commands."""
    directories = "" if project.partition == "none" else f" (directories {project.partition})"
    lines = [
        f"{project.dataset}: newest snapshot {project.snapshot_dt} of {project.source}{directories}, "
        f"key {', '.join(project.keys)}"
    ]
    if project.tables:
        tables = ", ".join(f"{name} ({counted(len(columns), 'column')})" for name, columns in project.tables.items())
        lines.append(f"{counted(len(project.tables), 'table')}: {tables}")
    layouts = " and ".join(f"{layout.prefix}* ({layout.hash})" for layout in project.layouts)
    lines.append(f"readers: {', '.join(project.readers) or 'none named'}; names of tables: {layouts}")
    lines += [f"warning: left out column {name!r}: {reason}" for name, reason in project.refused.items()]
    lines += [f"wrote {os.path.normpath(path)}" for path in project.files]
    if project.tables:
        lines.append("Edit mapping.csv to move columns to other tables. Then:")
    else:
        lines.append("Then:")
    # Relative paths in the configuration start at the project.
    directory = os.path.normpath(project.directory)
    lines += [] if directory == "." else [f"  cd {shlex.quote(directory)}"]
    lines += [f"  bucketwheel {word} {shlex.quote(project.dataset)}" for word in ("plan", "run")]
    return "\n".join(map(one_line, lines))


def plan_text(plan: Plan) -> str:
    """Return the plan as text: input, layouts, one row per table, advice, cost and warnings."""
    columns = {part.name: len(part.columns) for part in plan.split.tables}
    layouts = plan.size.layouts
    schemes = [
        f"{layout.name}: " * bool(layout.name)
        + f"{counted(layout.bucket_count, 'bucket' if layout.bucketed else 'file')} per table, hash {layout.hash}"
        for layout in layouts
    ]
    lines = [
        f"{one_line(plan.dataset)}, snapshot {plan.discover.snapshot_dt}: {counted(plan.discover.rows, 'row')} in "
        f"{counted(len(plan.discover.files), 'file')}, {size_text(plan.discover.bytes)}",
        *([f"ignores {ignored}"] if (ignored := ignored_text(plan.discover)) else []),
        *([f"converts {converted}"] if (converted := _converted_text(plan)) else []),
        f"stages: {', '.join(plan.stages)}; {'; '.join(schemes)}",
        f"reads {size_text(plan.size.bytes_to_read)} in {counted(len(plan.size.slices), 'slice')}, "
        f"writes about {size_text(sum(t.bytes for part in layouts for t in part.tables))} in "
        f"{counted(sum(t.files for part in layouts for t in part.tables), 'file')}",
    ]
    for rows, named in _plan_tables(plan, columns).items():
        if len(layouts) > 1:
            word = "layout" if len(named) == 1 else "layouts"
            prefixes = " and ".join(f"{prefix}*" for _, prefix in named)
            lines += ["", f"{word} {' and '.join(name for name, _ in named)}, tables {prefixes}"]
        else:
            lines.append("")
        header = ("table", "columns", "rows", "bytes", "files", "bytes/file")
        lines.append(table(header, rows, ("rows", "columns", "bytes/file")))
    if plan.advice.readers:
        lines += ["", table(("reader", "tables", "uses", "reason"), plan.advice.rows())]
    lines += [] if plan.drift is None else ["", *drift_lines(plan.drift)]
    lines += [f"run will refuse: {one_line(text)}" for text in plan.obstacles]
    lines += [] if plan.cost is None else ["", *cost_lines(plan.cost, "about")]
    lines += [f"advice: {one_line(text)}" for text in plan.advice.lines]
    return "\n".join([*lines, *(f"warning: {one_line(text)}" for text in plan.warnings)])


def _plan_tables(
    plan: Plan, columns: Mapping[str, int]
) -> dict[tuple[tuple[object, ...], ...], list[tuple[str, str | None]]]:
    """Return the rows of the list of tables; each list has the names and prefixes of the layouts that share it."""
    lists: dict[tuple[tuple[object, ...], ...], list[tuple[str, str | None]]] = {}
    for layout in plan.size.layouts:
        rows = tuple(
            (
                t.name,
                columns[t.name],
                f"{plan.discover.rows:,}",
                size_text(t.bytes),
                f"{t.files:,}",
                size_text(t.bytes / t.files),
            )
            for t in layout.tables
        )
        lists.setdefault(rows, []).append((layout.name, layout.prefix))
    return lists


def run_text(
    manifest: Manifest,
    changed: bool,
    cost: Cost | None = None,
    status: str = "",
    live: str = "",
    locations: bool = True,
) -> str:
    """Return the result of a run: its tables, its drift against the published run, and its cost.

    Args:
        manifest: the run.
        changed: False if an earlier command had finished it.
        cost: its cost, if known.
        status: replaces the status of the manifest.
        live: says which of its tables are live.
        locations: whether to list the locations that it published.
    """
    results = manifest.results()
    status = status or (manifest.status if changed else "is already up to date")
    lines = [f"{one_line(manifest.dataset)}: run {manifest.run_id} {status}", *([live] if live else ())]
    discovered = results.get("discover")
    if isinstance(discovered, DiscoverResult) and (ignored := ignored_text(discovered)):
        lines.append(f"ignored {ignored}")
    verified = results.get("verify")
    if isinstance(verified, VerifyResult):
        lines += ["", _verified_text(manifest, verified)]
        lines += [] if verified.drift is None else drift_lines(verified.drift)
    for result in results.values() if locations else ():
        if isinstance(result, PublishResult):
            lines += [one_line(f"published {table.name} -> {table.location}") for table in result.tables]
    lines += [] if cost is None else cost_lines(cost, "at most")
    return "\n".join(lines)


def _verified_text(manifest: Manifest, verified: VerifyResult) -> str:
    """Return the verified tables, with their layout if there are several."""
    header = ("table", "rows", "files", "bytes")
    rows = [(t.name, f"{t.rows:,}", f"{t.files:,}", size_text(t.bytes)) for t in verified.tables]
    if not any(part.layout for part in verified.tables):
        return table(header, rows)
    names = {layout.id: layout.name for layout in manifest.size.layouts}
    layouts = [names.get(part.layout, part.layout) for part in verified.tables]
    return table(("layout", *header), [(name, *row) for name, row in zip(layouts, rows, strict=True)])


def ignored_text(snapshot: DiscoverResult) -> str:
    """Return how many files of the snapshot are not read, and why; empty if all are."""
    if not snapshot.ignored:
        return ""
    parts = [
        f"{part.files:,} {part.reason} ({', '.join(part.names)}{', …' * (part.files > len(part.names))})"
        for part in snapshot.ignored
    ]
    return one_line(f"{counted(sum(part.files for part in snapshot.ignored), 'file')}: {'; '.join(parts)}")


def _converted_text(plan: Plan) -> str:
    """Return the columns of the tables whose types change, and their new types; empty if there are none."""
    used = {column.source for part in plan.split.tables for column in part.columns}
    used |= {key.source for key in plan.split.keys}
    parts = [
        f"{part.column} from {part.stored} to {part.written}"
        for part in plan.discover.conversions
        # The name of a nested Parquet column begins with that of its column, which may contain dots.
        if part.column in used or any(part.column.startswith(f"{name}.") for name in used)
    ]
    return listed(parts, _CONVERSIONS)


def stages_text(manifest: Manifest) -> str:
    """Return a table of the stages that a run has finished, with their peak memory if it is known."""
    records = manifest.stages.items()
    columns = {
        "stage": [name for name, _ in records],
        "time": [f"{record.seconds:,.1f} s" for _, record in records],
        "peak memory": [size_text(record.peak_memory_bytes or 0) for _, record in records],
        "start": [record.started for _, record in records],
    }
    if any(record.peak_memory_bytes is None for _, record in records):
        del columns["peak memory"]
    return table(tuple(columns), zip(*columns.values(), strict=True), ("start",))


def drift_lines(drift: Drift) -> list[str]:
    """Return the differences between a snapshot and the published one; each breaking change has a line."""
    changed = 100 * (drift.rows - drift.rows_before) / max(drift.rows_before, 1)
    parts = [f"{counted(drift.rows, 'row')}, {drift.rows_before:,} before ({changed:+.1f} %)"]
    columns = [
        f"{len(names)} {word} ({_some(names)})"
        for word, names in (
            ("new", drift.new_columns),
            ("removed", drift.vanished_columns),
            ("with a changed type", [change.name for change in drift.changed_types]),
        )
        if names
    ]
    if columns:
        parts.append(f"columns: {', '.join(columns)}")
    # Smaller changes are noise.
    largest = max(drift.null_shares, key=lambda share: abs(share.now - share.before), default=None)
    if largest and abs(largest.now - largest.before) >= 0.001:
        parts.append(f"largest change in NULLs: {largest.name}, {largest.before:.1%} to {largest.now:.1%}")
    lines = [f"compared with run {drift.run_id}, snapshot {drift.snapshot_dt}: {'; '.join(parts)}"]
    if drift.keys is not None:
        share = "" if drift.keys.share is None else f" ({drift.keys.share:.1%} of the earlier keys)"
        lines.append(
            f"keys: {drift.keys.both:,} in both{share}, {drift.keys.only_now:,} new, "
            f"{drift.keys.only_before:,} removed"
        )
    elif drift.keys_not_compared:
        lines.append(f"keys not compared: {drift.keys_not_compared}")
    lines += [f"breaking: {change.text}" for change in drift.schema_changes if change.breaking]
    return [*map(one_line, lines)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def cost_lines(cost: Cost, word: str) -> list[str]:
    """Return the cost of a run and its basis; `word` says how exact it is, such as "about"."""
    parts = [f"{' and '.join(f'{used:,.2f} {unit}' for unit, used in cost.usage.items())} {cost.workers:.2f}"]
    parts = parts if cost.platform else []
    parts.append(f"{counted(cost.reads, 'S3 read')} and {counted(cost.writes, 'S3 write')} {cost.requests:.2f}")
    if cost.scanned_bytes:
        parts.append(f"{size_text(cost.scanned_bytes)} scanned by Athena {cost.scans:.2f}")
    return [f"cost: {word} {cost.dollars:.2f} dollars: {', '.join(parts)}", f"cost: {cost.basis}"]


def expirable_text(runs: Sequence[Expired]) -> str:
    """Return the runs to delete, a line each, and their total size."""
    rows = [
        (run.dataset, run.run_id if run.has_manifest else f"{run.run_id} (no manifest)", size_text(run.bytes))
        for run in runs
    ]
    total = sum(run.bytes for run in runs)
    return table(("dataset", "run", "bytes"), [*rows, ("total", "", size_text(total))])


def first_run_text(items: Sequence[FirstRunItem]) -> str:
    """Return a checklist: each item with its commands, its expected result and the document it rests on."""
    lines: list[str] = []
    space = width_of()
    for number, item in enumerate(items, 1):
        if number == 1 or item.section != items[number - 2].section:
            lines += ["", item.section] if lines else [item.section]
        lines += ["", *wrapped(f"[ ] {number}. {_plain(item.what)}", space, _CHECKBOX)]
        for label, text in (("try", item.steps), ("shows", item.shows), ("rests on", item.rests_on)):
            lines += wrapped(f"{_CHECKBOX}{label}: {_plain(text)}", space, f"{_CHECKBOX}  ")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return Markdown without links and emphasis; code keeps its backticks."""
    pieces = text.split("`")
    return "`".join(
        piece if number % 2 else _EMPHASIS.sub(r"\1", _LINK.sub(r"\1", piece)) for number, piece in enumerate(pieces)
    )


def findings_text(findings: Sequence[tuple[str, str, str, str]]) -> str:
    """Return one line per check: state, name and observation; its fix, if any, on the next line.

    On a narrow terminal, observation and fix are below the name.
    """
    total = width_of()
    width = max(len(name) for name, *_ in findings)
    place = _STATE_WIDTH + width + 2
    beside = total is None or total - place >= _MIN_OBSERVATION
    before = " " * (place if beside else _STATE_WIDTH)
    space = None if total is None else total - len(before)
    lines = []
    for name, state, description, todo in findings:
        given = [*description.split("\n"), *(f"-> {line}" for line in todo.split("\n") if line)]
        text = [part for line in given for part in wrapped(line, space)]
        label = f"{state:<{_STATE_WIDTH}}"
        head = paint(label, _STATES[state]) if state in _STATES else label
        lines.append(f"{head}{name:<{width}}  {text[0]}" if beside else f"{head}{name}")
        lines += [f"{before}{line}" for line in text[1 if beside else 0 :]]
    return "\n".join(lines)
