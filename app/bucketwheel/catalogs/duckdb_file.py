"""The file of the DuckDB catalog: whether it can be replaced, and its owner and mode."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from bucketwheel.errors import CatalogError, ConfigError

# What DuckDB says of a file that is no database, was cut off, or has changed bytes.
_DAMAGED = ("not a valid DuckDB database file", "Could not read enough bytes", "Corrupt database file")


def is_damaged(error: Exception) -> bool:
    """Return whether an error of DuckDB means that the file is damaged, not that another program uses it."""
    return any(sign in str(error) for sign in _DAMAGED)


def check_writable(path: Path) -> None:
    """Check whether a catalog at `path` can be created or replaced, without writing anything.

    Raises:
        ConfigError: no catalog can be at this path.
        CatalogError: this process may not write it.
    """
    if path.is_dir():
        raise ConfigError(f"catalog.path: {path} is a directory; name a file in it, such as {path}/catalog.duckdb")
    if path.exists() and not path.is_file():
        raise ConfigError(f"catalog.path: {path} is not a regular file; name another one")
    directory = path.parent
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    if not directory.is_dir():
        raise ConfigError(
            f"catalog.path: {directory} is not a directory, so {path} cannot be created; name another one"
        )
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise CatalogError(f"{path}: cannot change the catalog: {_why(path)}")
    # Bucketwheel replaces the file, so it needs to create files beside it.
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CatalogError(f"{path}: cannot write the catalog in {directory}: {_why(directory)}")


def _why(path: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "its disk is mounted read-only; choose another path (catalog.path)"
    return "permission denied; give this user access or choose another path (catalog.path)"


def keep_owner_and_mode(published: Path, copy: Path) -> None:
    """Give a copy the owner, the group and the mode of the published file, as far as this process may.

    Only root may give a file to another user; others may give it to their groups.
    """
    wanted, own = published.stat(), copy.stat()
    if (own.st_uid, own.st_gid) != (wanted.st_uid, wanted.st_gid):
        try:
            os.chown(copy, wanted.st_uid, wanted.st_gid)
        except OSError:
            with suppress(OSError):
                os.chown(copy, -1, wanted.st_gid)
    shutil.copymode(published, copy)
