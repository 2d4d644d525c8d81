"""The Python interface, for notebooks and other programs; the command line uses nothing else.

    from bucketwheel import api

    config = api.load("prod", "conf", {"buckets.count": 32})
    print(api.plan(config, "infobase_attributes").size.tables)
    outcome = api.run(config, "infobase_attributes", progress=print)
    print(outcome.manifest.run_id)

Every function raises errors of `bucketwheel.errors` and nothing else on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bucketwheel import config as _config
from bucketwheel import operations as _operations
from bucketwheel import plan as _plan
from bucketwheel import run as _run
from bucketwheel.assembly import RunRequest
from bucketwheel.config import Configuration
from bucketwheel.contracts import Progress, Report
from bucketwheel.manifest import Manifest, PublishResult, VerifyResult
from bucketwheel.observe import report as _report
from bucketwheel.operations import Expired
from bucketwheel.plan import Plan
from bucketwheel.run import RunOutcome
from bucketwheel.sample import Sample, SampleSpec, write_sample

__all__ = [
    "Configuration", "Expired", "Manifest", "Plan", "Progress", "PublishResult", "Report", "RunOutcome",
    "Sample", "SampleSpec", "VerifyResult",
    "expire", "load", "manifest", "plan", "report", "rollback", "run", "runs", "sample", "verify",
]  # fmt: skip


def load(
    env: str = "local",
    directory: Path | str | None = None,
    overrides: Mapping[str, Any] | Sequence[tuple[str, Any, str]] = (),
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    """Load a configuration; see `config.load`. `overrides` may be a mapping of dotted names to values."""
    given = (
        [(name, value, "override") for name, value in overrides.items()]
        if isinstance(overrides, Mapping)
        else overrides
    )
    return _config.load(env, directory, given, os.environ if environ is None else environ)


def plan(
    config: Configuration,
    dataset: str,
    stages: Sequence[str] = (),
    snapshot_dt: str | None = None,
    tables: Sequence[str] = (),
) -> Plan:
    """Return what `run` would do; reads footers only and writes nothing."""
    return _plan.plan(config.settings, RunRequest(dataset, tuple(stages), snapshot_dt, tuple(tables)))


def run(
    config: Configuration,
    dataset: str,
    stages: Sequence[str] = (),
    snapshot_dt: str | None = None,
    tables: Sequence[str] = (),
    resume: str | None = None,
    progress: Report = lambda _: None,
    command: str = "",
) -> RunOutcome:
    """Run stages of one dataset.

    Args:
        config: from `load`.
        dataset: a configured dataset.
        stages: a selection; empty runs all.
        snapshot_dt: YYYY-MM-DD; None takes the latest complete snapshot.
        tables: a selection of tables; empty makes all.
        resume: a run id or `last`.
        progress: called with every `Progress`, from the calling thread.
        command: what to show as the command that resumes, in the notes of an error.
    """
    request = RunRequest(dataset, tuple(stages), snapshot_dt, tuple(tables), resume, command)
    return _run.run(config.settings, request, progress)


def runs(
    config: Configuration, dataset: str | None = None, unreadable: Callable[[str], None] | None = None
) -> list[Manifest]:
    """Return the manifests of all runs, oldest first within a dataset.

    `unreadable` is called with a text for each manifest that is damaged or of another version; without it
    the first of them is an error.
    """
    store = _operations.run_store(config.settings)
    names = [dataset] if dataset else store.datasets()
    return [found for name in names for found in store.manifests(name, unreadable)]


def manifest(config: Configuration, run_id: str) -> Manifest:
    """Return the manifest of a run."""
    return _operations.run_store(config.settings).find(run_id)


def verify(config: Configuration, run_id: str, progress: Report = lambda _: None) -> VerifyResult:
    """Read the files of a run back again and compare them with its manifest."""
    return _operations.verify(config.settings, run_id, progress)


def rollback(config: Configuration, run_id: str, progress: Report = lambda _: None) -> PublishResult:
    """Publish the tables of an earlier (or later) run again: all of them or none."""
    return _operations.rollback(config.settings, run_id, progress)


def expire(
    config: Configuration, keep: int, datasets: Sequence[str] = (), progress: Report = lambda _: None
) -> list[Expired]:
    """Delete old runs that no catalog table points to, but the newest `keep`."""
    return _operations.expire(config.settings, keep, datasets, report=progress)


def report(config: Configuration, run_id: str) -> str:
    """Return one self-contained HTML page about a run."""
    return _report.render(manifest(config, run_id))


def sample(directory: Path | str, spec: SampleSpec) -> Sample:
    """Write realistic sample data with a mapping."""
    return write_sample(Path(directory), spec)
