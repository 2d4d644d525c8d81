"""Read and write local files; writes go to a temporary file that is renamed, so they are atomic."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from bucketwheel.storage.durable import flush, flush_below, fsync, make_directories, open_new
from bucketwheel.storage.late_tasks import finish, open_unfinished
from bucketwheel.storage.locations import HIDDEN, Entry, source_changed
from bucketwheel.system import system

# Plug-ins import `flush` from here.
__all__ = ["LocalFiles", "flush"]

_LOCAL = fs.LocalFileSystem()
_BUFFER_BYTES = 2**18
# Names of temporary files of `write`.
_ASIDE = re.compile(r".+\.[0-9a-f]{32}\.tmp")
_ODD_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)
# Why a directory cannot be deleted that is not empty, is a link, or was deleted by another process.
_IN_USE = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ENOENT)
# Device and inode.
_Inode = tuple[int, int]


class LocalFiles:
    """Backend for absolute paths; raises errors of the operating system."""

    def list(self, path: str, recursive: bool) -> list[Entry]:
        """Return the entries below a directory, in any order."""
        try:
            return list(_entries(path, recursive, ()))
        except FileNotFoundError:
            return []

    def exists(self, path: str) -> bool:
        """Return whether a file or directory exists."""
        return bool(_LOCAL.get_file_info(path).type != fs.FileType.NotFound)

    def open(self, path: str, version: str = "", _end_bytes: int = 0) -> pa.NativeFile:
        """Open a file for random access; a `version` is checked."""
        # Opening a FIFO waits for a writer, possibly forever.
        if kind := _odd_kind(Path(path).stat()):
            raise OSError(f"it is a {kind}, not a file; use a regular file")
        stream = _LOCAL.open_input_file(path)
        try:
            # Checked after opening: this file cannot have been opened under the name of another one.
            self.check_version(path, version)
        except BaseException:
            stream.close()
            raise
        return stream

    def check_version(self, path: str, version: str) -> None:
        """Check that the file still has this version, if there is one."""
        try:
            if version and _version(Path(path).stat()) != version:
                raise source_changed(path)
        except FileNotFoundError as error:
            raise source_changed(path, "deleted") from error

    def read(self, path: str) -> tuple[bytes, str]:
        """Return the content of a file; its version is always empty, since locks exclude other writers."""
        with self.open(path) as stream:
            return bytes(stream.read()), ""

    def write(self, path: str, content: bytes, durable: bool) -> None:
        """Replace a file atomically."""
        parent = Path(path).parent
        make_directories(parent, durable)
        temporary = Path(f"{path}.{system().new_id()}.tmp")
        try:
            with open_new(temporary) as file:
                file.write(content)
                if durable:
                    file.flush()
                    fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if durable:
            flush(parent)

    def replace(self, path: str, content: bytes, _version: str | None) -> str:
        """Replace a file atomically, whatever its version."""
        self.write(path, content, durable=True)
        return ""

    @contextmanager
    def create(self, path: str, scratch: str) -> Iterator[pa.NativeFile]:
        """Open a file in `scratch` for writing and move it to `path` if the block succeeds.

        Raises:
            StorageError: the scratch directory does not exist or is deleted meanwhile.
        """
        temporary = f"{scratch}/{system().new_id()}.tmp"
        try:
            # A Parquet writer writes pages and page headers separately.
            with pa.BufferedOutputStream(open_unfinished(temporary, path), _BUFFER_BYTES) as stream:
                yield stream
            finish(temporary, path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise

    def make_directory(self, path: str) -> None:
        """Create a directory and its parents."""
        make_directories(Path(path), durable=False)

    def delete(self, path: str) -> None:
        """Delete one file if it exists; it stays deleted after a power cut."""
        if _LOCAL.get_file_info(path).type == fs.FileType.File:
            _LOCAL.delete_file(path)
            with suppress(FileNotFoundError):
                flush(Path(path).parent)

    def delete_directory(self, path: str) -> None:
        """Delete a directory and its contents if it exists."""
        if _LOCAL.get_file_info(path).type == fs.FileType.Directory:
            _LOCAL.delete_dir(path)

    def hide_directory(self, path: str) -> str:
        """Rename a directory, if it exists, to a name that readers ignore."""
        directory = Path(path)
        if directory.name.startswith(HIDDEN):
            return path
        hidden = directory.with_name(f"{HIDDEN}{directory.name}")
        # A late task may have created the directory again after it was hidden.
        self.delete_directory(str(hidden))
        with suppress(FileNotFoundError):
            directory.rename(hidden)
            # Otherwise a power cut could undo the rename and keep the deletion of some files.
            flush(directory.parent)
        return str(hidden)

    def sweep(self, path: str) -> None:
        """Delete temporary files and empty directories of killed writers below a directory."""
        entries = self.list(path, recursive=True)
        for entry in entries:
            if not entry.is_directory and _ASIDE.fullmatch(entry.name):
                Path(entry.location).unlink(missing_ok=True)
        # The other way around, each directory comes after those in it.
        for location in sorted((entry.location for entry in entries if entry.is_directory), reverse=True):
            try:
                Path(location).rmdir()
            except OSError as error:
                if error.errno not in _IN_USE:
                    raise

    def abandon_uploads(self, path: str, part: str) -> None:
        """Do nothing: unfinished files are in scratch directories, which runs delete."""

    def uploads(self, path: str) -> Sequence[tuple[str, str]]:
        """Return nothing: there are no uploads."""
        return []

    def flush(self, path: str) -> None:
        """Flush everything below a directory to disk."""
        flush_below(Path(path))


def _entries(path: str, recursive: bool, above: Sequence[_Inode]) -> Iterator[Entry]:
    """Yield the entries below a directory; `above` identifies the directories on the way to it."""
    status = Path(path).stat()
    here = (*above, (status.st_dev, status.st_ino))
    with os.scandir(path) as found:
        entries = list(found)
    for entry in entries:
        _check_name(entry.name)
        try:
            status = entry.stat()
        except OSError as error:
            if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                yield _odd(entry, _broken_link(entry, error))
            elif error.errno != errno.ENOENT:
                raise
            # Otherwise, another process deleted it after the directory was read.
            continue
        if kind := _odd_kind(status):
            yield _odd(entry, f"is a {kind}, not a file; delete or move it")
        elif not stat.S_ISDIR(status.st_mode):
            yield Entry(entry.path, entry.name, status.st_size, _modified(status), False, _version(status))
        elif entry.is_symlink() and (status.st_dev, status.st_ino) in here:
            target = Path(entry.path).readlink()
            yield _odd(entry, f"is a link to a directory that contains it ({target}); delete it")
        else:
            yield Entry(entry.path, entry.name, 0, _modified(status), True)
            if recursive:
                with suppress(FileNotFoundError):
                    yield from _entries(entry.path, True, here)


def _odd(entry: os.DirEntry[str], problem: str) -> Entry:
    return Entry(entry.path, entry.name, 0, "", False, problem=problem)


def _broken_link(entry: os.DirEntry[str], error: OSError) -> str:
    target = Path(entry.path).readlink()
    if error.errno == errno.ELOOP:
        return f"is a link to itself ({target}); delete it"
    return f"is a link to {target}, which does not exist; restore it, or delete the link"


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raw = os.fsencode(name)
        text = raw.decode("utf-8", "backslashreplace")
        # Only the text, because an error number says less.
        raise OSError(f"the name '{text}' is not UTF-8; rename the file or directory") from error


def _odd_kind(status: os.stat_result) -> str:
    """Return what is neither a file nor a directory, in words; otherwise an empty string."""
    return next((kind for test, kind in _ODD_KINDS if test(status.st_mode)), "")


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _modified(status: os.stat_result) -> str:
    # Rounded as pyarrow rounds it, because fingerprints of earlier runs contain its result.
    return datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC).isoformat()
