"""Bucket: read the snapshot once and write every table in buckets."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce

from bucketwheel.contracts import BucketJob, Progress, ReadKeys, Services
from bucketwheel.errors import EngineError
from bucketwheel.formatting import counted
from bucketwheel.kernel.checksum import add
from bucketwheel.runs.column_statistics import ColumnStatistics
from bucketwheel.runs.manifest import BucketOutcome, BucketResult, LayoutSize, Manifest, SizeResult
from bucketwheel.runs.privacy import without_keys
from bucketwheel.settings import Settings
from bucketwheel.stages.bucket_job import bucket_job
from bucketwheel.stages.engine_warnings import attach_engine_warnings
from bucketwheel.stages.layouts import label, labeled, layout_settings
from bucketwheel.stages.skew import BucketRows, skew_warnings
from bucketwheel.stages.source_changes import check_source
from bucketwheel.stages.split_buckets import split_warnings


class Bucket:
    """Runs the job on the engine and saves a checkpoint for every finished bucket."""

    name = "bucket"
    requires = ("discover", "split", "size")

    def run(self, manifest: Manifest, services: Services) -> BucketResult:
        """See `contracts.Stage.run`.

        Raises:
            EngineError: rows were lost or duplicated, or their keys changed on the way.
            SourceChangedError: the source changed during the run.
            SchemaError: the type in which a column is written cannot hold one of its values.
        """
        settings = services.settings
        job = replace(
            bucket_job(manifest, services.runs),
            column_statistics=settings.catalog.column_statistics,
            show_keys=settings.privacy.show_keys,
            types=settings.types,
        )
        done = {job.number_of(outcome): outcome for outcome in services.checkpoints.load()}
        finished = sum(outcome.rows for outcome in done.values())
        self._report(services, job, finished, 0)
        services.storage.make_directory(job.scratch)
        engine = services.engine()
        before = engine.statistics()
        with attach_engine_warnings(services, self.name, engine):
            for outcome in engine.bucket(job, frozenset(done), lambda r, b: self._report(services, job, r, b)):
                services.checkpoints.save(outcome)
                done[job.number_of(outcome)] = outcome
                services.report(_part(services.dataset, outcome))
            outcomes = tuple(done[number] for number in sorted(done))
            _check_rows(manifest, outcomes)
        statistics = engine.statistics().since(before)
        _check_keys(statistics.keys, manifest.size, outcomes, services)
        check_source(manifest.discover, services)
        return BucketResult(
            rows=manifest.discover.rows,
            empty_buckets=sum(1 for o in outcomes if not o.rows and o.bucket < job.layout_of(o).bucket_count),
            spilled_bytes=statistics.spilled_bytes,
            outcomes=outcomes,
            shuffled_bytes=statistics.shuffled_bytes,
            warnings=(
                *statistics.warnings,
                *_invalid_texts(statistics.invalid_texts, [source for source, _ in job.keys]),
                *_warnings(manifest, outcomes, settings),
            ),
            column_statistics=_with_key(statistics.columns, job, outcomes),
        )

    def _report(self, services: Services, job: BucketJob, rows: int, size: int) -> None:
        services.report(Progress(services.dataset, self.name, "advanced", rows, size))


def _by_layout(
    size: SizeResult, outcomes: Sequence[BucketOutcome]
) -> Iterator[tuple[LayoutSize, list[BucketOutcome]]]:
    for layout in size.layouts:
        yield layout, [outcome for outcome in outcomes if outcome.layout == layout.id]


def _check_rows(manifest: Manifest, outcomes: Sequence[BucketOutcome]) -> None:
    rows = manifest.discover.rows
    for layout, own in _by_layout(manifest.size, outcomes):
        written = sum(outcome.rows for outcome in own)
        if written != rows:
            raise EngineError(
                f"bucket: {label(manifest.size, layout)}{counted(rows, 'row')} in the snapshot, {written} written; "
                "nothing was published"
            )


def _check_keys(
    read: ReadKeys | None, size: SizeResult, outcomes: Sequence[BucketOutcome], services: Services
) -> None:
    """Check that the buckets, also those of an interrupted attempt, hold the keys that this attempt read."""
    for layout, own in _by_layout(size, outcomes):
        written = reduce(add, (outcome.key_checksum for outcome in own), 0)
        # Spark loses what tasks report if their worker dies; rows are counted by the buckets in any case.
        if read is not None and read.rows == sum(outcome.rows for outcome in own) and read.checksum != written:
            # Otherwise, a resumed run would take the buckets for finished.
            services.checkpoints.clear()
            raise _changed_keys(label(size, layout), read.checksum, written)


def _changed_keys(label_of_layout: str, read: int, written: int) -> EngineError:
    error = EngineError(
        f"bucket: {label_of_layout}the keys in the written files are not those that were read (checksum "
        f"{written:016x}, expected {read:016x}); nothing was published. Memory, a disk or the network changed data: "
        "start a new run, on another machine if it happens again"
    )
    error.resumable = False
    return error


def _warnings(manifest: Manifest, outcomes: Sequence[BucketOutcome], settings: Settings) -> Iterator[str]:
    for layout, own in _by_layout(manifest.size, outcomes):
        split = split_warnings(layout, layout_settings(layout, settings), own)
        warnings = [*_skew(manifest, layout, own), *split]
        yield from labeled(manifest.size, layout, warnings)


def _invalid_texts(texts: Mapping[str, int], keys: Collection[str]) -> Iterator[str]:
    for name, count in sorted(texts.items()):
        if name in keys:
            yield f"column {name!r}: kept {counted(count, 'key')} that DuckDB rejects, because the text is not UTF-8"
        else:
            yield f"column {name!r}: replaced bytes that are not UTF-8 in {counted(count, 'text')}"


def _skew(manifest: Manifest, layout: LayoutSize, outcomes: Sequence[BucketOutcome]) -> list[str]:
    if not layout.bucketed:
        return []
    # Iceberg has a partition of its own for NULL.
    outcomes = outcomes[: layout.bucket_count]
    buckets = BucketRows(
        rows=tuple(outcome.rows for outcome in outcomes),
        null_keys=tuple(outcome.null_keys for outcome in outcomes),
        distinct=tuple(outcome.rows - outcome.null_keys - outcome.duplicate_keys for outcome in outcomes),
    )
    return skew_warnings(buckets, manifest.discover.keys, layout.hash)


def _with_key(
    columns: Sequence[ColumnStatistics], job: BucketJob, outcomes: Sequence[BucketOutcome]
) -> tuple[ColumnStatistics, ...]:
    """Add the number of distinct keys, which the outcomes tell: no key is in two buckets; hide the keys."""
    if not job.show_keys:
        columns = without_keys(columns, [source for source, _ in job.keys])
    if len(job.keys) > 1:
        return tuple(columns)
    # Every layout has the same keys.
    first = [outcome for outcome in outcomes if outcome.layout == job.layout]
    distinct = sum(outcome.rows - outcome.null_keys - outcome.duplicate_keys for outcome in first)
    ((key, _),) = job.keys
    return tuple(
        column.model_copy(update={"distinct": distinct}) if column.name == key else column for column in columns
    )


def _part(dataset: str, outcome: BucketOutcome) -> Progress:
    size = sum(file.bytes for file in outcome.files)
    return Progress(dataset, "bucket", "done", outcome.rows, size, bucket=outcome.bucket, files=len(outcome.files))
