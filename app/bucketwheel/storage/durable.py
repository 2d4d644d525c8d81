"""Make files and directories on local disk survive a power cut; a disk that fails to write them raises an error."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Some network file systems cannot flush directories, because only their server keeps them on disk.
_CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP)


def flush(path: Path) -> None:
    """Flush a file or the names in a directory to disk.

    Raises:
        OSError: the disk could not write it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def fsync(descriptor: int) -> None:
    """Flush an open file to disk.

    Raises:
        OSError: the disk could not write it.
    """
    if sys.platform == "darwin":
        # There, fsync() leaves the data in the cache of the drive.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def make_directories(path: Path) -> None:
    """Create a directory and its missing parents; flush the names of the new ones to disk.

    Raises:
        OSError: a directory cannot be created, or the disk could not write it.
    """
    if path.is_dir():
        return
    created = [path]
    while not created[-1].parent.exists():
        created.append(created[-1].parent)
    path.mkdir(parents=True, exist_ok=True)
    for directory in reversed(created):
        flush(directory.parent)


def flush_below(directory: Path) -> None:
    """Flush everything below a directory to disk.

    On Linux, this is one call for the whole file system of the directory, which reports failed writes since Linux
    5.8. On macOS, every file and directory below `directory` is flushed by itself.

    Raises:
        OSError: the disk could not write some data.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        flushed = sync_file_system(descriptor)
    finally:
        os.close(descriptor)
    if not flushed:
        for path in _below(directory):
            try:
                flush(path)
            except FileNotFoundError:
                # Another command deletes files of an older run.
                continue


def sync_file_system(descriptor: int) -> bool:
    """Flush the file system of an open file; return False if the operating system cannot do that.

    Raises:
        OSError: the disk could not write some data.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    if syncfs(descriptor) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.ENOSYS:
        return False
    raise OSError(number, os.strerror(number))


def _below(directory: Path) -> Iterator[Path]:
    for place, _, names in os.walk(directory, topdown=False):
        yield from (Path(place, name) for name in names)
        yield Path(place)
