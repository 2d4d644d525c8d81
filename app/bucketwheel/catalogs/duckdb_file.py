"""The file of the DuckDB catalog: whether it can be replaced, and its owner and mode."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from bucketwheel.errors import CatalogError, ConfigError


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
        raise CatalogError(
            f"{path}: the catalog file cannot be changed: {_why(path)}; make it writable, or set catalog.path to "
            "another file"
        )
    # Bucketwheel replaces the file, so it needs to create files beside it.
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CatalogError(
            f"{path}: the catalog cannot be written: directory {directory}: {_why(directory)}; make it writable, or "
            "set catalog.path to a file elsewhere"
        )


def _why(path: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "its disk is mounted read-only"
    return f"permission denied (mode {path.stat().st_mode & 0o777:o}, owner {path.stat().st_uid})"


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
