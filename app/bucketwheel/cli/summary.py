"""Summarize a run that ended: what it wrote, where that is, and how to query it."""

from __future__ import annotations

from collections.abc import Iterator

from bucketwheel import api
from bucketwheel.cli.terminal import paint
from bucketwheel.cli.text import cost_lines, drift_lines, ignored_text
from bucketwheel.formatting import counted, size_text
from bucketwheel.safe_text import one_line

_LABEL = len("catalog") + 2


def summary_text(config: api.Configuration, outcome: api.RunOutcome, with_cost: bool = True) -> str:
    """Return the summary of a run: a few lines, however many tables it has."""
    manifest = outcome.manifest
    state = paint(manifest.status, "good" if manifest.status == "finished" else "bad")
    lines = _lines(config, manifest, state if outcome.changed else outcome.state, outcome.changed)
    verified = manifest.results().get("verify")
    if isinstance(verified, api.VerifyResult) and verified.drift is not None:
        lines += drift_lines(verified.drift)
    cost = api.cost(config, manifest) if with_cost else None
    return "\n".join([*lines, *([] if cost is None else cost_lines(cost, "at most"))])


def rollback_text(config: api.Configuration, manifest: api.Manifest, result: api.PublishResult) -> str:
    """Return the summary of a rollback: the run whose tables are live again."""
    shown = published_part(manifest, result)
    return "\n".join(_lines(config, shown, f"is {paint('live', 'good')} again", with_time=False))


def published_part(manifest: api.Manifest, result: api.PublishResult) -> api.Manifest:
    """Return the manifest with only those verified tables that a rollback published."""
    verified = manifest.results().get("verify")
    if not isinstance(verified, api.VerifyResult):
        return manifest
    copied = any(each.copies for each in manifest.results().values() if isinstance(each, api.PublishResult))
    ends = {tuple(table.location.rstrip("/").rsplit("/", 2)[1:]) for table in result.tables}
    shown = [
        table
        for table in verified.tables
        if (".".join(filter(None, [table.layout, table.name])), manifest.run_id) in ends
        or (copied and not table.layout)
    ]
    verified = verified.model_copy(update={"tables": tuple(shown)})
    record = manifest.stages["verify"].model_copy(update={"result": verified.model_dump(mode="json")})
    return manifest.with_stage("verify", record)


def _lines(config: api.Configuration, manifest: api.Manifest, state: str, with_time: bool) -> list[str]:
    facts = [*_facts(config, manifest, with_time)]
    query = api.example_query(config, manifest)
    facts += [] if query is None else [("query", query)]
    head = f"{one_line(manifest.dataset)}: run {manifest.run_id} {state}"
    return [head, *(f"{name:<{_LABEL}}{one_line(text)}" for name, text in facts)]


def _facts(config: api.Configuration, manifest: api.Manifest, with_time: bool) -> Iterator[tuple[str, str]]:
    results = manifest.results()
    discovered, verified = results.get("discover"), results.get("verify")
    if isinstance(verified, api.VerifyResult):
        files = sum(table.files for table in verified.tables)
        size = sum(table.bytes for table in verified.tables)
        yield "tables", f"{len(verified.tables):,} in {counted(files, 'file')}, {size_text(size)}"
    if isinstance(discovered, api.DiscoverResult):
        yield "rows", f"{discovered.rows:,}"
        if with_time and (ignored := ignored_text(discovered)):
            yield "ignored", ignored
    if with_time:
        yield "time", f"{sum(record.seconds for record in manifest.stages.values()):,.1f} s"
    left = [name for name in manifest.planned_stages if name not in manifest.stages]
    if left:
        yield "not run", ", ".join(left)
    if any(isinstance(result, api.PublishResult) for result in results.values()):
        yield "catalog", api.catalog_text(config)
    elif isinstance(verified, api.VerifyResult):
        yield "catalog", "not published yet"
