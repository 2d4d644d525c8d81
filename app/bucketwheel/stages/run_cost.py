"""Compute the cost of a run on AWS at the configured prices: workers, S3 requests, bytes scanned by Athena.

`docs/reference/cost.md` has the formula. Runs on your own machines have no price.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bucketwheel.formatting import counted
from bucketwheel.runs.cost import FURTHER_LAYOUT, Cost, cores_of, platform_of, worker_cost
from bucketwheel.runs.manifest import DiscoverResult, Manifest, SizeResult, SplitResult
from bucketwheel.settings import Settings
from bucketwheel.stages.requests import Requests, planned_files, run_requests, written_files

# Glue and EMR Serverless bill at least this much time.
_LEAST_SECONDS = 60
_DATA = ("bucket", "verify")
# Time-out to advise, as a multiple of the estimate; the largest that Glue accepts.
_TIMEOUT_RESERVE, _MOST_GLUE_MINUTES = 1.5, 7 * 24 * 60


def run_cost(manifest: Manifest, settings: Settings) -> float | None:
    """Return the dollars that a run cost so far; None if nothing has a price."""
    cost = cost_of(manifest, settings)
    return None if cost is None else cost.dollars


def cost_of(manifest: Manifest, settings: Settings) -> Cost | None:
    """Return the cost of a run, from the seconds of its stages; None if nothing has a price."""
    platform = manifest.runtime if manifest.runtime in ("glue", "emr-serverless") else None
    requests = Requests({}, {})
    if {"discover", "split", "size"} <= manifest.stages.keys():
        snapshot, size = manifest.discover, manifest.size
        outcomes = manifest.bucket.outcomes if "bucket" in manifest.stages else ()
        files = written_files(snapshot, size, outcomes)
        requests = run_requests(settings, snapshot, manifest.split, size, files, tuple(manifest.stages))
    scanned = 0
    if "ctas" in manifest.stages:
        published = manifest.ctas
        scanned = sum(copy.bytes_scanned for copy in published.copies) if published.method == "athena" else 0
    seconds = sum(record.seconds for record in manifest.stages.values())
    return _priced(settings, platform, seconds, requests, scanned, f"{seconds:,.0f} s of stages")


def estimate(
    settings: Settings,
    stages: Sequence[str],
    snapshot: DiscoverResult,
    split: SplitResult,
    size: SizeResult,
    earlier: Iterable[Manifest] = (),
) -> Cost | None:
    """Return the estimated cost of a run; None if nothing has a price.

    Args:
        settings: prices, workers and platform of the run.
        stages: stages to run.
        snapshot: the snapshot.
        split: the columns of the tables.
        size: the layouts.
        earlier: runs of the dataset, newest first. The duration follows from one that finished on the same platform,
            else from `cost.mb_per_core_second`.
    """
    platform = platform_of(settings)
    seconds, basis = 0.0, "requests only: the run uses no paid workers"
    if platform:
        seconds, basis = _time(settings, platform, stages, size, earlier)
    requests = run_requests(settings, snapshot, split, size, planned_files(snapshot, size), stages)
    scanned = 0
    if "ctas" in stages and settings.ctas.method == "athena":
        keys = sum(column.compressed_bytes for column in snapshot.columns if column.name in snapshot.keys)
        # Athena reads every table once, then the keys of each copy and of one source.
        scanned = sum(table.bytes for table in size.tables) + keys * (len(size.tables) + 1)
    return _priced(settings, platform, seconds, requests, scanned, basis)


def timeout_warning(settings: Settings, cost: Cost | None) -> str | None:
    """Return a warning if the platform will probably stop the job before the run ends."""
    if cost is None or cost.platform is None:
        return None
    on_glue = cost.platform == "glue"
    name, minutes = "glue.timeout_minutes", settings.glue.timeout_minutes
    workers, count = "glue.number_of_workers", settings.glue.number_of_workers
    if not on_glue:
        name, minutes = "emr_serverless.timeout_minutes", settings.emr_serverless.timeout_minutes
        workers, count = "emr_serverless.max_executors", settings.emr_serverless.max_executors
    needed = cost.seconds / 60
    if needed <= minutes:
        return None
    # On Glue, one worker is the driver. Other stages take time too.
    more = math.ceil((count - on_glue) * needed / minutes * _TIMEOUT_RESERVE) + on_glue
    longer = math.ceil(needed * _TIMEOUT_RESERVE)
    ways = [f"set {name}={longer}"] if not on_glue or longer <= _MOST_GLUE_MINUTES else []
    return (
        f"the run takes about {counted(math.ceil(needed), 'minute')} ({cost.basis}), but {name} is {minutes}; "
        f"{' or '.join([*ways, f'set {workers}={more}'])}"
    )


def _time(
    settings: Settings, platform: str, stages: Sequence[str], size: SizeResult, earlier: Iterable[Manifest]
) -> tuple[float, str]:
    for run in earlier:
        if run.runtime == platform and run.status == "finished" and all(name in run.stages for name in stages):
            read = run.size.bytes_to_read
            ratio = size.bytes_to_read / max(read, 1) * _work(size) / _work(run.size)
            took = {name: run.stages[name].seconds for name in stages}
            seconds = sum(time * (ratio if name in _DATA else 1) for name, time in took.items())
            return seconds, f"scaled from run {run.run_id}: {sum(took.values()):,.0f} s for {read / 1e9:,.1f} GB"
    speed, cores = settings.cost.mb_per_core_second, cores_of(settings, platform)
    seconds = _work(size) * size.bytes_to_read / (speed * 1e6 * cores) if "bucket" in stages else 0.0
    return seconds, (
        f"no finished run on {platform}; assuming {speed:g} MB per second and core (cost.mb_per_core_second) and "
        f"{counted(cores, 'core')}"
    )


def _work(size: SizeResult) -> float:
    """Return the CPU of all layouts, in that of the first."""
    return 1 + FURTHER_LAYOUT * len(size.other_layouts)


def _priced(
    settings: Settings, platform: str | None, seconds: float, requests: Requests, scanned: int, basis: str
) -> Cost | None:
    reads, writes = sum(requests.reads.values()), sum(requests.writes.values())
    if platform is None and not (reads or writes or scanned):
        return None
    usage, workers = worker_cost(settings, platform, max(seconds, _LEAST_SECONDS) / 3600)
    prices = settings.cost
    return Cost(
        platform=platform,
        seconds=seconds,
        usage=usage,
        workers=workers,
        reads=reads,
        writes=writes,
        requests=(reads * prices.read_requests + writes * prices.write_requests) / 1000,
        scanned_bytes=scanned,
        scans=scanned / 1e12 * prices.scanned_tb,
        basis=basis,
    )
