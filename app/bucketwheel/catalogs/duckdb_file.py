"""The file of the DuckDB catalog: whether it is damaged, and its owner and mode."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

# What DuckDB says of a file that is no database, was cut off, or has changed bytes.
_DAMAGED = ("not a valid DuckDB database file", "Could not read enough bytes", "Corrupt database file")


def is_damaged(error: Exception) -> bool:
    """Return whether an error of DuckDB means that the file is damaged, not that another program uses it."""
    return any(sign in str(error) for sign in _DAMAGED)


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
