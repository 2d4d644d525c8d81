"""Check that the source of every dataset has a snapshot and that its mapping fits."""

from __future__ import annotations

from collections.abc import Iterator

from bucketwheel.doctor.checks import Check, CheckResult, failed, ok, warning
from bucketwheel.errors import BucketwheelError, MissingDependencyError
from bucketwheel.formatting import counted
from bucketwheel.optional import aws_module
from bucketwheel.pipeline.plan import plan
from bucketwheel.pipeline.services import RunRequest, make_services, utc_now
from bucketwheel.settings import Settings
from bucketwheel.stages.snapshots import choose_snapshot
from bucketwheel.stages.split import read_mapping


def checks(settings: Settings, remote_only: bool) -> Iterator[Check]:
    """Yield one check per dataset; with `remote_only` the input is far away, and only its existence is checked."""
    if not settings.datasets:
        yield Check("datasets", _none)
    for name in settings.datasets:
        look = _exists if remote_only else _planned
        yield Check(f"dataset {name}", lambda look=look, name=name: look(settings, name))  # type: ignore[misc]


def _none() -> CheckResult:
    return failed(
        "no dataset is configured",
        "add one to the configuration: `datasets: {NAME: {source: DIRECTORY, key: COLUMN, mapping: FILE}}`",
    )


def _exists(settings: Settings, name: str) -> CheckResult:
    services = make_services(settings, RunRequest(name), lambda _: None, utc_now)
    try:
        snapshot_dt, location = choose_snapshot(services, [])
        if services.source.mapping:
            read_mapping(services.storage, services.source.mapping)
    except BucketwheelError as error:
        if not isinstance(error, MissingDependencyError) and _is_denied(error):
            return warning(str(error).partition("; ")[0], "only the jobs' role needs access; check it there")
        raise
    return ok(f"snapshot {snapshot_dt} in {location}")


def _is_denied(error: BaseException | None) -> bool:
    denied = aws_module("bucketwheel.aws.errors", "doctor").is_denied
    return error is not None and (denied(error) or _is_denied(error.__cause__))


def _planned(settings: Settings, name: str) -> CheckResult:
    planned = plan(settings, RunRequest(name))
    snapshot = planned.discover
    tables = counted(len(planned.size.tables), "table")
    return ok(f"snapshot {snapshot.snapshot_dt}: {counted(snapshot.rows, 'row')}, {tables}")
