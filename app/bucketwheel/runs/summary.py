"""How a run ended, in a small file of its own: what people and programs want to know without the whole manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from bucketwheel.runs.manifest import BucketResult, DiscoverResult, Manifest

SCHEMA_VERSION: Final = 1


class _Part(BaseModel):
    # A reader takes what a later version adds for what it does not know.
    model_config = ConfigDict(frozen=True, extra="ignore")


# The kind of a failure that is none: a selection of stages was done, and the run was asked for others before.
UNFINISHED: Final = "Unfinished"


class Failure(_Part):
    """What a run failed with: the class of the error, its text, and the command that goes on from there."""

    kind: str
    message: str
    resume: str = ""


class TableSummary(_Part):
    """A table as it was written."""

    name: str
    rows: int
    files: int
    bytes: int


class Summary(_Part):
    """A run as it ended; `stages` has the seconds of each that finished.

    `rows` are those of the snapshot, `bytes` those of all files that were written; None before they are known.
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


def summarise(
    manifest: Manifest, environment: str, ended: str, failure: Failure | None, metrics: Mapping[str, int | float]
) -> Summary:
    """Return the summary of a run.

    Args:
        manifest: as it was at the end.
        environment: the name of the configuration, such as ``prod``.
        ended: when, as an ISO time.
        failure: what it failed with; None where it did not.
        metrics: values of `metrics.METRICS` by name.
    """
    stages = {name: record.seconds for name, record in manifest.stages.items()}
    results = manifest.results()
    found, written = results.get("discover"), results.get("bucket")
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
        rows=found.rows if isinstance(found, DiscoverResult) else None,
        bytes=sum(table.bytes for table in tables) if tables else None,
        tables=tables,
        warnings=tuple(warnings),
        metrics=metrics,
    )


def _tables(written: BucketResult) -> tuple[TableSummary, ...]:
    found: dict[str, list[int]] = {}
    for outcome in written.outcomes:
        for file in outcome.files:
            counts = found.setdefault(file.table, [0, 0, 0])
            counts[0] += file.rows
            counts[1] += 1
            counts[2] += file.bytes
    return tuple(TableSummary(name=name, rows=r, files=f, bytes=b) for name, (r, f, b) in sorted(found.items()))
