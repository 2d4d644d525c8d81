"""Paths on local disk and in object stores behind one small class, on pyarrow's file systems.

A location is a local path, `file://…`, `s3://bucket/key` or `s3a://bucket/key`. Writes are atomic: aside
and renamed on disk, one put on S3.
"""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from bucketwheel.errors import StorageError
from bucketwheel.settings import StorageSettings

_S3_SCHEMES = ("s3", "s3a", "s3n")

T = TypeVar("T")


def is_s3(location: str) -> bool:
    """Return whether the location names an S3 object or prefix."""
    return _split(location)[0] in _S3_SCHEMES


def _split(location: str) -> tuple[str, str]:
    # Not by urlsplit: in a key, "?" and "#" are characters like any other.
    scheme, separator, rest = location.partition("://")
    return (scheme.lower(), rest) if separator and scheme.isalnum() else ("", location)


def join(location: str, *parts: str) -> str:
    """Append path parts to a location."""
    return "/".join([location.rstrip("/"), *(part.strip("/") for part in parts)])


def name_of(location: str) -> str:
    """Return the last path part."""
    return location.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Entry:
    """A file or directory in a listing; `modified` is UTC ISO time, `location` can be read back."""

    location: str
    name: str
    bytes: int
    modified: str
    is_directory: bool


class Storage:
    """Reads, lists and writes; holds nothing but settings, so it pickles and costs nothing to make."""

    def __init__(self, settings: StorageSettings) -> None:
        self.settings = settings

    def resolve(self, location: str) -> tuple[fs.FileSystem, str]:
        """Return the pyarrow file system and the path on it.

        Raises:
            StorageError: the scheme is unknown.
        """
        scheme, rest = _split(location)
        if scheme in _S3_SCHEMES:
            return _s3_file_system(self.settings.region, self.settings.endpoint_url), rest.rstrip("/")
        if scheme == "file":
            # file:///path and file://localhost/path mean the same.
            rest = unquote(rest[rest.index("/") :] if "/" in rest else "/")
        elif scheme:
            raise StorageError(f"{location}: unknown scheme {scheme!r}; use a local path, s3:// or s3a://")
        return fs.LocalFileSystem(), os.path.abspath(rest)  # noqa: PTH100  Path takes ten times as long

    def absolute(self, location: str) -> str:
        """Return the location in the form that catalogs keep: absolute path or `s3://` URI."""
        file_system, path = self.resolve(location)
        return path if isinstance(file_system, fs.LocalFileSystem) else f"s3://{path}"

    def list(self, location: str, recursive: bool = False) -> list[Entry]:
        """Return the entries below a directory, sorted by location; none where it does not exist."""
        file_system, path = self.resolve(location)
        selector = fs.FileSelector(path, allow_not_found=True, recursive=recursive)
        with translated(location, "list"):
            found = file_system.get_file_info(selector)
        prefix = "" if isinstance(file_system, fs.LocalFileSystem) else "s3://"
        entries = [
            Entry(
                f"{prefix}{info.path}",
                info.base_name,
                max(info.size or 0, 0),
                info.mtime.isoformat() if info.mtime else "",
                info.type == fs.FileType.Directory,
            )
            for info in found
        ]
        return sorted(entries, key=lambda entry: entry.location)

    def exists(self, location: str) -> bool:
        """Return whether a file or directory is there."""
        file_system, path = self.resolve(location)
        with translated(location, "look at"):
            return bool(file_system.get_file_info(path).type != fs.FileType.NotFound)

    def read(self, location: str) -> bytes:
        """Return the whole content of a file.

        Raises:
            StorageError: it is not there or cannot be read.
        """
        with translated(location, "read"), self.open(location) as stream:
            return bytes(stream.read())

    def open(self, location: str) -> pa.NativeFile:
        """Open a file for random access; errors are the caller's to translate."""
        file_system, path = self.resolve(location)
        return file_system.open_input_file(path)

    def write(self, location: str, content: bytes, durable: bool = True) -> None:
        """Replace a file by `content` in one step; where `durable`, it survives a power cut from here on.

        Raises:
            StorageError: the directory cannot be written, or the disk is full.
        """
        file_system, path = self.resolve(location)
        with translated(location, "write"):
            if not isinstance(file_system, fs.LocalFileSystem):
                with file_system.open_output_stream(path) as stream:
                    stream.write(content)
                return
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
                _sync_directory(parent)

    @contextmanager
    def create(self, location: str, scratch: str) -> Iterator[pa.NativeFile]:
        """Open a new file for writing; it stays under `location` only if the block ends well.

        `scratch` is a directory on the same local disk for the unfinished file; S3 needs none.

        Raises:
            StorageError: it cannot be written.
        """
        file_system, path = self.resolve(location)
        local = isinstance(file_system, fs.LocalFileSystem)
        with translated(location, "write"), (_aside if local else _upload)(file_system, path, scratch) as stream:
            yield stream

    def delete(self, location: str) -> None:
        """Delete one file; a missing one is no error."""
        file_system, path = self.resolve(location)
        with translated(location, "delete"):
            if file_system.get_file_info(path).type == fs.FileType.File:
                file_system.delete_file(path)

    def delete_directory(self, location: str) -> None:
        """Delete a directory and everything below it; a missing one is no error."""
        file_system, path = self.resolve(location)
        with translated(location, "delete"):
            if file_system.get_file_info(path).type == fs.FileType.Directory:
                file_system.delete_dir(path)

    def flush(self, location: str) -> None:
        """Make everything written so far durable where the target is a local disk."""
        if not is_s3(location):
            os.sync()


@functools.cache
def _s3_file_system(region: str | None, endpoint_url: str | None) -> fs.FileSystem:
    options: dict[str, Any] = {"region": region} if region else {}
    if endpoint_url:
        endpoint = urlsplit(endpoint_url)
        options |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
    return fs.S3FileSystem(**options)


@contextmanager
def _aside(file_system: fs.FileSystem, path: str, scratch: str) -> Iterator[pa.NativeFile]:
    aside = f"{scratch}/{uuid.uuid4().hex}.tmp"
    try:
        with _with_parent(aside, lambda: file_system.open_output_stream(aside)) as stream:
            yield stream
        _with_parent(path, lambda: os.replace(aside, path))  # noqa: PTH105  once a file, and Path is slow
    except BaseException:
        with suppress(OSError):
            Path(aside).unlink()
        raise


@contextmanager
def _upload(file_system: fs.FileSystem, path: str, _scratch: str) -> Iterator[pa.NativeFile]:
    try:
        with file_system.open_output_stream(path) as stream:
            yield stream
    except BaseException:
        # Closing completes the upload, even of half a file, and pyarrow offers no way to abandon one.
        with suppress(OSError):
            file_system.delete_file(path)
        raise


def _with_parent(path: str, action: Callable[[], T]) -> T:
    """Do it, and where the directory is missing make that first: most of the time it is there."""
    try:
        return action()
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return action()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
