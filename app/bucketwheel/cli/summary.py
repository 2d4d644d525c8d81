"""Summarize a run that ended: what it wrote, where that is, and how to query it."""

from __future__ import annotations

from collections.abc import Iterator

from bucketwheel import api
from bucketwheel.cli.terminal import paint
from bucketwheel.cli.text import cost_lines, drift_lines
from bucketwheel.formatting import counted, size_text

_LABEL = len("catalog") + 2


def summary_text(config: api.Configuration, outcome: api.RunOutcome) -> str:
    """Return the summary of a run: a few lines, however many tables it has."""
    manifest = outcome.manifest
    state = paint(manifest.status, "good" if manifest.status == "finished" else "bad")
    head = f"{manifest.dataset}: run {manifest.run_id} {state if outcome.changed else 'is already up to date'}"
    facts = [*_facts(config, outcome)]
    query = api.example_query(config, manifest)
    facts += [] if query is None else [("query", query)]
    lines = [head, *(f"{name:<{_LABEL}}{text}" for name, text in facts)]
    verified = manifest.results().get("verify")
    if isinstance(verified, api.VerifyResult) and verified.drift is not None:
        lines += drift_lines(verified.drift)
    cost = api.cost(config, manifest)
    return "\n".join([*lines, *([] if cost is None else cost_lines(cost, "at most"))])


def _facts(config: api.Configuration, outcome: api.RunOutcome) -> Iterator[tuple[str, str]]:
    manifest = outcome.manifest
    results = manifest.results()
    discovered, verified = results.get("discover"), results.get("verify")
    if isinstance(verified, api.VerifyResult):
        files = sum(table.files for table in verified.tables)
        size = sum(table.bytes for table in verified.tables)
        yield "tables", f"{len(verified.tables):,} in {counted(files, 'file')}, {size_text(size)}"
    if isinstance(discovered, api.DiscoverResult):
        yield "rows", f"{discovered.rows:,}"
    if outcome.changed:
        yield "time", f"{sum(record.seconds for record in manifest.stages.values()):,.1f} s"
    left = [name for name in manifest.planned_stages if name not in manifest.stages]
    if left:
        yield "not run", ", ".join(left)
    if any(isinstance(result, api.PublishResult) for result in results.values()):
        yield "catalog", api.catalog_text(config)
    elif isinstance(verified, api.VerifyResult):
        yield "catalog", "not published yet"
