"""Links, FIFOs, sockets and devices among files are followed or refused by name."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import fs

from bucketwheel.errors import ConfigError, MappingError, SnapshotError, SourceChangedError, StorageError
from bucketwheel.settings import StorageSettings
from bucketwheel.settings.loading import load
from bucketwheel.stages.source_files import data_files
from bucketwheel.stages.split import read_mapping
from bucketwheel.storage import Storage


@pytest.fixture
def storage() -> Storage:
    return Storage(StorageSettings())


def dangling(path: Path) -> None:
    path.symlink_to("gone")


def own_target(path: Path) -> None:
    path.symlink_to(path.name)


def loop(path: Path) -> None:
    path.symlink_to(path.parent)


def bound_socket(path: Path) -> None:
    # Names of sockets have at most about 100 characters.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


ODD = {
    "is a link to gone, which does not exist; restore it, or delete the link": dangling,
    r"is a link to itself \(odd.parquet\); delete it": own_target,
    "is a link to a directory that contains it .*; delete it": loop,
    "is a FIFO, not a file; delete or move it": os.mkfifo,
    "is a socket, not a file; delete or move it": bound_socket,
}


@pytest.mark.parametrize(("text", "make"), ODD.items(), ids=[make.__name__ for make in ODD.values()])
@pytest.mark.parametrize("below", ["", "deep/deeper"])
def test_snapshot_with_odd_entry_is_refused_by_name(
    storage: Storage, tmp_path: Path, text: str, make: Callable[[Path], None], below: str
) -> None:
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    (tmp_path / "a.parquet").write_bytes(b"x")
    make(tmp_path / below / "odd.parquet")
    with pytest.raises(SnapshotError, match=rf"^{tmp_path / below / 'odd.parquet'}: {text}$"):
        data_files(storage, str(tmp_path))


def test_hidden_odd_entries_are_ignored(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "_temporary").mkdir()
    os.mkfifo(tmp_path / "_temporary/x.parquet")
    dangling(tmp_path / ".lock")
    assert data_files(storage, str(tmp_path)) == []


def test_links_to_files_and_directories_are_followed_once(storage: Storage, tmp_path: Path) -> None:
    for name in ("snapshot/own", "elsewhere/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere/deep/a.parquet").write_bytes(b"abc")
    (tmp_path / "snapshot/file.parquet").symlink_to(tmp_path / "elsewhere/deep/a.parquet")
    (tmp_path / "snapshot/own/linked").symlink_to(tmp_path / "elsewhere")
    found = data_files(storage, str(tmp_path / "snapshot"))
    names = [entry.location.removeprefix(f"{tmp_path}/snapshot/") for entry in found]
    assert names == ["file.parquet", "own/linked/deep/a.parquet"]
    assert {entry.bytes for entry in found} == {3}


def test_modification_times_are_those_that_pyarrow_lists(storage: Storage, tmp_path: Path) -> None:
    # Fingerprints of earlier runs contain them.
    draw = random.Random(1)
    times = [0, 10**9, 1_700_000_000_999_999_999, *(draw.randrange(2 * 10**18) for _ in range(200))]
    for number, time in enumerate(times):
        path = tmp_path / f"{number}"
        path.touch()
        os.utime(path, ns=(time, time))
    listed = fs.LocalFileSystem().get_file_info(fs.FileSelector(str(tmp_path)))
    expected = {info.path: info.mtime.isoformat() for info in listed}
    assert {entry.location: entry.modified for entry in storage.list(str(tmp_path))} == expected


@pytest.mark.parametrize("make", [os.mkfifo, bound_socket, lambda path: path.symlink_to("/dev/null")])
def test_mapping_that_is_no_regular_file_is_refused(
    storage: Storage, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "mapping.csv"
    make(path)
    with pytest.raises(MappingError, match=rf"mapping {path}: cannot read: it is a (FIFO|socket|device), not a file"):
        read_mapping(storage, str(path))


@pytest.mark.parametrize("name", ["base", "local"])
def test_configuration_that_is_no_regular_file_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / f"{name}.yaml")
    with pytest.raises(ConfigError, match=f"{tmp_path / name}.yaml: is not a regular file; replace it by one"):
        load("local", tmp_path)


def test_link_to_missing_base_configuration_is_refused(tmp_path: Path) -> None:
    dangling(tmp_path / "base.yaml")
    (tmp_path / "local.yaml").write_text("target: out\n")
    with pytest.raises(ConfigError, match=r"base\.yaml: is a link to gone, which does not exist"):
        load("local", tmp_path)


def replaced(path: Path) -> None:
    status, copy = path.stat(), path.with_name("new")
    copy.write_bytes(b"y" * status.st_size)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.replace(path)


def rewritten(path: Path) -> None:
    path.write_bytes(b"yy")


@pytest.mark.parametrize(
    ("change", "text"), [(replaced, "replaced"), (rewritten, "replaced"), (Path.unlink, "deleted")]
)
def test_open_with_version_fails_when_file_changed(
    storage: Storage, tmp_path: Path, change: Callable[[Path], None], text: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    (entry,) = storage.list(str(tmp_path))
    with storage.open(entry.location, entry.version) as stream:
        assert stream.read() == b"x"
    storage.check_version(entry.location, entry.version)
    change(path)
    for check in (storage.open, storage.check_version):
        with pytest.raises(SourceChangedError, match=f"{path}: was {text}.* during the run; nothing was published"):
            check(entry.location, entry.version)


def test_fifo_is_never_opened(storage: Storage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(StorageError, match=r"cannot read: it is a FIFO, not a file; use a regular file"):
        storage.read(str(tmp_path / "x"))
