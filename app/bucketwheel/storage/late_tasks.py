"""Fence off late tasks: a file gets its final name only while its run is active.

A task writes into the scratch directory of its run and moves the finished file to its final name. The directory is
deleted when the stage `bucket` ends (`pipeline/run.py`) and when `expire` deletes the run. So a task that Spark has
abandoned, but that still runs on another host, can neither finish a file nor replace a published one. On S3, an
unfinished file exists only as parts of a multipart upload; the run aborts uploads that remain.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from bucketwheel.errors import StorageError

_LOCAL = fs.LocalFileSystem()


def open_unfinished(temporary: str, path: str) -> pa.NativeFile:
    """Open `temporary`, in the scratch directory of a run, for writing; `path` will be its final name.

    Raises:
        StorageError: the scratch directory does not exist.
    """
    try:
        return _LOCAL.open_output_stream(temporary)
    except FileNotFoundError as error:
        raise _too_late(temporary, path) from error


def finish(temporary: str, path: str) -> None:
    """Rename a file to its final name; create the parent directory only if it is missing, which is rare.

    Raises:
        StorageError: the scratch directory has been deleted meanwhile.
    """
    try:
        os.replace(temporary, path)  # noqa: PTH105  once a file, and Path is slow
    except FileNotFoundError as error:
        # If the run was deleted, do not create the directory of its table again.
        if not Path(temporary).exists():
            raise _too_late(temporary, path) from error
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(temporary).replace(path)


def _too_late(temporary: str, path: str) -> StorageError:
    return StorageError(
        f"{path}: cannot write: the directory for unfinished files {Path(temporary).parent} does not exist: the "
        "run has ended or was deleted, or the target is not on storage that all workers share"
    )
