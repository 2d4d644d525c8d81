"""The DuckDB catalog while other processes read it, write to it and are killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from catalog_tables import DATABASE, catalog_in, execute, hidden, marks, query, quoted, run_python

from bucketwheel.errors import CatalogError
from bucketwheel.storage.lock import file_lock
from bucketwheel.testing.tables import table_at


def test_reader_process_never_blocks_writer_or_fails(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    now = catalog.put(table_at(tmp_path, "t", "round0"), None)
    reader = run_python(
        """
        import duckdb, sys
        held = duckdb.connect(sys.argv[1], read_only=True)
        print("reading", flush=True)
        seen = []
        while not seen or seen[-1] != "round12":
            with duckdb.connect(sys.argv[1], read_only=True) as connection:
                marks = {mark for (mark,) in connection.execute('SELECT mark FROM "our data".t').fetchall()}
            assert len(marks) == 1, marks
            seen += marks
            held.execute('SELECT count(*) FROM "our data".t').fetchall()
            held.close()
            held = duckdb.connect(sys.argv[1], read_only=True)
        print(len(set(seen)), flush=True)
        """,
        path,
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        for number in range(1, 13):
            now = catalog.put(table_at(tmp_path, "t", f"round{number}"), now)
        assert int(reader.stdout.readline()) > 1
    assert reader.returncode == 0


def test_open_connection_never_blocks_or_sees_old_tables(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    with duckdb.connect(str(path), read_only=True) as connection:
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        assert list(catalog.tables()) == [second]
        assert connection.execute(f"SELECT DISTINCT mark FROM {quoted(DATABASE)}.t").fetchall() == [("first",)]
    assert marks(path, "t") == {"second"}


def test_concurrent_processes_lose_no_update(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    code = """
        import sys
        from pathlib import Path
        from catalog_tables import catalog_in
        from bucketwheel.testing.tables import table_at
        path, number = Path(sys.argv[1]), sys.argv[2]
        sys.stdin.readline()
        for round in range(3):
            catalog_in(path).put(table_at(path.parent, f"t{number}_{round}"), None)
        """
    writers = [run_python(code, path, number) for number in range(3)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.communicate()
    names = {f"t{number}_{turn}" for number in range(3) for turn in range(3)}
    assert {table.name for table in catalog_in(path).tables()} == names


WRITER = """
    import duckdb, sys
    connection = duckdb.connect(sys.argv[1])
    for statement in sys.argv[2:]:
        connection.execute(statement)
    print("open", flush=True)
    sys.stdin.readline()
    """


def test_unsaved_changes_of_other_writer_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    with run_python(WRITER, path, "CREATE TABLE unsaved AS SELECT 7 AS seven") as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        assert path.with_name("catalog.duckdb.wal").exists()
        for action in (catalog.tables, lambda: catalog.put(table_at(tmp_path, "t", "second"), first)):
            with pytest.raises(CatalogError, match=r"open for writing.*\.wal file.*read_only=True"):
                action()
        writer.communicate("close\n")
    assert query(path, "SELECT seven FROM unsaved") == [(7,)]
    assert marks(path, "t") == {"first"}


def test_open_writer_without_changes_blocks_update(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    with run_python(WRITER, path) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(CatalogError, match="open for writing: close it there"):
            catalog.put(table_at(tmp_path, "t", "second"), first)
        writer.communicate("close\n")
    assert marks(path, "t") == {"first"}


def test_open_writer_in_same_process_blocks_update(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    with (
        duckdb.connect(str(path)),
        pytest.raises(CatalogError, match="open for writing: close it there"),
    ):
        catalog.put(table_at(tmp_path, "t", "second"), first)
    assert marks(path, "t") == {"first"}


def test_wal_of_killed_writer_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    with run_python(WRITER, path, "CREATE TABLE unsaved AS SELECT 7 AS seven") as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        writer.kill()
    with pytest.raises(CatalogError, match="open and close it once with DuckDB"):
        catalog.put(table_at(tmp_path, "t", "second"), first)
    execute(path, "CHECKPOINT")
    catalog.put(table_at(tmp_path, "t", "second"), first)
    assert query(path, "SELECT seven FROM unsaved") == [(7,)]


@pytest.mark.parametrize("moment", ["copyfileobj", "flush"])
def test_writer_killed_before_replace_keeps_old_catalog(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    killed = run_python(
        """
        import os, shutil, signal, sys
        from pathlib import Path
        from catalog_tables import catalog_in
        from bucketwheel.testing.tables import table_at
        from bucketwheel.catalogs import duckdb
        catalog = catalog_in(sys.argv[1])
        def die(*_): os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[2] == "flush":
            duckdb.flush = die
        else:
            shutil.copymode = die
        catalog.put(table_at(Path(sys.argv[1]).parent, "t", "second"), catalog.get("t"))
        """,
        path,
        moment,
    )
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert any(name.endswith(".new") for name in hidden(path))
    assert marks(path, "t") == {"first"}
    assert catalog.get("t") == first
    catalog.put(table_at(tmp_path, "t", "second"), first)
    assert hidden(path) == {".catalog.duckdb.lock"}


def test_wait_for_hanging_writer_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(path: Path, refused: Callable[[], CatalogError]) -> object:
        return file_lock(path, refused, 0.02)

    catalog = catalog_in(tmp_path / "catalog.duckdb")
    monkeypatch.setattr("bucketwheel.catalogs.duckdb.file_lock", impatient)
    with (
        file_lock(tmp_path / ".catalog.duckdb.lock", lambda: CatalogError("never")),
        pytest.raises(CatalogError, match="another process to update the catalog"),
    ):
        catalog.put(table_at(tmp_path, "t"), None)
