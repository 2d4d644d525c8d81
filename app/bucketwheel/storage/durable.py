"""Create files and directories on local disk that survive a power cut; a disk that fails to write raises an error.

Other users cannot read those of run metadata.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Some network file systems cannot flush directories, because only their server keeps them on disk.
_CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP)
# Directory of run metadata below a target.
METADATA = "_bucketwheel"


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


def is_private(path: Path) -> bool:
    """Return whether only the owner and the group may read a file or directory, because it is run metadata."""
    return METADATA in path.parts or ".json" in path.suffixes


def open_new(path: Path) -> BinaryIO:
    """Open a file for writing; a new one gets the permissions of the umask, private files none for other users."""
    mode = 0o660 if is_private(path) else 0o666
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb")


def make_directories(path: Path, durable: bool = True) -> None:
    """Create a directory and its missing parents; if `durable`, flush the names of the new ones to disk.

    Raises:
        OSError: a directory cannot be created, or the disk could not write it.
    """
    if path.is_dir():
        return
    created = [path]
    while not created[-1].parent.exists():
        created.append(created[-1].parent)
    for directory in reversed(created):
        directory.mkdir(0o770 if is_private(directory) else 0o777, exist_ok=True)
    for directory in reversed(created) if durable else ():
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
