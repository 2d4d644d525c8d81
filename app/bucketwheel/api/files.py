"""Write text files."""

from __future__ import annotations

from pathlib import Path

from bucketwheel.storage import wrap_os_errors


def write_text(text: str, to: Path | str) -> Path:
    """Write a local text file; return its path.

    Raises:
        StorageError: the file cannot be written.
    """
    with wrap_os_errors(str(to), "write"):
        Path(to).write_text(text, encoding="utf-8")
    return Path(to)
