"""Check that the source of every dataset has a snapshot and that its mapping fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from bucketwheel.contracts import Services
from bucketwheel.doctor.checks import Check, CheckResult, failed, of_error, ok, warning
from bucketwheel.errors import BucketwheelError, MissingDependencyError
from bucketwheel.formatting import counted
from bucketwheel.optional import aws_module
from bucketwheel.pipeline.other_catalogs import left_behind
from bucketwheel.pipeline.plan import plan
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.pipeline.settle import catalog_tables, publications
from bucketwheel.runs.store import RunStore
from bucketwheel.settings import Settings, resolved_layouts
from bucketwheel.stages.snapshots import choose_snapshot
from bucketwheel.stages.split import read_mapping
from bucketwheel.stages.task_memory import shortage

# Maximum number of earlier runs to read for the sizes of a run.
_MOST_RUNS = 5


def checks(settings: Settings, env: str, remote_only: bool) -> Iterator[Check]:
    """Yield one check per dataset; with `remote_only` the input is far away, and only its existence is checked."""
    if not settings.datasets:
        yield Check("datasets", _none)
    for name in settings.datasets:
        look = partial(_exists, settings, env, name) if remote_only else partial(_planned, settings, name)
        yield Check(f"dataset {name}", partial(_with_publication, settings, name, look))


def _with_publication(settings: Settings, name: str, look: Callable[[], CheckResult]) -> CheckResult:
    """Return the result of `look`, and a warning about an interrupted publication or a catalog left behind."""
    runs = RunStore.of(settings)
    try:
        interrupted = publications(settings, runs, name, lambda: catalog_tables(settings))
        left = left_behind(settings, runs, name)
    except BucketwheelError:
        interrupted, left = [], []  # Only the jobs' role needs access to the metadata of runs.
    broken = [each for each in interrupted if not each.running]
    result = look()
    if not broken and not left:
        return result
    texts = [text.removeprefix(f"{name}: ").partition("; ") for text in left]
    found = "; ".join([*(each.found for each in broken), *(text for text, _, _ in texts), result.found])
    fixes = [*(f"finish it with: {each.command}" for each in broken[:1]), *(fix for _, _, fix in texts), result.todo]
    todo = "; ".join(filter(None, fixes))
    return failed(found, todo) if result.state == "failed" else warning(found, todo)


def _none() -> CheckResult:
    return failed(
        "no dataset is configured",
        "add one to the configuration: `datasets: {NAME: {source: DIRECTORY, key: COLUMN, mapping: FILE}}`",
    )


def _exists(settings: Settings, env: str, name: str) -> CheckResult:
    services = make_services(settings, RunRequest(name), lambda _: None)
    try:
        snapshot_dt, location = choose_snapshot(services, [])
        if services.source.mapping:
            read_mapping(services.storage, services.source.mapping)
    except BucketwheelError as error:
        if not isinstance(error, MissingDependencyError) and _is_denied(error):
            return warning(str(error).partition("; ")[0], "only the jobs' role needs access; check it there")
        raise
    problem, todo = _memory(services, env)
    found = "; ".join(filter(None, (f"snapshot {snapshot_dt} in {location}", problem)))
    return warning(found, todo) if todo else ok(found)


def _memory(services: Services, env: str) -> tuple[str, str]:
    """Return a shortage of memory and its fix, from the sizes of the newest run that has written its buckets.

    Both are empty if there is none. Without such a run, the first says how to compare memory, and there is no fix.
    """
    try:
        runs = islice(services.runs.newest_first(services.dataset, unreadable=lambda _: None), _MOST_RUNS)
        run = next((run for run in runs if "bucket" in run.stages), None)
    except BucketwheelError:
        return "", ""  # Only the jobs' role needs access to the metadata of runs.
    if run is None:
        command = f"bucketwheel plan {services.dataset} --env {env}"
        return f"memory is not compared before the first run; `{command}` compares it", ""
    first, *_ = layouts = resolved_layouts(services.settings)
    # A run that was written before `layouts` or `readers` were set has one layout without a name.
    by_name = {"": first, **{layout.name: layout for layout in layouts}}
    for before in run.size.layouts:
        layout = by_name.get(before.name)
        if layout is None:
            continue  # The next run will not write it.
        rows, count = max((outcome.rows for outcome in run.bucket.of_layout(before)), default=0), before.bucket_count
        if isinstance(layout.buckets, int):
            rows, count = round(rows * count / layout.buckets), layout.buckets
        text = shortage(services.settings, run.discover, run.split, count, run.size.slices, layout, rows)
        if text is not None:
            problem, _, todo = text.partition("; ")
            return f"{problem} (sizes of run {run.run_id})", todo
    return "", ""


def _is_denied(error: BaseException | None) -> bool:
    denied = aws_module("bucketwheel.aws.errors", "doctor").is_denied
    return error is not None and (denied(error) or _is_denied(error.__cause__))


def _planned(settings: Settings, name: str) -> CheckResult:
    planned = plan(settings, RunRequest(name))
    snapshot = planned.discover
    tables = counted(len(planned.size.tables), "table")
    found = f"snapshot {snapshot.snapshot_dt}: {counted(snapshot.rows, 'row')}, {tables}"
    if planned.conflicts:
        problem, _, todo = planned.conflicts[0].rpartition(". ")
        return failed(f"{found}; {problem}", todo) if problem else of_error(BucketwheelError(todo))
    if planned.shared:
        problem, _, todo = planned.shared[0].rpartition(". ")
        return warning(f"{found}; {problem}", todo)
    return ok(found)
