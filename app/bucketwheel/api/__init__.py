"""The Python interface, for notebooks and other programs.

The command line uses only this interface.

    from bucketwheel import api

    config = api.load("prod", "conf", {"buckets.count": 32})
    print(api.plan(config, "people").size.tables)
    outcome = api.run(config, "people", progress=print)
    print(outcome.manifest.run_id)

Functions raise errors of `bucketwheel.errors`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bucketwheel import advice as _advice
from bucketwheel import doctor as _doctor
from bucketwheel import plugins as _plugins
from bucketwheel.api.aws import (
    check_for_jobs,
    deploy_apply,
    deploy_destroy,
    deploy_diff,
    deploy_import,
    deploy_render,
    package,
    submit,
    upload,
)
from bucketwheel.api.files import write_text as _write_text
from bucketwheel.catalogs.example_query import catalog_text as _catalog_text
from bucketwheel.catalogs.example_query import example_query as _example_query
from bucketwheel.catalogs.live import LiveDataset, LiveTable
from bucketwheel.contracts import Progress, Report
from bucketwheel.deploy.template.deployment import Deployment as _Deployment
from bucketwheel.doctor import Finding
from bucketwheel.doctor import first_run as _first_run
from bucketwheel.doctor.first_run import Item as FirstRunItem
from bucketwheel.errors import BucketwheelError as _BucketwheelError
from bucketwheel.errors import ConfigError as _ConfigError
from bucketwheel.monitoring.progress_bars import ProgressBars
from bucketwheel.monitoring.run_end import RunEndReporter as _RunEndReporter
from bucketwheel.optional import duckdb_module
from bucketwheel.packaging.package import Package
from bucketwheel.pipeline import expire as _expire
from bucketwheel.pipeline import init as _init
from bucketwheel.pipeline import live as _live
from bucketwheel.pipeline import plan as _plan
from bucketwheel.pipeline import rebuild as _rebuild
from bucketwheel.pipeline import reverify as _reverify
from bucketwheel.pipeline import rollback as _rollback
from bucketwheel.pipeline import run as _run
from bucketwheel.pipeline import run_states as _run_states
from bucketwheel.pipeline.expire import Expired
from bucketwheel.pipeline.init import NewProject
from bucketwheel.pipeline.plan import Plan
from bucketwheel.pipeline.rebuild import Rebuild, RebuiltTable
from bucketwheel.pipeline.run import RunOutcome
from bucketwheel.pipeline.run_states import RunState
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.report import render as _report
from bucketwheel.runs.cost import Cost
from bucketwheel.runs.drift_records import Drift
from bucketwheel.runs.manifest import BucketResult, DiscoverResult, Manifest, PublishResult, VerifyResult
from bucketwheel.runs.privacy import manifest_document as _manifest_document
from bucketwheel.runs.run_id import started_at as _started_at
from bucketwheel.runs.store import RunStore as _RunStore
from bucketwheel.runs.summary import Summary
from bucketwheel.runs.withdrawals import Withdrawal
from bucketwheel.sample import Sample, SampleSpec, write_sample
from bucketwheel.settings import StorageSettings as _StorageSettings
from bucketwheel.settings import loading as _config
from bucketwheel.settings.loading import Configuration
from bucketwheel.stages import run_cost as _run_cost
from bucketwheel.storage import Storage as _Storage
from bucketwheel.storage import is_s3 as _is_s3
from bucketwheel.submit.request import JobRequest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = [
    "BucketResult", "Configuration", "Cost", "DiscoverResult", "Drift", "Expired", "Finding", "FirstRunItem",
    "JobRequest", "LiveDataset", "LiveTable", "Manifest", "NewProject", "Package", "Plan", "Progress",
    "ProgressBars", "PublishResult", "Rebuild", "RebuiltTable", "Report", "RunOutcome", "RunState", "Sample",
    "SampleSpec", "Summary", "VerifyResult", "Withdrawal",
    "catalog_rebuild", "catalog_rebuild_plan", "catalog_text", "check_for_jobs", "connect", "cost",
    "deploy_apply", "deploy_destroy", "deploy_diff", "deploy_import", "deploy_render", "doctor", "example_query",
    "expirable", "expire", "first_run", "init", "load", "local_directory", "manifest", "manifest_document",
    "package", "plan",
    "previous_run", "progress", "report", "rollback", "run", "run_ids", "run_state", "run_states", "runs",
    "sample", "submit", "summary", "tables", "unmark", "upload", "verify", "write_report",
]  # fmt: skip


def load(
    env: str = "local",
    directory: Path | str | None = None,
    overrides: Mapping[str, Any] | Sequence[tuple[str, Any, str]] = (),
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    """Load a configuration; see `config.load`. `overrides` may be a mapping of dotted names to values."""
    environment = os.environ if environ is None else environ
    config = _config.load(env, directory, _given(overrides), environment, _plugins.settings_models())
    _plugins.check_copies(config.settings)
    return config


def init(
    directory: Path | str = ".",
    source: str | None = None,
    key: str | None = None,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | Sequence[tuple[str, Any, str]] = (),
    environ: Mapping[str, str] | None = None,
) -> NewProject:
    """Write the configuration and the mapping of a new project, proposed from its source.

    Args:
        directory: the project; created if it does not exist.
        source: directory of the snapshots, local or on S3; if None, the only one in `directory`.
        key: the key column, or several, separated by commas.
        dataset: name of the dataset; if None, derived from the source.
        overrides: settings for the new configuration, as for `load`.
        environ: environment variables; if None, those of the process.
    """
    environment = os.environ if environ is None else environ
    config = _config.load("local", None, _given(overrides), environment, _plugins.settings_models(), read_files=False)
    values = dict(_config.flatten(config.settings.model_dump(mode="json")))
    given = {name: values[name] for name, _, origin in config.rows() if not origin.startswith(("default", "environ"))}
    return _init.init(config.settings, given, Path(directory), source, key, dataset)


def _given(overrides: Mapping[str, Any] | Sequence[tuple[str, Any, str]]) -> Sequence[tuple[str, Any, str]]:
    if isinstance(overrides, Mapping):
        return [(name, value, "override") for name, value in overrides.items()]
    return overrides


def local_directory(directory: str, scratch: Path | str) -> str:
    """Return a local directory with the configuration files of `directory`; copy them from S3 to `scratch`.

    Raises:
        ConfigError: there are no configuration files.
        StorageError: S3 denied access.
    """
    if not _is_s3(directory):
        return directory
    storage = _Storage(_StorageSettings())
    files = [entry for entry in storage.list(directory) if entry.name.endswith(".yaml")]
    if not files:
        raise _ConfigError(f"--conf {directory}: no .yaml files; put base.yaml and <env>.yaml there")
    for entry in files:
        (Path(scratch) / entry.name).write_bytes(storage.read(entry.location))
    return str(scratch)


def plan(
    config: Configuration,
    dataset: str,
    stages: str | Sequence[str] = (),
    snapshot_dt: date | str | None = None,
    tables: str | Sequence[str] = (),
) -> Plan:
    """Return the plan of a run; read footers and one row group, and write nothing.

    `stages`, `snapshot_dt` and `tables` are as for `run`.
    """
    request = RunRequest(dataset, _names(stages), _snapshot(snapshot_dt), _names(tables))
    return _plan.plan(config.settings, request)


def run(
    config: Configuration,
    dataset: str,
    stages: str | Sequence[str] = (),
    snapshot_dt: date | str | None = None,
    tables: str | Sequence[str] = (),
    resume: str | None = None,
    progress: Report = lambda _: None,
    command: str = "",
    log: Callable[[str], None] | None = None,
    force: bool = False,
    later_stages: str | Sequence[str] | None = None,
) -> RunOutcome:
    """Run stages of one dataset, then publish its metrics, a notification and a summary as `monitoring` configures.

    Args:
        config: from `load`.
        dataset: a configured dataset.
        stages: a selection; if empty, all. Text is a name, or several, separated by commas.
        snapshot_dt: a date or YYYY-MM-DD; if None, the latest complete snapshot.
        tables: a selection of tables, in the same form; if empty, all.
        resume: a run id or `last`.
        progress: called with every `Progress`, from the calling thread.
        command: the command line for the advice after a failure; if empty, composed from the arguments.
        log: called with each line of embedded metrics for CloudWatch; if None, they go to stderr.
        force: publish data that a rollback withdrew, and remove its mark.
        later_stages: stages that other jobs will run; what publishing needs for them is checked first. None assumes
            the configured stages after the selection.
    """

    names, snapshot, filtered = _names(stages), _snapshot(snapshot_dt), _names(tables)

    def composed() -> str:
        options = list(_advice.selection(names, snapshot, filtered))
        return command or _advice.command(config, ["bucketwheel", "run", dataset], options)

    later = None if later_stages is None else _names(later_stages)
    request = RunRequest(dataset, names, snapshot, filtered, resume, composed, force, later)
    reporter = _RunEndReporter(config, request, progress, log)
    with _closed(progress), reporter.observe() as observer:
        outcome = _run.run(config.settings, request, progress, observer=observer)
    if not outcome.changed:
        reporter.report_skipped(outcome.manifest, outcome.state)
    return outcome


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return names; text holds one, or several separated by commas, as on the command line."""
    if isinstance(given, str):
        return tuple(part.strip() for part in given.split(",") if part.strip())
    return tuple(given)


def _snapshot(given: date | str | None) -> str | None:
    if isinstance(given, datetime):
        return given.date().isoformat()
    return given.isoformat() if isinstance(given, date) else given


def progress(stream: TextIO | None = None, color: bool | None = None) -> ProgressBars:
    """Return a callback for `run` and `verify` that shows bars: in a notebook, or on a terminal with the extra `cli`.

    Elsewhere it prints a line per stage.

    Args:
        stream: where to write; if None, the notebook, or else stderr.
        color: False for bars without color; None follows the terminal and NO_COLOR.
    """
    return ProgressBars(stream, color)


@contextmanager
def _closed(report: Report) -> Iterator[None]:
    """Close progress bars at the end of the block, also after an error: they control the terminal."""
    try:
        yield
    finally:
        if isinstance(report, ProgressBars):
            report.close()


def runs(
    config: Configuration, dataset: str | None = None, unreadable: Callable[[str], None] | None = None
) -> list[Manifest]:
    """Return the manifests of all runs, oldest first within a dataset.

    `unreadable` is called with a message for each manifest that is damaged or of another version; without it,
    the first such manifest raises an error.
    """
    store = _RunStore.of(config.settings)
    if dataset:
        _live.check_dataset(dataset, _live.known_datasets(config.settings, store))
    names = [dataset] if dataset else store.datasets()
    return [run for name in names for run in store.manifests(name, unreadable)]


def run_states(
    config: Configuration, dataset: str | None = None, warn: Callable[[str], None] | None = None
) -> list[RunState]:
    """Return the runs as `runs` does, with their state: interrupted or not, and how many of their tables are live.

    `warn` is called with a message for each manifest that is damaged, and if the catalog cannot be read.
    """
    return _run_states.run_states(config.settings, dataset, warn)


def run_state(config: Configuration, run_id: str, warn: Callable[[str], None] | None = None) -> RunState:
    """Return one run with its state; see `run_states`."""
    return _run_states.run_state(config.settings, run_id, warn)


def tables(config: Configuration, dataset: str | None = None) -> list[LiveDataset]:
    """Return the live tables of one dataset, or of all: the run, rows, bytes and files of each."""
    return _live.tables(config.settings, dataset)


def connect(config: Configuration) -> DuckDBPyConnection:
    """Return a read-only DuckDB connection on the catalog; its default schema has the published tables.

    It shows the tables of this moment: connect again to see those of a later run.

    Raises:
        MissingDependencyError: DuckDB is not installed.
        CatalogError: nothing was published yet, or DuckDB cannot read the tables.
    """
    module = duckdb_module("bucketwheel.catalogs.duckdb_reader", "api.connect")
    connection: DuckDBPyConnection = module.connect(config.settings, lambda: _plugins.catalog(config.settings))
    return connection


def example_query(config: Configuration, run: Manifest) -> str | None:
    """Return a query of a table that a run published, as a command to paste into a shell or as SQL."""
    return _example_query(config.settings, run)


def catalog_text(config: Configuration) -> str:
    """Return where the catalogs of the tables are and the names of their databases."""
    return _catalog_text(config.settings)


def run_ids(config: Configuration, dataset: str | None = None) -> list[str]:
    """Return the ids of the runs of one or all datasets, newest first; reads no manifest."""
    store = _RunStore.of(config.settings)
    names = [dataset] if dataset else store.datasets()
    return sorted((run_id for name in names for run_id in store.ids(name)), key=_started_at, reverse=True)


def manifest(config: Configuration, run_id: str) -> Manifest:
    """Return the manifest of a run."""
    return _RunStore.of(config.settings).find(run_id)


def manifest_document(config: Configuration, run: Manifest) -> dict[str, Any]:
    """Return a manifest as JSON; it has keys only if the run recorded them and `privacy.show_keys` is set."""
    return _manifest_document(run, config.settings.privacy.show_keys)


def summary(config: Configuration, run_id: str) -> Summary | None:
    """Return the summary of a run; None while it runs, or if it was killed."""
    store = _RunStore.of(config.settings)
    run = store.find(run_id)
    return store.summary(run.dataset, run.run_id)


def verify(config: Configuration, run_id: str, progress: Report = lambda _: None) -> VerifyResult:
    """Read footers and keys of the files of a run and compare them with its manifest."""
    with _closed(progress):
        return _reverify.verify(config.settings, run_id, progress)


def rollback(
    config: Configuration,
    run_id: str,
    progress: Report = lambda _: None,
    reason: str = "",
    force: bool = False,
) -> PublishResult:
    """Publish the tables of an earlier run again, all of them or none, and mark later runs as withdrawn.

    `force` also publishes a run that is itself withdrawn.
    """
    return _rollback.rollback(config.settings, run_id, progress, reason=reason, force=force)


def previous_run(config: Configuration, dataset: str) -> str:
    """Return the id of the newest earlier run that published a table of the newest live run of a dataset."""
    return _rollback.previous_run(config.settings, dataset)


def unmark(config: Configuration, run_id: str) -> Withdrawal:
    """Remove the mark of a withdrawn run, so that it may be published again; return the mark."""
    return _rollback.unmark(config.settings, run_id)


def expirable(
    config: Configuration,
    keep: int,
    datasets: Sequence[str] = (),
    progress: Report = lambda _: None,
    forget_catalogs: Sequence[str] = (),
) -> list[Expired]:
    """Return what `expire` would delete now; delete nothing."""
    return _expire.expirable(config.settings, keep, datasets, progress, forget_catalogs)


def expire(
    config: Configuration,
    keep: int,
    datasets: Sequence[str] = (),
    progress: Report = lambda _: None,
    only: Sequence[str] | None = None,
    forget_catalogs: Sequence[str] = (),
) -> list[Expired]:
    """Delete old runs that no catalog table points to, except the newest `keep`; with `only`, just these run ids.

    `forget_catalogs` has the ids of catalogs that no longer exist; the error about a catalog that cannot be read
    contains its id.
    """
    return _expire.expire(config.settings, keep, datasets, progress, only, forget_catalogs)


def catalog_rebuild_plan(
    config: Configuration, datasets: Sequence[str] = (), progress: Report = lambda _: None
) -> Rebuild:
    """Return what `catalog_rebuild` would change now; change nothing."""
    return _rebuild.rebuild_plan(config.settings, datasets, progress)


def catalog_rebuild(
    config: Configuration, datasets: Sequence[str] = (), progress: Report = lambda _: None, replace: bool = False
) -> Rebuild:
    """Make the catalog again from the manifests: every table as it was last published.

    A damaged catalog file is moved aside. Tables that show another run now are changed only with `replace`.
    """
    return _rebuild.rebuild(config.settings, datasets, progress, replace=replace)


def report(config: Configuration, run_id: str) -> str:
    """Return one self-contained HTML page about a run."""
    return _page(config, run_state(config, run_id))


def write_report(config: Configuration, run_id: str, to: Path | str | None = None) -> Path:
    """Write the HTML page about a run; return its path: `to`, or `bucketwheel-<run id>.html` in this directory."""
    state = run_state(config, run_id)
    return _write_text(_page(config, state), to or f"bucketwheel-{state.manifest.run_id}.html")


def _page(config: Configuration, state: RunState) -> str:
    run = state.manifest
    command = _advice.command(config, ["bucketwheel", "run", run.dataset])
    before = _published_before(config, run)
    show_keys = config.settings.privacy.show_keys
    return _report.render(run, cost(config, run), state.status_text, state.live_text, command, before, show_keys)


def _published_before(config: Configuration, run: Manifest) -> Manifest | None:
    """Return the run that a verified run was compared with; None if there is none, or it is gone or damaged."""
    drift = run.verify.drift if "verify" in run.stages else None
    try:
        before = None if drift is None else _RunStore.of(config.settings).load(run.dataset, drift.run_id)
        # Damaged results fail here rather than in the middle of the page.
        return before if before and before.results() else None
    except _BucketwheelError:
        return None


def cost(config: Configuration, run: Manifest) -> Cost | None:
    """Return the cost of a run at the configured prices; None if nothing has a price."""
    return _run_cost.cost_of(run, config.settings)


def sample(directory: Path | str, spec: SampleSpec) -> Sample:
    """Write realistic sample data with a mapping."""
    return write_sample(Path(directory), spec)


def doctor(
    env: str = "local",
    directory: Path | str | None = None,
    overrides: Mapping[str, Any] | Sequence[tuple[str, Any, str]] = (),
    environ: Mapping[str, str] | None = None,
    seconds: float = 30,
) -> list[Finding]:
    """Check everything that runs and jobs need, within `seconds`; other arguments as for `load`."""
    return _doctor.diagnose(lambda: load(env, directory, overrides, environ), seconds)


def first_run(
    env: str = "local",
    directory: Path | str | None = None,
    overrides: Mapping[str, Any] | Sequence[tuple[str, Any, str]] = (),
    environ: Mapping[str, str] | None = None,
) -> list[FirstRunItem]:
    """Return what to try on the first run on AWS, with the names of a configuration; arguments as for `load`."""
    config = load(env, directory, overrides, environ)
    return _first_run.items(_Deployment(config.settings, config.env))
