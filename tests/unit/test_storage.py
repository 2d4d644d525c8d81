from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bucketwheel.errors import StorageError
from bucketwheel.settings import StorageSettings
from bucketwheel.storage import Storage, durable, wrap_os_errors

SETTINGS = StorageSettings(region="us-east-1")


@pytest.fixture
def storage() -> Storage:
    return Storage(SETTINGS)


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def record_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of files and directories that are flushed from now on."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    return synced


def test_written_file_is_read_and_replaced(storage: Storage, tmp_path: Path) -> None:
    location = str(tmp_path / "a" / "b.json")
    assert not storage.exists(location)
    storage.write(location, b"one")
    assert storage.read(location) == b"one"
    storage.write(location, b"")
    assert storage.read(location) == b""
    assert storage.exists(location)
    assert storage.exists(str(tmp_path / "a"))
    assert files(tmp_path) == ["a/b.json"]


def test_failed_write_keeps_old_content_and_no_other_file(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = str(tmp_path / "manifest.json")
    storage.write(location, b"old")

    def full(_descriptor: int) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=rf"{location}: cannot write: no space left on the device; free some"):
        storage.write(location, b"new")
    assert storage.read(location) == b"old"
    assert files(tmp_path) == ["manifest.json"]


def test_durable_write_syncs_file_and_directory(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = record_syncs(monkeypatch)
    storage.write(str(tmp_path / "a"), b"x")
    # First the file under its temporary name, then the directory that holds the new name.
    assert [path.parent if path.suffix == ".tmp" else path for path in synced] == [tmp_path, tmp_path]
    synced.clear()
    storage.write(str(tmp_path / "b"), b"x", durable=False)
    assert synced == []


def test_readers_never_see_partial_write(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = str(tmp_path / "x")
    storage.write(location, b"old")
    replace, seen = Path.replace, []

    def watch(source: Path, target: Any) -> Path:
        seen.append((storage.read(location), source.read_bytes()))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", watch)
    storage.write(location, b"new")
    assert seen == [(b"old", b"new")]


def test_created_file_appears_at_end_of_block(storage: Storage, tmp_path: Path) -> None:
    location, scratch = str(tmp_path / "t" / "f"), str(tmp_path / "scratch")
    storage.make_directory(scratch)
    with storage.create(location, scratch) as stream:
        stream.write(b"content")
        assert not storage.exists(location)
        assert len(files(tmp_path / "scratch")) == 1
    assert storage.read(location) == b"content"
    assert files(tmp_path) == ["t/f"]
    with storage.create(location, scratch) as stream:
        stream.write(b"again")
        assert storage.read(location) == b"content"
    assert storage.read(location) == b"again"


def write_half(storage: Storage, location: str, scratch: str, error: BaseException) -> None:
    with storage.create(location, scratch) as stream:
        stream.write(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_failed_block_leaves_no_file(storage: Storage, tmp_path: Path, error: BaseException) -> None:
    expected = StorageError if isinstance(error, OSError) else type(error)
    storage.make_directory(str(tmp_path / "scratch"))
    with pytest.raises(expected):
        write_half(storage, str(tmp_path / "f"), str(tmp_path / "scratch"), error)
    assert files(tmp_path) == []


def test_create_fails_when_scratch_directory_is_deleted(storage: Storage, tmp_path: Path) -> None:
    location, scratch = str(tmp_path / "t" / "f"), str(tmp_path / "run" / "scratch")
    with pytest.raises(StorageError, match=f"{location}: cannot write: .*{scratch} does not exist"):
        write_half(storage, location, scratch, ValueError("not reached"))
    assert list(tmp_path.iterdir()) == []


def test_create_fails_when_run_is_deleted_while_writing(storage: Storage, tmp_path: Path) -> None:
    location, scratch = str(tmp_path / "t" / "f"), str(tmp_path / "run" / "scratch")
    storage.make_directory(scratch)

    def write() -> None:
        with storage.create(location, scratch) as stream:
            stream.write(b"late")
            storage.delete_directory(str(tmp_path / "run"))

    with pytest.raises(StorageError, match=f"{location}: cannot write: .*{scratch} does not exist"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_file_in_place_of_directory_is_named(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    location = str(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match=f"{location}: cannot write"):
        storage.write(location, b"")
    with pytest.raises(StorageError, match=f"{location}: cannot write"), storage.create(location, str(tmp_path)):
        pass
    with pytest.raises(StorageError, match=f"{location}: cannot write"), storage.create(location, location):
        pass
    assert files(tmp_path) == ["file"]


def test_directory_in_place_of_file_is_named(storage: Storage, tmp_path: Path) -> None:
    location = str(tmp_path / "directory")
    Path(location).mkdir()
    with pytest.raises(StorageError, match=f"{location}: cannot write"):
        storage.write(location, b"")
    with pytest.raises(StorageError, match=f"{location}: cannot write"), storage.create(location, str(tmp_path)):
        pass
    with pytest.raises(StorageError, match=f"{location}: cannot read"):
        storage.read(location)
    assert files(tmp_path) == []


def test_missing_file_is_named(storage: Storage, tmp_path: Path) -> None:
    location = str(tmp_path / "missing")
    with pytest.raises(StorageError, match=f"{location}: cannot read: it does not exist"):
        storage.read(location)
    with pytest.raises(FileNotFoundError):
        storage.open(location)
    assert storage.list(location) == []
    storage.delete(location)
    storage.delete_directory(location)


def test_denied_access_error_has_fix(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: Any, **__: Any) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    # chmod does not work here: tests may run as root.
    monkeypatch.setattr(Path, "mkdir", deny)
    location = str(tmp_path / "new" / "file")
    with pytest.raises(StorageError, match=rf"{location}: cannot write: permission denied; give this user"):
        storage.write(location, b"")
    with pytest.raises(StorageError, match=rf"{location}: cannot create: permission denied; give this user"):
        storage.make_directory(location)


def test_list_is_sorted_with_size_time_and_kind(storage: Storage, tmp_path: Path) -> None:
    for name, content in (("b", b"xx"), ("a/c", b""), ("a.txt", b"y")):
        storage.write(str(tmp_path / name), content)
    flat = storage.list(str(tmp_path))
    assert [(e.name, e.bytes, e.is_directory) for e in flat] == [("a", 0, True), ("a.txt", 1, False), ("b", 2, False)]
    deep = storage.list(str(tmp_path), recursive=True)
    assert [entry.location for entry in deep] == [str(tmp_path / name) for name in ("a", "a.txt", "a/c", "b")]
    assert storage.read(deep[-1].location) == b"xx"
    for entry in deep:
        moment = datetime.fromisoformat(entry.modified)
        assert moment.utcoffset() is not None
        assert not moment.utcoffset()


def test_list_of_file_is_refused(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=f"{tmp_path / 'file'}: cannot list"):
        storage.list(str(tmp_path / "file"))


def test_delete_removes_only_named_path(storage: Storage, tmp_path: Path) -> None:
    for name in ("run1/a", "run1/deep/b", "run10/a", "other"):
        storage.write(str(tmp_path / name), b"")
    storage.delete_directory(str(tmp_path / "run1"))
    assert files(tmp_path) == ["other", "run10/a"]
    storage.delete(str(tmp_path / "run10"))
    storage.delete_directory(str(tmp_path / "other"))
    assert files(tmp_path) == ["other", "run10/a"]
    storage.delete(str(tmp_path / "other"))
    assert files(tmp_path) == ["run10/a"]


def test_flush_syncs_local_disks_only(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []

    def sync(descriptor: int) -> bool:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        return True

    monkeypatch.setattr(durable, "sync_file_system", sync)
    storage.flush("s3://b/k")
    assert synced == []
    storage.flush(str(tmp_path))
    assert synced == [tmp_path]


def test_flush_fails_when_disk_cannot_write(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> NoReturn:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "sync_file_system", fail)
    with pytest.raises(StorageError, match=rf"{tmp_path}: cannot flush to disk: .*Input/output error"):
        storage.flush(str(tmp_path))


def test_flush_without_syncfs_syncs_each_file(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write(str(tmp_path / "a" / "b"), b"x", durable=False)
    synced = record_syncs(monkeypatch)
    monkeypatch.setattr(durable, "sync_file_system", lambda _: False)
    storage.flush(str(tmp_path))
    assert synced == [tmp_path / "a" / "b", tmp_path / "a", tmp_path]


def test_durable_write_syncs_names_of_new_directories(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = record_syncs(monkeypatch)
    storage.write(str(tmp_path / "a" / "b" / "c"), b"x")
    assert [path for path in synced if path.suffix != ".tmp"] == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    synced.clear()
    storage.delete(str(tmp_path / "a" / "b" / "c"))
    assert synced == [tmp_path / "a" / "b"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError("x"), "/p: cannot spill to: it does not exist"),
        (
            PermissionError("x"),
            "/p: cannot spill to: permission denied; give this user access or choose",
        ),
        (OSError(28, "x"), "/p: cannot spill to: no space left on the device; free some, or point"),
        (OSError("[Errno 28] error writing: No space left on device"), "no space left on the device"),
        (OSError(5, "Input/output error"), "/p: cannot spill to: [Errno 5] Input/output error"),
    ],
)
def test_os_errors_name_location_action_and_fix(error: OSError, said: str) -> None:
    with pytest.raises(StorageError) as caught, wrap_os_errors("/p", "spill to"):
        raise error
    assert said in str(caught.value)
    assert caught.value.__cause__ is error
    assert caught.value.exit_code == 1


def test_own_errors_are_not_wrapped() -> None:
    own = StorageError("already wrapped")
    with pytest.raises(StorageError) as caught, wrap_os_errors("/p", "write"):
        raise own
    assert caught.value is own
