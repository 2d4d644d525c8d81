"""Summary of a run that ended: a small file for readers that do not need the whole manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from bucketwheel.advice import Remedy
from bucketwheel.runs.manifest import BucketResult, DiscoverResult, Manifest, layout_table

SCHEMA_VERSION: Final = 1


class _Part(BaseModel):
    # Readers ignore fields that a later version adds.
    model_config = ConfigDict(frozen=True, extra="ignore")


# Kind of a run that did all selected stages but has planned stages left; not an exception class.
UNFINISHED: Final = "Unfinished"


class Failure(_Part):
    """A failure: the class of the error, its message and the advice.

    `resume` is the command that resumes the run, if it works as printed; `remedy` is what the advice was composed of.
    """

    kind: str
    message: str
    resume: str = ""
    advice: str = ""
    remedy: Remedy = Remedy()


class TableSummary(_Part):
    """A written table; the name of a table of another layout than the first begins with the layout and a dot."""

    name: str
    rows: int
    files: int
    bytes: int


class Summary(_Part):
    """A run that ended; `stages` maps each finished stage to its seconds.

    `rows` counts the rows of the snapshot, `bytes` the size of all written files; None if not known yet.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    run: str
    dataset: str
    environment: str
    runtime: str
    snapshot: str | None
    status: Literal["finished", "failed"]
    error: Failure | None
    began: str
    ended: str
    seconds: float
    stages: Mapping[str, float]
    rows: int | None
    bytes: int | None
    tables: tuple[TableSummary, ...]
    warnings: tuple[str, ...]
    metrics: Mapping[str, int | float]


def summarize(
    manifest: Manifest, environment: str, ended: str, failure: Failure | None, metrics: Mapping[str, int | float]
) -> Summary:
    """Return the summary of a run.

    Args:
        manifest: the manifest at the end of the run.
        environment: the name of the configuration, such as ``prod``.
        ended: end time in ISO format.
        failure: the failure, or None if the run succeeded.
        metrics: values of `metrics.METRICS` by name.
    """
    stages = {name: record.seconds for name, record in manifest.stages.items()}
    results = manifest.results()
    discovered, written = results.get("discover"), results.get("bucket")
    tables = _tables(written) if isinstance(written, BucketResult) else ()
    warnings = [str(text) for record in manifest.stages.values() for text in record.result.get("warnings", ())]
    return Summary(
        run=manifest.run_id,
        dataset=manifest.dataset,
        environment=environment,
        runtime=manifest.runtime,
        snapshot=manifest.snapshot_dt,
        status="finished" if manifest.status == "finished" and failure is None else "failed",
        error=failure or (Failure(kind=UNFINISHED, message=manifest.error) if manifest.error else None),
        began=manifest.created,
        ended=ended,
        seconds=round(sum(stages.values()), 3),
        stages=stages,
        rows=discovered.rows if isinstance(discovered, DiscoverResult) else None,
        bytes=sum(table.bytes for table in tables) if tables else None,
        tables=tables,
        warnings=tuple(warnings),
        metrics=metrics,
    )


def _tables(written: BucketResult) -> tuple[TableSummary, ...]:
    totals: dict[str, list[int]] = {}
    for outcome in written.outcomes:
        for file in outcome.files:
            counts = totals.setdefault(layout_table(outcome.layout, file.table), [0, 0, 0])
            counts[0] += file.rows
            counts[1] += 1
            counts[2] += file.bytes
    return tuple(TableSummary(name=name, rows=r, files=f, bytes=b) for name, (r, f, b) in sorted(totals.items()))
