"""Read, list and write files on local disk and on S3 through one class.

A location is a local path, a `file://` URI or an S3 URI. Writes are atomic: on disk a temporary file is renamed,
on S3 there is one put, or a multipart upload that is completed at the end or aborted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import pyarrow as pa

from bucketwheel.errors import StorageError
from bucketwheel.optional import aws_module
from bucketwheel.safe_text import one_line
from bucketwheel.settings import Settings, StorageSettings
from bucketwheel.storage.local import LocalFiles
from bucketwheel.storage.locations import Entry, absolute, is_s3, join, name_of, source_changed
from bucketwheel.storage.ranged import RangedFile, alternate
from bucketwheel.system import system

__all__ = ["Entry", "Storage", "costs_more_apart", "fetch", "is_s3", "join", "name_of", "wrap_os_errors"]


class _Files(Protocol):
    """Interface of a storage backend; paths are absolute locations."""

    def list(self, path: str, recursive: bool) -> list[Entry]: ...
    def exists(self, path: str) -> bool: ...
    def open(self, path: str, version: str, end_bytes: int) -> pa.NativeFile: ...
    def check_version(self, path: str, version: str) -> None: ...
    def read(self, path: str) -> tuple[bytes, str]: ...
    def write(self, path: str, content: bytes, durable: bool) -> None: ...
    def replace(self, path: str, content: bytes, version: str | None, /) -> str: ...
    def create(self, path: str, scratch: str) -> AbstractContextManager[pa.NativeFile]: ...
    def make_directory(self, path: str) -> None: ...
    def delete(self, path: str) -> None: ...
    def delete_directory(self, path: str) -> None: ...
    def hide_directory(self, path: str) -> str: ...
    def sweep(self, path: str) -> None: ...
    def abandon_uploads(self, path: str, part: str) -> None: ...
    def uploads(self, path: str) -> Sequence[tuple[str, str]]: ...
    def flush(self, path: str) -> None: ...


class Storage:
    """Files of any location; holds only settings, so it pickles and is cheap to create."""

    def __init__(self, settings: StorageSettings) -> None:
        self.settings = settings

    @classmethod
    def of(cls, settings: Settings) -> Storage:
        """Return the storage of a configuration; unset values of `storage` come from `aws`."""
        return cls(settings.storage.filled(settings.aws))

    def _at(self, location: str) -> tuple[_Files, str]:
        path = absolute(location)
        scheme = "s3" if is_s3(path) else "file"
        backend = system().storages.get(scheme) or _BACKENDS[scheme]
        return backend(self.settings), path

    def absolute(self, location: str) -> str:
        """Return the location as catalogs store it: an absolute path or an `s3://` URI."""
        return absolute(location)

    def list(self, location: str, recursive: bool = False) -> list[Entry]:
        """Return the entries below a directory, sorted by location; none if it does not exist."""
        files, path = self._at(location)
        with wrap_os_errors(location, "list"):
            return sorted(files.list(path, recursive), key=lambda entry: entry.location)

    def exists(self, location: str) -> bool:
        """Return whether a file or directory exists."""
        files, path = self._at(location)
        with wrap_os_errors(location, "check"):
            return files.exists(path)

    def read(self, location: str) -> bytes:
        """Return the whole content of a file.

        Raises:
            StorageError: the file does not exist or cannot be read.
        """
        return self.read_version(location)[0]

    def read_version(self, location: str) -> tuple[bytes, str]:
        """Return the content of a file and its version, for `replace`.

        Raises:
            StorageError: the file does not exist or cannot be read.
        """
        files, path = self._at(location)
        with wrap_os_errors(location, "read"):
            return files.read(path)

    def open(self, location: str, version: str = "", end_bytes: int = 0) -> pa.NativeFile:
        """Open a file for random access; a `version` is that of its entry in a listing.

        On S3, the request that opens it also reads its last `end_bytes`, but at least 64 KiB, and every read is
        refused once the object has another version. On local disk, `check_version` after the last read finds a file
        that was rewritten in place meanwhile.

        Raises:
            SourceChangedError: the file has another version, or was deleted.
            OSError: the file cannot be opened; the caller wraps the error.
            StorageError: S3 refused.
        """
        files, path = self._at(location)
        try:
            return files.open(path, version, end_bytes)
        except FileNotFoundError as error:
            if version:
                raise source_changed(location, "deleted") from error
            raise

    def check_version(self, location: str, version: str) -> None:
        """Check that a file on local disk still has this version; S3 checks every read itself.

        Raises:
            SourceChangedError: the file has another version, or was deleted.
        """
        files, path = self._at(location)
        with wrap_os_errors(location, "check"):
            files.check_version(path, version)

    def write(self, location: str, content: bytes, durable: bool = True) -> None:
        """Replace a file by `content` atomically; if `durable`, it survives a power cut once this returns.

        Raises:
            StorageError: the directory cannot be written, or the disk is full.
        """
        files, path = self._at(location)
        with wrap_os_errors(location, "write"):
            files.write(path, content, durable)

    def replace(self, location: str, content: bytes, version: str | None) -> str:
        """Replace a file that still has this version (None: does not exist yet) and return its new version.

        On local disk every version is empty and nothing is compared: locks exclude other writers there.

        Raises:
            ChangedError: another writer modified or deleted it.
            StorageError: the write failed; the file may have been replaced all the same.
        """
        files, path = self._at(location)
        with wrap_os_errors(location, "write"):
            return files.replace(path, content, version)

    @contextmanager
    def create(self, location: str, scratch: str) -> Iterator[pa.NativeFile]:
        """Open a new file for writing; it appears at `location` only if the block succeeds.

        `scratch` is a directory for the unfinished file, on the same local disk; S3 does not use it. It must exist:
        deleting it stops writers that are too late.

        Raises:
            StorageError: it cannot be written.
        """
        files, path = self._at(location)
        with wrap_os_errors(location, "write"), files.create(path, absolute(scratch)) as stream:
            yield stream

    def make_directory(self, location: str) -> None:
        """Create a directory and its parents on local disk; S3 needs none."""
        files, path = self._at(location)
        with wrap_os_errors(location, "create"):
            files.make_directory(path)

    def delete(self, location: str) -> None:
        """Delete one file; a missing one is no error."""
        files, path = self._at(location)
        with wrap_os_errors(location, "delete"):
            files.delete(path)

    def delete_directory(self, location: str) -> None:
        """Delete a directory and everything below it; a missing one is no error."""
        files, path = self._at(location)
        with wrap_os_errors(location, "delete"):
            files.delete_directory(path)

    def hide_directory(self, location: str) -> str:
        """Rename a directory on local disk so that readers no longer find it; return its new location.

        The new name begins with `HIDDEN`. A missing or hidden directory is no error. S3 renames nothing.
        """
        files, path = self._at(location)
        with wrap_os_errors(location, "rename"):
            return files.hide_directory(path)

    def sweep(self, location: str) -> None:
        """Delete temporary files and empty directories of killed writers below a directory; exclude other writers."""
        files, path = self._at(location)
        with wrap_os_errors(location, "clean up"):
            files.sweep(path)

    def abandon_uploads(self, location: str, part: str) -> None:
        """Abort unfinished uploads of killed writers to keys below `location` that have `part` in their path."""
        files, path = self._at(location)
        with wrap_os_errors(location, "clean up"):
            files.abandon_uploads(path, part)

    def uploads(self, location: str) -> Sequence[tuple[str, str]]:
        """Return location and start (UTC, ISO format) of each unfinished upload below `location`; none on disk."""
        files, path = self._at(location)
        with wrap_os_errors(location, "list uploads"):
            return files.uploads(path)

    def flush(self, location: str) -> None:
        """Flush everything below a directory to its local disk, so that it survives a power cut once this returns.

        Raises:
            StorageError: the disk could not write some data.
        """
        files, path = self._at(location)
        with wrap_os_errors(location, "flush to disk"):
            files.flush(path)


@functools.cache
def _local(_settings: StorageSettings) -> _Files:
    return LocalFiles()


@functools.cache
def _s3(settings: StorageSettings) -> _Files:
    backend: _Files = aws_module("bucketwheel.storage.s3", "s3://").S3Objects(settings)
    return backend


_BACKENDS: Mapping[str, Callable[[StorageSettings], _Files]] = {"file": _local, "s3": _s3}


def fetch(stream: pa.NativeFile, ranges: Callable[[], Iterable[tuple[int, int]]]) -> None:
    """Prefetch the ranges (offset, length) of a remote file in parallel; each can be read once.

    Raises:
        StorageError: S3 refused.
    """
    if isinstance(stream, RangedFile):
        stream.source.fetch(ranges())


def costs_more_apart(stream: pa.NativeFile, parts: Callable[[], Sequence[Collection[tuple[int, int]]]]) -> bool:
    """Return whether prefetching parts of a remote file one by one reads much more than all of them at once.

    It does if the ranges (offset, length) of different parts alternate, because prefetching also reads what is
    between close ranges.
    """
    return isinstance(stream, RangedFile) and alternate(parts())


@contextmanager
def wrap_os_errors(location: str, action: str) -> Iterator[None]:
    """Raise operating system and Arrow I/O errors as a StorageError that names the location."""
    location = one_line(location)
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
