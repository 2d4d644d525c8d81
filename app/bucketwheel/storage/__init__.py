"""Paths on local disk and in object stores behind one small class.

A location is a local path, `file://…`, `s3://bucket/key` or `s3a://bucket/key`. Writes are atomic: aside
and renamed on disk; on S3 one put, or one upload in parts that is completed at the end or abandoned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import pyarrow as pa

from bucketwheel.errors import StorageError
from bucketwheel.optional import aws_module
from bucketwheel.settings import Settings, StorageSettings
from bucketwheel.storage.local import LocalFiles
from bucketwheel.storage.locations import Entry, absolute, is_s3, join, name_of
from bucketwheel.storage.ranged import RangedFile

__all__ = ["Entry", "Storage", "fetch", "is_s3", "join", "name_of", "translated"]


class _Files(Protocol):
    """What each kind of storage can do; paths are absolute locations."""

    def list(self, path: str, recursive: bool) -> list[Entry]: ...
    def exists(self, path: str) -> bool: ...
    def open(self, path: str) -> pa.NativeFile: ...
    def read(self, path: str) -> tuple[bytes, str]: ...
    def write(self, path: str, content: bytes, durable: bool) -> None: ...
    def replace(self, path: str, content: bytes, version: str | None, /) -> str: ...
    def create(self, path: str, scratch: str) -> AbstractContextManager[pa.NativeFile]: ...
    def make_directory(self, path: str) -> None: ...
    def delete(self, path: str) -> None: ...
    def delete_directory(self, path: str) -> None: ...
    def sweep(self, path: str) -> None: ...
    def abandon_uploads(self, path: str, part: str) -> None: ...
    def flush(self) -> None: ...


class Storage:
    """Reads, lists and writes; holds nothing but settings, so it pickles and costs nothing to make."""

    def __init__(self, settings: StorageSettings) -> None:
        self.settings = settings

    @classmethod
    def of(cls, settings: Settings) -> Storage:
        """Return the storage of a configuration; what `storage` leaves open is taken from `aws`."""
        return cls(settings.storage.filled(settings.aws))

    def _at(self, location: str) -> tuple[_Files, str]:
        path = absolute(location)
        return (_s3(self.settings) if is_s3(path) else _LOCAL), path

    def absolute(self, location: str) -> str:
        """Return the location in the form that catalogs keep: absolute path or `s3://` URI."""
        return absolute(location)

    def list(self, location: str, recursive: bool = False) -> list[Entry]:
        """Return the entries below a directory, sorted by location; none where it does not exist."""
        files, path = self._at(location)
        with translated(location, "list"):
            return sorted(files.list(path, recursive), key=lambda entry: entry.location)

    def exists(self, location: str) -> bool:
        """Return whether a file or directory is there."""
        files, path = self._at(location)
        with translated(location, "look at"):
            return files.exists(path)

    def read(self, location: str) -> bytes:
        """Return the whole content of a file.

        Raises:
            StorageError: it is not there or cannot be read.
        """
        return self.read_version(location)[0]

    def read_version(self, location: str) -> tuple[bytes, str]:
        """Return the content of a file and its version, for `replace`.

        Raises:
            StorageError: it is not there or cannot be read.
        """
        files, path = self._at(location)
        with translated(location, "read"):
            return files.read(path)

    def open(self, location: str) -> pa.NativeFile:
        """Open a file for random access.

        Raises:
            OSError: it cannot be opened; the caller's to translate.
            StorageError: S3 refused, in words.
        """
        files, path = self._at(location)
        return files.open(path)

    def write(self, location: str, content: bytes, durable: bool = True) -> None:
        """Replace a file by `content` in one step; where `durable`, it survives a power cut from here on.

        Raises:
            StorageError: the directory cannot be written, or the disk is full.
        """
        files, path = self._at(location)
        with translated(location, "write"):
            files.write(path, content, durable)

    def replace(self, location: str, content: bytes, version: str | None) -> str:
        """Replace a file where it still has this version, None for none yet; return its new version.

        On local disk every version is empty and nothing is compared: locks keep other writers off there.

        Raises:
            ChangedError: somebody else wrote or deleted it since.
            StorageError: it cannot be written; whether it was is not known.
        """
        files, path = self._at(location)
        with translated(location, "write"):
            return files.replace(path, content, version)

    @contextmanager
    def create(self, location: str, scratch: str) -> Iterator[pa.NativeFile]:
        """Open a new file for writing; it stays under `location` only if the block ends well.

        `scratch` is a directory on the same local disk for the unfinished file; S3 needs none. It has to be there,
        so that deleting it shuts out writers that come too late.

        Raises:
            StorageError: it cannot be written.
        """
        files, path = self._at(location)
        with translated(location, "write"), files.create(path, absolute(scratch)) as stream:
            yield stream

    def make_directory(self, location: str) -> None:
        """Make a directory on local disk, and those it is in; S3 needs none."""
        files, path = self._at(location)
        with translated(location, "make"):
            files.make_directory(path)

    def delete(self, location: str) -> None:
        """Delete one file; a missing one is no error."""
        files, path = self._at(location)
        with translated(location, "delete"):
            files.delete(path)

    def delete_directory(self, location: str) -> None:
        """Delete a directory and everything below it; a missing one is no error."""
        files, path = self._at(location)
        with translated(location, "delete"):
            files.delete_directory(path)

    def sweep(self, location: str) -> None:
        """Delete what killed writers left right in a directory; only for who keeps other writers off it."""
        files, path = self._at(location)
        with translated(location, "clean up"):
            files.sweep(path)

    def abandon_uploads(self, location: str, part: str) -> None:
        """Free what killed writers left of uploads to keys below `location` that have `part` in their path."""
        files, path = self._at(location)
        with translated(location, "clean up"):
            files.abandon_uploads(path, part)

    def flush(self, location: str) -> None:
        """Make everything written so far durable where the target is a local disk."""
        files, _ = self._at(location)
        files.flush()


_LOCAL = LocalFiles()


@functools.cache
def _s3(settings: StorageSettings) -> _Files:
    made: _Files = aws_module("bucketwheel.storage.s3", "s3://").S3Objects(settings)
    return made


def fetch(stream: pa.NativeFile, ranges: Callable[[], Iterable[tuple[int, int]]]) -> None:
    """Read the ranges (offset, length) ahead and in parallel where the file is far away; each can be read once.

    Raises:
        StorageError: S3 refused, in words.
    """
    if isinstance(stream, RangedFile):
        stream.source.fetch(ranges())


@contextmanager
def translated(location: str, action: str) -> Iterator[None]:
    """Turn operating system and Arrow I/O errors into a StorageError that names the location."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{location}: cannot {action}: it does not exist") from error
    except PermissionError as error:
        raise StorageError(
            f"{location}: cannot {action}: permission denied; give this user access or choose another path"
        ) from error
    except OSError as error:
        text = str(error)
        if error.errno == 28 or "No space left" in text:
            raise StorageError(
                f"{location}: cannot {action}: no space left on the device; free some, or point "
                "target or storage.spill_directory elsewhere"
            ) from error
        raise StorageError(f"{location}: cannot {action}: {text}") from error
