"""Concurrent publishing of one dataset on S3 and Glue: the lease admits one writer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from cloud_support import Cloud

from aws_faults import Faults, faulty
from bucketwheel.aws import clients as aws_module
from bucketwheel.catalogs.glue import GlueCatalog
from bucketwheel.errors import BucketwheelError, LeaseError
from bucketwheel.pipeline.rollback import rollback
from runs_support import FEBRUARY, JANUARY, MARCH

RACES = 12
WAYS = ("run", "rollback")


@pytest.fixture
def faults(cloud: Cloud) -> Iterator[Faults]:
    with faulty(aws_module.client("glue", cloud.settings().aws)) as planned:
        yield planned


class Race:
    """Two writers that start at once; the first update waits until the other writer is refused."""

    def __init__(self, faults: Faults) -> None:
        self._start = threading.Barrier(2)
        self._answered = threading.Event()
        self.updates = 0
        faults.always("UpdateTable", self._hold)

    def _hold(self, _: Any) -> None:
        self.updates += 1
        assert self._answered.wait(30), "both writers were admitted"

    def run(self, publish: Callable[[], object]) -> BucketwheelError | None:
        self._start.wait(30)
        try:
            publish()
        except BucketwheelError as error:
            self._answered.set()
            return error
        return None


def shown(cloud: Cloud) -> dict[str, str | None]:
    """Return the run id of every table in Glue; check that the location is of the same run."""
    run_ids = {}
    for table in GlueCatalog(cloud.settings()).tables():
        assert table.location.endswith(f"/{table.run_id}")
        run_ids[table.name] = table.run_id
    return run_ids


def test_concurrent_publish_succeeds_for_exactly_one_writer(cloud: Cloud, faults: Faults) -> None:
    runs = {JANUARY: cloud.run().manifest.run_id}
    for month in (FEBRUARY, MARCH):
        cloud.snapshot(month)
        runs[month] = cloud.run().manifest.run_id
    names = set(shown(cloud))
    assert {name.partition("_")[0] for name in names} == {"ext", "bucketed"}

    def publish(month: str, way: str) -> None:
        if way == "run":
            assert cloud.run(snapshot_dt=month, force=True).changed
        else:
            rollback(cloud.settings(), runs[month], force=True)

    current = MARCH
    for number in range(RACES):
        race = Race(faults)
        # Neither month is published, so the admitted writer changes every table.
        months = [month for month in runs if month != current]
        # Every pair of run and rollback takes its turn.
        ways = [WAYS[number % 2], WAYS[number // 2 % 2]]

        with ThreadPoolExecutor(2) as pool:
            racers = {
                month: pool.submit(race.run, partial(publish, month, way))
                for month, way in zip(months, ways, strict=True)
            }
            outcomes = {month: racer.result() for month, racer in racers.items()}
        faults.always("UpdateTable", lambda _: None)
        winners = [month for month, error in outcomes.items() if error is None]
        losers = [error for error in outcomes.values() if error is not None]
        assert {0 if error is None else error.exit_code for error in outcomes.values()} == {0, 4}
        assert (len(winners), len(losers)) == (1, 1)
        assert type(losers[0]) is LeaseError
        assert str(losers[0]).startswith("another run ")
        assert "wait for it to finish, or stop it" in str(losers[0])
        assert race.updates
        current = winners[0]
        assert shown(cloud) == dict.fromkeys(names, runs[current])
    assert cloud.marks("ext_people_1") == cloud.marks("bucketed_people_2") == {current}
