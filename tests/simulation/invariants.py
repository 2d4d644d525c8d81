"""What must hold at every step of a schedule, and after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bucketwheel.pipeline.run import RunOutcome
from bucketwheel.runs.manifest import PublishResult
from simulation.s3 import BUCKET
from simulation.scheduler import Actor, Violation
from simulation.world import DATA, DATASET, METADATA, MIN_AGE_HOURS, World, contents, settings

_AGE = timedelta(hours=MIN_AGE_HOURS)
# Notes of errors that list tables which show another run than the command wanted.
_REPORTED = ("may still show run", "could not be restored", "cannot tell whether table")


class Judge:
    """Checks each change of S3 and Glue when it happens, and the world at rest."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._token = ""
        self._epoch = 0
        # By table: the epoch of the last change, and that of the last reported success with its command.
        self._changed: dict[str, int] = {}
        self._confirmed: dict[str, tuple[int, str]] = {}
        self._hidden: dict[str, datetime] = {}
        world.bucket.written = self.written
        world.bucket.deleted = self.deleted
        world.tables.changed = self.changed

    def written(self, actor: Actor, key: str) -> None:
        """Note who takes the lease: every new token begins a new epoch."""
        if key != f"{METADATA}lease.json":
            return
        token = json.loads(self._world.bucket.objects[key].content).get("token", "")
        if token and token != self._token:
            self._epoch += 1
            actor.epoch = self._epoch
        self._token = token or self._token

    def changed(self, actor: Actor, name: str, before: Mapping[str, Any] | None) -> None:
        """Check a table that has changed: its files exist, and no later holder's success is undone."""
        now = self._world.tables.tables.get(name)
        if before is not None and (now is None or _location(now) != _location(before)):
            self._hidden[_location(before)] = self._world.scheduler.time
        epoch, winner = self._confirmed.get(name, (0, ""))
        if epoch > actor.epoch:
            raise Violation(f"{actor.name} changed table {name} after {winner}, a later holder, had reported success")
        self._changed[name] = actor.epoch
        if now is not None:
            self._check_files(name, _location(now))

    def deleted(self, actor: Actor, key: str) -> None:
        """Check a deletion: no table shows the file, and no query that began recently can be reading it."""
        if not key.startswith(DATA):
            return
        directory = key.rpartition("/")[0]
        for name, table in self._world.tables.tables.items():
            if _location(table) == directory:
                raise Violation(f"{actor.name} deleted {key}, which table {name} shows")
        hidden = self._hidden.get(directory)
        if hidden is not None and self._world.scheduler.time - hidden < _AGE:
            raise Violation(f"{actor.name} deleted {key}, which a table showed until {hidden:%d %H:%M:%S}")

    def judge_success(self, actor: Actor) -> None:
        """Check what a successful command reported: its tables show its run, unless a later holder changed them."""
        for table in _published(actor.result):
            shown = self._world.tables.tables.get(table.name)
            location = table.location.removeprefix(f"s3://{BUCKET}/")
            if self._changed.get(table.name, 0) > actor.epoch:
                continue
            if shown is None or _location(shown) != location:
                raise Violation(
                    f"{actor.name} reported success, but table {table.name} shows {shown and _location(shown)}"
                )
            self._confirmed[table.name] = (actor.epoch, actor.name)

    def check_rest(self, actors: list[Actor]) -> None:
        """Check the world after all commands have ended."""
        for name, table in self._world.tables.tables.items():
            self._check_files(name, _location(table))
        if any(actor.killed or _is_reported(actor.error) for actor in actors):
            return
        self._check_mix("nobody was killed and no error reported it")

    def _check_mix(self, why: str) -> None:
        catalog = settings().catalog
        for prefix in (catalog.staged_prefix, catalog.final_prefix):
            shown = {
                name: _location(table).rpartition("/")[2]
                for name, table in self._world.tables.tables.items()
                if name.startswith(prefix)
            }
            if len(set(shown.values())) > 1:
                raise Violation(f"the tables show a mix at rest, although {why}: {shown}")

    def check_nothing_left(self) -> None:
        """Check after quiet and a last `expire`: nothing of a run that nobody knows."""
        objects = self._world.bucket.objects
        runs = f"{METADATA}runs/"
        known = {key.split("/")[4] for key in objects if key.startswith(runs) and key.endswith("/manifest.json")}
        for key in sorted(objects):
            parts = key.split("/")
            owner = parts[4] if key.startswith(runs) else parts[3] if key.startswith(DATA) else ""
            if key.startswith(f"{DATA}metadata/"):
                continue
            if owner and owner not in known:
                raise Violation(f"{key} is left over: no manifest of run {owner} exists")
        for key, *_ in self._world.bucket.uploads.values():
            if key.startswith(DATA) and key.split("/")[3] not in known:
                raise Violation(f"an unfinished upload of {key} is left over")

    def check_repaired(self) -> None:
        """Check after a last successful publication: no mix."""
        self._check_mix("a last publication succeeded")

    def _check_files(self, name: str, location: str) -> None:
        date = location.rpartition("/")[2][:10]
        table = location.split("/")[-2]
        for owner, file in contents(date):
            stored = self._world.bucket.objects.get(f"{location}/{file}")
            if owner == table and (stored is None or stored.content != contents(date)[owner, file]):
                raise Violation(f"table {name} shows {location}, but {file} is missing there")


def _location(table: Mapping[str, Any]) -> str:
    location: str = table["StorageDescriptor"]["Location"]
    return location.removeprefix(f"s3://{BUCKET}/").rstrip("/")


def _published(result: Any) -> list[Any]:
    if isinstance(result, PublishResult):
        return list(result.tables)
    if isinstance(result, RunOutcome) and result.changed:
        results = result.manifest.results().values()
        return [table for each in results if isinstance(each, PublishResult) for table in each.tables]
    return []


def _is_reported(error: BaseException | None) -> bool:
    notes = "\n".join(getattr(error, "__notes__", ()))
    return any(text in notes for text in _REPORTED)


__all__ = ["DATASET", "Judge"]
