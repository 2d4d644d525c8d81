"""Write text files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from bucketwheel.storage import wrap_os_errors


def write_text(text: str, to: Path | str) -> Path:
    """Write a local text file; return its path.

    A new file is not readable by other users than the group: reports describe people's data.

    Raises:
        StorageError: the file cannot be written.
    """
    with wrap_os_errors(str(to), "write"), _open(Path(to)) as file:
        file.write(text)
    return Path(to)


def _open(path: Path) -> TextIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o660), "w", encoding="utf-8")
