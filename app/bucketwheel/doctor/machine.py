"""Checks of this machine: backends, disk, memory and the catalog."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bucketwheel import plugins
from bucketwheel.doctor.checks import Check, CheckResult, failed, ok, warning
from bucketwheel.engines.memory import memory_budget
from bucketwheel.engines.spill import spill_budget
from bucketwheel.errors import BucketwheelError
from bucketwheel.formatting import size_text
from bucketwheel.host import available_memory
from bucketwheel.pipeline.plan import Plan, plan
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.settings import PROMOTE, Settings, resolved_layouts
from bucketwheel.settings.layouts import catalog_kinds
from bucketwheel.storage import is_s3
from bucketwheel.storage.locations import absolute


def checks(settings: Settings, remote_only: bool) -> Iterator[Check]:
    """Yield the checks that apply to these settings; with `remote_only` the engine runs on AWS only."""
    yield Check("backends", lambda: _backends(settings, remote_only))
    if settings.engine == "arrow":
        yield Check("memory", lambda: _memory(settings))
    if settings.engine == "arrow" or not is_s3(settings.target):
        yield Check("disk", lambda: _disk(settings))
    if settings.catalog.kind not in ("glue", "iceberg"):
        yield Check("database", lambda: _catalog(settings))
    if "iceberg" in catalog_kinds(settings):
        yield Check("Iceberg catalog", lambda: _iceberg(settings))
    if settings.ctas.method not in (PROMOTE, "athena"):
        yield Check(settings.ctas.method, lambda: _executor(settings))


def _backends(settings: Settings, remote_only: bool) -> CheckResult:
    for name in settings.stages:
        plugins.stage(name, settings)
    plugins.check(settings, engine=not remote_only, catalog=True, executor=True)
    return ok(f"engine {settings.engine}, catalog {settings.catalog.kind}, ctas {settings.ctas.method}")


def _memory(settings: Settings) -> CheckResult:
    budget, limit, free = memory_budget(settings), available_memory(), psutil.virtual_memory().available
    description = (
        f"budget {size_text(budget)} of the {size_text(limit)} that this process may use, {size_text(free)} free now"
    )
    if budget > limit:
        return failed(description, f"set memory to {size_text(limit // 2)} or less, or to auto")
    if budget > free:
        return warning(description, "other programs use the memory: stop some, or set a lower memory")
    return ok(description)


@dataclass(frozen=True)
class _Need:
    """Bytes that a run will write to a local directory, and the file system of that directory."""

    name: str
    location: str
    bytes: int

    @property
    def path(self) -> Path:
        return _absolute(self.location)

    @property
    def existing(self) -> Path:
        return next(part for part in (self.path, *self.path.parents) if part.exists())


def _disk(settings: Settings) -> CheckResult:
    plans, problems = _plans(settings)
    needs = list(_needs(settings, plans))
    # Directories on the same file system share its free space.
    required: dict[int, int] = {}
    for need in needs:
        device = need.existing.stat().st_dev
        required[device] = required.get(device, 0) + need.bytes
    parts, short = [], []
    for need in needs:
        free = shutil.disk_usage(need.existing).free
        parts.append(f"{need.name} {need.location}: {size_text(free)} free, needs about {size_text(need.bytes)}")
        if free < required[need.existing.stat().st_dev]:
            short.append(need.name)
        elif not os.access(need.existing, os.W_OK):
            return failed(f"{need.name} {need.location}: is not writable", "give this user access, or choose another")
    description = "; ".join(parts)
    if short:
        return failed(description, f"free some space, or move {' and '.join(short)}; `expire` deletes old runs")
    if problems:
        return warning(f"{description}; not counted: {'; '.join(problems)}", "see `bucketwheel plan`")
    return ok(description)


def _plans(settings: Settings) -> tuple[list[Plan], list[str]]:
    plans, problems = [], []
    for name in settings.datasets:
        try:
            plans.append(plan(settings, RunRequest(name)))
        except BucketwheelError as error:
            problems.append(f"{name} ({str(error).splitlines()[0]})")
    return plans, problems


def _needs(settings: Settings, plans: list[Plan]) -> Iterator[_Need]:
    if not is_s3(settings.target):
        written = sum(table.bytes for each in plans for table in each.size.tables)
        yield _Need("target", settings.target, written)
    if settings.engine == "arrow":
        scratch = settings.storage.spill_directory or tempfile.gettempdir()
        yield _Need("scratch", scratch, _spilled(settings, plans))


def _absolute(path: str) -> Path:
    return Path(absolute(path))


def _spilled(settings: Settings, plans: list[Plan]) -> int:
    """Return the bytes that the largest dataset may spill; datasets run one after another."""
    held = spill_budget(settings)
    decoded = [each.discover.rows * each.size.decoded_bytes_per_row for each in plans]
    return max((total - held for total in decoded if total > held), default=0)


def _catalog(settings: Settings) -> CheckResult:
    plugins.catalog(settings).check()
    path = settings.catalog.path
    if all(layout.hash == "iceberg" for layout in resolved_layouts(settings)):
        return ok(f"catalog {settings.catalog.kind}: not used, every layout has the hash iceberg")
    if settings.catalog.kind != "duckdb" or path is None:
        return ok(f"catalog {settings.catalog.kind}, database {settings.catalog.database}")
    file = _absolute(path)
    directory = next(part for part in file.parents if part.exists())
    if not os.access(directory, os.W_OK):
        return failed(f"{file}: {directory} is not writable", "give this user access, or set catalog.path")
    state = "exists" if file.exists() else "the first run creates it"
    return ok(f"{path}: {state}, schema {settings.catalog.database}")


def _iceberg(settings: Settings) -> CheckResult:
    chosen = settings.model_copy(update={"catalog": settings.catalog.model_copy(update={"kind": "iceberg"})})
    plugins.catalog(chosen).check()
    namespace = settings.iceberg.namespace or settings.catalog.database
    return ok(f"{settings.iceberg.catalog} catalog, namespace {namespace}")


def _executor(settings: Settings) -> CheckResult:
    plugins.executor(settings).check()
    return ok(f"{settings.ctas.method} answers")
