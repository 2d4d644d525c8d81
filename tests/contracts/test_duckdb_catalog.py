"""Behavior that only the DuckDB catalog has."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalog_tables import DATABASE, catalog_in, execute, hidden, marks, query, quoted

from bucketwheel.catalogs.duckdb import DuckdbCatalog
from bucketwheel.contracts import TableChange
from bucketwheel.errors import CatalogError, ConfigError, DamagedCatalogError
from bucketwheel.settings import CatalogSettings, Settings
from bucketwheel.testing.tables import table_at


def test_published_table_is_a_view_of_its_files(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    assert marks(path, "t") == {"first"}
    catalog.put(table_at(tmp_path, "t", "second"), first)
    assert marks(path, "t") == {"second"}


def test_partition_like_directory_adds_no_column(tmp_path: Path) -> None:
    path = tmp_path / "env=prod" / "it's [1] *" / "catalog.duckdb"
    catalog_in(path).put(table_at(path.parent, "t"), None)
    assert query(path, f"SELECT * FROM {quoted(DATABASE)}.t LIMIT 1") == [("a", "first")]


@pytest.mark.parametrize("database", ["catalog", "main", "select", "a.b", "ünï", 'quo"te'])
def test_any_database_name_works_even_that_of_the_file(tmp_path: Path, database: str) -> None:
    catalog = catalog_in(tmp_path / "catalog.duckdb", database)
    first = catalog.put(table_at(tmp_path, "t"), None)
    second = catalog.put(table_at(tmp_path, "t", "second"), first)
    assert list(catalog.tables()) == [second]
    catalog.remove(second)
    assert list(catalog.tables()) == []


def test_database_name_ignores_case(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    put = catalog_in(path, "omc").put(table_at(tmp_path, "t"), None)
    assert catalog_in(path, "OMC").get("t") == put


def test_user_tables_and_views_survive_publishing(tmp_path: Path) -> None:
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


def test_adopted_table_keeps_rows_under_another_name(tmp_path: Path) -> None:
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


def test_restore_without_replaced_table_fails(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path / "catalog.duckdb")
    ours = catalog.put(table_at(tmp_path, "t"), None)
    with pytest.raises(CatalogError, match=r"cannot restore it: .* no longer has the table or view"):
        catalog.put(replace(ours, location="", parameters={}, version=None), ours)
    assert catalog.get("t") == ours


@pytest.mark.parametrize("kind", ["TABLE", "VIEW"])
def test_user_object_in_place_of_view_is_foreign(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    catalog.put(table_at(tmp_path, "t"), None)
    place = f"{quoted(DATABASE)}.t"
    execute(path, f"DROP VIEW {place}", f"CREATE {kind} {place} AS SELECT 1 AS one")
    table = catalog.get("t")
    assert table is not None
    assert table.run_id is None


def test_failed_update_changes_nothing_and_leaves_no_files(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    empty = replace(first, location=str(tmp_path / "nothing"))
    with pytest.raises(CatalogError, match=r"'t': .*/nothing: contains 0 Parquet files; publish another run"):
        catalog.put(empty, first)
    assert catalog.get("t") == first
    assert hidden(path) == {".catalog.duckdb.lock"}


def test_read_without_hard_links_reads_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    catalog = catalog_in(tmp_path / "catalog.duckdb")
    first = catalog.put(table_at(tmp_path, "t"), None)
    monkeypatch.setattr(os, "link", refuse)
    assert list(catalog.tables()) == [first]


def test_update_keeps_file_permissions(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    path.chmod(0o664)
    catalog.put(table_at(tmp_path, "t", "second"), first)
    assert path.stat().st_mode & 0o777 == 0o664


def test_update_keeps_private_file_private_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    path.chmod(0o600)
    modes, copy = [], shutil.copyfileobj

    def watched(source: Any, target: Any) -> None:
        modes.append(os.fstat(target.fileno()).st_mode & 0o777)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfileobj", watched)
    catalog.put(table_at(tmp_path, "t", "second"), first)
    assert modes == [0o600]


@pytest.mark.parametrize("refused", [(), ("user",), ("user", "group")])
def test_update_keeps_file_owner_as_far_as_permitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    stat = path.stat()
    foreign = os.stat_result((*stat[:4], 4711, 4712, *stat[6:]))
    original, calls = Path.stat, []

    def owned(self: Path, **arguments: Any) -> os.stat_result:
        return foreign if self == path else original(self, **arguments)

    def chown(_: Path, user: int, group: int) -> None:
        if ("user" if user != -1 else "group") in refused:
            raise PermissionError
        calls.append((user, group))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", owned)
        patch.setattr(os, "chown", chown)
        catalog.put(table_at(tmp_path, "t", "second"), first)
    assert calls == [(4711, 4712), (-1, 4712)][len(refused) : len(refused) + 1]
    assert marks(path, "t") == {"second"}


def test_update_of_several_tables_replaces_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "a"), None)
    shown, replace_file = [], Path.replace

    def replaced(self: Path, target: Path) -> Path:
        shown.append(query(path, f"SELECT mark FROM {quoted(DATABASE)}.a LIMIT 1"))
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    tables = [table_at(tmp_path, name, "second") for name in "abc"]
    catalog.put_all([TableChange(table, first if table.name == "a" else None) for table in tables])
    assert shown == [[("first",)]]
    assert {mark for name in "abc" for mark in marks(path, name)} == {"second"}


def test_update_of_many_tables_reads_the_catalog_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalog_in(tmp_path / "catalog.duckdb")
    reads, read = [], DuckdbCatalog._read

    def counted(self: DuckdbCatalog, connection: Any) -> Any:
        reads.append(connection)
        return read(self, connection)

    monkeypatch.setattr(DuckdbCatalog, "_read", counted)
    catalog.put_all([TableChange(table_at(tmp_path, f"t{number}"), None) for number in range(5)])
    assert len(reads) == 1


def test_changes_of_one_update_see_those_before_them(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    execute(path, f"CREATE SCHEMA {quoted(DATABASE)}", f"CREATE TABLE {quoted(DATABASE)}.t AS SELECT 1 AS one")
    ours = table_at(tmp_path, "t")
    adopted = catalog.get("t")
    with catalog._changed() as connection:
        known = catalog._read(connection)
        first = catalog._make(connection, TableChange(ours, adopted), known)
        second = catalog._make(connection, TableChange(table_at(tmp_path, "t", "second"), first), known)
        other = catalog._make(connection, TableChange(table_at(tmp_path, "u"), None), known)
        catalog._make(connection, TableChange(None, other), known)
        assert known == catalog._read(connection)
        catalog._make(connection, TableChange(replace(ours, location="", parameters={}, version=None), second), known)
        assert known == catalog._read(connection)
    assert query(path, f"SELECT one FROM {quoted(DATABASE)}.t") == [(1,)]


def test_check_names_a_path_that_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a directory; name a file in it"):
        catalog_in(tmp_path).check()


def test_check_names_a_file_in_the_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file is not a directory"):
        catalog_in(tmp_path / "file" / "below" / "catalog.duckdb").check()


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("place", ["catalog.duckdb", "", "new/below/catalog.duckdb"])
def test_check_names_what_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, exists: bool
) -> None:
    """The owner of a test may be root, who may write everything; so `os.access` answers for the file system."""
    denied = tmp_path / place if place == "catalog.duckdb" else tmp_path
    path = tmp_path / (place or "catalog.duckdb")
    catalog = catalog_in(path)
    if exists and path.parent == tmp_path:
        catalog.put(table_at(tmp_path / "data", "t"), None)
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda asked, mode: access(asked, mode) and not (Path(asked) == denied and mode & os.W_OK)
    )
    before = sorted(tmp_path.iterdir())
    if denied != tmp_path and not exists:
        catalog.check()
        return
    with pytest.raises(
        CatalogError, match=r"catalog\.duckdb: cannot (write|change) the catalog.*: permission denied; give"
    ):
        catalog.check()
    assert sorted(tmp_path.iterdir()) == before


def test_update_keeps_symbolic_link(tmp_path: Path) -> None:
    path, link = tmp_path / "real" / "catalog.duckdb", tmp_path / "link.duckdb"
    first = catalog_in(path).put(table_at(tmp_path, "t"), None)
    link.symlink_to(path)
    catalog_in(link).put(table_at(tmp_path, "t", "second"), first)
    assert link.is_symlink()
    assert marks(path, "t") == {"second"}


def test_file_that_is_not_a_catalog_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    path.write_text("this is no database, but it is dear to somebody " * 100)
    before = path.read_bytes()
    catalog = catalog_in(path)
    for action in (catalog.tables, lambda: catalog.put(table_at(tmp_path, "t"), None)):
        with pytest.raises(DamagedCatalogError, match=r"catalog\.duckdb: .*damaged.*: bucketwheel catalog rebuild"):
            action()
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [0, 2, 5000, "flipped"])
def test_damaged_catalog_is_moved_aside_and_made_again(tmp_path: Path, damage: int | str) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    catalog.put(table_at(tmp_path, "t"), None)
    assert catalog.set_aside() == ""
    content = bytearray(path.read_bytes())
    if isinstance(damage, int):
        content = content[:damage]
    else:
        content[12288 + 100] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DamagedCatalogError):
        catalog.tables()
    aside = Path(catalog.set_aside())
    assert aside.read_bytes() == content
    assert aside.name.startswith("catalog.duckdb.damaged-")
    assert catalog.tables() == []
    catalog.put(table_at(tmp_path, "t"), None)
    assert marks(path, "t") == {"first"}
    assert catalog.set_aside() == ""


def test_read_of_missing_catalog_creates_nothing(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path / "not yet" / "catalog.duckdb")
    assert catalog.tables() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, "s3://bucket/catalog.duckdb"])
def test_catalog_path_that_is_not_local_is_refused(path: str | None) -> None:
    with pytest.raises(ConfigError, match=r"catalog\.path"):
        DuckdbCatalog(Settings(catalog=CatalogSettings(path=path)))


def test_copied_catalog_file_has_same_tables(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    catalog = catalog_in(path)
    first = catalog.put(table_at(tmp_path, "t"), None)
    shutil.copyfile(path, tmp_path / "copy.duckdb")
    assert catalog_in(tmp_path / "copy.duckdb").get("t") == first
