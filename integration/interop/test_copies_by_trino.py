"""Final tables copied by Trino equal promoted ones."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from trino.exceptions import TrinoQueryError

from .key_tables import FREE
from .lake import Lake, LakeProject
from .people_tables import TABLES, WIDE, PeopleTables, joined
from .trino_server import CATALOG


@pytest.fixture(scope="module")
def copied(lake: Lake, people: PeopleTables) -> LakeProject:
    """The people tables with copied final tables."""
    datasets = people.bucketed.settings["datasets"]
    project = lake.project("by_trino", datasets, buckets={"count": people.files}, ctas={"method": "trino"})
    project.publish(WIDE)
    return project


def test_copies_have_own_location_and_leave_no_other_tables(copied: LakeProject, people: PeopleTables) -> None:
    places = copied.locations()
    assert sorted(places) == sorted(f"{prefix}{table}" for prefix in ("ext_", "bucketed_") for table in TABLES)
    assert all("/ctas-" in place for name, place in places.items() if name.startswith("bucketed_"))
    promoted = people.bucketed.locations()
    assert all(promoted[f"ext_{table}"] == promoted[f"bucketed_{table}"] for table in TABLES)
    assert copies(copied) == {place for name, place in places.items() if name.startswith("bucketed_")}


def copies(project: LakeProject) -> set[str]:
    """Return the directories of copies below the target."""
    lake, keys = project.lake, project.lake.keys(f"{project.name}/{WIDE}/")
    return {f"s3://{lake.bucket}/{key.rpartition('/')[0]}/" for key in keys if "/ctas-" in key}


def test_copies_return_the_rows_of_promoted_tables(copied: LakeProject, people: PeopleTables) -> None:
    for table in TABLES:
        text = f"SELECT * FROM {{{table}}} ORDER BY customer_user_id"
        rows = people.in_trino(copied, text)
        assert len(rows) == people.sample.rows
        assert rows == people.in_trino(people.bucketed, text) == people.in_source(text)
    text = joined(TABLES[:2])
    assert people.in_trino(copied, text) == people.in_trino(people.bucketed, text)


def test_copies_have_the_same_buckets(copied: LakeProject, people: PeopleTables) -> None:
    (ours, theirs) = (project.table("ibe_01") for project in (people.bucketed, copied))
    compared = copied.ask(
        f'SELECT count(*), count_if(o."$bucket" <> t."$bucket"), count(DISTINCT t."$bucket") '
        f"FROM {ours} o JOIN {theirs} t ON o.customer_user_id = t.customer_user_id",
        **FREE,
    )
    assert compared.rows == [[people.sample.rows, 0, people.files]]


def test_join_of_copied_and_promoted_table_needs_no_exchange(copied: LakeProject, people: PeopleTables) -> None:
    (ours, theirs) = (people.bucketed.table("ibe_01"), copied.table("ibe_02"))
    text = f"SELECT * FROM {ours} o JOIN {theirs} t ON o.customer_user_id = t.customer_user_id"
    plan = copied.ask(f"EXPLAIN (TYPE DISTRIBUTED) {text}").rows[0][0]
    assert f"{CATALOG}:HivePartitioningHandle{{buckets={people.files}" in plan
    assert "RemoteSource" not in plan


class Killer:
    """Kills the first running copy in Trino from a thread."""

    def __init__(self, project: LakeProject) -> None:
        self.killed = 0
        self._project = project
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        running = "SELECT query_id FROM system.runtime.queries WHERE state = 'RUNNING' AND query LIKE 'CREATE TABLE%'"
        while not self._over.is_set() and not self.killed:
            for (query_id,) in self._project.ask(running).rows:
                with suppress(TrinoQueryError):
                    self._project.ask(f"CALL system.runtime.kill_query('{query_id}', 'enough')")
                    self.killed += 1


def test_killed_copy_changes_no_table_and_resume_completes_it(lake: Lake, people: PeopleTables) -> None:
    project = lake.project("killed", people.bucketed.settings["datasets"], buckets={"count": people.files})
    project.publish(WIDE)
    before = project.locations()
    project.set(ctas={"method": "trino", "concurrency": 1, "attempts": 1})
    with Killer(project) as killer:
        result = project.cli("run", WIDE)
    assert killer.killed == 1
    assert result.exit_code == 1
    assert "enough" in result.stderr
    finals = {f"bucketed_{table}" for table in TABLES}
    assert {name: project.locations()[name] for name in finals} == {name: before[name] for name in finals}
    project.publish(WIDE, "--resume", "last")
    after = project.locations()
    assert sorted(after) == sorted(before)
    # Of the try that was killed nothing is left, nor of those that were cancelled with it.
    assert copies(project) == {after[name] for name in finals}
    text = joined(TABLES)
    assert people.in_trino(project, text) == people.in_source(text)
