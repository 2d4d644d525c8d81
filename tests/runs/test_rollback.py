"""Rollback to another run: all tables or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bucketwheel import plugins
from bucketwheel.contracts import Catalog, CatalogTable, TableChange
from bucketwheel.contracts.catalog import make_change
from bucketwheel.errors import ForeignTableError, LeaseError, SelectionError, VerificationError
from bucketwheel.lease import Lease
from bucketwheel.pipeline.reverify import verify
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.settings import Settings
from runs_support import DATABASE, DATASET, FEBRUARY, JANUARY, Case, reports, warnings_in


@pytest.fixture
def two(tmp_path: Path) -> tuple[Case, str, str]:
    """A case that published January, then February."""
    case = Case(tmp_path, tables=1)
    case.snapshot(JANUARY)
    january = case.run().manifest.run_id
    case.snapshot(FEBRUARY)
    return case, january, case.run().manifest.run_id


def marks(case: Case) -> set[str]:
    return set().union(*case.shown().values())


def test_rollback_moves_all_tables_back_and_forward(two: tuple[Case, str, str]) -> None:
    case, january, february = two
    for run_id, date in ((january, JANUARY), (february, FEBRUARY), (january, JANUARY)):
        result = rollback(case.settings(), run_id, force=True)
        assert marks(case) == {date}
        assert case.snapshot_dt() == date
        assert [table.name for table in result.tables] == [
            f"{prefix}_{name}" for prefix in ("ext", "bucketed") for name in case.names()
        ]
        assert all(run_id in table.location for table in result.tables)


def test_rollback_to_published_run_changes_nothing(two: tuple[Case, str, str]) -> None:
    case, _, february = two
    before = case.tree()
    rollback(case.settings(), february)
    assert case.tree() == before


def test_rollback_changes_no_data_file(two: tuple[Case, str, str]) -> None:
    case, january, february = two
    before = case.hashes(january) | case.hashes(february)
    rollback(case.settings(), january)
    assert case.hashes(january) | case.hashes(february) == before


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_rollback_is_refused_when_file_is_missing_or_cut(two: tuple[Case, str, str], damage: str) -> None:
    case, january, _ = two
    file = sorted((case.target / DATASET).glob(f"*/{january}/*"))[-1]
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(VerificationError, match=f"{file}: is missing or has changed size"):
        rollback(case.settings(), january)
    assert marks(case) == {FEBRUARY}
    assert case.snapshot_dt() == FEBRUARY


def test_rollback_to_unpublished_run_is_refused(case: Case) -> None:
    run_id = case.run(["discover", "split", "size", "bucket", "verify"]).manifest.run_id
    with pytest.raises(SelectionError, match=f"{run_id} never published a table; finish it with --resume {run_id}"):
        rollback(case.settings(), run_id)


def test_rollback_to_unknown_run_is_refused(two: tuple[Case, str, str]) -> None:
    with pytest.raises(SelectionError, match="no run 'nope'"):
        rollback(two[0].settings(), "nope")


def test_rollback_is_refused_while_lease_is_held(two: tuple[Case, str, str]) -> None:
    case, january, _ = two

    with Lease(case.store().metadata_directory(DATASET), 60), pytest.raises(LeaseError) as caught:
        rollback(case.settings(), january)
    assert caught.value.exit_code == 4
    assert marks(case) == {FEBRUARY}


def test_rollback_moves_only_tables_published_by_run(case: Case) -> None:
    january = case.run([*("discover", "split", "size", "bucket", "verify"), "register"]).manifest.run_id
    case.snapshot(FEBRUARY)
    case.run()
    steps, report = reports()
    rollback(case.settings(), january, report)
    shown = case.shown()
    assert shown["ext_people_1"] == {JANUARY}
    assert shown["bucketed_people_1"] == {FEBRUARY}
    assert case.snapshot_dt() == FEBRUARY
    text = f"tables not rolled back, because run {january} did not publish them: bucketed_people_1, bucketed_people_2"
    assert warnings_in(steps).endswith(text)


def test_rollback_names_tables_that_earlier_run_lacks(case: Case) -> None:
    january = case.run(tables=["people_1"]).manifest.run_id
    case.snapshot(FEBRUARY)
    case.run()
    steps, report = reports()
    rollback(case.settings(), january, report)
    assert {name for name, dates in case.shown().items() if dates == {JANUARY}} == {
        "ext_people_1",
        "bucketed_people_1",
    }
    text = f"tables not rolled back, because run {january} did not publish them: bucketed_people_2, ext_people_2"
    assert text in warnings_in(steps)


def test_failed_rollback_of_one_table_restores_all(
    two: tuple[Case, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, january, _ = two
    make = plugins.catalog

    class Refusing:
        def __init__(self, catalog: Catalog) -> None:
            self._catalog = catalog

        def __getattr__(self, name: str) -> object:
            return getattr(self._catalog, name)

        def put_all(self, changes: Sequence[TableChange]) -> Sequence[CatalogTable | None]:
            """Refuse one table after those before it were changed, one at a time."""
            made: list[CatalogTable | None] = []
            for change in changes:
                if change.name == "bucketed_people_1" and change.table and january in change.table.location:
                    raise OSError("access denied")
                made.append(make_change(self._catalog, change))
            return made

    def refusing(settings: Settings) -> Refusing:
        return Refusing(make(settings))

    monkeypatch.setattr(plugins, "catalog", refusing)
    with pytest.raises(OSError, match="access denied"):
        rollback(case.settings(), january)
    assert marks(case) == {FEBRUARY}
    assert case.snapshot_dt() == FEBRUARY


def test_failed_snapshot_file_restores_all_tables(two: tuple[Case, str, str]) -> None:
    case, january, _ = two
    case.snapshot_file().unlink()
    case.snapshot_file().mkdir()
    (case.snapshot_file() / "in the way").touch()
    with pytest.raises(Exception, match=r"snapshot_dt\.txt"):
        rollback(case.settings(), january)
    assert marks(case) == {FEBRUARY}


def test_foreign_tables_are_refused_unless_adopted(case: Case) -> None:
    import duckdb

    with duckdb.connect(str(case.catalog)) as connection:
        connection.execute(f"CREATE SCHEMA {DATABASE}")
        connection.execute(f"CREATE TABLE {DATABASE}.bucketed_people_2 AS SELECT 1 AS mine")
    with pytest.raises(ForeignTableError, match="'bucketed_people_2' exists in the catalog and was not created by"):
        case.run()
    assert (case.view_names(), case.hashes()) == ([], {})
    case.run(resume="last", catalog__adopt=True)
    assert marks(case) == {JANUARY}
    with duckdb.connect(str(case.catalog), read_only=True) as connection:
        kept = connection.execute(f"SELECT mine FROM {DATABASE}.bucketed_people_2_before_bucketwheel").fetchall()
    assert kept == [(1,)]
    assert not case.run().changed


def test_reverify_only_reads_the_run(two: tuple[Case, str, str]) -> None:
    case, january, _ = two
    before = case.tree()
    assert verify(case.settings(), january).rows == case.rows
    assert case.tree() == before
    file = sorted((case.target / DATASET).glob(f"*/{january}/*"))[0]
    file.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(VerificationError, match=str(Path(file))):
        verify(case.settings(), january)
