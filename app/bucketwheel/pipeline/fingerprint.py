"""Compute and compare the fingerprint of a run: everything that its bytes depend on.

A run is resumed, or counts as up to date, only if its fingerprint is unchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import pyarrow as pa

import bucketwheel
from bucketwheel.contracts import Services
from bucketwheel.errors import ResumeError
from bucketwheel.runs.manifest import DiscoverResult, Manifest
from bucketwheel.settings import resolved_layouts
from bucketwheel.settings.loading import flatten
from bucketwheel.settings.secrets import masked
from bucketwheel.stages.source_changes import source_changes
from bucketwheel.stages.source_files import data_files, patterns_of
from bucketwheel.stages.split import read_mapping

_INPUT_FILES = "input files"
_CODE = "code"
# Packages that determine the bytes of files, including the options of the Parquet writer.
_WRITERS = ("kernel", "engines")

InputFile = tuple[str, int, str]


def inputs_of(discovered: DiscoverResult) -> list[InputFile]:
    """Return (path, bytes, modification time) of every input file."""
    return [(file.path, file.bytes, file.modified) for file in discovered.files]


@cache
def code_digest() -> str:
    """Return a digest of the source code that determines the bytes of files."""
    digest = hashlib.sha256()
    for package in _WRITERS:
        for name, content in sorted(_sources(files(bucketwheel) / package, package)):
            text = content.replace(b"\r\n", b"\n")
            digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def _sources(directory: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield (path below the package, content) of every source file; also from a wheel or zip archive."""
    for entry in directory.iterdir():
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            yield from _sources(entry, path)
        elif path.endswith(".py"):
            yield path, entry.read_bytes()


def fingerprint(services: Services, inputs: Sequence[InputFile]) -> dict[str, str]:
    """Return everything that the bytes of a run depend on, by name."""
    settings, source = services.settings, services.source
    mapping = "none"
    if source.mapping:
        mapping = hashlib.sha256(read_mapping(services.storage, source.mapping)).hexdigest()
    parts = {
        _INPUT_FILES: hashlib.sha256(json.dumps(sorted(inputs)).encode()).hexdigest(),
        "content of the mapping": mapping,
        "key": ",".join(source.key),
        "directories name=value": source.partitions,
        "binary columns": ",".join(sorted(source.binary_columns)) or "none",
        "tables filter": ",".join(sorted(services.tables_filter)) or "none",
        "target": services.storage.absolute(settings.target),
    }
    for name, part in (("size", settings.size), ("split", settings.split), ("types", settings.types)):
        parts |= {f"{name}.{key}": str(value) for key, value in part.model_dump(mode="json").items()}
    for position, layout in enumerate(resolved_layouts(settings)):
        name = f"layouts.{layout.name}" if position else "buckets"
        values = {"count": layout.buckets, "hash": layout.hash, "sort": layout.sort}
        values["max_file_bytes"] = layout.max_file_bytes
        parts |= {f"{name}.{key}": str(value) for key, value in values.items()}
    # Settings of catalogs and executors do not change any byte.
    for name in dict.fromkeys((settings.engine, *settings.stages)):
        # The manifest must not hold secrets, and a changed password changes no byte.
        own = flatten(masked(settings.plugins.get(name, {})), f"plugins.{name}.")
        parts |= {key: str(value) for key, value in own}
    return {
        **parts,
        "bucketwheel": bucketwheel.__version__,
        _CODE: code_digest(),
        "pyarrow": pa.__version__,
    }


def changes(manifest: Manifest, services: Services) -> list[str]:
    """Return every difference in configuration, input and code since the run started."""
    discovered = manifest.discover
    entries = data_files(services.storage, discovered.location, patterns_of(services))
    inputs = [(entry.location, entry.bytes, entry.modified) for entry in entries]
    before, now = manifest.fingerprint, fingerprint(services, inputs)
    changed = [
        _difference(name, before.get(name), now.get(name))
        for name in sorted({*now, *before})
        if now.get(name) != before.get(name) and name != _INPUT_FILES
    ]
    # Data that was written already does not depend on a copy that has another version only.
    changed += source_changes(discovered, entries, versions="bucket" not in manifest.stages)
    if services.snapshot_dt not in (None, manifest.snapshot_dt):
        changed.append(f"snapshot_dt was {manifest.snapshot_dt}, is now {services.snapshot_dt}")
    return changed


def refusal(manifest: Manifest, changed: Sequence[str]) -> ResumeError:
    """Return the error that lists every difference."""
    return ResumeError(
        f"run {manifest.run_id} cannot be resumed: {'; '.join(changed)}. Undo the change, or start a new "
        "run without --resume and with the stage discover"
    )


def _difference(name: str, before: str | None, now: str | None) -> str:
    if name != _CODE:
        return f"{name} was {before or 'not recorded'}, is now {now or 'not recorded'}"
    was = f"was {before[:12]}" if before else "was not recorded by that version"
    return f"the code that writes files has changed (its digest {was}, is now {(now or '')[:12]})"
