"""Compare the snapshot of a run with the published one.

Rows, columns and NULLs come from both manifests. `measure` reads the keys of both runs, bucket by bucket. Files
can be correct without a comparison, so a failed comparison is only a warning, unless the configuration sets a limit.
`drift_limits.py` compares the differences with the limits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pyarrow as pa

from bucketwheel.catalogs.live import live_runs
from bucketwheel.contracts import BucketJob, Services
from bucketwheel.errors import BucketwheelError
from bucketwheel.host import available_memory, available_threads
from bucketwheel.kernel.key_overlap import KeyFiles, compare_bucket
from bucketwheel.runs.drift_records import Drift, KeyCounts, KeyOverlap, NullShare, TypeChange
from bucketwheel.runs.manifest import BucketOutcome, DiscoverResult, Manifest
from bucketwheel.runs.run_id import started_at
from bucketwheel.settings import Settings
from bucketwheel.stages.bucket_job import bucket_job
from bucketwheel.stages.drift_limits import Refusal, beyond_limits, drift_warnings
from bucketwheel.stages.schema_changes import removed_tables, schema_changes
from bucketwheel.storage import join
from bucketwheel.system import system

# Memory for keys: share of the budget, and a maximum in bytes, because the Spark driver shares its memory with a JVM.
_WORKING = 0.4
_MOST = 2**31
# Copies of each key in memory, and overhead in bytes per key of a table of distinct keys.
_COPIES, _OVERHEAD = 3, 32


def refusals(manifest: Manifest, services: Services) -> list[Refusal]:
    """Return the limits that a run without data exceeds: rows and NULLs after `discover`, columns after `split`.

    Raises:
        BucketwheelError: the configuration sets a limit, and the published run cannot be read.
    """
    quality = services.settings.quality
    if quality.drift == "off" or "discover" not in manifest.stages:
        return []
    try:
        drift = compare(manifest, services)
    except BucketwheelError:
        if quality.limits_set:
            raise
        # `measure` warns of it.
        return []
    return [] if drift is None else [*beyond_limits(manifest, drift, quality)]


def compare(manifest: Manifest, services: Services) -> Drift | None:
    """Compare a run with the published one by their manifests; None if nothing else is published.

    Counts are compared with the newest published run, columns with the run that each table shows.

    Raises:
        BucketwheelError: the published run cannot be read.
    """
    return _compared_with(_published(manifest, services), manifest)


def _published(manifest: Manifest, services: Services) -> dict[str, Manifest]:
    """Return the other run that each published table shows, by the table's name without prefix."""
    try:
        return live_runs(services.catalog().tables(), manifest, services.runs, services.settings)
    except BucketwheelError as error:
        if limits := services.settings.quality.limits_set:
            off = " ".join(
                f"--set quality.{name}={'warn' if name == 'schema_changes' else 'null'}" for name in limits
            )
            error.add_note(f"{_names(limits)} the published run for comparison; to skip the check: {off}")
        raise


def _newest(published: Mapping[str, Manifest]) -> Manifest:
    return max(published.values(), key=lambda run: started_at(run.run_id))


def _compared_with(published: Mapping[str, Manifest], manifest: Manifest) -> Drift | None:
    if not published:
        return None
    drift = _counts(manifest, _newest(published))
    if "split" not in manifest.stages:
        return drift
    return drift.model_copy(
        update={
            "schema_changes": schema_changes(manifest, published),
            "removed_tables": removed_tables(manifest, published),
        }
    )


def _names(limits: Sequence[str]) -> str:
    listed = " and ".join(f"quality.{name}" for name in limits)
    return f"{listed} need{'s' if len(limits) == 1 else ''}"


@dataclass(frozen=True)
class Measured:
    """The differences of a run that has written its files, the warnings about them, and the limits it exceeds."""

    drift: Drift | None = None
    warnings: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def measure(manifest: Manifest, services: Services) -> Measured:
    """Compare a run that has written its files with the published one.

    Raises:
        BucketwheelError: see `refusals`.
    """
    quality = services.settings.quality
    if quality.drift == "off":
        return Measured()
    try:
        published = _published(manifest, services)
    except BucketwheelError as error:
        if quality.limits_set:
            raise
        return Measured(warnings=(f"not compared with the published run: {error}",))
    drift = _compared_with(published, manifest)
    if drift is None:
        return Measured()
    warnings: list[str] = []
    if quality.drift == "keys":
        keys, reason = _keys(manifest, _newest(published), services)
        drift = drift.model_copy(update={"keys": keys, "keys_not_compared": reason})
        warnings += [f"keys not compared with run {drift.run_id}: {reason}"] if reason else []
    warnings += drift_warnings(drift, quality, services.settings.monitoring)
    return Measured(drift, tuple(warnings), tuple(beyond_limits(manifest, drift, quality)))


def rows_changed_percent(now: int, before: int) -> float:
    """Return the change in the number of rows, in percent of `before`."""
    return 100 * abs(now - before) / before if before else 100.0 * bool(now)


def _counts(manifest: Manifest, before: Manifest) -> Drift:
    now, was = manifest.discover, before.discover
    ours, theirs = ({column.name: column for column in snapshot.columns} for snapshot in (now, was))
    common = [name for name in ours if name in theirs]
    shares = []
    for name in common:
        nulls, nulls_before = ours[name].null_count, theirs[name].null_count
        if nulls is not None and nulls_before is not None:
            shares.append(NullShare(name=name, before=nulls_before / max(was.rows, 1), now=nulls / max(now.rows, 1)))
    return Drift(
        run_id=before.run_id,
        snapshot_dt=was.snapshot_dt,
        rows_before=was.rows,
        rows=now.rows,
        rows_changed_percent=rows_changed_percent(now.rows, was.rows),
        new_columns=tuple(name for name in ours if name not in theirs),
        vanished_columns=tuple(name for name in theirs if name not in ours),
        changed_types=tuple(
            TypeChange(name=name, before=theirs[name].type, now=ours[name].type)
            for name in common
            if theirs[name].type != ours[name].type
        ),
        null_shares=tuple(shares),
        null_shares_unknown=len(common) - len(shares),
    )


def _keys(manifest: Manifest, before: Manifest, services: Services) -> tuple[KeyOverlap | None, str | None]:
    """Return the overlap of the keys, or the reason why they cannot be compared."""
    if "bucket" not in before.stages:
        return None, "its manifest no longer lists its files"
    now, was = _layouts_to_compare(*(bucket_job(run, services.runs) for run in (manifest, before)))
    if reason := _incompatible(manifest, now, before, was):
        return None, reason
    try:
        if missing := _missing_files(before, was, services):
            return None, missing
        counts = _compared([(manifest, now), (before, was)], services.settings)
    except (BucketwheelError, pa.ArrowException, OSError, MemoryError) as error:
        return None, f"{type(error).__name__}: {error}"
    both, only_now, only_before = (sum(numbers) for numbers in zip(*counts, strict=True))
    share = both / (both + only_before) if both + only_before else None
    return KeyOverlap(both=both, only_now=only_now, only_before=only_before, share=share), None


def _layouts_to_compare(now: BucketJob, was: BucketJob) -> tuple[BucketJob, BucketJob]:
    """Return a layout of each run that put the keys into the same buckets, otherwise their first ones."""
    for one, other in product(now.layouts, was.layouts):
        if (one.hash, one.bucket_count) == (other.hash, other.bucket_count):
            return one, other
    return now.layouts[0], was.layouts[0]


def _incompatible(manifest: Manifest, now: BucketJob, before: Manifest, was: BucketJob) -> str | None:
    """Return why buckets of the two runs cannot be compared, or None if they can."""
    layouts = [
        next(layout for layout in run.size.layouts if layout.id == job.layout)
        for run, job in ((manifest, now), (before, was))
    ]
    if not all(layout.bucketed for layout in layouts):
        return "at least one of the two runs has no buckets"
    types, types_before = (run.discover.key_types for run in (manifest, before))
    for thing, one, other in (
        ("bucket count", now.bucket_count, was.bucket_count),
        ("bucket hash", now.hash, was.hash),
        ("key", ", ".join(name for _, name in now.keys), ", ".join(name for _, name in was.keys)),
        ("key type", ", ".join(types), ", ".join(types_before)),
    ):
        if one != other:
            return f"its {thing} is {other}, that of this run {one}"
    return None


def _missing_files(before: Manifest, job: BucketJob, services: Services) -> str | None:
    table, names = _smallest(before, job)
    existing = {entry.name for entry in services.storage.list(table)}
    missing = sorted({name for group in names.values() for name in group} - existing)
    return f"{len(missing)} of its files are missing, the first is {join(table, missing[0])}" if missing else None


def _smallest(manifest: Manifest, job: BucketJob) -> tuple[str, dict[int, list[str]]]:
    """Return the directory and the files by bucket of the smallest table; all verified tables have the same keys."""
    sizes = dict.fromkeys((table.name for table in job.tables), 0)
    outcomes = _outcomes(manifest, job)
    for outcome in outcomes:
        for file in outcome.files:
            sizes[file.table] += file.bytes
    chosen = min(job.tables, key=lambda table: sizes[table.name])
    files = {
        outcome.bucket: [file.name for file in outcome.files if file.table == chosen.name] for outcome in outcomes
    }
    return chosen.directory, files


def _outcomes(manifest: Manifest, job: BucketJob) -> list[BucketOutcome]:
    return [outcome for outcome in manifest.bucket.outcomes if outcome.layout == job.layout]


def _compared(runs: Sequence[tuple[Manifest, BucketJob]], settings: Settings) -> list[KeyCounts]:
    """Compare the keys of each bucket; the memory budget sets the number of threads and of parts per bucket."""
    count = runs[0][1].buckets
    files: list[list[KeyFiles]] = []
    needs = [0.0] * count
    for manifest, job in runs:
        directory, names = _smallest(manifest, job)
        columns = tuple(name for _, name in job.keys)
        paths = [tuple(join(directory, name) for name in names.get(bucket, ())) for bucket in range(count)]
        files.append([KeyFiles(job.storage, group, columns, job.hash) for group in paths])
        width = _key_bytes(manifest.discover)
        for outcome in _outcomes(manifest, job):
            needs[outcome.bucket] += outcome.rows * width
    free = _free(available_memory() // 2 if settings.memory == "auto" else settings.memory)
    allowed = available_threads() if settings.threads == "auto" else settings.threads
    threads = max(1, min(allowed, int(free / max(*needs, 1))))
    parts = [max(1, math.ceil(need * threads / free)) for need in needs]
    pool = system().pool(threads)
    try:
        return list(pool.map(compare_bucket, *files, parts))
    finally:
        # After one unreadable file the comparison has failed; skip the other buckets.
        pool.shutdown(cancel_futures=True)


def key_parts(settings: Settings, snapshot: DiscoverResult, rows: float) -> int:
    """Return how many times the files of a bucket are read to compare so many keys, if `auto` memory is enough."""
    free = _MOST if settings.memory == "auto" else _free(settings.memory)
    return max(1, math.ceil(rows * _key_bytes(snapshot) / free))


def _free(budget: float) -> float:
    """Return the bytes of a memory budget for keys."""
    return min(budget * _WORKING, _MOST)


def _key_bytes(discovered: DiscoverResult) -> float:
    """Return the memory for comparing one key, in bytes."""
    size = sum(column.uncompressed_bytes for column in discovered.columns if column.name in discovered.keys)
    return _COPIES * (size / max(discovered.rows, 1) + _OVERHEAD)
