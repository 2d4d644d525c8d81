"""Check whether a catalog in a local file can be written."""

from __future__ import annotations

import os
from pathlib import Path

from bucketwheel.errors import CatalogError, ConfigError


def check_writable(path: Path, setting: str, example: str) -> None:
    """Check whether a catalog at `path` can be created or changed, without writing anything.

    Missing directories are no error: the first publication creates them.

    Args:
        path: the file.
        setting: the setting that names it, for messages.
        example: a name of such a file.

    Raises:
        ConfigError: no catalog can be at this path.
        CatalogError: this process may not write it.
    """
    if path.is_dir():
        raise ConfigError(f"{setting}: {path} is a directory; name a file in it, such as {path}/{example}")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{setting}: {path} is not a regular file; name another one")
    directory = path.parent
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    if not directory.is_dir():
        raise ConfigError(f"{setting}: {directory} is not a directory, so {path} cannot be created; name another one")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise CatalogError(f"{path}: cannot change the catalog: {_why(path, setting)}")
    # Bucketwheel replaces DuckDB's file, and SQLite keeps a journal: both create files beside it.
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CatalogError(f"{path}: cannot write the catalog in {directory}: {_why(directory, setting)}")


def _why(path: Path, setting: str) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"its disk is mounted read-only; choose another path ({setting})"
    return f"permission denied; give this user access or choose another path ({setting})"
