from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from catalog_contract import AddForeign, CatalogContract
from catalog_tables import DATABASE, catalog_in, table_at
from memory_catalog import MemoryCatalog

from bucketwheel.catalogs import duckdb as module
from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.errors import CatalogError, ConfigError
from bucketwheel.lease import file_lock
from bucketwheel.settings import CatalogSettings, Settings


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


class TestMemoryCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self) -> MemoryCatalog:
        return MemoryCatalog()

    @pytest.fixture
    def add_foreign(self, catalog: MemoryCatalog) -> AddForeign:
        return catalog.add_foreign


class TestDuckdbCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> DuckdbCatalog:
        return catalog_in(tmp_path / "catalog.duckdb")

    @pytest.fixture(params=["TABLE", "VIEW"])
    def add_foreign(self, request: pytest.FixtureRequest, tmp_path: Path) -> AddForeign:
        def add(name: str) -> None:
            execute(
                tmp_path / "catalog.duckdb",
                f"CREATE SCHEMA IF NOT EXISTS {quoted(DATABASE)}",
                f"CREATE {request.param} {quoted(DATABASE)}.{quoted(name)} AS SELECT 42 AS answer",
            )

        return add


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def execute(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(statement).fetchall()


def marks(path: Path, name: str, database: str = DATABASE) -> set[object]:
    return {mark for (mark,) in query(path, f"SELECT mark FROM {quoted(database)}.{quoted(name)}")}


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start Python with this source tree; it reads our answers from stdin and writes lines to stdout."""
    paths = [str(Path(module.__file__).parents[2]), str(Path(__file__).parent)]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def hidden(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")}


def test_a_published_table_is_a_view_of_its_files(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    assert marks(path, "t") == {"first"}
    catalog.put(table_at(tmp_path, "t", "second"), first)
    assert marks(path, "t") == {"second"}


def test_a_directory_that_looks_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    path = tmp_path / "env=prod" / "it's [1] *" / "catalog.duckdb"
    catalog_in(path).put(table_at(path.parent, "t"), None)
    assert query(path, f"SELECT * FROM {quoted(DATABASE)}.t LIMIT 1") == [("a", "first")]


@pytest.mark.parametrize("database", ["catalog", "main", "select", "a.b", "ünï", 'quo"te'])
def test_any_name_of_a_database_will_do_even_that_of_the_file(tmp_path: Path, database: str) -> None:
    catalog = catalog_in(tmp_path / "catalog.duckdb", database)
    first = catalog.put(table_at(tmp_path, "t"), None)
    second = catalog.put(table_at(tmp_path, "t", "second"), first)
    assert list(catalog.tables()) == [second]
    catalog.remove(second)
    assert list(catalog.tables()) == []


def test_the_case_of_the_database_does_not_matter_as_it_does_not_to_duckdb(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    put = catalog_in(path, "omc").put(table_at(tmp_path, "t"), None)
    assert catalog_in(path, "OMC").get("t") == put


def test_tables_and_views_of_the_user_survive_in_every_schema(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    execute(
        path,
        "CREATE TABLE notes AS SELECT 'remember' AS text",
        f"CREATE SCHEMA {quoted(DATABASE)}",
        f"CREATE TABLE {quoted(DATABASE)}.mine AS SELECT 1 AS one",
        f"CREATE VIEW {quoted(DATABASE)}.looking AS SELECT one + 1 AS two FROM {quoted(DATABASE)}.mine",
    )
    catalog = catalog_in(path)
    catalog.remove(catalog.put(table_at(tmp_path, "t"), None))
    catalog.put(table_at(tmp_path, "t"), None)
    assert query(path, "SELECT text FROM notes") == [("remember",)]
    assert query(path, f"SELECT two FROM {quoted(DATABASE)}.looking") == [(2,)]
    assert [table.name for table in catalog.tables() if table.run_id is None] == ["looking", "mine"]


def test_an_adopted_table_keeps_its_rows_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    execute(path, f"CREATE SCHEMA {quoted(DATABASE)}", f"CREATE TABLE {quoted(DATABASE)}.t AS SELECT 1 AS one")
    execute(path, f"CREATE TABLE {quoted(DATABASE)}.t_before_bucketwheel AS SELECT 'taken' AS name")
    ours = catalog.put(table_at(tmp_path, "t"), catalog.get("t"))
    assert marks(path, "t") == {"first"}
    assert query(path, f"SELECT one FROM {quoted(DATABASE)}.t_before_bucketwheel_2") == [(1,)]
    second = catalog.put(table_at(tmp_path, "t", "second"), ours)
    catalog.put(replace(ours, location="", parameters={}, version=None), second)
    assert query(path, f"SELECT one FROM {quoted(DATABASE)}.t") == [(1,)]
    assert query(path, f"SELECT name FROM {quoted(DATABASE)}.t_before_bucketwheel") == [("taken",)]


def test_a_table_that_was_never_foreign_cannot_be_brought_back_to_that(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path / "catalog.duckdb")
    ours = catalog.put(table_at(tmp_path, "t"), None)
    with pytest.raises(CatalogError, match="does not have what was there before"):
        catalog.put(replace(ours, location="", parameters={}, version=None), ours)
    assert catalog.get("t") == ours


@pytest.mark.parametrize("kind", ["TABLE", "VIEW"])
def test_what_the_user_made_in_the_place_of_our_view_is_not_ours(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    catalog.put(table_at(tmp_path, "t"), None)
    place = f"{quoted(DATABASE)}.t"
    execute(path, f"DROP VIEW {place}", f"CREATE {kind} {place} AS SELECT 1 AS one")
    found = catalog.get("t")
    assert found is not None
    assert found.run_id is None


def test_a_reader_in_another_process_never_blocks_a_writer_nor_sees_an_error(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    now = catalog.put(table_at(tmp_path, "t", "round0"), None)
    reader = run_python(
        """
        import duckdb, sys
        held = duckdb.connect(sys.argv[1], read_only=True)
        print("reading", flush=True)
        seen = []
        while not seen or seen[-1] != "round20":
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
        for number in range(1, 21):
            now = catalog.put(table_at(tmp_path, "t", f"round{number}"), now)
        assert int(reader.stdout.readline()) > 1
    assert reader.returncode == 0


def test_a_connection_that_this_process_keeps_open_neither_blocks_nor_shows_old_tables(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    with duckdb.connect(str(path), read_only=True) as connection:
        second = catalog.put(table_at(tmp_path, "t", "second"), first)
        assert list(catalog.tables()) == [second]
        assert connection.execute(f"SELECT DISTINCT mark FROM {quoted(DATABASE)}.t").fetchall() == [("first",)]
    assert marks(path, "t") == {"second"}


def test_many_processes_that_publish_different_tables_lose_no_update(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    code = """
        import sys
        from pathlib import Path
        from catalog_tables import catalog_in, table_at
        path, number = Path(sys.argv[1]), sys.argv[2]
        sys.stdin.readline()
        for round in range(5):
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
    names = {f"t{number}_{turn}" for number in range(3) for turn in range(5)}
    assert {table.name for table in catalog_in(path).tables()} == names


WRITER = """
    import duckdb, sys
    connection = duckdb.connect(sys.argv[1])
    for statement in sys.argv[2:]:
        connection.execute(statement)
    print("open", flush=True)
    sys.stdin.readline()
    """


def test_a_writer_with_unsaved_changes_is_refused_clearly_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
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


def test_a_writer_that_has_changed_nothing_yet_is_refused_too(tmp_path: Path) -> None:
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


def test_a_writer_in_this_process_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    with (
        duckdb.connect(str(path)),
        pytest.raises(CatalogError, match="open for writing: close it there"),
    ):
        catalog.put(table_at(tmp_path, "t", "second"), first)
    assert marks(path, "t") == {"first"}


def test_changes_that_a_killed_writer_left_beside_the_file_are_not_lost(tmp_path: Path) -> None:
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
def test_a_writer_killed_before_it_replaces_the_file_leaves_the_old_catalog(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    killed = run_python(
        """
        import os, shutil, signal, sys
        from pathlib import Path
        from catalog_tables import catalog_in, table_at
        from bucketwheel.catalogs import duckdb
        catalog = catalog_in(sys.argv[1])
        def die(*_): os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[2] == "flush":
            duckdb._flush = die
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


def test_an_update_that_fails_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    empty = replace(first, location=str(tmp_path / "nothing"))
    with pytest.raises(CatalogError, match=r"catalog\.duckdb: .*No files found"):
        catalog.put(empty, first)
    assert catalog.get("t") == first
    assert hidden(path) == {".catalog.duckdb.lock"}


def test_reading_where_no_link_can_be_made_reads_the_file_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    catalog = catalog_in(tmp_path / "catalog.duckdb")
    first = catalog.put(table_at(tmp_path, "t"), None)
    monkeypatch.setattr(os, "link", refuse)
    assert list(catalog.tables()) == [first]


def test_the_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    path.chmod(0o664)
    catalog.put(table_at(tmp_path, "t", "second"), first)
    assert path.stat().st_mode & 0o777 == 0o664


def test_a_symbolic_link_to_the_catalog_stays_one(tmp_path: Path) -> None:
    path, link = tmp_path / "real" / "catalog.duckdb", tmp_path / "link.duckdb"
    first = catalog_in(path).put(table_at(tmp_path, "t"), None)
    link.symlink_to(path)
    catalog_in(link).put(table_at(tmp_path, "t", "second"), first)
    assert link.is_symlink()
    assert marks(path, "t") == {"second"}


def test_a_file_that_is_no_catalog_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    path.write_text("this is no database, but it is dear to somebody " * 100)
    before = path.read_bytes()
    catalog = catalog_in(path)
    for action in (catalog.tables, lambda: catalog.put(table_at(tmp_path, "t"), None)):
        with pytest.raises(CatalogError, match=r"catalog\.duckdb"):
            action()
    assert path.read_bytes() == before


def test_looking_into_a_catalog_that_does_not_exist_makes_nothing(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path / "not yet" / "catalog.duckdb")
    assert catalog.tables() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, "s3://bucket/catalog.duckdb"])
def test_the_catalog_needs_a_local_file(path: str | None) -> None:
    with pytest.raises(ConfigError, match=r"catalog\.path"):
        DuckdbCatalog(Settings(catalog=CatalogSettings(path=path)))


def test_a_writer_that_hangs_is_waited_for_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(path: Path, refused: Callable[[], CatalogError]) -> object:
        return file_lock(path, refused, 0.02)

    catalog = catalog_in(tmp_path / "catalog.duckdb")
    monkeypatch.setattr("bucketwheel.catalogs.duckdb.file_lock", impatient)
    with (
        file_lock(tmp_path / ".catalog.duckdb.lock", lambda: CatalogError("never")),
        pytest.raises(CatalogError, match="another process is changing the catalog"),
    ):
        catalog.put(table_at(tmp_path, "t"), None)


def test_a_copy_of_the_catalog_shows_the_same_tables(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    shutil.copyfile(path, tmp_path / "copy.duckdb")
    assert catalog_in(tmp_path / "copy.duckdb").get("t") == first
