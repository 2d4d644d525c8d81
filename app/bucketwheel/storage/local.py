"""Files on local disk: written aside and renamed, so that they appear whole or not at all."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from bucketwheel.errors import StorageError
from bucketwheel.storage.locations import Entry

_LOCAL = fs.LocalFileSystem()
_BUFFER_BYTES = 2**18
# What `write` calls a file until it is whole.
_ASIDE = re.compile(r".+\.[0-9a-f]{32}\.tmp")


class LocalFiles:
    """Works on absolute paths; errors are those of the operating system."""

    def list(self, path: str, recursive: bool) -> list[Entry]:
        """Return what is below a directory, in any order."""
        found = _LOCAL.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive))
        return [
            Entry(
                info.path,
                info.base_name,
                max(info.size or 0, 0),
                info.mtime.isoformat() if info.mtime else "",
                info.type == fs.FileType.Directory,
            )
            for info in found
        ]

    def exists(self, path: str) -> bool:
        """Return whether a file or directory is there."""
        return bool(_LOCAL.get_file_info(path).type != fs.FileType.NotFound)

    def open(self, path: str) -> pa.NativeFile:
        """Open a file for random access."""
        return _LOCAL.open_input_file(path)

    def read(self, path: str) -> tuple[bytes, str]:
        """Return the content of a file; its version is always empty, since locks keep others off."""
        with self.open(path) as stream:
            return bytes(stream.read()), ""

    def write(self, path: str, content: bytes, durable: bool) -> None:
        """Replace a file in one step."""
        parent = Path(path).parent
        parent.mkdir(parents=True, exist_ok=True)
        aside = Path(f"{path}.{uuid.uuid4().hex}.tmp")
        try:
            with aside.open("wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        if durable:
            flush(parent)

    def replace(self, path: str, content: bytes, _version: str | None) -> str:
        """Replace a file in one step, whatever it was before."""
        self.write(path, content, durable=True)
        return ""

    @contextmanager
    def create(self, path: str, scratch: str) -> Iterator[pa.NativeFile]:
        """Open a file in `scratch` for writing, and move it to `path` if the block ends well.

        Raises:
            StorageError: there is no such directory, or it is deleted meanwhile.
        """
        aside = f"{scratch}/{uuid.uuid4().hex}.tmp"
        try:
            # A Parquet writer writes every page and its header on their own.
            with pa.BufferedOutputStream(_open_aside(aside, path), _BUFFER_BYTES) as stream:
                yield stream
            _move(aside, path)
        except BaseException:
            with suppress(OSError):
                Path(aside).unlink()
            raise

    def make_directory(self, path: str) -> None:
        """Make a directory and those it is in."""
        Path(path).mkdir(parents=True, exist_ok=True)

    def delete(self, path: str) -> None:
        """Delete one file, if it is there."""
        if _LOCAL.get_file_info(path).type == fs.FileType.File:
            _LOCAL.delete_file(path)

    def delete_directory(self, path: str) -> None:
        """Delete a directory and everything below it, if it is there."""
        if _LOCAL.get_file_info(path).type == fs.FileType.Directory:
            _LOCAL.delete_dir(path)

    def sweep(self, path: str) -> None:
        """Delete what killed writers left right in a directory beside the files that they meant."""
        for entry in self.list(path, recursive=False):
            if not entry.is_directory and _ASIDE.fullmatch(entry.name):
                Path(entry.location).unlink(missing_ok=True)

    def abandon_uploads(self, path: str, part: str) -> None:
        """Do nothing: what was not finished here lies in scratch directories, which are deleted as such."""

    def flush(self) -> None:
        """Make everything written so far durable."""
        os.sync()


def _open_aside(aside: str, path: str) -> pa.NativeFile:
    try:
        return _LOCAL.open_output_stream(aside)
    except FileNotFoundError as error:
        raise _too_late(aside, path) from error


def _move(aside: str, path: str) -> None:
    """Rename a file, and where the directory for it is missing make that first: most of the time it is there."""
    try:
        os.replace(aside, path)  # noqa: PTH105  once a file, and Path is slow
    except FileNotFoundError as error:
        # A table that was deleted with its run must not be made again.
        if not Path(aside).exists():
            raise _too_late(aside, path) from error
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(aside).replace(path)


def _too_late(aside: str, path: str) -> StorageError:
    return StorageError(
        f"{path}: cannot write: the directory for unfinished files {Path(aside).parent} is not there: the run has "
        "ended or was deleted, or the target is no disk that all machines of the cluster share"
    )


def flush(path: Path) -> None:
    """Bring a file or the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
