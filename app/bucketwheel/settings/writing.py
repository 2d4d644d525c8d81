"""Write the configuration files of a new project."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from bucketwheel.errors import ConfigError
from bucketwheel.settings.models import Settings

BASE = Path("conf", "base.yaml")


def nested(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted name as nested mappings."""
    document: dict[str, Any] = {}
    for name, value in rows.items():
        *parents, last = name.split(".")
        node = document
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return document


def base_text(settings: Mapping[str, Any], comments: str) -> str:
    """Return the text of a base.yaml: the comments, then the settings that differ from the defaults."""
    defaults = Settings().model_dump(mode="json")
    return comments + yaml.safe_dump(
        _different(settings, defaults), sort_keys=False, allow_unicode=True, width=10_000
    )


def _different(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    different: dict[str, Any] = {}
    for name, value in settings.items():
        default = defaults.get(name)
        kept = _different(value, default) if isinstance(value, Mapping) and isinstance(default, Mapping) else value
        if kept not in (default, {}):
            different[name] = kept
    return different


def write_new(texts: Mapping[Path, str]) -> None:
    """Create all files, or none if one of them exists or cannot be written.

    Raises:
        ConfigError: a file exists.
        OSError: a directory or file cannot be written.
    """
    written: list[Path] = []
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="") as stream:
                written.append(path)
                stream.write(text)
    except BaseException as error:
        for path in written:
            with suppress(OSError):
                path.unlink()
        if isinstance(error, FileExistsError):
            raise ConfigError(f"{error.filename} already exists; Bucketwheel does not overwrite it") from error
        raise
