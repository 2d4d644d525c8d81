"""Build the services of a command from its settings and its request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from bucketwheel import plugins
from bucketwheel.contracts import Progress, Report, Services
from bucketwheel.errors import ConfigError, LeaseError, SelectionError, correction, did_you_mean
from bucketwheel.lease import Lease
from bucketwheel.pipeline.log import log_failure, logged
from bucketwheel.pipeline.settle import settle
from bucketwheel.runs.manifest import BucketOutcome, Manifest
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import DatasetSettings, Settings, resolved_layouts
from bucketwheel.storage import Storage, is_s3
from bucketwheel.storage.locations import is_below
from bucketwheel.system import system


@dataclass(frozen=True)
class RunRequest:
    """The request of a command.

    Attributes:
        dataset: name of a configured dataset.
        stages: the selection; if empty, the configured stages.
        snapshot_dt: the snapshot; if None, the latest complete one.
        tables_filter: tables to write; if empty, all.
        resume: a run id, `last`, or None for a new run.
        force: publish data that a rollback withdrew.
        later_stages: stages that other jobs will run on this run; None assumes those of the configuration.
        command: returns the command line of the user, for the advice after a failure.
    """

    dataset: str
    stages: tuple[str, ...] = ()
    snapshot_dt: str | None = None
    tables_filter: tuple[str, ...] = ()
    resume: str | None = None
    command: Callable[[], str] = str
    force: bool = False
    later_stages: tuple[str, ...] | None = None


def selected_stages(settings: Settings, stages: Sequence[str], option: str = "--stages") -> list[str]:
    """Return the stages that an option selects, in pipeline order; all of them for an empty selection.

    Raises:
        SelectionError: a stage is not configured.
    """
    for name in stages:
        if name not in settings.stages:
            hint = did_you_mean(name, settings.stages)
            raise SelectionError(
                f"no stage {name!r}; {hint}stages: {', '.join(settings.stages)}",
                instead=correction(name, name, settings.stages),
                fix=f"Fix {option}",
            )
    return [name for name in settings.stages if not stages or name in stages]


def dataset_settings(settings: Settings, dataset: str) -> DatasetSettings:
    """Return the settings of one dataset.

    Raises:
        SelectionError: it is not configured; the message lists the configured datasets.
    """
    if dataset not in settings.datasets:
        known = ", ".join(settings.datasets) or "none"
        raise SelectionError(
            f"no dataset {dataset!r}; {did_you_mean(dataset, settings.datasets)}configured: {known}",
            instead=correction(dataset, dataset, settings.datasets),
        )
    return settings.datasets[dataset]


class NoLease:
    """Replaces the lease and the checkpoints in commands that only read."""

    def guard(self) -> AbstractContextManager[None]:
        """Refuse."""
        raise LeaseError("this command holds no lease and may not publish")

    def load(self) -> Sequence[BucketOutcome]:
        """Return nothing."""
        return []

    def save(self, outcome: BucketOutcome) -> None:
        """Refuse."""
        raise LeaseError(f"this command holds no lease and may not write bucket {outcome.bucket}")

    def clear(self) -> None:
        """Refuse."""
        raise LeaseError("this command holds no lease and may not delete checkpoints")


def make_services(
    settings: Settings,
    request: RunRequest,
    report: Report,
    runs: RunStore | None = None,
) -> Services:
    """Return services without a lease; each backend is created once, on first use.

    `runs` is the run store, if the command has opened one already.

    Raises:
        SelectionError: the dataset is not configured.
        ConfigError: source and target contain each other, or catalog, layouts and executor do not fit.
    """
    _check_layouts(settings)
    plugins.check_copies(settings)
    runs = runs or RunStore.of(settings)
    services = Services(
        settings=settings,
        dataset=request.dataset,
        source=dataset_settings(settings, request.dataset),
        storage=runs.storage,
        runs=runs,
        engine=cache(partial(plugins.engine, settings)),
        catalog=cache(partial(plugins.catalog, settings)),
        catalog_class=partial(plugins.catalog_class, settings),
        executor=cache(partial(plugins.executor, settings)),
        fence=NoLease(),
        checkpoints=NoLease(),
        report=logged(report),
        clock=system().clock,
        snapshot_dt=request.snapshot_dt,
        tables_filter=request.tables_filter,
    )
    _check_paths(services)
    return services


def _check_layouts(settings: Settings) -> None:
    """Check that catalog.kind `iceberg` gets only Iceberg layouts."""
    other = next((layout for layout in resolved_layouts(settings) if layout.hash != "iceberg"), None)
    if settings.catalog.kind == "iceberg" and other is not None:
        source = f"the hash of layout {other.name!r}" if other.name else "buckets.hash"
        raise ConfigError(
            f"catalog.kind is iceberg, but {source} is {other.hash}; set buckets.hash=iceberg, or another "
            "catalog.kind"
        )


def _check_paths(services: Services) -> None:
    target = _real(services.storage, services.settings.target)
    source = _real(services.storage, services.source.source)
    for inner, outer, text in (
        (target, source, "the target is inside the source"),
        (source, f"{target}/{services.dataset}", "the source is inside the output of a run"),
    ):
        if is_below(inner, outer):
            raise ConfigError(f"{text}: target {target}, source {source}; choose another target")


def _real(storage: Storage, location: str) -> str:
    absolute = storage.absolute(location)
    return absolute if is_s3(absolute) else str(Path(absolute).resolve())


def draft_manifest(services: Services, stages: Sequence[str]) -> Manifest:
    """Return the manifest of a run that has no id yet, for the stages that only read."""
    return Manifest(
        run_id="",
        dataset=services.dataset,
        created=services.clock.now().isoformat(timespec="seconds"),
        tables_filter=services.tables_filter,
        planned_stages=tuple(stages),
        fingerprint={},
        versions={},
        runtime="",
    )


@contextmanager
def leased(
    settings: Settings,
    request: RunRequest,
    report: Report,
    runs: RunStore | None = None,
) -> Iterator[tuple[Services, Lease]]:
    """Hold the lease of the dataset while the block runs; yield services that check the lease, and the lease.

    Finishes or undoes a publication that an earlier command left in the middle.

    Raises:
        LeaseError: another run holds the dataset.
        BucketwheelError: see `make_services`.
    """
    services = make_services(settings, request, report, runs)
    directory = services.runs.metadata_directory(request.dataset)

    def warn(text: str) -> None:
        services.report(Progress(services.dataset, "", "warning", message=text))

    ttl = settings.lease.ttl_seconds
    with Lease(directory, ttl, services.clock, storage=services.storage, warn=warn) as lease:
        services = replace(services, fence=lease)
        settle(services)
        yield services, lease


@contextmanager
def maintained(
    settings: Settings,
    dataset: str,
    report: Report,
    runs: RunStore | None = None,
) -> Iterator[Services]:
    """Hold the dataset for a command other than `run`, as `leased` does, and log a failure."""
    with log_failure(dataset), leased(settings, RunRequest(dataset), report, runs) as (services, _):
        services.runs.sweep(dataset)
        yield services
