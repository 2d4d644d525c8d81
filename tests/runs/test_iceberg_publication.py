"""Runs that are published as Iceberg tables in a SQL catalog: months, rollback, kill and expiry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from bucketwheel.catalogs.iceberg import IcebergCatalog
from bucketwheel.contracts import CatalogTable
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback
from runs_support import DATABASE, DATASET, FEBRUARY, JANUARY, Case, reports, warnings_in

CHANGES = {"buckets__hash": "iceberg", "catalog__kind": "iceberg", "expire__min_age_hours": 0}


class Killed(BaseException):
    """The process is gone: no later call succeeds."""


@pytest.fixture
def case(tmp_path: Path) -> Case:
    case = Case(tmp_path, rows=60, changes=CHANGES)
    case.snapshot(JANUARY)
    case.run()
    case.snapshot(FEBRUARY)
    return case


@contextmanager
def loaded(case: Case, number: int = 1) -> Iterator[Table]:
    client = SqlCatalog("bucketwheel", uri=f"sqlite:///{case.settings().target}/iceberg.db")
    try:
        yield client.load_table((DATABASE, f"bucketed_{DATASET}_{number}"))
    finally:
        client.close()


def months(case: Case) -> list[set[str]]:
    """Return the months of the rows of each table."""
    shown = []
    for number, name in enumerate(case.names(), 1):
        with loaded(case, number) as table:
            rows = table.scan().to_arrow()
        assert rows.num_rows == case.rows
        shown.append(set(rows.column(f"{name}_mark").to_pylist()))
    return shown


def test_months_rollback_and_expiry(case: Case) -> None:
    case.run(buckets__count=2)
    assert months(case) == [{FEBRUARY}, {FEBRUARY}]
    january = case.manifests()[0].run_id
    rollback(case.settings(), january)
    assert months(case) == [{JANUARY}, {JANUARY}]
    with loaded(case) as table:
        assert len(table.snapshots()) == 2
        assert set(table.refs()) == {"main", JANUARY, FEBRUARY}
        orphan = Path(table.location()) / "metadata/lost-m0.avro"
    orphan.touch()
    case.run(snapshot_dt=FEBRUARY, force=True, buckets__count=8)
    assert len(expire(case.settings(), 1)) == 2
    assert months(case) == [{FEBRUARY}, {FEBRUARY}]
    with loaded(case) as table:
        assert set(table.refs()) == {"main", FEBRUARY}
        assert len(table.snapshots()) == 1
    assert not orphan.exists()


def test_killed_publication_is_finished_by_the_next_command(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    put, calls = IcebergCatalog.put, 0

    def die(self: IcebergCatalog, *arguments: Any) -> CatalogTable:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Killed
        return put(self, *arguments)

    monkeypatch.setattr(IcebergCatalog, "put", die)
    monkeypatch.setattr(IcebergCatalog, "remove", die)
    with pytest.raises(Killed):
        case.run()
    monkeypatch.undo()
    assert sorted(months(case), key=str) == [{JANUARY}, {FEBRUARY}]
    events, report = reports()
    expire(case.settings(), 2, report=report)
    assert months(case) == [{FEBRUARY}, {FEBRUARY}]
    assert "the others have changed now too" in warnings_in(events)
