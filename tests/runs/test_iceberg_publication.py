"""Runs that are published as Iceberg tables in a SQL catalog: months, rollback, kill and expiry."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from bucketwheel.catalogs.example_query import example_query
from bucketwheel.catalogs.iceberg import IcebergCatalog
from bucketwheel.contracts import CatalogTable
from bucketwheel.errors import CatalogError, QualityError
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.plan import plan
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.stages.iceberg_checks import existing_tables
from runs_support import DATABASE, DATASET, FEBRUARY, JANUARY, MARCH, Case, reports, warnings_in

CHANGES = {"buckets__hash": "iceberg", "catalog__kind": "iceberg", "expire__min_age_hours": 0}


VALUE = f"{DATASET}_1_value"


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


def as_type(case: Case, kind: pa.DataType) -> None:
    """Write the value column of the first table of February in another type."""
    for path in (case.mapping.parent / f"snapshot_dt={FEBRUARY}").glob("*.parquet"):
        content = pq.ParquetFile(path).read()
        place = content.schema.get_field_index(VALUE)
        pq.write_table(content.set_column(place, VALUE, content[VALUE].cast(kind)), path)


@pytest.mark.parametrize(
    ("kind", "text"), [(pa.string(), "from bigint to string"), (pa.int32(), "from bigint to int")]
)
def test_incompatible_type_is_refused_and_the_offered_setting_works(case: Case, kind: pa.DataType, text: str) -> None:
    january = case.manifests()[0].run_id
    as_type(case, kind)
    (obstacle,) = plan(case.settings(), RunRequest(DATASET)).obstacles
    assert f"people_1.{VALUE} changed {text}; quality.schema_changes is error; accept it with --set" in obstacle
    with pytest.raises(QualityError, match=f"changed {text}") as refused:
        case.run()
    assert [run.run_id for run in case.manifests()] == [january]
    assert refused.value.accept == {"quality.schema_changes": "warn"}
    planned = plan(case.settings(quality__schema_changes="warn"), RunRequest(DATASET))
    assert planned.obstacles == ()
    assert any(f"people_1: Iceberg cannot change the type of {VALUE} (long to " in each for each in planned.warnings)
    case.run(quality__schema_changes="warn")
    assert months(case) == [{FEBRUARY}, {FEBRUARY}]
    with loaded(case) as table:
        assert table.scan().to_arrow().schema.field(VALUE).type in (kind, pa.large_string())
        tagged = table.scan(snapshot_id=table.refs()[JANUARY].snapshot_id).to_arrow()
    assert sorted(tagged[VALUE].to_pylist()) == list(range(case.rows))
    rollback(case.settings(), january)
    assert months(case) == [{JANUARY}, {JANUARY}]


def test_change_of_iceberg_type_with_the_same_hive_type_is_refused(case: Case) -> None:
    as_type(case, pa.int64())
    case.run()
    case.snapshot(MARCH)
    for month, zone in ((FEBRUARY, None), (MARCH, "UTC")):
        for path in (case.mapping.parent / f"snapshot_dt={month}").glob("*.parquet"):
            content = pq.ParquetFile(path).read()
            times = pa.array([0] * content.num_rows, pa.timestamp("us", zone))
            pq.write_table(content.append_column("seen", times), path)
    case.mapping.write_text(case.mapping.read_text() + "people_1,seen\n")
    case.run(snapshot_dt=FEBRUARY)
    (obstacle,) = plan(case.settings(), RunRequest(DATASET)).obstacles
    assert "people_1.seen changed from timestamp to timestamptz" in obstacle
    case.run(quality__schema_changes="allow")
    assert months(case) == [{MARCH}, {MARCH}]


def test_example_query_of_iceberg_tables_works(case: Case) -> None:
    (january,) = case.manifests()
    command = example_query(case.settings(), january)
    assert command is not None
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("'customer_user_id'")) == (0, 5), done.stderr


def test_plan_says_what_trino_loses_after_a_changed_bucket_count(case: Case) -> None:
    def advised(**changes: Any) -> tuple[str, bool]:
        advice = plan(case.settings(readers=["trino"], **changes), RunRequest(DATASET)).advice
        (reader,) = advice.readers
        return reader.uses, any("as unbucketed, because" in each for each in advice.warnings)

    assert advised() == ("buckets", False)
    assert advised(buckets__count=8) == ("order", True)
    case.run(buckets__count=8)
    case.snapshot(MARCH)
    assert advised(buckets__count=8) == ("order", True)
    assert advised() == ("order", True)
    assert advised(catalog__final_prefix="new_") == ("buckets", False)


def test_plan_says_what_trino_loses_after_another_key(case: Case) -> None:
    """Both keys have as many buckets."""
    lines = case.mapping.read_text().replace("people_1,people_1_value", "people_1,Customer_User_id")
    other = case.mapping.with_name("other.csv")
    other.write_text(lines.replace("people_2,", "people_1,"))
    dataset = {"source": str(case.mapping.parent), "mapping": str(other), "key": "people_1_value"}
    advice = plan(case.settings(readers=["trino"], datasets={DATASET: dataset}), RunRequest(DATASET)).advice
    assert any("as unbucketed, because" in each for each in advice.warnings), advice.warnings


def test_existing_tables_are_loaded_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    read, names = IcebergCatalog._read, list[str]()

    def watch(catalog: IcebergCatalog, name: str) -> Any:
        names.append(name)
        return read(catalog, name)

    monkeypatch.setattr(IcebergCatalog, "_read", watch)
    (january,) = case.manifests()
    services = make_services(case.settings(), RunRequest(DATASET), lambda _: None)
    split = january.split
    existing = existing_tables(services, split.keys, split.tables, january.discover.schema())
    assert names == [f"bucketed_{name}" for name in case.names()]
    assert existing.bucket_counts == dict.fromkeys(case.names(), (4,))


def test_branch_in_the_way_is_named_by_plan_and_before_the_data(case: Case) -> None:
    with loaded(case, 2) as table:
        table.manage_snapshots().create_branch(table.metadata.current_snapshot_id or 0, FEBRUARY).commit()
    text = f"a branch of the Iceberg table is called '{FEBRUARY}'"
    planned = plan(case.settings(catalog__adopt=True), RunRequest(DATASET))
    assert any(text in obstacle for obstacle in planned.obstacles), planned.obstacles
    with pytest.raises(CatalogError, match=text):
        case.run(catalog__adopt=True)
    assert case.hashes(case.store().all_run_ids(DATASET)[-1]) == {}


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
