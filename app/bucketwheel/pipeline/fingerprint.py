"""What the bytes of a run depend on; a run is only resumed or repeated where all of it is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

import pyarrow as pa

import bucketwheel
from bucketwheel.contracts import Services
from bucketwheel.errors import ResumeError
from bucketwheel.runs.manifest import DiscoverResult, Manifest
from bucketwheel.settings.loading import flatten
from bucketwheel.stages.discover import data_files
from bucketwheel.stages.split import read_mapping

_INPUT_FILES = "input files"
_SHOWN = 5

InputFile = tuple[str, int, str]
_Stamps = dict[str, tuple[int, str]]


def inputs_of(found: DiscoverResult) -> list[InputFile]:
    """Return (path, bytes, time of change) of every file that discover found."""
    return [(file.path, file.bytes, file.modified) for file in found.files]


def fingerprint(services: Services, inputs: Sequence[InputFile]) -> dict[str, str]:
    """Return everything that the bytes of a run depend on, by name."""
    settings, source = services.settings, services.source
    mapping = "none"
    if source.mapping:
        mapping = hashlib.sha256(read_mapping(services.storage, source.mapping)).hexdigest()
    marks = {
        _INPUT_FILES: hashlib.sha256(json.dumps(sorted(inputs)).encode()).hexdigest(),
        "content of the mapping": mapping,
        "key": ",".join(source.key),
        "tables filter": ",".join(sorted(services.tables_filter)) or "none",
        "target": services.storage.absolute(settings.target),
    }
    for name, part in (("buckets", settings.buckets), ("size", settings.size), ("split", settings.split)):
        marks |= {f"{name}.{key}": str(value) for key, value in part.model_dump(mode="json").items()}
    # Settings of catalogs and executors decide no bytes.
    for name in dict.fromkeys((settings.engine, *settings.stages)):
        own = flatten(settings.plugins.get(name, {}), f"plugins.{name}.")
        marks |= {key: str(value) for key, value in own}
    return {**marks, "bucketwheel": bucketwheel.__version__, "pyarrow": pa.__version__}


def check_unchanged(manifest: Manifest, services: Services) -> None:
    """Raise ResumeError where the configuration or the input is not what the run began with."""
    found = manifest.discover
    entries = data_files(services.storage, found.location)
    inputs = [(entry.location, entry.bytes, entry.modified) for entry in entries]
    before, marks = manifest.fingerprint, fingerprint(services, inputs)
    changed = [
        f"{name} was {before.get(name, 'not known')}, is {marks.get(name, 'not known')}"
        for name in sorted({*marks, *before})
        if marks.get(name) != before.get(name) and name != _INPUT_FILES
    ]
    changed += _changed_files(inputs_of(found), inputs)
    if services.snapshot_dt not in (None, manifest.snapshot_dt):
        changed.append(f"snapshot_dt was {manifest.snapshot_dt}, is {services.snapshot_dt}")
    if changed:
        raise ResumeError(
            f"run {manifest.run_id} cannot go on: {'; '.join(changed)}. Undo the change, or start a new run: without "
            "--resume, and with the stage discover"
        )


def _changed_files(was: Sequence[InputFile], now: Sequence[InputFile]) -> list[str]:
    before: _Stamps = {path: (size, modified) for path, size, modified in was}
    texts = list(_file_changes(before, {path: (size, modified) for path, size, modified in now}))
    return texts[:_SHOWN] + ([f"and {len(texts) - _SHOWN} more files"] if len(texts) > _SHOWN else [])


def _file_changes(was: _Stamps, now: _Stamps) -> Iterator[str]:
    for path in sorted({*was, *now}):
        if path not in now:
            yield f"{path} was there, is gone"
        elif path not in was:
            yield f"{path} was not there, is now"
        elif was[path] != now[path]:
            old, new = was[path], now[path]
            yield f"{path} was {old[0]} bytes of {old[1]}, is {new[0]} bytes of {new[1]}"
