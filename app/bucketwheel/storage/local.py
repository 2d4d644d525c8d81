"""Read and write local files; writes go to a temporary file that is renamed, so they are atomic."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from bucketwheel.storage.late_tasks import finish, open_unfinished
from bucketwheel.storage.locations import Entry

_LOCAL = fs.LocalFileSystem()
_BUFFER_BYTES = 2**18
# Names of temporary files of `write`.
_ASIDE = re.compile(r".+\.[0-9a-f]{32}\.tmp")


class LocalFiles:
    """Backend for absolute paths; raises errors of the operating system."""

    def list(self, path: str, recursive: bool) -> list[Entry]:
        """Return the entries below a directory, in any order."""
        infos = _LOCAL.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive))
        try:
            return _entries(infos)
        except UnicodeDecodeError as error:
            name = os.path.basename(error.object)  # noqa: PTH119 bytes
            raise OSError(errno.EILSEQ, f"the name {name!r} is not UTF-8; rename it") from error

    def exists(self, path: str) -> bool:
        """Return whether a file or directory exists."""
        return bool(_LOCAL.get_file_info(path).type != fs.FileType.NotFound)

    def open(self, path: str) -> pa.NativeFile:
        """Open a file for random access."""
        return _LOCAL.open_input_file(path)

    def read(self, path: str) -> tuple[bytes, str]:
        """Return the content of a file; its version is always empty, since locks exclude other writers."""
        with self.open(path) as stream:
            return bytes(stream.read()), ""

    def write(self, path: str, content: bytes, durable: bool) -> None:
        """Replace a file atomically."""
        parent = Path(path).parent
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(f"{path}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
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
        temporary = f"{scratch}/{uuid.uuid4().hex}.tmp"
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
        Path(path).mkdir(parents=True, exist_ok=True)

    def delete(self, path: str) -> None:
        """Delete one file if it exists."""
        if _LOCAL.get_file_info(path).type == fs.FileType.File:
            _LOCAL.delete_file(path)

    def delete_directory(self, path: str) -> None:
        """Delete a directory and its contents if it exists."""
        if _LOCAL.get_file_info(path).type == fs.FileType.Directory:
            _LOCAL.delete_dir(path)

    def sweep(self, path: str) -> None:
        """Delete temporary files of killed writers directly in a directory."""
        for entry in self.list(path, recursive=False):
            if not entry.is_directory and _ASIDE.fullmatch(entry.name):
                Path(entry.location).unlink(missing_ok=True)

    def abandon_uploads(self, path: str, part: str) -> None:
        """Do nothing: unfinished files are in scratch directories, which runs delete."""

    def flush(self) -> None:
        """Make everything written so far durable."""
        os.sync()


def _entries(infos: Sequence[fs.FileInfo]) -> list[Entry]:
    return [
        Entry(
            info.path,
            info.base_name,
            max(info.size or 0, 0),
            info.mtime.isoformat() if info.mtime else "",
            info.type == fs.FileType.Directory,
        )
        for info in infos
    ]


def flush(path: Path) -> None:
    """Flush a file or a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
