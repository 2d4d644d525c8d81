"""The simulated world of a schedule: a source with snapshots, published runs, and the commands that work on them."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bucketwheel.contracts import BucketCheck, BucketJob, EngineStatistics
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback, unmark
from bucketwheel.pipeline.run import run
from bucketwheel.pipeline.services import RunRequest
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.settings import Settings
from bucketwheel.storage import Storage
from bucketwheel.system import System, use
from simulation.glue import DATABASE, SimulatedGlue, Tables
from simulation.s3 import BUCKET, Bucket, S3Object, SimulatedS3
from simulation.scheduler import LEASE_SECONDS, Actor, Inline, Scheduler, SimulatedClock, Style

DATASET = "people"
TABLES = ("people_1", "people_2")
JANUARY, FEBRUARY, MARCH = "2025-01-31", "2025-02-28", "2025-03-31"
MIN_AGE_HOURS = 24
DATA = f"target/{DATASET}/"
METADATA = f"target/_bucketwheel/{DATASET}/"
_CALM = Style(switch=0)


@functools.cache
def settings() -> Settings:
    """Return the settings of every command."""
    source = f"s3://{BUCKET}/in"
    return Settings.model_validate(
        {
            "target": f"s3://{BUCKET}/target",
            "threads": 1,
            "memory": "256MB",
            "buckets": {"count": 2},
            "lease": {"ttl_seconds": LEASE_SECONDS},
            "expire": {"min_age_hours": MIN_AGE_HOURS},
            "aws": {"region": "us-east-1"},
            "catalog": {"kind": "glue", "path": None, "database": DATABASE, "column_statistics": "none"},
            "datasets": {DATASET: {"source": source, "mapping": f"{source}/mapping.csv", "key": "id"}},
        }
    )


@dataclass(frozen=True)
class Template:
    """A state from which schedules start: objects, tables, run ids by snapshot."""

    objects: dict[str, S3Object]
    tables: dict[str, dict[str, Any]]
    run_ids: dict[str, str]


class World:
    """S3, Glue and the systems of the actors of one schedule."""

    def __init__(self, scheduler: Scheduler, start: Template | None = None, checked: bool = False) -> None:
        self.scheduler = scheduler
        self.bucket = Bucket(dict(start.objects) if start else {})
        # Stored definitions are never changed in place.
        self.tables = Tables(dict(start.tables) if start else {}, {DATABASE} if start else set())
        self.tables.versions = max((int(table["VersionId"]) for table in self.tables.tables.values()), default=0)
        self.run_ids = dict(start.run_ids) if start else {}
        self._checked = checked

    def system(self, actor: Actor) -> System:
        """Return the system of one actor."""
        clients: dict[str, Any] = {
            "s3": SimulatedS3(self.bucket, self.scheduler, actor),
            "glue": SimulatedGlue(self.tables, self.scheduler, actor, self._checked),
        }
        return System(
            clock=SimulatedClock(self.scheduler, actor),
            new_id=self.scheduler.new_id,
            random=self.scheduler.random.random,
            pool=Inline,
            client=clients.__getitem__,
            backends={("engines", "arrow"): TinyEngine} if self.run_ids else {},
        )

    def acting(self, actor: Actor) -> AbstractContextManager[System]:
        """Return the block in which the command of an actor runs."""
        return use(self.system(actor))

    def calmly(self, command: Callable[[], Any], name: str = "setup") -> Any:
        """Run a command alone and without faults, and return its result."""
        style, self.scheduler.style = self.scheduler.style, _CALM
        try:
            with self.acting(Actor(name, command)):
                return command()
        finally:
            self.scheduler.style = style

    def put(self, key: str, content: bytes) -> None:
        """Write an object of the source."""
        SimulatedS3(self.bucket, self.scheduler, Actor("source", object)).put_object(
            Bucket=BUCKET, Key=key, Body=content
        )

    def snapshot(self, date: str) -> None:
        """Write a snapshot of the source."""
        columns: dict[str, list[Any]] = {"id": [f"{date} {number}" for number in range(6)]}
        for name in TABLES:
            columns[f"{name}_mark"] = [date] * 6
        stream = io.BytesIO()
        pq.write_table(pa.table(columns), stream)
        self.put(f"in/snapshot_dt={date}/part-0.parquet", stream.getvalue())


class TinyEngine:
    """An engine that writes the files that the real engine wrote once for the same snapshot."""

    def __init__(self, _settings: Settings) -> None:
        pass

    def bucket(
        self, job: BucketJob, done: Collection[int], _advance: Callable[[int, int], None]
    ) -> Iterator[BucketOutcome]:
        """See `contracts.Engine.bucket`."""
        date = _date_of(job.tables[0].directory)
        storage = Storage(job.storage)
        directories = {table.name: table.directory for table in job.tables}
        for outcome in outcomes(date):
            if outcome.bucket in done:
                continue
            for file in outcome.files:
                with storage.create(f"{directories[file.table]}/{file.name}", job.scratch) as stream:
                    stream.write(contents(date)[file.table, file.name])
            yield outcome

    def verify(
        self, _job: BucketJob, written: Sequence[BucketOutcome], _advance: Callable[[int, int], None]
    ) -> Iterator[BucketCheck]:
        """See `contracts.Engine.verify`."""
        for outcome in written:
            sizes = {table: sum(file.bytes for file in outcome.files if file.table == table) for table in TABLES}
            yield BucketCheck(outcome.bucket, outcome.rows, outcome.key_checksum, sizes)

    def statistics(self) -> EngineStatistics:
        """See `contracts.Engine.statistics`."""
        return EngineStatistics()


def _date_of(directory: str) -> str:
    return directory.rpartition("/")[2][: len(JANUARY)]


def run_new() -> Any:
    """Run all stages on the latest snapshot."""
    return run(settings(), RunRequest(DATASET))


def run_at(date: str) -> Any:
    """Run all stages on a snapshot, also on one that a rollback withdrew."""
    return run(settings(), RunRequest(DATASET, snapshot_dt=date, force=True))


def resume() -> Any:
    """Resume the newest run."""
    return run(settings(), RunRequest(DATASET, resume="last"))


def publish() -> Any:
    """Publish the newest run, as a job of its own."""
    return run(settings(), RunRequest(DATASET, stages=("register", "ctas")))


def roll_back(run_id: str) -> Any:
    """Publish an earlier run again."""
    return rollback(settings(), run_id, reason="simulated", force=True)


def expire_all_but(keep: int) -> Any:
    """Delete old runs."""
    return expire(settings(), keep, [DATASET])


def remove_mark(run_id: str) -> Any:
    """Allow the data of a withdrawn run again."""
    return unmark(settings(), run_id)


@functools.cache
def _built() -> tuple[Template, World]:
    """Return the state after January and February were published by the real engine, and its world."""
    scheduler = Scheduler(0, _CALM)
    world = World(scheduler)
    begin = scheduler.time
    scheduler.time = begin - timedelta(days=90)
    lines = [f"{name},{name}_mark" for name in TABLES]
    world.put("in/mapping.csv", "\n".join(["OMC_FLYWHEEL_TABLE,OMC_FLYWHEEL_COLUMN", *lines, ""]).encode())
    run_ids = {}
    for date in (JANUARY, FEBRUARY):
        world.snapshot(date)
        run_ids[date] = world.calmly(run_new).manifest.run_id
        scheduler.advance(30 * 24 * 3600)
    start = Template(dict(world.bucket.objects), deepcopy(world.tables.tables), run_ids)
    world.snapshot(MARCH)
    run_ids = {**run_ids, MARCH: world.calmly(run_new).manifest.run_id}
    world.run_ids = run_ids
    scheduler.time = begin
    return start, world


@functools.cache
def contents(date: str) -> dict[tuple[str, str], bytes]:
    """Return the files of a snapshot by table and name."""
    _, world = _built()
    found = {}
    for key, stored in world.bucket.objects.items():
        if key.startswith(DATA) and (parts := key.removeprefix(DATA).split("/"))[1] == world.run_ids[date]:
            found[parts[0], parts[2]] = stored.content
    return found


@functools.cache
def outcomes(date: str) -> tuple[BucketOutcome, ...]:
    """Return the outcomes that the real engine had for a snapshot."""
    from bucketwheel.runs.store import RunStore

    _, world = _built()
    run_id = world.run_ids[date]
    manifest = world.calmly(lambda: RunStore.of(settings()).load(DATASET, run_id))
    found: tuple[BucketOutcome, ...] = manifest.bucket.outcomes
    return found


@functools.cache
def templates() -> dict[str, Template]:
    """Return the states from which schedules start, by name."""
    start, built = _built()
    march = {key: stored for key, stored in built.bucket.objects.items() if key.startswith("in/") and MARCH in key}
    fresh = replace(start, objects={**start.objects, **march})
    states = {"two runs are published": start, "a new snapshot has arrived": fresh}

    def after(begin: Template, command: Callable[[], Any]) -> Template:
        world = World(Scheduler(1, _CALM), begin)
        world.scheduler.advance(-20 * 24 * 3600)
        world.calmly(command)
        return Template(world.bucket.objects, world.tables.tables, begin.run_ids)

    january = start.run_ids[JANUARY]
    states["a rollback has withdrawn the newest run"] = after(start, lambda: roll_back(january))
    stages = ("discover", "split", "size", "bucket", "verify")
    states["a run is written, but not published"] = after(
        fresh, lambda: run(settings(), RunRequest(DATASET, stages=stages))
    )
    return states
