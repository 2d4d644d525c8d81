"""Queries while `expire` deletes files: they read all rows of a run or fail, and never return a part."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.errors import CatalogError
from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.settings import STAGES
from bucketwheel.storage import Storage
from bucketwheel.system import System, SystemClock, use
from bucketwheel.testing.clock import Clock
from runs_support import DATABASE, DATASET, FEBRUARY, JANUARY, MARCH, Case

VIEW = f'SELECT count("people_1_value") FROM "{DATABASE}"."ext_people_1"'


def replaced(tmp_path: Path) -> tuple[Case, str, duckdb.DuckDBPyConnection]:
    """Return a case whose January was replaced, the run of January, and a catalog that still shows it."""
    case = Case(tmp_path, tables=1, rows=60)
    case.snapshot(JANUARY)
    run_id = case.run(STAGES[:6]).manifest.run_id
    reader = duckdb.connect(str(case.catalog), read_only=True)
    case.snapshot(FEBRUARY)
    case.run(STAGES[:6])
    return case, run_id, reader


def rows(reader: duckdb.DuckDBPyConnection, query: str) -> int | None:
    """Return the count of a query, or None if it fails."""
    try:
        return int(reader.execute(query).fetchall()[0][0])
    except duckdb.Error:
        return None


def test_query_during_expire_reads_all_rows_or_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, run_id, reader = replaced(tmp_path)
    directory = case.target / DATASET / "people_1" / run_id
    pattern = f"SELECT count(*) FROM read_parquet('{directory}/*.parquet')"
    # The view of an earlier version.
    reader.execute(f"CREATE TEMP VIEW earlier AS SELECT * FROM read_parquet('{directory}/*.parquet')")
    queries = [VIEW, pattern, "SELECT count(people_1_mark) FROM earlier"]
    counts = [rows(reader, query) for query in queries]
    delete = Storage.delete_directory

    def delete_slowly(storage: Storage, location: str) -> None:
        for file in sorted(Path(location).glob("*.parquet")):
            file.unlink()
            counts.extend(rows(reader, query) for query in queries)
        delete(storage, location)

    monkeypatch.setattr(Storage, "delete_directory", delete_slowly)
    expire(case.settings(), keep=1)
    assert counts == [60] * 3 + [None] * 12
    assert list((case.target / DATASET).rglob(f"*{run_id}*")) == []


def test_view_without_one_file_fails(tmp_path: Path) -> None:
    case, run_id, reader = replaced(tmp_path)
    sorted((case.target / DATASET / "people_1" / run_id).iterdir())[2].unlink()
    with pytest.raises(duckdb.IOException, match=r"000002_0\.snappy\.parquet"):
        reader.execute(VIEW)


def test_query_that_began_before_expire_reads_all_rows(tmp_path: Path) -> None:
    case, _, reader = replaced(tmp_path)
    cursor = reader.execute(VIEW.replace('count("people_1_value")', "*"))
    first = cursor.fetchmany(1)
    expire(case.settings(), keep=1)
    assert len(first + cursor.fetchall()) == 60
    assert rows(reader, VIEW) is None


def test_interrupted_expire_deletes_renamed_directory_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, run_id, _ = replaced(tmp_path)

    def refuse(_storage: Storage, _location: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete_directory", refuse)
        with pytest.raises(KeyboardInterrupt):
            expire(case.settings(), keep=1)
    table = case.target / DATASET / "people_1"
    (hidden,) = table.glob(".*")
    assert hidden.name == f".deleted-{run_id}"
    # A late task creates the directory again.
    (table / run_id).mkdir()
    (table / run_id / "000000_0.snappy.parquet").write_bytes(b"late")
    (expired,) = expire(case.settings(), keep=1)
    assert expired.run_id == run_id
    assert not hidden.exists()
    assert not (table / run_id).exists()


def test_publish_with_missing_file_is_refused(tmp_path: Path) -> None:
    case, run_id, _ = replaced(tmp_path)
    catalog = DuckdbCatalog(case.settings())
    table = catalog.get("ext_people_1")
    assert table is not None
    sorted(Path(table.location).iterdir())[0].unlink()
    with pytest.raises(CatalogError, match=r"'ext_people_1': .* contains 3 Parquet files, expected 4 files; publish"):
        catalog.put(table, table)
    rollback(case.settings(), run_id)
    assert case.shown() == {"ext_people_1": {JANUARY}}


def test_expire_keeps_run_that_rollback_replaced_recently(tmp_path: Path) -> None:
    case, january, _ = replaced(tmp_path)
    february = case.manifests()[-1].run_id
    rolled_back = SystemClock().now() + timedelta(days=10)
    with use(System(Clock(rolled_back))):
        rollback(case.settings(), january)
    case.snapshot(MARCH)
    case.run(STAGES[:5])
    for hours, expected in ((23, []), (25, [february])):
        with use(System(Clock(rolled_back + timedelta(hours=hours)))):
            expired = expire(case.settings(expire__min_age_hours=24), keep=1)
        assert [run.run_id for run in expired] == expected
