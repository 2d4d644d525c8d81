"""What this machine has to have for a run: backends, disk, memory, a place for the catalog."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bucketwheel import plugins
from bucketwheel.doctor.checks import Check, Seen, failed, ok, warning
from bucketwheel.engines.memory import HELD, memory_budget
from bucketwheel.errors import BucketwheelError
from bucketwheel.host import available_memory
from bucketwheel.pipeline.plan import Plan, plan
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.report.formatting import size
from bucketwheel.settings import PROMOTE, Settings
from bucketwheel.storage import is_s3


def checks(settings: Settings, far: bool) -> Iterator[Check]:
    """Yield what applies to these settings; `far` says that the engine may run on AWS alone."""
    yield Check("backends", lambda: _backends(settings, far))
    if settings.engine == "arrow":
        yield Check("memory", lambda: _memory(settings))
    if settings.engine == "arrow" or not is_s3(settings.target):
        yield Check("disk", lambda: _disk(settings))
    if settings.catalog.kind != "glue":
        yield Check("database", lambda: _catalog(settings))
    if settings.ctas.method not in (PROMOTE, "athena"):
        yield Check(settings.ctas.method, lambda: _executor(settings))


def _backends(settings: Settings, far: bool) -> Seen:
    for name in settings.stages:
        plugins.stage(name)
    plugins.check(settings, engine=not far, catalog=True, executor=True)
    return ok(f"engine {settings.engine}, catalog {settings.catalog.kind}, ctas {settings.ctas.method}")


def _memory(settings: Settings) -> Seen:
    budget, limit, free = memory_budget(settings), available_memory(), psutil.virtual_memory().available
    found = f"budget {size(budget)} of {size(limit)} that this process may use, {size(free)} free now"
    if budget > limit:
        return failed(found, f"set memory to {size(limit // 2)} or less, or to auto")
    if budget > free:
        return warning(found, "other programs hold memory: end some, or set a lower memory")
    return ok(found)


@dataclass(frozen=True)
class _Need:
    """Bytes that a run is going to write to a local directory, and the file system that the directory is in."""

    name: str
    given: str
    bytes: int

    @property
    def path(self) -> Path:
        return _absolute(self.given)

    @property
    def home(self) -> Path:
        return next(part for part in (self.path, *self.path.parents) if part.exists())


def _disk(settings: Settings) -> Seen:
    plans, problems = _plans(settings)
    needs = list(_needs(settings, plans))
    # Directories of one file system share what is free there.
    wanted: dict[int, int] = {}
    for need in needs:
        device = need.home.stat().st_dev
        wanted[device] = wanted.get(device, 0) + need.bytes
    parts, short = [], []
    for need in needs:
        free = shutil.disk_usage(need.home).free
        parts.append(f"{need.name} {need.given}: {size(free)} free, takes about {size(need.bytes)}")
        if free < wanted[need.home.stat().st_dev]:
            short.append(need.name)
        elif not os.access(need.home, os.W_OK):
            return failed(f"{need.name} {need.given}: may not be written", "give this user access, or name another")
    found = "; ".join(parts)
    if short:
        return failed(found, f"free some space, or move {' and '.join(short)}; `expire` deletes old runs")
    if problems:
        return warning(f"{found}; not counted: {'; '.join(problems)}", "look at it with `bucketwheel plan`")
    return ok(found)


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
        written = sum(table.bytes for found in plans for table in found.size.tables)
        yield _Need("target", settings.target, written)
    if settings.engine == "arrow":
        scratch = settings.storage.spill_directory or tempfile.gettempdir()
        yield _Need("scratch", scratch, _spilled(settings, plans))


def _absolute(path: str) -> Path:
    return Path(path.removeprefix("file://")).absolute()


def _spilled(settings: Settings, plans: list[Plan]) -> int:
    """Return what the largest dataset may spill; datasets are run one after the other."""
    held = int(memory_budget(settings) * HELD)
    decoded = [found.discover.rows * found.size.decoded_bytes_per_row for found in plans]
    return max((total - held for total in decoded if total > held), default=0)


def _catalog(settings: Settings) -> Seen:
    plugins.catalog(settings).check()
    path = settings.catalog.path
    if settings.catalog.kind != "duckdb" or path is None:
        return ok(f"catalog {settings.catalog.kind}, database {settings.catalog.database}")
    file = _absolute(path)
    home = next(part for part in file.parents if part.exists())
    if not os.access(home, os.W_OK):
        return failed(f"{file}: {home} may not be written", "give this user access, or set catalog.path")
    state = "there" if file.exists() else "made by the first run"
    return ok(f"{path}: {state}, schema {settings.catalog.database}")


def _executor(settings: Settings) -> Seen:
    plugins.executor(settings).check()
    return ok(f"{settings.ctas.method} answers")
