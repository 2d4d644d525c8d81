"""What the bytes of a run depend on; a run is only resumed or repeated where all of it is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import pyarrow as pa

import bucketwheel
from bucketwheel.contracts import Services
from bucketwheel.errors import ResumeError
from bucketwheel.manifest import DiscoverResult, Manifest
from bucketwheel.stages.discover import data_files
from bucketwheel.stages.split import read_mapping

InputFile = tuple[str, int, str]


def inputs_of(found: DiscoverResult) -> list[InputFile]:
    """Return (path, bytes, time of change) of every file that discover found."""
    return [(file.path, file.bytes, file.modified) for file in found.files]


def fingerprint(services: Services, inputs: Sequence[InputFile]) -> dict[str, str]:
    """Return everything that the bytes of a run depend on, by name."""
    settings, source = services.settings, services.source
    mapping = "none"
    if source.mapping:
        mapping = hashlib.sha256(read_mapping(services.storage, source.mapping)).hexdigest()
    return {
        "input files": hashlib.sha256(json.dumps(sorted(inputs)).encode()).hexdigest(),
        "mapping": mapping,
        "key": ",".join(source.key),
        "tables filter": ",".join(sorted(services.tables_filter)),
        "target": services.storage.absolute(settings.target),
        "buckets": settings.buckets.model_dump_json(),
        "size": settings.size.model_dump_json(),
        "split": settings.split.model_dump_json(),
        "bucketwheel": bucketwheel.__version__,
        "pyarrow": pa.__version__,
    }


def check_unchanged(manifest: Manifest, services: Services) -> None:
    """Raise ResumeError where the configuration or the input is not what the run began with."""
    found = manifest.result("discover", DiscoverResult)
    entries = data_files(services.storage, found.location)
    marks = fingerprint(services, [(entry.location, entry.bytes, entry.modified) for entry in entries])
    changed = [
        f"{name} was {manifest.fingerprint.get(name)}, is {mark}"
        for name, mark in marks.items()
        if mark != manifest.fingerprint.get(name)
    ]
    if services.snapshot_dt not in (None, manifest.snapshot_dt):
        changed.append(f"snapshot_dt was {manifest.snapshot_dt}, is {services.snapshot_dt}")
    if changed:
        raise ResumeError(
            f"run {manifest.run_id} cannot go on: {'; '.join(changed)}. Undo the change, or start a new run "
            "without --resume"
        )
